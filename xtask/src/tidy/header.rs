//! Every file opens with `//!`: what it is, what it is not, what always holds in it.

use crate::finding::Finding;
use crate::source::Source;

const RULE: &str = "header";

/// Looks at the first line.
pub(super) fn check(source: &Source) -> Vec<Finding> {
    let first = source.text.lines().next().unwrap_or_default();
    let says_something = first.strip_prefix("//!").is_some_and(|rest| !rest.trim().is_empty());
    if says_something {
        return Vec::new();
    }
    vec![Finding::new(&source.path, 1, RULE, "open the file with `//!` and a sentence on what it is")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_header_is_caught() {
        assert_eq!(check(&Source::new("a.rs", "use std::fmt;\n")).len(), 1);
        assert_eq!(check(&Source::new("a.rs", "//!\nuse std::fmt;\n")).len(), 1);
        assert_eq!(check(&Source::new("a.rs", "")).len(), 1);
    }

    #[test]
    fn a_file_with_a_header_passes() {
        assert_eq!(check(&Source::new("a.rs", "//! Names.\n")), []);
    }
}
