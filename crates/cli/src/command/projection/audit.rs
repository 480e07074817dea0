//! `ensue projection audit NAME`: what the lanes have counted compared with the log and the documents, without a replay.

use clap::Args;
use ensue::core::{Code, Error};
use ensue::runtime::projection::Audit as Audited;
use serde::Serialize;

use crate::command::Session;
use crate::failure::Failure;
use crate::words::count;

/// Compare what was counted with what is there, without a replay; exit code 4 if they differ
#[derive(Args)]
pub(crate) struct Audit {
    /// Its name, such as `orders_view`
    name: String,
}

/// The shape that `docs/cli.md` promises.
#[derive(Serialize)]
struct Report<'a> {
    clean: bool,
    #[serde(flatten)]
    audit: &'a Audited,
}

impl Audit {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let name = self.name;
        let audit = super::named(session, &session.place.open().await?, &name)?.audit().await?;
        session.output.one(&Report { clean: audit.is_clean(), audit: &audit }, &in_words(&audit))?;
        if audit.is_clean() {
            return Ok(());
        }
        Err(Error::new(Code::CHECK_FAILED, format!("{name} is not what was written"))
            .with_fix(format!("`ensue projection verify {name}` lists the rows; `ensue projection rebuild {name}` builds it anew"))
            .into())
    }
}

fn in_words(audit: &Audited) -> String {
    let events: u64 = audit.lanes.iter().map(|lane| lane.taken).sum();
    let mut lines = vec![format!(
        "{}: {} taken by {}, {}",
        audit.projection,
        count(events, "event"),
        count(audit.lanes.len(), "lane"),
        count(audit.documents_found, "document")
    )];
    let findings = audit.findings();
    if findings.is_empty() {
        lines.push("complete and as it was written".to_owned());
    }
    lines.extend(findings.into_iter().map(|finding| format!("  {finding}")));
    lines.join("\n")
}
