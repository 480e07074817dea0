//! `cargo xtask tidy`: what a program can check of the style. One rule, or one family of rules, is one file in `tidy/`.
//!
//! There is no list of exceptions. Where a rule admits some, they stand in a table of ARCHITECTURE.md with their
//! reason, and an entry that is no longer needed is a finding too.

use crate::docs;
use crate::finding::Finding;
use crate::source::Source;
use crate::tree::Tree;
use crate::workspace::{self, Package};

mod assertion;
mod case;
mod header;
mod length;
mod link;
mod manifest;
mod map;
mod orphan;
mod page;
mod place;
mod promise;
mod queue;
mod seam;
mod suppression;
mod table;
mod unfinished;
mod word;

/// The map that several rules read their tables from.
const MAP: &str = "ARCHITECTURE.md";

/// What to do with generated files that are not up to date.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// Report them.
    Check,
    /// Write them, then check.
    Fix,
}

/// Checks everything and prints what was found.
pub(crate) fn run(mode: Mode) -> Result<(), String> {
    if mode == Mode::Fix {
        docs::run()?;
    }
    let tree = Tree::read()?;
    let packages = workspace::packages(&tree.root)?;
    let beside = workspace::packages_beside(&tree.root)?;
    let findings = check(&tree, &packages, &beside)?;
    for finding in &findings {
        println!("{finding}");
    }
    println!("{}", length::summary(&tree.sources));
    if findings.is_empty() {
        return Ok(());
    }
    Err(format!("tidy found {} place(s) to mend", findings.len()))
}

fn check(tree: &Tree, packages: &[Package], beside: &[Package]) -> Result<Vec<Finding>, String> {
    let everywhere = [packages, beside].concat();
    let mut findings: Vec<Finding> = tree.sources.iter().flat_map(check_source).collect();
    findings.extend(length::check_together(&tree.sources));
    findings.extend(assertion::check(&tree.sources));
    findings.extend(orphan::check(&tree.sources, &everywhere));
    findings.extend(place::check(tree));
    findings.extend(manifest::check(tree, &everywhere));
    findings.extend(link::check(tree));
    findings.extend(page::check(tree));
    findings.extend(promise::check(tree));
    findings.extend(case::check(tree));
    let map = tree.text(MAP).ok_or_else(|| format!("{MAP} is missing: tidy reads its tables"))?;
    findings.extend(seam::check(&tree.sources, map));
    findings.extend(queue::check(&tree.sources, map));
    findings.extend(map::check(map, packages, &tree.root)?);
    findings.sort();
    findings.dedup();
    Ok(findings)
}

/// The rules that look at one file alone.
fn check_source(source: &Source) -> Vec<Finding> {
    let rules = [header::check, length::check, suppression::check, unfinished::check, word::check];
    rules.iter().flat_map(|rule| rule(source)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_held_against_every_rule_that_looks_at_one_file() {
        let text = format!("#[{}(dead_code)]\nfn helper() {{ todo!() }}\n", "allow");
        let findings = check_source(&Source::new("crates/core/src/a.rs", text));
        let mut rules: Vec<&str> = findings.iter().map(|finding| finding.rule).collect();
        rules.sort_unstable();
        assert_eq!(rules, ["header", "suppression", "unfinished", "word"]);
    }
}
