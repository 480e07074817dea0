//! `ensue verify`: reads everything the store holds and says what is not as it was written. Changes nothing.

use ensue::core::{Code, Error};
use serde::Serialize;

use crate::command::Session;
use crate::failure::Failure;
use crate::place::Address;
use crate::words::count;

mod database;
mod log;

#[derive(Serialize)]
struct Finding {
    code: String,
    message: String,
}

/// Prints what was found; exit code 4 if something does not hold.
pub(crate) async fn run(session: &mut Session) -> Result<(), Failure> {
    let findings = match session.place.address() {
        Address::Folder(folder) => {
            let verified = log::Verified::of(folder)?;
            session.output.one(&verified, &verified.in_words())?;
            verified.findings.len()
        }
        address => {
            let address = address.to_string();
            let verified = database::Verified::of(&session.place.open_kind().await?, address).await?;
            session.output.one(&verified, &verified.in_words())?;
            verified.findings.len()
        }
    };
    if findings == 0 {
        return Ok(());
    }
    let message = format!("{} does not hold in {}", session.place, count(findings, "place"));
    Err(Error::new(Code::CHECK_FAILED, message).with_fix(Code::CORRUPT.fix()).into())
}

impl Finding {
    fn of(error: &Error) -> Self {
        Self { code: error.code().to_string(), message: error.message().to_owned() }
    }

    fn corrupt(message: String) -> Self {
        Self { code: Code::CORRUPT.to_string(), message }
    }
}

/// A line for each, or one that there are none.
fn in_words(findings: &[Finding]) -> Vec<String> {
    match findings {
        [] => vec!["everything holds".to_owned()],
        findings => findings.iter().map(|finding| format!("{}: {}", finding.code, finding.message)).collect(),
    }
}
