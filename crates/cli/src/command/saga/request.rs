//! `ensue saga pause|resume|cancel|retry|terminate SAGA KEY --reason R`: what an operator asks of an instance. The request
//! goes into the instance's stream; what follows from it happens as soon as the application runs.

use std::sync::Arc;

use clap::Args;
use ensue::core::{Source, Store};
use ensue::runtime::saga::{Operations, Request, SagaHead};
use serde::Serialize;

use crate::command::Session;
use crate::failure::Failure;

/// Which instance, and why.
#[derive(Args)]
pub(crate) struct Asked {
    /// The saga's name
    saga: String,
    /// The instance
    key: String,
    /// Why, for whoever asks later
    #[arg(long)]
    reason: String,
    /// Only say how the instance would stand
    #[arg(long)]
    dry_run: bool,
}

/// The shape that `docs/cli.md` promises.
#[derive(Serialize)]
struct Done<'a> {
    request: &'static str,
    dry_run: bool,
    head: &'a SagaHead,
}

impl Asked {
    pub(crate) async fn run(self, session: &mut Session, request: Request) -> Result<(), Failure> {
        let Self { saga, key, reason, dry_run } = &self;
        let store: Arc<dyn Store> = session.place.open().await?;
        let operations = Operations::new(store, session.host.clone(), Source::new("ensue-cli")?);
        let head = if *dry_run {
            operations.would(saga, key, &request, reason).await?
        } else {
            operations.ask(saga, key, &request, reason).await?
        };
        let verb = if *dry_run { "would be" } else { "is" };
        let (saga, key) = (&head.saga, &head.key);
        let requested = head.requested.map(super::show::requested);
        let asked = requested.map_or_else(String::new, |requested| format!(", and asked to {requested}"));
        let mut words = format!("{saga} {key} {verb} {}{asked}", super::show::status(&head));
        if !head.status.is_over() {
            words.push_str("; what follows from it happens as soon as the application runs");
        }
        let done = Done { request: name(&request), dry_run: *dry_run, head: &head };
        session.output.one(&done, &words)?;
        Ok(())
    }
}

fn name(request: &Request) -> &'static str {
    match request {
        Request::Pause => "pause",
        Request::Resume => "resume",
        Request::Cancel => "cancel",
        Request::Retry => "retry",
        Request::Resolve { .. } | Request::SkipUndo { .. } => "resolve",
        Request::Terminate => "terminate",
        Request::Restart { .. } => "restart",
    }
}
