//! `ensue event effects ID|POSITION`: what the event caused, what that caused, and so on.
//!
//! The tree is printed as a list in depth-first order with depths, so that a long chain is as good as a wide tree.

use std::collections::HashMap;

use clap::Args;
use ensue::core::{EventId, Recorded};
use serde::Serialize;

use crate::command::Session;
use crate::failure::Failure;
use crate::find;
use crate::output::Row;
use crate::shape::{self, Shown};

/// Everything that followed, as a tree
#[derive(Args)]
pub(crate) struct Effects {
    /// Id or position of the event to begin with
    #[arg(value_name = "ID|POSITION")]
    event: String,
}

#[derive(Serialize)]
struct Effect<'a> {
    depth: usize,
    event: Shown<'a>,
}

impl Row for Effect<'_> {
    const HEADINGS: &'static [&'static str] = &["position", "time", "event", "stream", "data"];

    fn cells(&self) -> Vec<String> {
        let Recorded { position, stream, envelope, .. } = self.event.0;
        // A very deep chain would leave no room for its text.
        let indent = "  ".repeat(self.depth.min(20));
        vec![
            position.to_string(),
            shape::time(envelope.time),
            format!("{indent}{}", envelope.event_type),
            stream.to_string(),
            shape::data(envelope, 60),
        ]
    }
}

impl Effects {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let store = session.place.open().await?;
        let found = find::event(&store, &self.event).await?;
        let flow = find::of_flow(&store, found.envelope.flow()).await?;
        session.output.all(&tree(&found, &flow))?;
        Ok(())
    }
}

fn tree<'a>(root: &'a Recorded, flow: &'a [Recorded]) -> Vec<Effect<'a>> {
    let mut caused_by: HashMap<&EventId, Vec<&Recorded>> = HashMap::new();
    for recorded in flow {
        if let Some(cause) = &recorded.envelope.causation {
            caused_by.entry(cause).or_default().push(recorded);
        }
    }
    let mut effects = Vec::new();
    let mut next = vec![(0, root)];
    while let Some((depth, recorded)) = next.pop() {
        effects.push(Effect { depth, event: Shown(recorded) });
        // Each event's effects are taken once, so that forged causes that form a circle end here too.
        let caused = caused_by.remove(&recorded.envelope.id).unwrap_or_default();
        next.extend(caused.into_iter().rev().map(|caused| (depth + 1, caused)));
    }
    effects
}
