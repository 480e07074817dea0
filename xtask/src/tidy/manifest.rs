//! Dependencies are versioned once, in the workspace, sorted, each with the reason it is worth its weight, and each used.

use crate::finding::Finding;
use crate::tree::Tree;
use crate::workspace::Package;

const RULE: &str = "manifest";
const ROOT: &str = "Cargo.toml";
const WORKSPACE: &str = "[workspace.dependencies]";
const SECTIONS: [&str; 3] = ["[dependencies]", "[dev-dependencies]", "[build-dependencies]"];

/// One `name = …` line of a section.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Entry<'a> {
    line: usize,
    name: &'a str,
    value: &'a str,
    reason: Option<&'a str>,
}

/// Looks at the manifests of the workspace and of all packages.
pub(super) fn check(tree: &Tree, packages: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let paths: Vec<String> = packages.iter().map(|package| format!("{}/{ROOT}", package.folder)).collect();
    let members: Vec<(&str, &str)> =
        paths.iter().filter_map(|path| tree.text(path).map(|text| (path.as_str(), text))).collect();
    if let Some(root) = tree.text(ROOT) {
        findings.extend(check_root(ROOT, root, &members));
    }
    // A workspace of one package has its root and its member in one file.
    let alone = members.iter().filter(|(_, text)| text.contains(WORKSPACE));
    findings.extend(alone.flat_map(|(path, text)| check_root(path, text, &[(path, text)])));
    findings.extend(members.iter().flat_map(|(path, text)| check_member(path, text)));
    findings
}

fn check_root(path: &str, text: &str, members: &[(&str, &str)]) -> Vec<Finding> {
    let entries = entries(text, WORKSPACE);
    let mut findings = unsorted(path, &entries);
    for entry in &entries {
        let is_ours = entry.value.contains("path =");
        if !is_ours && entry.reason.is_none_or(|reason| reason.split(' ').count() < 2) {
            let advice =
                format!("say at the end of the line why `{}` is worth its weight: `# …`", entry.name);
            findings.push(Finding::new(path, entry.line, RULE, advice));
        }
        if !is_ours && !members.iter().any(|(_, member)| uses(member, entry.name)) {
            let advice = format!("nothing uses `{}`: remove the line", entry.name);
            findings.push(Finding::new(path, entry.line, RULE, advice));
        }
    }
    findings
}

fn check_member(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for section in SECTIONS {
        let entries = entries(text, section);
        findings.extend(unsorted(path, &entries));
        let own = entries.iter().filter(|entry| !is_inherited(entry));
        findings.extend(own.map(|entry| {
            let advice = format!(
                "version `{}` in the workspace, and write `{}.workspace = true`",
                entry.name, entry.name
            );
            Finding::new(path, entry.line, RULE, advice)
        }));
    }
    if !text.contains("[lints]\nworkspace = true") {
        findings.push(Finding::new(
            path,
            1,
            RULE,
            "take the lints of the workspace: `[lints]`, `workspace = true`",
        ));
    }
    findings
}

fn uses(member: &str, name: &str) -> bool {
    SECTIONS.iter().any(|section| entries(member, section).iter().any(|entry| entry.name == name))
}

/// A crate whose tests turn on its own features is named by its folder, which publishing leaves out.
fn is_inherited(entry: &Entry<'_>) -> bool {
    entry.value.contains("workspace = true") || entry.value == "true" || entry.value.contains("path = \".\"")
}

fn unsorted(path: &str, entries: &[Entry<'_>]) -> Vec<Finding> {
    let pairs = entries.windows(2).filter_map(|pair| match pair {
        [before, after] if before.name > after.name => Some((before, after)),
        _ => None,
    });
    pairs
        .map(|(before, after)| {
            let advice = format!("move `{}` before `{}`", after.name, before.name);
            Finding::new(path, after.line, RULE, advice)
        })
        .collect()
}

/// The entries of a section. `name.workspace = true` is an entry of that name.
fn entries<'a>(text: &'a str, section: &str) -> Vec<Entry<'a>> {
    let lines = text.lines().enumerate().skip_while(|(_, line)| line.trim() != section).skip(1);
    let within = lines.take_while(|(_, line)| !line.starts_with('['));
    within
        .filter_map(|(index, line)| {
            let (name, rest) = line.split_once('=')?;
            let (value, reason) = match rest.rsplit_once(" # ") {
                Some((value, reason)) => (value, Some(reason.trim())),
                None => (rest, None),
            };
            let name = name.trim();
            let name = name.strip_suffix(".workspace").unwrap_or(name);
            Some(Entry { line: index + 1, name, value: value.trim(), reason })
        })
        .filter(|entry| !entry.name.starts_with('#'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBER: &str = "[dependencies]\nalpha.workspace = true\nbeta = { workspace = true, features = [\"x\"] }\n\n[lints]\nworkspace = true\n";

    #[test]
    fn unsorted_unexplained_and_unused_dependencies_are_caught() {
        let root = "[workspace.dependencies]\nbeta = \"1\"\nalpha = \"1\" # for the sake of it\ngamma = \"1\" # nobody wants it\n";
        let findings = check_root(ROOT, root, &[("a/Cargo.toml", MEMBER)]);
        let lines: Vec<usize> = findings.iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [3, 2, 4], "{findings:?}");
    }

    #[test]
    fn sorted_explained_and_used_dependencies_pass() {
        let root = "[workspace.dependencies]\nalpha = \"1\" # the first letter\nbeta = \"1\" # the second letter\nours = { path = \"o\" }\n";
        assert_eq!(check_root(ROOT, root, &[("a/Cargo.toml", MEMBER)]), []);
        assert_eq!(check_member("a/Cargo.toml", MEMBER), []);
    }

    #[test]
    fn a_version_or_missing_lints_in_a_member_are_caught() {
        let member = "[dev-dependencies]\nalpha = \"1\"\n";
        let lines: Vec<usize> =
            check_member("a/Cargo.toml", member).iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [2, 1]);
    }
}
