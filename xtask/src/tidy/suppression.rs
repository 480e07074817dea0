//! A lint or a test is switched off only with a reason, and in the form that complains once it is no longer needed.

use crate::finding::Finding;
use crate::source::{self, Source};

const RULE: &str = "suppression";

/// Looks at the attributes of one file.
pub(super) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in ["allow", "expect", "ignore"] {
        for marker in [format!("# [ {name}"), format!("# ! [ {name}")] {
            let starts = source.find(&marker).into_iter();
            let found = starts.filter_map(|start| advice(source, start, name).map(|advice| (start, advice)));
            findings.extend(
                found.map(|(start, advice)| Finding::new(&source.path, source.line(start), RULE, advice)),
            );
        }
    }
    findings
}

/// What is wrong with the attribute that starts here.
fn advice(source: &Source, start: usize, name: &str) -> Option<&'static str> {
    let open = start + source.tokens.iter().skip(start).position(|token| token.is("["))?;
    let end = source::closing(&source.tokens, open);
    let attribute = source.tokens.get(start..end).unwrap_or_default();
    match name {
        "allow" => Some("mend the cause, or write `#[expect(lint, reason = \"…\")]`"),
        "expect" if !source::contains(attribute, "reason =") => Some("add `reason = \"…\"`"),
        "ignore" if !source::contains(attribute, "ignore =") => {
            Some("mend the test, or write `#[ignore = \"why, and when it runs\"]`")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suppression_without_a_reason_is_caught() {
        let text =
            "#![allow(dead_code)]\n#[allow(unused)]\n#[expect(unused)]\n#[test]\n#[ignore]\nfn f() {}\n";
        let lines: Vec<usize> =
            check(&Source::new("a.rs", text)).iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [2, 1, 3, 5]);
    }

    #[test]
    fn suppression_with_a_reason_passes() {
        let text =
            "#[expect(unused, reason = \"kept for symmetry\")]\n#[ignore = \"needs a disk\"]\nfn f() {}\n";
        assert_eq!(check(&Source::new("a.rs", text)), []);
    }
}
