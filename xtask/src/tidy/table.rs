//! Reads a table of a Markdown page: the first one under a heading.

/// One row below the head of the table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Row {
    /// From 1.
    pub(super) line: usize,
    pub(super) cells: Vec<String>,
}

impl Row {
    /// The names in backticks of the cell at this index.
    pub(super) fn names(&self, index: usize) -> Vec<&str> {
        let cell = self.cells.get(index).map(String::as_str).unwrap_or_default();
        cell.split('`').skip(1).step_by(2).collect()
    }
}

/// The rows of the first table under this heading; none if there is no such table.
pub(super) fn rows(text: &str, heading: &str) -> Vec<Row> {
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    let section = numbered.skip_while(|(_, line)| *line != heading).skip(1);
    let within = section.take_while(|(_, line)| !line.starts_with('#'));
    let table =
        within.skip_while(|(_, line)| !line.starts_with('|')).take_while(|(_, line)| line.starts_with('|'));
    table.skip(2).map(|(line, text)| Row { line, cells: cells(text) }).collect()
}

fn cells(line: &str) -> Vec<String> {
    line.trim().trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str =
        "# A\n\n## One\n\nText.\n\n| a | b |\n|---|---|\n| `x` | `y`, `z` |\n\n## Two\n\n| a |\n|---|\n";

    #[test]
    fn rows_carry_their_line_and_their_names() {
        let rows = rows(PAGE, "## One");
        let row = rows.first().expect("one row");
        assert_eq!((rows.len(), row.line), (1, 9));
        assert_eq!((row.names(0), row.names(1), row.names(2)), (vec!["x"], vec!["y", "z"], vec![]));
    }

    #[test]
    fn a_table_without_rows_and_a_missing_heading_are_empty() {
        assert_eq!(rows(PAGE, "## Two"), []);
        assert_eq!(rows(PAGE, "## Three"), []);
    }
}
