//! What a rule of `tidy` has to say: where, which rule, and what to write instead.

use std::fmt;

/// One line of the report. Sorts by place, so that the report reads like the tree.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Finding {
    /// Relative to the root of the repository.
    pub(crate) file: String,
    /// From 1.
    pub(crate) line: usize,
    /// The rule's name.
    pub(crate) rule: &'static str,
    /// What to do instead, as a sentence.
    pub(crate) replacement: String,
}

impl Finding {
    /// A finding at a line of a file.
    pub(crate) fn new(file: &str, line: usize, rule: &'static str, replacement: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, rule, replacement: replacement.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file, self.line, self.rule, self.replacement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_as_place_rule_and_replacement() {
        let finding = Finding::new("crates/core/src/lib.rs", 7, "header", "open the file with `//!`");
        assert_eq!(finding.to_string(), "crates/core/src/lib.rs:7: header: open the file with `//!`");
    }
}
