//! A link in a page leads to a file of the tree, and a link that names a test leads to that test.
//!
//! GUARANTEES.md rests on this: a promise whose proof was renamed or deleted is a finding.

use crate::finding::Finding;
use crate::tree::Tree;

const RULE: &str = "link";

/// `[label](target)`.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Link<'a> {
    line: usize,
    label: &'a str,
    target: &'a str,
}

/// Looks at every Markdown page.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let pages = tree.texts.iter().filter(|text| text.path.to_lowercase().ends_with(".md"));
    pages
        .flat_map(|page| {
            let folder = page.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let links = links(&page.text).into_iter();
            let broken = links.filter_map(|link| Some((link.line, advice(tree, folder, &link)?)));
            broken.map(|(line, advice)| Finding::new(&page.path, line, RULE, advice)).collect::<Vec<_>>()
        })
        .collect()
}

fn advice(tree: &Tree, folder: &str, link: &Link<'_>) -> Option<String> {
    let target = link.target.split('#').next().unwrap_or_default();
    if target.is_empty() || link.target.contains("://") || link.target.starts_with("mailto:") {
        return None;
    }
    let path = resolve(folder, target);
    let Some(source) = tree.sources.iter().find(|source| source.path == path) else {
        let is_there = tree.root.join(&path).exists();
        return (!is_there).then(|| format!("`{target}` does not exist: correct the link"));
    };
    let test = link.label.strip_prefix('`').and_then(|label| label.strip_suffix('`'))?;
    let names_a_test = test.contains('_') && !test.contains(['.', '/', ':', ' ']);
    let is_there = source.text.contains(&format!("fn {test}("));
    (names_a_test && !is_there)
        .then(|| format!("`{target}` has no test `{test}`: name the one that proves it"))
}

/// The path from the root that a relative target means.
fn resolve(folder: &str, target: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// The links outside of fenced code.
fn links(text: &str) -> Vec<Link<'_>> {
    let mut links = Vec::new();
    let mut is_code = false;
    for (index, line) in text.lines().enumerate() {
        is_code ^= line.trim_start().starts_with("```");
        if is_code {
            continue;
        }
        for (middle, _) in line.match_indices("](") {
            let label = line.get(..middle).and_then(|before| before.rsplit_once('['));
            let target = line.get(middle + 2..).and_then(|after| after.split_once(')'));
            if let (Some((_, label)), Some((target, _))) = (label, target) {
                links.push(Link { line: index + 1, label, target });
            }
        }
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;
    use crate::tree::Text;

    fn count(page: &str) -> usize {
        let proof = Source::new("crates/log/tests/it/cut.rs", "fn nothing_acknowledged_is_lost() {}");
        let page = Text { path: "docs/a.md".to_owned(), text: page.to_owned() };
        let root = crate::tree::root();
        check(&Tree { root, sources: vec![proof], texts: vec![page] }).len()
    }

    #[test]
    fn a_link_to_nowhere_and_a_link_to_a_missing_test_are_caught() {
        assert_eq!(count("see [this](nowhere.md)"), 1);
        assert_eq!(count("[`everything_is_lost`](../crates/log/tests/it/cut.rs)"), 1);
    }

    #[test]
    fn links_to_tests_files_and_other_sites_pass() {
        assert_eq!(count("[`nothing_acknowledged_is_lost`](../crates/log/tests/it/cut.rs)"), 0);
        assert_eq!(count("[map](../Cargo.toml#x) [site](https://example.org/x) [here](#there)"), 0);
        assert_eq!(count("```\n[x](nowhere.md)\n```"), 0);
    }
}
