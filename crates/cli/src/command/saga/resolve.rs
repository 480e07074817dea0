//! `ensue saga resolve SAGA KEY STEP --done JSON|--failed|--skip-undo`: the outcome of a step, given by hand.

use clap::Args;
use ensue::runtime::saga::Request;

use super::request::Asked;
use crate::command::Session;
use crate::document::json_argument;
use crate::failure::Failure;

/// Give a step its outcome by hand
#[derive(Args)]
pub(crate) struct Resolve {
    #[command(flatten)]
    asked: Asked,
    /// The step
    #[arg(long)]
    step: String,
    #[command(flatten)]
    outcome: Outcome,
}

/// Exactly one of these.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct Outcome {
    /// It has succeeded with this result, as JSON
    #[arg(long, value_name = "JSON")]
    done: Option<String>,
    /// It has failed
    #[arg(long)]
    failed: bool,
    /// It is not to be undone any more
    #[arg(long)]
    skip_undo: bool,
}

impl Resolve {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let Self { asked, step, outcome } = self;
        let step = step.into();
        let request = if outcome.skip_undo {
            Request::SkipUndo { step }
        } else {
            let result = outcome.done.map(|json| json_argument("--done", &json)).transpose()?;
            Request::Resolve { step, result: result.map(Into::into) }
        };
        asked.run(session, request).await
    }
}
