//! Every row of GUARANTEES.md shows a proof or admits that there is none.

use crate::finding::Finding;
use crate::tidy::table;
use crate::tree::Tree;

const RULE: &str = "promise";
const PAGE: &str = "GUARANTEES.md";
const HEADINGS: [&str; 3] = ["## The log", "## Delivery", "## Sagas"];
const UNPROVED: &str = "not yet shown";

/// Looks at the last column of every table of promises. That the links lead somewhere is another rule.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.text(PAGE).map(check_page).unwrap_or_default()
}

fn check_page(text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for heading in HEADINGS {
        let rows = table::rows(text, heading);
        if rows.is_empty() {
            findings.push(Finding::new(PAGE, 1, RULE, format!("keep a table of promises under `{heading}`")));
        }
        for row in rows {
            let proof = row.cells.last().map(String::as_str).unwrap_or_default();
            let is_honest = proof.contains("](") != proof.contains(UNPROVED);
            if row.cells.len() != 3 || !is_honest {
                let advice = format!("end the row with a link to its test, or with `{UNPROVED}`");
                findings.push(Finding::new(PAGE, row.line, RULE, advice));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(proof: &str) -> Vec<usize> {
        let table = |heading: &str, proof: &str| {
            format!("{heading}\n| | promise | proved by |\n|---|---|---|\n| A | b | {proof} |\n")
        };
        let page: String =
            HEADINGS.iter().zip([proof, UNPROVED, UNPROVED]).map(|(h, p)| table(h, p)).collect();
        check_page(&page).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_promise_without_a_verdict_or_with_two_is_caught() {
        assert_eq!(lines(""), [4]);
        assert_eq!(lines("believe us"), [4]);
        assert_eq!(lines("[`a_test`](a.rs), not yet shown"), [4]);
        assert_eq!(check_page("# Guarantees\n").len(), HEADINGS.len());
    }

    #[test]
    fn a_proof_and_an_admission_pass() {
        assert_eq!(lines("[`a_test`](a.rs), without the network"), [] as [usize; 0]);
        assert_eq!(lines(UNPROVED), [] as [usize; 0]);
    }
}
