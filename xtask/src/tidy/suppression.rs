//! A lint or a test is switched off only with a reason, and in the form that complains once it is no longer needed.

use crate::finding::Finding;
use crate::source::{self, Source};

const RULE: &str = "suppression";

/// Looks at the attributes and the documentation of one file.
pub(super) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = unchecked_examples(source);
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

/// An example that the compiler never sees is wrong sooner or later.
fn unchecked_examples(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for comment in &source.comments {
        for (offset, line) in comment.text.lines().enumerate() {
            let opening = line
                .split_once("```")
                .filter(|(before, _)| before.trim_matches(['/', '!', '*', ' ']).is_empty());
            if opening.is_some_and(|(_, language)| language.split(',').any(|word| word.trim() == "ignore")) {
                let advice = "let the example compile (`no_run` if it must not run), or call it `text`";
                findings.push(Finding::new(&source.path, comment.line + offset, RULE, advice));
            }
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
    fn an_example_that_is_never_compiled_is_caught_and_others_pass() {
        let lines = |text: &str| check(&Source::new("a.rs", text)).iter().map(|f| f.line).collect::<Vec<_>>();
        assert_eq!(
            lines("//! Text.\n//! ```ignore\n//! x\n//! ```\n/// ```rust,ignore\nfn f() {}\n"),
            [2, 5]
        );
        assert_eq!(
            lines("/// ```no_run\n/// f();\n/// ```\n/// Use ```ignore``` never.\nfn f() {}\n"),
            [] as [usize; 0]
        );
    }

    #[test]
    fn suppression_with_a_reason_passes() {
        let text =
            "#[expect(unused, reason = \"kept for symmetry\")]\n#[ignore = \"needs a disk\"]\nfn f() {}\n";
        assert_eq!(check(&Source::new("a.rs", text)), []);
    }
}
