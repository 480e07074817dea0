//! The document that a command is handed (`-d @FILE`, `-d -` or a literal), read up to a bound, and the place in it that
//! an error speaks of.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};

use ensue::core::{Code, Error, cloudevents};

use crate::failure::Failure;

/// Largest document that is read: what the largest commit holds. Events have a smaller bound of their own, which the
/// store sets.
pub(crate) const DOCUMENT_BYTES_MAX: usize = 32 << 20;

/// Most characters of a line that an excerpt shows.
const EXCERPT_CHARS_MAX: usize = 100;

/// A document with its name for messages.
#[derive(Debug)]
pub(crate) struct Document {
    name: String,
    pub(crate) bytes: Vec<u8>,
}

impl Document {
    /// Reads what `-d` names. `E0107` once the document turns out to be too large; no more than that is ever held.
    pub(crate) fn read(argument: &str) -> Result<Self, Error> {
        if argument == "-" {
            return Self::read_from("standard input", io::stdin().lock());
        }
        let Some(path) = argument.strip_prefix('@') else {
            return Self::read_from("-d", argument.as_bytes());
        };
        let file = File::open(path).map_err(|cause| unreadable(path, cause))?;
        if file.metadata().is_ok_and(|metadata| metadata.len() > DOCUMENT_BYTES_MAX as u64) {
            return Err(too_large(path));
        }
        Self::read_from(path, file)
    }

    fn read_from(name: &str, source: impl Read) -> Result<Self, Error> {
        let mut bytes = Vec::new();
        let bound = DOCUMENT_BYTES_MAX as u64 + 1;
        source.take(bound).read_to_end(&mut bytes).map_err(|cause| unreadable(name, cause))?;
        if bytes.len() > DOCUMENT_BYTES_MAX {
            return Err(too_large(name));
        }
        Ok(Self { name: name.to_owned(), bytes })
    }

    /// The error together with the line that it speaks of.
    pub(crate) fn blame(&self, error: Error) -> Failure {
        blame(&self.name, &self.bytes, error)
    }
}

/// The error together with the line of `bytes` that it speaks of, if it names one.
pub(crate) fn blame(name: &str, bytes: &[u8], error: Error) -> Failure {
    let excerpt = place(error.message()).and_then(|(line, column)| Excerpt::cut(name, bytes, line, column));
    Failure::Coded(error, excerpt.map(Box::new))
}

/// JSON that is an argument by itself. `E0102` with the place where it is not JSON.
pub(crate) fn json_argument(argument: &str, text: &str) -> Result<Vec<u8>, Failure> {
    let bytes = text.as_bytes();
    cloudevents::json::check(bytes).map_err(|error| blame(argument, bytes, error))?;
    Ok(bytes.to_vec())
}

fn too_large(name: &str) -> Error {
    Error::new(Code::TOO_LARGE, format!("{name} has more than {DOCUMENT_BYTES_MAX} bytes"))
}

fn unreadable(name: &str, cause: io::Error) -> Error {
    let code = if cause.kind() == io::ErrorKind::NotFound { Code::NOT_FOUND } else { Code::IO };
    let error = Error::new(code, format!("cannot read {name}: {cause}")).with_source(cause);
    error.with_fix("check the path after `-d @`; `-d -` reads standard input")
}

/// The line and column at the end of a JSON parser's message.
fn place(message: &str) -> Option<(usize, usize)> {
    let (_, place) = message.rsplit_once(" at line ")?;
    let (line, column) = place.split_once(" column ")?;
    Some((line.parse().ok()?, column.parse().ok()?))
}

/// A line of a document, with a caret under a column.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Excerpt {
    name: String,
    line: usize,
    column: usize,
    text: String,
    caret: usize,
}

impl Excerpt {
    /// Line and column count from 1, the column in bytes; a long line is cut around the column.
    fn cut(name: &str, bytes: &[u8], line: usize, column: usize) -> Option<Self> {
        let whole = bytes.split(|byte| *byte == b'\n').nth(line.checked_sub(1)?)?;
        let before = String::from_utf8_lossy(whole.get(..column.saturating_sub(1)).unwrap_or(whole));
        let chars_before = before.chars().count();
        let text = String::from_utf8_lossy(whole);
        let skipped = chars_before.saturating_sub(EXCERPT_CHARS_MAX / 2);
        let printable = |c: char| if c.is_control() { ' ' } else { c };
        let text: String = text.chars().skip(skipped).take(EXCERPT_CHARS_MAX).map(printable).collect();
        Some(Self { name: name.to_owned(), line, column, text, caret: chars_before - skipped })
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        writeln!(f, " {margin}--> {}:{}:{}", self.name, self.line, self.column)?;
        writeln!(f, " {margin} |")?;
        writeln!(f, " {number} | {}", self.text.trim_end())?;
        write!(f, " {margin} | {}^", " ".repeat(self.caret))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &[u8], message: &str) -> Option<String> {
        match blame("order.json", bytes, Error::new(Code::INVALID_JSON, message)) {
            Failure::Coded(_, excerpt) => excerpt.map(|excerpt| excerpt.to_string()),
            Failure::Output(_) => None,
        }
    }

    #[test]
    fn the_caret_stands_under_the_column() {
        let text = "{\n  \"total\" 59.98\n}";
        assert_eq!(
            shown(text.as_bytes(), "expected `:` at line 2 column 11").expect("a place"),
            "  --> order.json:2:11\n   |\n 2 |   \"total\" 59.98\n   |           ^"
        );
        assert_eq!(shown(text.as_bytes(), "attribute `id`: it is missing"), None);
    }

    #[test]
    fn a_long_line_is_cut_around_the_column() {
        let line = format!("{}!{}", "é".repeat(500), "x".repeat(500));
        let shown = shown(line.as_bytes(), "trailing characters at line 1 column 1001").expect("a place");
        let lines: Vec<&str> = shown.lines().collect();
        let [_, _, text, caret] = lines.as_slice() else { panic!("four lines: {shown}") };
        let at = |line: &str, c| line.chars().position(|other| other == c);
        assert_eq!(at(text, '!'), at(caret, '^'));
        assert!(text.chars().count() < 110, "{text}");
    }

    #[test]
    fn reading_stops_at_the_bound() {
        struct Endless(usize);
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                buffer.fill(b' ');
                self.0 += buffer.len();
                assert!(self.0 <= 4 * DOCUMENT_BYTES_MAX, "reading goes on behind the bound");
                Ok(buffer.len())
            }
        }
        let error = Document::read_from("standard input", Endless(0)).expect_err("it never ends");
        assert_eq!(error.code(), Code::TOO_LARGE);
    }
}
