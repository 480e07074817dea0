//! How a command ends when it does not end well: what is printed, and with which code the process exits.

use std::error::Error as _;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use ensue::core::{Code, Error, Kind};
use serde::Serialize;

use crate::document::Excerpt;
use crate::output::Format;

/// Why a command stopped.
#[derive(Debug)]
pub(crate) enum Failure {
    /// With a code and a page, and where it is in the document that was handed in.
    Coded(Error, Option<Box<Excerpt>>),
    /// Standard output could not be written.
    Output(io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Coded(error, None)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// The exit code of an error: 1 failed, 2 usage, 3 not found, 4 check failed, 5 timed out, 6 conflict.
pub(crate) fn exit_code(error: &Error) -> u8 {
    match error.kind() {
        Kind::Invalid => 2,
        Kind::NotFound => 3,
        Kind::Corrupt => 4,
        Kind::Timeout => 5,
        Kind::Conflict => 6,
        _ if error.code() == Code::CHECK_FAILED => 4,
        _ => 1,
    }
}

impl Failure {
    /// Prints the failure to standard error and says how the process ends.
    pub(crate) fn report(self, format: Format) -> ExitCode {
        let (error, excerpt) = match self {
            Self::Coded(error, excerpt) => (error, excerpt),
            // Whoever read our output has seen enough (`ensue tail | head`): that is no failure.
            Self::Output(cause) if cause.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
            Self::Output(cause) => {
                let error = Error::new(Code::IO, format!("cannot write to standard output: {cause}"));
                (error.with_source(cause), None)
            }
        };
        let text = if format.is_json() {
            as_json(&error)
        } else {
            in_words(&error, excerpt.as_deref(), &Colours::of_standard_error())
        };
        eprintln!("{text}");
        ExitCode::from(exit_code(&error))
    }
}

#[derive(Serialize)]
struct Shape<'a> {
    code: String,
    kind: String,
    message: &'a str,
    fix: &'a str,
    causes: Vec<String>,
}

fn as_json(error: &Error) -> String {
    let shape = Shape {
        code: error.code().to_string(),
        kind: snake_case(&format!("{:?}", error.kind())),
        message: error.message(),
        fix: error.fix(),
        causes: causes(error),
    };
    serde_json::to_string(&shape).expect("text always encodes")
}

fn snake_case(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

/// The chain of causes, outermost first, without what the message has said already.
fn causes(error: &Error) -> Vec<String> {
    let mut said = error.message().to_owned();
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !said.contains(&text) {
            said.push_str(&text);
            causes.push(text);
        }
        next = cause.source();
    }
    causes
}

fn in_words(error: &Error, excerpt: Option<&Excerpt>, colours: &Colours) -> String {
    let Colours { bold_red, bold, plain } = colours;
    let mut lines =
        vec![format!("{bold_red}error[{}]{plain}{bold}: {}{plain}", error.code(), error.message())];
    lines.extend(excerpt.map(ToString::to_string));
    lines.extend(causes(error).iter().map(|cause| format!("  cause: {cause}")));
    lines.push(format!("  fix: {}", error.fix()));
    lines.push(format!("  more: ensue explain {}", error.code()));
    lines.join("\n")
}

struct Colours {
    bold_red: &'static str,
    bold: &'static str,
    plain: &'static str,
}

impl Colours {
    const NONE: Self = Self { bold_red: "", bold: "", plain: "" };

    /// Colours for a terminal, unless `NO_COLOR` is set to anything (no-color.org).
    fn of_standard_error() -> Self {
        let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if is_unwanted || !io::stderr().is_terminal() {
            return Self::NONE;
        }
        Self { bold_red: "\x1b[1;31m", bold: "\x1b[1m", plain: "\x1b[0m" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_table_has_the_exit_code_of_its_kind() {
        let exit = |code| exit_code(&Error::new(code, "x"));
        assert_eq!(exit(Code::IN_USE), 1);
        assert_eq!(exit(Code::TOO_LARGE), 1);
        assert_eq!(exit(Code::USAGE), 2);
        assert_eq!(exit(Code::INVALID_JSON), 2);
        assert_eq!(exit(Code::NOT_A_STORE), 3);
        assert_eq!(exit(Code::NOT_FOUND), 3);
        assert_eq!(exit(Code::CHECK_FAILED), 4);
        assert_eq!(exit(Code::INCOMPLETE), 4);
        assert_eq!(exit(Code::OUTCOME_UNKNOWN), 5);
        assert_eq!(exit(Code::DUPLICATE_ID), 6);
        assert!(Code::all().all(|code| (1..=6).contains(&exit(code))), "zero is for success");
    }

    #[test]
    fn a_cause_that_the_message_repeats_is_printed_once() {
        let error =
            Error::new(Code::IO, "cannot read x: disk on fire").with_source(io::Error::other("disk on fire"));
        assert_eq!(causes(&error), Vec::<String>::new());
        let error = Error::new(Code::IO, "cannot read x").with_source(io::Error::other("disk on fire"));
        assert_eq!(
            in_words(&error, None, &Colours::NONE),
            "error[E0407]: cannot read x\n  cause: disk on fire\n  fix: Read the cause. After a failed write the log \
             stops taking appends until it is opened again.\n  more: ensue explain E0407"
        );
    }

    #[test]
    fn an_error_as_json_has_its_five_members() {
        assert_eq!(
            as_json(&Error::new(Code::NOT_FOUND, "no such stream").with_fix("look again")),
            r#"{"code":"E0414","kind":"not_found","message":"no such stream","fix":"look again","causes":[]}"#
        );
    }
}
