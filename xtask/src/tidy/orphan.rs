//! Every `.rs` file is part of a target: declared by a `mod`, a root itself, or named in a string of a file that is
//! (as the cases of a compile-fail test are).

use std::collections::BTreeSet;

use crate::finding::Finding;
use crate::lexer::Kind;
use crate::source::Source;
use crate::workspace::Package;

const RULE: &str = "orphan";

/// Walks from the roots of all targets and reports what was not reached.
pub(super) fn check(sources: &[Source], packages: &[Package]) -> Vec<Finding> {
    let mut reached = BTreeSet::new();
    for package in packages {
        for target in &package.targets {
            let folder = parent(&target.root_file).to_owned();
            walk(sources, &target.root_file, &folder, &mut reached);
        }
    }
    let named: Vec<String> =
        packages.iter().flat_map(|package| named_in_strings(sources, package, &reached)).collect();
    let dead = sources.iter().filter(|source| !reached.contains(&source.path));
    dead.filter(|source| !named.iter().any(|pattern| fits(pattern, &source.path)))
        .map(|source| {
            Finding::new(&source.path, 1, RULE, "declare it with `mod` where it belongs, or delete it")
        })
        .collect()
}

/// Reaches a file and the modules it declares; these live in `folder`.
fn walk(sources: &[Source], path: &str, folder: &str, reached: &mut BTreeSet<String>) {
    let Some(source) = sources.iter().find(|source| source.path == path) else { return };
    if !reached.insert(path.to_owned()) {
        return;
    }
    for module in declared(source) {
        let (child, inside) = match module {
            Module::Named(name) => (format!("{folder}/{name}.rs"), format!("{folder}/{name}")),
            Module::At(file) => {
                (format!("{}/{file}", parent(path)), parent(&format!("{}/{file}", parent(path))).to_owned())
            }
        };
        walk(sources, &child, &inside, reached);
    }
}

enum Module<'a> {
    Named(&'a str),
    /// With `#[path = "…"]`, relative to the file that declares it.
    At(&'a str),
}

fn declared(source: &Source) -> Vec<Module<'_>> {
    let starts = source.find("mod").into_iter();
    starts
        .filter_map(|start| {
            let name = source.tokens.get(start + 1)?;
            let is_elsewhere = source.tokens.get(start + 2)?.is(";");
            is_elsewhere.then(|| path_before(source, start).map_or(Module::Named(&name.text), Module::At))
        })
        .collect()
}

/// The literal of a `#[path = "…"]` directly before the declaration.
fn path_before(source: &Source, start: usize) -> Option<&str> {
    let before = source.tokens.get(start.checked_sub(6)?..start)?;
    let [.., name, equals, literal, close] = before else { return None };
    let is_path = name.is("path") && equals.is("=") && literal.kind == Kind::Literal && close.is("]");
    is_path.then_some(literal.text.as_str())
}

/// Patterns of files that code of the package names, relative to the root of the repository.
fn named_in_strings(sources: &[Source], package: &Package, reached: &BTreeSet<String>) -> Vec<String> {
    let inside = sources.iter().filter(|source| {
        reached.contains(&source.path) && source.path.starts_with(&format!("{}/", package.folder))
    });
    let literals = inside.flat_map(|source| source.tokens.iter()).filter(|token| token.kind == Kind::Literal);
    let files =
        literals.filter(|token| token.text.contains('/') && token.text.split('.').next_back() == Some("rs"));
    files.map(|token| format!("{}/{}", package.folder, token.text)).collect()
}

/// Whether the path fits a pattern with at most one `*`, which does not reach over a slash.
fn fits(pattern: &str, path: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == path };
    let middle = path.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    middle.is_some_and(|middle| !middle.contains('/'))
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Target;

    fn package(root_file: &str) -> Package {
        let target = Target {
            name: "a".to_owned(),
            root_file: root_file.to_owned(),
            is_tested: true,
            has_doc_tests: false,
        };
        Package {
            name: "a".to_owned(),
            folder: "a".to_owned(),
            dependencies: Vec::new(),
            targets: vec![target],
        }
    }

    fn dead(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<Source> = files.iter().map(|(path, text)| Source::new(*path, *text)).collect();
        check(&sources, &[package("a/src/lib.rs")]).into_iter().map(|finding| finding.file).collect()
    }

    #[test]
    fn a_file_that_nothing_declares_is_caught() {
        let files = [("a/src/lib.rs", "mod one;"), ("a/src/one.rs", ""), ("a/src/two.rs", "")];
        assert_eq!(dead(&files), ["a/src/two.rs"]);
    }

    #[test]
    fn modules_are_followed_through_folders_and_paths() {
        let files = [
            ("a/src/lib.rs", "pub mod one; #[path = \"odd/name.rs\"] mod other;"),
            ("a/src/one.rs", "#[cfg(test)] mod tests;"),
            ("a/src/one/tests.rs", ""),
            ("a/src/odd/name.rs", ""),
        ];
        assert_eq!(dead(&files), [] as [&str; 0]);
    }

    #[test]
    fn cases_that_a_test_names_by_pattern_are_alive() {
        let files = [
            ("a/src/lib.rs", "fn f() { cases.compile_fail(\"tests/ui/*.rs\"); }"),
            ("a/tests/ui/one.rs", ""),
            ("a/tests/ui/deep/two.rs", ""),
        ];
        assert_eq!(dead(&files), ["a/tests/ui/deep/two.rs"]);
    }
}
