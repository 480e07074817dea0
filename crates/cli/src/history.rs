//! How states of the past are printed: fields with the event that changed them, and what differs between two moments.

use ensue::core::{Code, Error};
use ensue::runtime::blame::{Blamed, Changed, select};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::command::Session;
use crate::failure::Failure;
use crate::output::{Row, short};
use crate::shape;

/// Most characters of a value in a row.
const VALUE_CHARS_MAX: usize = 40;

#[derive(Serialize)]
struct Line(Blamed);

impl Row for Line {
    const HEADINGS: &'static [&'static str] =
        &["field", "value", "before", "changes", "position", "type", "time"];

    fn cells(&self) -> Vec<String> {
        let blamed = &self.0;
        vec![
            blamed.field.clone(),
            value(blamed.value.as_deref()),
            value(blamed.before.as_deref()),
            blamed.changes.to_string(),
            blamed.position.to_string(),
            blamed.event_type.to_string(),
            shape::time(blamed.time),
        ]
    }
}

/// Prints the fields of `of`, or only the one that was asked for. `E0414` if there never was such a field.
pub(crate) fn print_blame(
    session: &mut Session,
    fields: Vec<Blamed>,
    field: Option<&str>,
    of: &str,
) -> Result<(), Failure> {
    let fields = match field {
        Some(field) => select(fields, field),
        None => fields,
    };
    if let (true, Some(field)) = (fields.is_empty(), field) {
        return Err(Error::new(
            Code::NOT_FOUND,
            format!("{of} never had a field `{}`", field.escape_debug()),
        )
        .with_fix("leave the field out to see all of them")
        .into());
    }
    let lines: Vec<Line> = fields.into_iter().map(Line).collect();
    session.output.all(&lines)?;
    Ok(())
}

impl Row for ChangedLine {
    const HEADINGS: &'static [&'static str] = &["field", "before", "after"];

    fn cells(&self) -> Vec<String> {
        let Changed { field, before, after } = &self.0;
        vec![field.clone(), value(before.as_deref()), value(after.as_deref())]
    }
}

/// A field that differs, as it is printed.
#[derive(Serialize)]
pub(crate) struct ChangedLine(pub(crate) Changed);

fn value(value: Option<&RawValue>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| short(value.get(), VALUE_CHARS_MAX))
}
