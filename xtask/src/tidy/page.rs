//! Every error code has its page in `docs/errors`, every page its code, and the text is what the table says.

use crate::docs;
use crate::finding::Finding;
use crate::tree::Tree;

const RULE: &str = "page";

/// Compares the folder with the table of codes.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let found: Vec<(&str, &str)> = tree
        .texts
        .iter()
        .filter(|text| text.path.starts_with(docs::ERRORS))
        .map(|text| (text.path.as_str(), text.text.as_str()))
        .collect();
    compare(&docs::pages(), &found)
}

fn compare(wanted: &[(String, String)], found: &[(&str, &str)]) -> Vec<Finding> {
    let stale = wanted.iter().filter(|(path, text)| !found.contains(&(path.as_str(), text.as_str())));
    let surplus = found.iter().filter(|(path, _)| wanted.iter().all(|(wanted, _)| wanted != path));
    let stale = stale
        .map(|(path, _)| Finding::new(path, 1, RULE, "write it from the table: `cargo xtask tidy --fix`"));
    let surplus = surplus.map(|(path, _)| Finding::new(path, 1, RULE, "no code has this page: delete it"));
    stale.chain(surplus).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_stale_and_surplus_pages_are_caught() {
        let wanted =
            [("e/E0101.md".to_owned(), "new".to_owned()), ("e/E0102.md".to_owned(), "two".to_owned())];
        let files =
            |found: &[(&str, &str)]| compare(&wanted, found).into_iter().map(|f| f.file).collect::<Vec<_>>();
        assert_eq!(files(&[("e/E0101.md", "old"), ("e/E0102.md", "two")]), ["e/E0101.md"]);
        assert_eq!(files(&[("e/E0101.md", "new")]), ["e/E0102.md"]);
        assert_eq!(files(&[("e/E0101.md", "new"), ("e/E0102.md", "two"), ("e/E9.md", "x")]), ["e/E9.md"]);
    }

    #[test]
    fn pages_that_are_what_the_table_says_pass() {
        assert_eq!(compare(&[("e/E0101.md".to_owned(), "one".to_owned())], &[("e/E0101.md", "one")]), []);
    }
}
