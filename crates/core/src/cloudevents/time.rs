//! Timestamps as text: RFC 3339 and nothing else, without an allocation.

use std::fmt::{self, Write};

use jiff::Timestamp;

/// Short text on the stack: a time or a number.
pub(super) struct Short {
    bytes: [u8; 40],
    len: usize,
}

impl Short {
    /// The text of `value`, which must fit.
    pub(super) fn of(value: impl fmt::Display) -> Self {
        let mut short = Self { bytes: [0; 40], len: 0 };
        write!(short, "{value}").expect("a time or number has at most 40 bytes");
        short
    }

    /// The text.
    pub(super) fn as_str(&self) -> &str {
        let written = self.bytes.get(..self.len).unwrap_or_default();
        std::str::from_utf8(written).expect("only whole pieces of text are written")
    }
}

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// Reads an RFC 3339 time. The parser behind it takes more forms (a space for the `T`, no seconds, zone names), which
/// other readers of the log would not; so the form is checked first.
pub(super) fn parse(text: &str) -> Result<Timestamp, String> {
    if !has_rfc3339_form(text.as_bytes()) {
        return Err(format!("`{text}` is not an RFC 3339 time, such as `2024-01-15T10:30:00Z`"));
    }
    text.parse().map_err(|cause| format!("`{text}` is not an RFC 3339 time: {cause}"))
}

fn has_rfc3339_form(text: &[u8]) -> bool {
    let Some((date_time, rest)) = text.split_at_checked(19) else { return false };
    let offset = match rest {
        [b'.', fraction @ ..] => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 {
                return false;
            }
            fraction.get(digits..).unwrap_or_default()
        }
        whole => whole,
    };
    matches_form(date_time, b"0000-00-00T00:00:00")
        && (matches!(offset, b"Z" | b"z")
            || matches_form(offset, b"+00:00")
            || matches_form(offset, b"-00:00"))
}

/// Whether `text` is `form` with any digit for each `0`, and with either case of its letters.
fn matches_form(text: &[u8], form: &[u8]) -> bool {
    text.len() == form.len()
        && text.iter().zip(form).all(|(byte, form)| match form {
            b'0' => byte.is_ascii_digit(),
            sign => byte.eq_ignore_ascii_case(sign),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_rfc_3339_is_read() {
        for (text, expected) in [
            ("2018-04-05T17:31:00Z", "2018-04-05T17:31:00Z"),
            ("2018-04-05t17:31:00z", "2018-04-05T17:31:00Z"),
            ("2018-04-05T17:31:00.125+02:00", "2018-04-05T15:31:00.125Z"),
            ("2018-04-05T17:31:00-00:00", "2018-04-05T17:31:00Z"),
            ("2018-04-05T17:31:00.123456789Z", "2018-04-05T17:31:00.123456789Z"),
        ] {
            assert_eq!(Short::of(parse(text).expect(text)).as_str(), expected);
        }
    }

    #[test]
    fn what_is_close_to_rfc_3339_is_refused() {
        for text in [
            "",
            "2018-04-05",
            "2018-04-05 17:31:00Z",
            "2018-04-05T17:31Z",
            "2018-04-05T17:31:00",
            "2018-04-05T17:31:00.Z",
            "2018-04-05T17:31:00+02:00[Europe/Berlin]",
            "2018-02-30T17:31:00Z",
            "2018-04-05T25:31:00Z",
        ] {
            assert!(parse(text).expect_err(text).contains("RFC 3339"), "{text}");
        }
    }
}
