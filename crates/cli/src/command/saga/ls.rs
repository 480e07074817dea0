//! `ensue saga ls [SAGA] [--open]`: instances and how they stand.

use clap::Args;
use ensue::runtime::saga::head::{self, SagaHead};
use serde::Serialize;

use crate::command::Session;
use crate::failure::Failure;
use crate::find;
use crate::output::{Row, short};
use crate::shape;

/// List instances and how they stand
#[derive(Args)]
pub(crate) struct Ls {
    /// Only those of this saga
    saga: Option<String>,
    /// Only those that have not ended
    #[arg(long)]
    open: bool,
}

/// The head of an instance.
#[derive(Serialize)]
struct Head(SagaHead);

impl Row for Head {
    const HEADINGS: &'static [&'static str] = &["saga", "key", "status", "step", "since", "because"];

    fn cells(&self) -> Vec<String> {
        let head = &self.0;
        let because = head.reason.as_ref().or(head.waits_for.as_ref());
        vec![
            head.saga.to_string(),
            short(&head.key, 60),
            super::show::status(head),
            head.step.as_ref().map(ToString::to_string).unwrap_or_default(),
            shape::time(head.since),
            because.map(|because| short(because, 80)).unwrap_or_default(),
        ]
    }
}

impl Ls {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let store = session.place.open().await?;
        let mut heads = head::list(&store).await?;
        if let Some(saga) = &self.saga {
            heads.retain(|head| head.saga == *saga);
            if heads.is_empty() {
                find::handler(&store, &format!("saga.{saga}"), &format!("saga {saga}")).await?;
            }
        }
        let is_meant = |head: &SagaHead| !(self.open && head.status.is_over());
        let heads: Vec<Head> = heads.into_iter().filter(is_meant).map(Head).collect();
        session.output.all(&heads)?;
        Ok(())
    }
}
