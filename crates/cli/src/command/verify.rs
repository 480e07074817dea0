//! `ensue verify`: reads everything the folder holds and says what is not as it was written. Changes nothing.

use ensue::core::{Code, Error, Position};
use ensue::log::{Report, verify};
use serde::Serialize;

use crate::command::Session;
use crate::failure::Failure;
use crate::words::count;

#[derive(Serialize)]
struct Verified {
    folder: String,
    frames: u64,
    commits: u64,
    events: u64,
    head: Position,
    bytes: u64,
    indexed: Position,
    mode: &'static str,
    /// The last write was cut short before it was acknowledged; that is no damage.
    has_torn_tail: bool,
    findings: Vec<Finding>,
}

#[derive(Serialize)]
struct Finding {
    code: String,
    message: String,
}

/// Prints what was found; exit code 4 if something does not hold.
pub(crate) fn run(session: &mut Session) -> Result<(), Failure> {
    let report = verify(session.place.log_folder()?)?;
    let verified = Verified::new(session.place.folder().display().to_string(), &report);
    let words = verified.in_words();
    session.output.one(&verified, &words)?;
    match verified.findings.len() {
        0 => Ok(()),
        findings => {
            let message = format!("{} does not hold in {}", verified.folder, count(findings, "place"));
            Err(Error::new(Code::CHECK_FAILED, message).with_fix(Code::CORRUPT.fix()).into())
        }
    }
}

impl Verified {
    fn new(folder: String, report: &Report) -> Self {
        let finding =
            |error: &Error| Finding { code: error.code().to_string(), message: error.message().to_owned() };
        Self {
            folder,
            frames: report.frames,
            commits: report.commits,
            events: report.events,
            head: report.head,
            bytes: report.bytes,
            indexed: report.indexed,
            mode: report.mode.name(),
            has_torn_tail: report.has_torn_tail,
            findings: report.findings.iter().map(finding).collect(),
        }
    }

    fn in_words(&self) -> String {
        let Self { frames, commits, events, bytes, head, .. } = self;
        let read = format!(
            "{} in {} in {}, {}, up to position {head}",
            count(*events, "event"),
            count(*commits, "commit"),
            count(*frames, "frame"),
            count(*bytes, "byte")
        );
        let mut lines = vec![read];
        if self.has_torn_tail {
            lines.push("the last write was cut short; it had not been acknowledged, and the next start overwrites it".into());
        }
        lines.extend(self.findings.iter().map(|finding| format!("{}: {}", finding.code, finding.message)));
        if self.findings.is_empty() {
            lines.push("everything holds".into());
        }
        lines.join("\n")
    }
}
