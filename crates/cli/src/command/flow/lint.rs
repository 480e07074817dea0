//! `ensue flow lint`: what does not hold together in the topology, and where what was observed differs from it.

use clap::Args;
use ensue::core::{Code, Error};
use ensue::runtime::flow::{Finding, Rule};
use serde::Serialize;

use crate::command::Session;
use crate::failure::Failure;
use crate::output::Row;

/// What does not hold together in the topology, declared and observed
#[derive(Args)]
pub(crate) struct Lint {}

#[derive(Serialize)]
struct Line(Finding);

impl Row for Line {
    const HEADINGS: &'static [&'static str] = &["rule", "subject", "finding"];

    fn cells(&self) -> Vec<String> {
        let Finding { rule, subject, message } = &self.0;
        vec![rule.as_str().to_owned(), subject.clone(), message.clone()]
    }
}

impl Lint {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let found = super::flows(session).await?.lint().await?;
        // An event that nobody consumes yet is worth a line, not a failure.
        let defects = found.iter().filter(|finding| finding.rule != Rule::Unconsumed).count();
        let lines: Vec<Line> = found.into_iter().map(Line).collect();
        session.output.all(&lines)?;
        if defects > 0 {
            let message = format!(
                "{} not hold together in the topology",
                if defects == 1 { "1 thing does".to_owned() } else { format!("{defects} things do") }
            );
            return Err(Error::new(Code::CHECK_FAILED, message).into());
        }
        Ok(())
    }
}
