//! The page of what each broker does has a row for every case of the suite of buses, in its order.
//!
//! What a row says takes all brokers to find out; that a row is missing is seen here, at once.

use crate::conformance;
use crate::finding::Finding;
use crate::tidy::table;
use crate::tree::Tree;

const RULE: &str = "case";
const SUITE: &str = "crates/test/src/conformance/bus.rs";
const HEADING: &str = "# What each broker does";

/// Compares the suite with the page.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let suite = tree.sources.iter().find(|source| source.path == SUITE).map(|source| source.text.as_str());
    compare(suite.unwrap_or_default(), tree.text(conformance::PAGE).unwrap_or_default()).into_iter().collect()
}

fn compare(suite: &str, page: &str) -> Option<Finding> {
    let cases: Vec<String> = suite.lines().filter_map(case).collect();
    let rows = table::rows(page, HEADING);
    let shown: Vec<&str> =
        rows.iter().map(|row| row.cells.first().map(String::as_str).unwrap_or_default()).collect();
    if cases.is_empty() {
        return Some(Finding::new(SUITE, 1, RULE, "keep its cases as lines `group::case needs WHAT,`"));
    }
    let advice = "its rows are not the cases of the suite: `cargo xtask conformance` writes it";
    (shown != cases).then(|| Finding::new(conformance::PAGE, 1, RULE, advice))
}

/// The name that a line of the suite's table gives a case, as the page writes it.
fn case(line: &str) -> Option<String> {
    let (path, _) = line.trim().strip_suffix(',')?.split_once(" needs ")?;
    let (_, name) = path.split_once("::")?;
    Some(conformance::words(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUITE: &str =
        "    [$($argument)*]\n    publish::it_arrives needs NOTHING,\n    fault::it_dies needs KILL,\n";

    fn is_caught(suite: &str, cases: &[&str]) -> bool {
        let rows: Vec<String> = cases.iter().map(|case| format!("| {case} | passed |\n")).collect();
        compare(suite, &format!("{HEADING}\n\n| case | nats |\n|---|---|\n{}", rows.concat())).is_some()
    }

    #[test]
    fn a_case_that_is_missing_gone_or_elsewhere_is_caught() {
        assert!(is_caught(SUITE, &["it arrives"]));
        assert!(is_caught(SUITE, &["it arrives", "it dies", "it was"]));
        assert!(is_caught(SUITE, &["it dies", "it arrives"]));
        assert!(is_caught("", &[]), "a suite that is not found is no suite without cases");
    }

    #[test]
    fn a_page_of_all_cases_passes() {
        assert!(!is_caught(SUITE, &["it arrives", "it dies"]));
    }
}
