//! `ensue flow ls [--status S] [--limit N]`: the newest flows and how they stand.

use clap::{Args, ValueEnum};
use ensue::runtime::flow::{FlowStatus, FlowSummary};
use serde::Serialize;

use crate::command::Session;
use crate::failure::Failure;
use crate::output::{Row, short};
use crate::shape;

/// List the newest flows and how they stand
#[derive(Args)]
pub(crate) struct Ls {
    /// Only those that stand so
    #[arg(long, value_enum)]
    status: Option<Status>,
    /// At most so many, newest first
    #[arg(long, short = 'n', default_value_t = 20)]
    limit: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Status {
    Running,
    Waiting,
    Late,
    Stuck,
    Failed,
    Compensating,
    Done,
}

impl From<Status> for FlowStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Running => Self::Running,
            Status::Waiting => Self::Waiting,
            Status::Late => Self::Late,
            Status::Stuck => Self::Stuck,
            Status::Failed => Self::Failed,
            Status::Compensating => Self::Compensating,
            Status::Done => Self::Done,
        }
    }
}

#[derive(Serialize)]
struct Line(FlowSummary);

impl Row for Line {
    const HEADINGS: &'static [&'static str] = &["flow", "key", "status", "events", "started", "because"];

    fn cells(&self) -> Vec<String> {
        let flow = &self.0;
        vec![
            flow.kind.clone(),
            short(&flow.key, 60),
            flow.status.as_str().to_owned(),
            flow.events.to_string(),
            shape::time(flow.started_at),
            flow.reason.as_ref().map(|reason| short(reason, 80)).unwrap_or_default(),
        ]
    }
}

impl Ls {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let flows = super::flows(session).await?;
        let found = flows.list(self.status.map(FlowStatus::from), self.limit).await?;
        let lines: Vec<Line> = found.into_iter().map(Line).collect();
        session.output.all(&lines)?;
        Ok(())
    }
}
