//! `ensue saga show SAGA KEY [--at …]`: where an instance stands or stood, and the journal of how it got there; and
//! `ensue saga diff`.

use clap::Args;
use ensue::core::{Code, Error, Read, Recorded, StoreExt};
use ensue::runtime::Moment;
use ensue::runtime::blame::differences;
use ensue::runtime::saga::head::{self, Requested, SagaHead};
use serde::Serialize;

use crate::command::Session;
use crate::failure::Failure;
use crate::history::ChangedLine;
use crate::shape::{self, Shown};

/// One instance with its journal
#[derive(Args)]
pub(crate) struct Show {
    /// The saga's name
    saga: String,
    /// The instance
    key: String,
    /// As it was at a position such as 1234, or a time such as 2024-01-15T10:30:00Z
    #[arg(long, value_name = "POSITION|TIME")]
    at: Option<String>,
}

/// What changed in where an instance stands, between two moments
#[derive(Args)]
pub(crate) struct Diff {
    /// The saga's name
    saga: String,
    /// The instance
    key: String,
    /// From here: a position or a time
    from: String,
    /// To here: a position, a time, or now
    #[arg(default_value = "now")]
    to: String,
}

impl Diff {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let store = session.place.open().await?;
        let mut sides = Vec::new();
        for moment in [&self.from, &self.to] {
            let head = head::at(&store, &self.saga, &self.key, moment.parse()?).await?;
            sides.push(head.map(|head| serde_json::to_vec(&head).expect("a head always encodes")));
        }
        if sides.iter().all(Option::is_none) {
            return Err(unknown(&self.saga, &self.key).into());
        }
        let [before, after] = &sides[..] else { unreachable!("two moments have two sides") };
        let changed = differences(before.as_deref(), after.as_deref())?;
        let lines: Vec<ChangedLine> = changed.into_iter().map(ChangedLine).collect();
        session.output.all(&lines)?;
        Ok(())
    }
}

#[derive(Serialize)]
struct Instance<'a> {
    head: &'a SagaHead,
    journal: Vec<Shown<'a>>,
}

impl Show {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let store = session.place.open().await?;
        let moment: Moment = self.at.as_deref().map_or(Ok(Moment::Now), str::parse)?;
        let found = match moment {
            Moment::Now => head::get(&store, &self.saga, &self.key).await?,
            earlier => head::at(&store, &self.saga, &self.key, earlier).await?,
        };
        let Some(head) = found else { return Err(unknown(&self.saga, &self.key).into()) };
        let until = moment.position(&store).await?;
        let journal = store.collect(Read::stream(head.stream()?).until(until)).await?;
        let words = in_words(&head, &journal);
        let instance = Instance { head: &head, journal: journal.iter().map(Shown).collect() };
        session.output.one(&instance, &words)?;
        Ok(())
    }
}

fn unknown(saga: &str, key: &str) -> Error {
    Error::new(Code::NOT_FOUND, format!("saga {saga} has no instance {key} there"))
        .with_fix("`ensue saga ls` lists the instances")
}

/// The status as people read it.
pub(super) fn status(head: &SagaHead) -> String {
    head.status.as_str().replace('_', " ")
}

/// What was asked of it, as people read it.
pub(super) fn requested(requested: Requested) -> &'static str {
    match requested {
        Requested::Cancel => "cancel",
    }
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
        ("requested", head.requested.map(requested)),
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
