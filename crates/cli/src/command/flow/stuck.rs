//! `ensue flow stuck`: the flows that do not go on as they should, each with the reason.

use clap::Args;
use ensue::runtime::flow::StuckFlow;
use serde::Serialize;

use crate::command::Session;
use crate::failure::Failure;
use crate::output::{Row, short};
use crate::shape;

/// List the flows that do not go on as they should, each with the reason
#[derive(Args)]
pub(crate) struct Stuck {}

#[derive(Serialize)]
struct Line(StuckFlow);

impl Row for Line {
    const HEADINGS: &'static [&'static str] = &["key", "status", "since", "because"];

    fn cells(&self) -> Vec<String> {
        let flow = &self.0;
        vec![
            short(&flow.key, 60),
            flow.status.as_str().to_owned(),
            shape::time(flow.since),
            short(&flow.reason, 200),
        ]
    }
}

impl Stuck {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let flows = super::flows(session).await?;
        let lines: Vec<Line> = flows.stuck().await?.into_iter().map(Line).collect();
        session.output.all(&lines)?;
        Ok(())
    }
}
