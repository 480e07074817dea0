//! `ensue event causes ID|POSITION`: the event, what caused it, what caused that, up to the root.

use std::collections::HashMap;

use clap::Args;
use ensue::core::{EventId, Recorded};

use crate::command::Session;
use crate::failure::Failure;
use crate::find;
use crate::shape::Shown;

/// The chain of causes, up to the event that began the flow
#[derive(Args)]
pub(crate) struct Causes {
    /// Id or position of the event to explain
    #[arg(value_name = "ID|POSITION")]
    event: String,
}

impl Causes {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let store = session.place.open().await?;
        let found = find::event(&store, &self.event).await?;
        let flow = find::of_flow(&store, found.envelope.flow()).await?;
        let (chain, missing) = chain(&found, &flow);
        let rows: Vec<Shown<'_>> = chain.iter().map(|recorded| Shown(recorded)).collect();
        session.output.all(&rows)?;
        if let Some(missing) = missing {
            session.output.say(&format!("the first cause, `{missing}`, is not an event of this store"));
        }
        Ok(())
    }
}

/// From the event up to the root; and the id of a cause that the flow does not hold.
fn chain<'a>(found: &'a Recorded, flow: &'a [Recorded]) -> (Vec<&'a Recorded>, Option<&'a EventId>) {
    let mut by_id: HashMap<&EventId, &Recorded> =
        flow.iter().rev().map(|recorded| (&recorded.envelope.id, recorded)).collect();
    let mut chain = vec![found];
    let mut cause = found.envelope.causation.as_ref();
    by_id.remove(&found.envelope.id);
    while let Some(id) = cause {
        // Each event is taken once, so that forged causes that form a circle end here too.
        let Some(recorded) = by_id.remove(id) else { return (chain, Some(id)) };
        chain.push(recorded);
        cause = recorded.envelope.causation.as_ref();
    }
    (chain, None)
}
