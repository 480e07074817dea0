//! `ensue projection verify NAME`: the read model compared with a fresh replay of the log.

use clap::Args;
use ensue::core::{Code, Error};
use ensue::runtime::projection::Difference;
use serde::Serialize;

use crate::command::Session;
use crate::failure::Failure;
use crate::words::count;

/// Replay the log and compare row by row; exit code 4 if they differ
#[derive(Args)]
pub(crate) struct Verify {
    /// Its name, such as `orders_view`
    name: String,
}

/// The shape that `docs/cli.md` promises.
#[derive(Serialize)]
struct Compared<'a> {
    projection: &'a str,
    #[serde(flatten)]
    difference: &'a Difference,
}

impl Verify {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let name = self.name;
        let difference = super::named(session, &session.place.open().await?, &name)?.verify().await?;
        let words = in_words(&name, &difference);
        session.output.one(&Compared { projection: &name, difference: &difference }, &words)?;
        if difference.is_none() {
            return Ok(());
        }
        Err(Error::new(Code::CHECK_FAILED, format!("{name} differs from the log"))
            .with_fix(format!("`ensue projection rebuild {name}` builds it anew"))
            .into())
    }
}

/// What was compared, and each key that differs.
pub(super) fn in_words(name: &str, difference: &Difference) -> String {
    let Difference { events, documents, missing, added, different, unlisted } = difference;
    let mut lines =
        vec![format!("{name}: {} from {}", count(*documents, "document"), count(*events, "event"))];
    if difference.is_none() {
        lines.push("equal to a fresh replay".to_owned());
    }
    for (what, keys) in [("missing", missing), ("added", added), ("different", different)] {
        lines.extend(keys.iter().map(|key| format!("  {what}: {key}")));
    }
    if *unlisted > 0 {
        lines.push(format!("  and {unlisted} more"));
    }
    lines.join("\n")
}
