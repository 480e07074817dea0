//! `ensue saga show SAGA KEY`: where an instance stands, and the journal of how it got there.

use clap::Args;
use ensue::core::{Code, Error, Read, Recorded, StoreExt};
use ensue::runtime::saga::head::{self, SagaHead};
use serde::Serialize;

use crate::command::Session;
use crate::failure::Failure;
use crate::shape::{self, Shown};

/// One instance with its journal
#[derive(Args)]
pub(crate) struct Show {
    /// The saga's name
    saga: String,
    /// The instance
    key: String,
}

#[derive(Serialize)]
struct Instance<'a> {
    head: &'a SagaHead,
    journal: Vec<Shown<'a>>,
}

impl Show {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let store = session.folder.open()?;
        let Some(head) = head::get(&store, &self.saga, &self.key).await? else {
            let message = format!("saga {} has no instance {}", self.saga, self.key);
            return Err(Error::new(Code::NOT_FOUND, message)
                .with_fix("`ensue saga ls` lists the instances")
                .into());
        };
        let journal = store.collect(Read::stream(head.stream()?)).await?;
        let words = in_words(&head, &journal);
        let instance = Instance { head: &head, journal: journal.iter().map(Shown).collect() };
        session.output.one(&instance, &words)?;
        Ok(())
    }
}

/// The status as people read it.
pub(super) fn status(head: &SagaHead) -> String {
    head.status.as_str().replace('_', " ")
}

fn in_words(head: &SagaHead, journal: &[Recorded]) -> String {
    let mut lines =
        vec![format!("{} {}: {} since {}", head.saga, head.key, status(head), shape::time(head.since))];
    let until = head.until.map(shape::time);
    let (undoable, undone) = (head.undoable.join(", "), head.undone.join(", "));
    let unclaimed = head.unclaimed.join(", ");
    let facts = [
        ("flow", Some(head.flow.as_str())),
        ("step", head.step.as_deref()),
        ("waits for", head.waits_for.as_deref()),
        ("until", until.as_deref()),
        ("code", head.code.as_deref()),
        ("reason", head.reason.as_deref()),
        ("undoable", Some(undoable.as_str())),
        ("undone", Some(undone.as_str())),
        ("unclaimed", Some(unclaimed.as_str())),
    ];
    let facts = facts.iter().filter_map(|(name, text)| Some((name, text.filter(|text| !text.is_empty())?)));
    lines.extend(facts.map(|(name, text)| format!("  {name:<10} {text}")));
    lines.extend(head.difference.iter().map(ToString::to_string));
    lines.extend(journal.iter().map(entry));
    lines.join("\n")
}

fn entry(recorded: &Recorded) -> String {
    let entry = recorded.envelope.event_type.as_str();
    let entry = entry.strip_prefix("saga.").unwrap_or(entry);
    let time = shape::time(recorded.recorded_at);
    format!("{:>5}  {time}  {entry:<15} {}", recorded.version, shape::data(&recorded.envelope, 100))
}
