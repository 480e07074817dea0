//! `ensue stream state TOPIC/KEY [--at VERSION|#POSITION|TIME]`: the merged data of a stream.

use clap::Args;
use ensue::core::StreamName;
use ensue::runtime::aggregate::{Kept, kept};
use serde::Serialize;

use crate::command::Session;
use crate::failure::Failure;
use crate::output::short;
use crate::shape;
use crate::state::{At, Merged, merged};

/// The state of a stream: of each field of the data, the last value
#[derive(Args)]
pub(crate) struct State {
    /// The stream
    #[arg(value_name = "TOPIC/KEY")]
    stream: String,
    /// As it was at a version, at a position such as #1234, or at a time such as 2024-01-15T10:30:00Z
    #[arg(long, value_name = "VERSION|#POSITION|TIME")]
    at: Option<String>,
}

impl State {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let stream: StreamName = self.stream.parse()?;
        let at = self.at.as_deref().map_or(Ok(At::End), str::parse)?;
        let store = session.place.open().await?;
        let report =
            Report { state: merged(&*store, &stream, at).await?, snapshot: kept(&*store, &stream).await? };
        let words = in_words(&stream, &report);
        session.output.one(&report, &words)?;
        Ok(())
    }
}

/// The shape that `docs/cli.md` promises.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    state: Merged,
    /// What the aggregate of the stream begins a load with.
    snapshot: Option<Kept>,
}

fn in_words(stream: &StreamName, Report { state, snapshot }: &Report) -> String {
    let mut lines = vec![format!("{stream} at version {}", state.version)];
    lines.extend(snapshot.as_ref().map(|kept| match &kept.damage {
        None => format!("snapshot at version {}, shape {}, {} bytes", kept.version, kept.shape, kept.bytes),
        Some(damage) => format!("snapshot of {} bytes is ignored: {damage}", kept.bytes),
    }));
    if let (Some(last), Some(time)) = (&state.last_type, state.time) {
        lines.push(format!("last {last} at {}", shape::time(time)));
    }
    let width = state.fields.keys().map(|name| name.chars().count()).max().unwrap_or_default();
    let fields = state.fields.iter();
    lines.extend(fields.map(|(name, field)| format!("  {name:<width$}  {}", short(field.value.get(), 200))));
    lines.join("\n")
}
