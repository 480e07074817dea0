//! A test asserts something, itself or through a function of its package that does.
//!
//! An `expect` or a `?` counts: it turns the test red. That is a low bar, and it is meant to be: what a test is worth
//! is seen by breaking the code, not by counting its words.

use std::collections::BTreeSet;

use crate::finding::Finding;
use crate::lexer::{Kind, Token};
use crate::source::{Function, Source, contains};

const RULE: &str = "assertion";

/// Looks at all tests, package by package.
pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let packages: BTreeSet<&str> = sources.iter().map(|source| package(&source.path)).collect();
    packages
        .into_iter()
        .flat_map(|name| {
            let members: Vec<&Source> =
                sources.iter().filter(|source| package(&source.path) == name).collect();
            check_package(&members)
        })
        .collect()
}

fn check_package(sources: &[&Source]) -> Vec<Finding> {
    let functions: Vec<(&Source, Function<'_>)> = sources
        .iter()
        .flat_map(|source| source.functions().into_iter().map(|function| (*source, function)))
        .collect();
    let asserting: BTreeSet<&str> = functions
        .iter()
        .filter(|(_, function)| function.body.iter().any(is_assertion))
        .map(|(_, function)| function.name)
        .collect();
    let idle = functions.iter().filter(|(_, function)| is_test(function) && !can_fail(function, &asserting));
    idle.map(|(source, function)| {
        let advice = format!("`{}` asserts nothing; say what must hold, or remove it", function.name);
        Finding::new(&source.path, function.line, RULE, advice)
    })
    .collect()
}

/// The folder above `src`, `tests` and the like.
fn package(path: &str) -> &str {
    let ends =
        ["/src/", "/tests/", "/benches/", "/examples/"].iter().filter_map(|folder| path.rfind(folder)).min();
    ends.and_then(|end| path.get(..end)).unwrap_or_default()
}

fn is_test(function: &Function<'_>) -> bool {
    ["[ test ]", ":: test ]", ":: test ("].iter().any(|marker| contains(function.attributes, marker))
}

fn can_fail(function: &Function<'_>, asserting: &BTreeSet<&str>) -> bool {
    let by_attribute = function.attributes.iter().any(|token| token.is("should_panic"));
    let calls = |token: &Token| token.kind == Kind::Word && asserting.contains(token.text.as_str());
    let gives_up = |token: &Token| token.is("?") || token.is("expect") || token.is("expect_err");
    by_attribute || function.body.iter().any(|token| is_assertion(token) || gives_up(token) || calls(token))
}

/// `assert…!`, `prop_assert…!`, `panic!`, snapshots, and the verdicts of compile-fail tests.
fn is_assertion(token: &Token) -> bool {
    let words = ["panic", "unreachable", "insta", "compile_fail"];
    token.kind == Kind::Word && (token.text.contains("assert") || words.iter().any(|word| token.is(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> usize {
        check(&[Source::new("crates/log/src/a.rs", text)]).len()
    }

    #[test]
    fn a_test_that_cannot_fail_is_caught() {
        assert_eq!(count("#[test] fn runs() { let x = f(); }"), 1);
        assert_eq!(count("#[tokio::test(flavor = \"current_thread\")] async fn runs() { f().await; }"), 1);
        assert_eq!(count("fn f() {} #[test] fn runs() { f(); g(\"assert!\"); }"), 1);
    }

    #[test]
    fn a_test_that_can_fail_passes() {
        assert_eq!(count("#[test] fn a() { assert_eq!(f(), 1); }"), 0);
        assert_eq!(count("#[test] #[should_panic(expected = \"x\")] fn a() { f(); }"), 0);
        assert_eq!(count("#[test] fn a() -> Result<(), E> { f()?; Ok(()) }"), 0);
        assert_eq!(count("fn check(x: u8) { assert!(x > 1); } #[test] fn a() { check(2); }"), 0);
        assert_eq!(count("fn not_a_test() { f(); }"), 0);
    }

    #[test]
    fn a_check_in_another_file_of_the_package_counts_and_one_in_another_package_does_not() {
        let test = || Source::new("crates/log/tests/it/a.rs", "#[test] fn a() { check(2); }");
        let near = Source::new("crates/log/tests/it/b.rs", "fn check(x: u8) { assert!(x > 1); }");
        let far = Source::new("crates/core/src/b.rs", "fn check(x: u8) { assert!(x > 1); }");
        assert_eq!(check(&[test(), near]).len(), 0);
        assert_eq!(check(&[test(), far]).len(), 1);
    }
}
