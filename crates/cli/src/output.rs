//! What goes to standard output: rows for people, one JSON document, or one JSON object per line.
//!
//! Invariant: nothing but data is written here; talk goes to standard error and is silent with `-q`.

use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};

use clap::ValueEnum;
use serde::Serialize;

/// How to print.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Format {
    /// Rows and sentences for people
    #[value(alias = "text")]
    Table,
    /// One JSON document
    Json,
    /// One JSON object per line
    Jsonl,
    /// A tree of what caused what (`flow show`)
    Tree,
    /// Who told whom what, in order (`flow show`)
    Sequence,
    /// A Mermaid diagram (`flow show`, `flow map`)
    Mermaid,
}

impl Format {
    /// Whether programs read it.
    pub(crate) fn is_json(self) -> bool {
        matches!(self, Self::Json | Self::Jsonl)
    }

    /// Whether only some commands can draw it.
    pub(crate) fn is_drawing(self) -> bool {
        matches!(self, Self::Tree | Self::Sequence | Self::Mermaid)
    }
}

/// Something that is one of many: a row for people, an object for programs.
pub(crate) trait Row: Serialize {
    /// The names of the columns.
    const HEADINGS: &'static [&'static str];

    /// The text of each column.
    fn cells(&self) -> Vec<String>;
}

/// Standard output in the format that was asked for.
pub(crate) struct Output {
    format: Format,
    is_quiet: bool,
    out: Box<dyn Write>,
}

impl Output {
    /// To standard output.
    pub(crate) fn new(format: Format, is_quiet: bool) -> Self {
        Self { format, is_quiet, out: Box::new(BufWriter::new(io::stdout().lock())) }
    }

    /// To somewhere else, as JSON lines.
    #[cfg(test)]
    pub(crate) fn to(out: impl Write + 'static) -> Self {
        Self { format: Format::Jsonl, is_quiet: true, out: Box::new(out) }
    }

    /// The format that was asked for.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Whether only data and errors are printed.
    pub(crate) fn is_quiet(&self) -> bool {
        self.is_quiet
    }

    /// Talk, to standard error.
    pub(crate) fn say(&self, sentence: &str) {
        if !self.is_quiet {
            eprintln!("{sentence}");
        }
    }

    /// One thing: an object, or these words.
    pub(crate) fn one<T: Serialize>(&mut self, value: &T, words: &str) -> io::Result<()> {
        if self.format.is_json() {
            serde_json::to_writer(&mut self.out, value)?;
        } else {
            self.out.write_all(words.as_bytes())?;
        }
        self.out.write_all(b"\n")?;
        self.out.flush()
    }

    /// A list that is known, with columns as wide as their widest cell.
    pub(crate) fn all<R: Row>(&mut self, rows: &[R]) -> io::Result<()> {
        let mut list = self.list::<R>();
        if list.is_table() {
            rows.iter().for_each(|row| list.widen(&row.cells()));
        }
        for row in rows {
            list.push(row)?;
        }
        list.finish()
    }

    /// A list that is printed while it is found.
    pub(crate) fn list<R: Row>(&mut self) -> List<'_> {
        let widths = R::HEADINGS.iter().map(|heading| heading.chars().count()).collect();
        List { output: self, headings: R::HEADINGS, widths, printed: 0 }
    }
}

/// A list under way. In JSON it is an array, which [`List::finish`] closes.
pub(crate) struct List<'a> {
    output: &'a mut Output,
    headings: &'static [&'static str],
    widths: Vec<usize>,
    printed: usize,
}

impl List<'_> {
    fn is_table(&self) -> bool {
        self.output.format == Format::Table
    }

    fn widen(&mut self, cells: &[String]) {
        for (width, cell) in self.widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.chars().count());
        }
    }

    /// Prints one more.
    pub(crate) fn push<R: Row>(&mut self, row: &R) -> io::Result<()> {
        let is_first = self.printed == 0;
        self.printed += 1;
        match self.output.format {
            // Lists are not drawn: whoever asks for a drawing of one is refused before.
            Format::Table | Format::Tree | Format::Sequence | Format::Mermaid => {
                let cells = row.cells();
                self.widen(&cells);
                if is_first {
                    let headings: Vec<String> =
                        self.headings.iter().map(|text| text.to_uppercase()).collect();
                    self.print_line(&headings)?;
                }
                self.print_line(&cells)
            }
            Format::Json => {
                self.output.out.write_all(if is_first { b"[\n" } else { b",\n" })?;
                Ok(serde_json::to_writer(&mut self.output.out, row)?)
            }
            Format::Jsonl => {
                serde_json::to_writer(&mut self.output.out, row)?;
                self.output.out.write_all(b"\n")
            }
        }
    }

    fn print_line(&mut self, cells: &[String]) -> io::Result<()> {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(&self.widths) {
            // Numbers are compared by their ends.
            let is_number = !cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_digit());
            let written =
                if is_number { write!(line, "{cell:>width$}  ") } else { write!(line, "{cell:<width$}  ") };
            written.expect("a string takes every text");
        }
        writeln!(self.output.out, "{}", line.trim_end())
    }

    /// How many were printed.
    pub(crate) fn printed(&self) -> usize {
        self.printed
    }

    /// Hands on what is printed so far; whoever follows a log wants to see each event at once.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.output.out.flush()
    }

    /// Closes the list.
    pub(crate) fn finish(self) -> io::Result<()> {
        if self.output.format == Format::Json {
            self.output.out.write_all(if self.printed == 0 { b"[]\n" } else { b"\n]\n" })?;
        }
        self.output.out.flush()
    }
}

/// Text of at most `chars_max` characters on one line, without what would move the cursor of a terminal.
pub(crate) fn short(text: &str, chars_max: usize) -> String {
    let mut line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(chars_max + 1).collect();
    if line.chars().count() > chars_max {
        line = line.chars().take(chars_max.saturating_sub(1)).collect();
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Serialize)]
    struct Fruit {
        name: &'static str,
        weight: u32,
    }

    impl Row for Fruit {
        const HEADINGS: &'static [&'static str] = &["name", "weight"];
        fn cells(&self) -> Vec<String> {
            vec![self.name.to_owned(), self.weight.to_string()]
        }
    }

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("one thread").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn printed(format: Format, rows: &[Fruit]) -> String {
        let paper = Paper::default();
        Output { format, is_quiet: false, out: Box::new(paper.clone()) }
            .all(rows)
            .expect("paper takes everything");
        let bytes = paper.0.lock().expect("one thread").clone();
        String::from_utf8(bytes).expect("text")
    }

    const FRUIT: [Fruit; 2] = [Fruit { name: "pomegranate", weight: 9 }, Fruit { name: "fig", weight: 1000 }];

    #[test]
    fn a_table_lines_up_with_numbers_to_the_right() {
        assert_eq!(
            printed(Format::Table, &FRUIT),
            "NAME         WEIGHT\npomegranate       9\nfig            1000\n"
        );
        assert_eq!(printed(Format::Table, &[]), "");
    }

    #[test]
    fn json_is_one_document_and_jsonl_one_object_per_line() {
        let one = r#"{"name":"pomegranate","weight":9}"#;
        let two = r#"{"name":"fig","weight":1000}"#;
        assert_eq!(printed(Format::Json, &FRUIT), format!("[\n{one},\n{two}\n]\n"));
        assert_eq!(printed(Format::Jsonl, &FRUIT), format!("{one}\n{two}\n"));
        assert_eq!(printed(Format::Json, &[]), "[]\n");
        assert_eq!(printed(Format::Jsonl, &[]), "");
    }

    #[test]
    fn short_text_stays_on_its_line() {
        assert_eq!(short("a\nb\x1b[31m", 20), "a b [31m");
        assert_eq!(short("abcdef", 4), "abc…");
        assert_eq!(short("abcd", 4), "abcd");
    }
}
