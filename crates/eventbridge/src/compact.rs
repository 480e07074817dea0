//! JSON on its way through `EventBridge`, which reads it and writes it anew: white space, escapes and the form of numbers may come out
//! otherwise than they went in.
//!
//! Invariant: what [`survives`] is, after any such journey, what [`compact`] makes of it, byte by byte.

use std::fmt::Write;

use ensue_core::cloudevents::json;

/// Numbers of more digits may be rounded by whoever reads them as floating point.
const DIGITS_MAX: usize = 15;

/// Whether the text can be told from what `EventBridge` makes of it: it is compact as we write it, repeats no member, and its numbers have
/// one form only.
pub(crate) fn survives(text: &str) -> bool {
    json::check(text.as_bytes()).is_ok()
        && compact(text).is_some_and(|compact| compact == text)
        && numbers(text).all(has_one_form)
}

/// The text without white space and with strings escaped as little as possible; nothing where it is not JSON.
pub(crate) fn compact(text: &str) -> Option<String> {
    let mut compact = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (token, behind) = match first {
            '"' => rest.split_at_checked(string_end(rest)?)?,
            _ => rest.split_at_checked(first.len_utf8())?,
        };
        match first {
            '"' => {
                let value: String = serde_json::from_str(token).ok()?;
                compact.push_str(&serde_json::to_string(&value).ok()?);
            }
            ' ' | '\t' | '\n' | '\r' => {}
            _ => compact.write_char(first).ok()?,
        }
        rest = behind;
    }
    Some(compact)
}

/// Behind the quote that ends the string at the beginning of the text.
fn string_end(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    let end = text.bytes().skip(1).position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    })?;
    Some(end + 2)
}

/// The numbers of a JSON text.
fn numbers(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let first = rest.chars().next()?;
            let length = match first {
                '"' => string_end(rest)?,
                '-' | '0'..='9' => rest.find([',', ']', '}', ' ', '\t', '\n', '\r']).unwrap_or(rest.len()),
                _ => first.len_utf8(),
            };
            let (token, behind) = rest.split_at_checked(length)?;
            rest = behind;
            if first == '-' || first.is_ascii_digit() {
                return Some(token);
            }
        }
    })
}

/// Whether all who write this number write it like this: a whole number that no floating point rounds, or a short fraction that is
/// neither so large nor so small that some would write an exponent.
fn has_one_form(number: &str) -> bool {
    let digits = number.strip_prefix('-').unwrap_or(number);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let has_fraction = digits.contains('.');
    is_plain
        && number != "-0"
        && whole.len() + fraction.len() <= DIGITS_MAX
        && (!has_fraction
            || whole.len() <= 7 && !fraction.ends_with('0') && (whole != "0" || !fraction.starts_with("000")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_ordinary_serializer_writes_survives() {
        for text in [
            r#"{"total":7}"#,
            r#"{"text":"Größe 東京 🎈 \" \\ \n","list":[1,-2,0.5,12.25,true,null,{}],"empty":""}"#,
            "7",
            "0.001",
            "123456789012345",
        ] {
            assert!(survives(text), "{text}");
        }
    }

    #[test]
    fn what_would_come_out_otherwise_does_not() {
        for text in [
            r#"{"total": 7}"#,
            r#"{"total":7.0}"#,
            r#"{"total":1e3}"#,
            r#"{"total":0.0001}"#,
            r#"{"total":12345678.5}"#,
            r#"{"total":9007199254740993}"#,
            r#"{"total":-0}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"text":"\u6771"}"#,
            r#"{"text":"\/"}"#,
            r#""\ud800""#,
            "no JSON",
            "",
        ] {
            assert!(!survives(text), "{text}");
        }
    }

    #[test]
    fn what_another_serializer_makes_of_it_is_made_good() {
        let text = r#"{"a":"東 \"x\" \\","b":[1,2.5]}"#;
        assert!(survives(text));
        let other = "{ \"a\": \"\\u6771 \\u0022x\\u0022 \\\\\" ,\n\t\"b\" : [1, 2.5]\r}";
        assert_eq!(compact(other).as_deref(), Some(text));
        assert_eq!(compact("\"no end"), None);
    }
}
