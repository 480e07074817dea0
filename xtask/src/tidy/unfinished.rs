//! Nothing unfinished is left in the code: no placeholder, no note without an issue, no check that checks nothing.

use crate::finding::Finding;
use crate::source::{self, Source};

const RULE: &str = "unfinished";
const PLACEHOLDERS: [&str; 2] = ["todo !", "unimplemented !"];
const NOTES: [&str; 3] = ["TODO", "FIXME", "XXX"];

/// Looks at code and comments of one file.
pub(super) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = placeholders(source);
    findings.extend(notes(source));
    findings.extend(bare_matches(source));
    findings
}

fn placeholders(source: &Source) -> Vec<Finding> {
    let starts = PLACEHOLDERS.iter().flat_map(|placeholder| source.find(placeholder));
    let advice = "write the code, or return an `Unsupported` error that says what to use instead";
    starts.map(|start| Finding::new(&source.path, source.line(start), RULE, advice)).collect()
}

fn notes(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for comment in &source.comments {
        for (offset, line) in comment.text.lines().enumerate() {
            if NOTES.iter().any(|note| line.contains(note)) && !names_an_issue(line) {
                let advice = "do it now, or name the issue: `(#12)`";
                findings.push(Finding::new(&source.path, comment.line + offset, RULE, advice));
            }
        }
    }
    findings
}

fn names_an_issue(line: &str) -> bool {
    line.split('#').skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// `matches!(..);` as a statement of its own throws its answer away.
fn bare_matches(source: &Source) -> Vec<Finding> {
    let starts = source.find("matches ! (").into_iter().filter(|start| {
        let before = start.checked_sub(1).and_then(|index| source.tokens.get(index));
        let after = source.tokens.get(source::closing(&source.tokens, start + 2));
        let begins = before.is_some_and(|token| [";", "{", "}"].iter().any(|mark| token.is(mark)));
        begins && after.is_some_and(|token| token.is(";"))
    });
    let advice = "wrap it: `assert!(matches!(..))`";
    starts.map(|start| Finding::new(&source.path, source.line(start), RULE, advice)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        check(&Source::new("a.rs", text)).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn placeholders_are_caught_in_code_but_not_in_text() {
        assert_eq!(lines("fn a() { todo!() }\nfn b() { unimplemented!(\"x\") }\n"), [1, 2]);
        assert_eq!(lines("fn a() { print(\"todo!()\") } // no todo!() here\n"), [] as [usize; 0]);
    }

    #[test]
    fn a_note_without_an_issue_is_caught_and_one_with_an_issue_passes() {
        assert_eq!(lines("/* one\nFIXME two */\n// TODO: three\n"), [2, 3]);
        assert_eq!(lines("// TODO(#12): when the sealed segments exist\n"), [] as [usize; 0]);
    }

    #[test]
    fn a_bare_matches_is_caught_and_a_used_one_passes() {
        assert_eq!(lines("fn a() { matches!(x, Some(_)); }\n"), [1]);
        assert_eq!(
            lines("fn a() -> bool { assert!(matches!(x, Some(_))); matches!(x, None) }\n"),
            [] as [usize; 0]
        );
    }
}
