//! The table of dependencies in ARCHITECTURE.md says what is true: no crate and no edge is missing, none is invented,
//! and what a crate must never see is nowhere below it.

use std::path::Path;

use crate::cargo;
use crate::finding::Finding;
use crate::tidy::MAP;
use crate::tidy::table::{self, Row};
use crate::workspace::{Package, Purpose};

const RULE: &str = "map";
const HEADING: &str = "## Who may use whom";
const CRATE: usize = 0;
const MAY_USE: usize = 1;
const TESTS_MAY_USE: usize = 2;
const NEVER_SEES: usize = 3;

/// Compares the table with the workspace, both ways.
pub(super) fn check(map: &str, packages: &[Package], root: &Path) -> Result<Vec<Finding>, String> {
    let rows = table::rows(map, HEADING);
    let mut findings = crates(&rows, packages);
    for row in &rows {
        let Some(package) = packages.iter().find(|package| row.names(CRATE) == [package.name.as_str()])
        else {
            continue;
        };
        findings.extend(edges(row, package, Purpose::Product));
        findings.extend(edges(row, package, Purpose::Tests));
        if !row.names(NEVER_SEES).is_empty() {
            findings.extend(never_seen(row, package, &cargo::below(root, &package.name)?));
        }
    }
    Ok(findings)
}

fn crates(rows: &[Row], packages: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages {
        if !rows.iter().any(|row| row.names(CRATE).contains(&package.name.as_str())) {
            let advice = format!("add a row for `{}` to the table under `{HEADING}`", package.name);
            findings.push(Finding::new(MAP, 1, RULE, advice));
        }
    }
    for row in rows {
        for name in row.names(CRATE) {
            if !packages.iter().any(|package| package.name == name) {
                findings.push(Finding::new(
                    MAP,
                    row.line,
                    RULE,
                    format!("there is no crate `{name}`: remove the row"),
                ));
            }
        }
    }
    findings
}

fn edges(row: &Row, package: &Package, purpose: Purpose) -> Vec<Finding> {
    let column = if purpose == Purpose::Product { MAY_USE } else { TESTS_MAY_USE };
    let said = row.names(column);
    let ours =
        package.dependencies.iter().filter(|dependency| dependency.is_ours && dependency.purpose == purpose);
    // Tests name their own crate to turn on its features.
    let used: Vec<&str> =
        ours.map(|dependency| dependency.name.as_str()).filter(|name| *name != package.name).collect();
    let unsaid = used.iter().filter(|name| !said.contains(name)).map(|name| {
        format!(
            "`{}` uses `{name}`, which its row does not grant: remove the dependency, or argue for the edge",
            package.name
        )
    });
    let unused = said
        .iter()
        .filter(|name| !used.contains(name))
        .map(|name| format!("`{}` does not use `{name}`: take it out of its row", package.name));
    unsaid.chain(unused).map(|advice| Finding::new(MAP, row.line, RULE, advice)).collect()
}

fn never_seen(row: &Row, package: &Package, below: &[String]) -> Vec<Finding> {
    let forbidden = row.names(NEVER_SEES);
    let seen = forbidden.iter().filter(|name| below.iter().any(|below| below == *name));
    seen.map(|name| {
        let advice = format!(
            "`{}` must never see `{name}`, but it is in its `cargo tree`: remove it there",
            package.name
        );
        Finding::new(MAP, row.line, RULE, advice)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn package(name: &str, dependencies: &[(&str, Purpose)]) -> Package {
        let dependencies = dependencies
            .iter()
            .map(|(name, purpose)| Dependency { name: (*name).to_owned(), purpose: *purpose, is_ours: true })
            .collect();
        Package { name: name.to_owned(), folder: String::new(), dependencies, targets: Vec::new() }
    }

    fn row(line: &str) -> Row {
        let page = format!("{HEADING}\n| crate | may use | tests | never |\n|---|---|---|---|\n{line}\n");
        table::rows(&page, HEADING).pop().expect("one row")
    }

    #[test]
    fn a_crate_missing_on_either_side_is_caught() {
        assert_eq!(crates(&[], &[package("core", &[])]).len(), 1);
        assert_eq!(crates(&[row("| `core` | – | – | – |")], &[]).len(), 1);
        assert_eq!(crates(&[row("| `core` | – | – | – |")], &[package("core", &[])]), []);
    }

    #[test]
    fn an_edge_missing_on_either_side_is_caught() {
        let log = package("log", &[("core", Purpose::Product), ("test", Purpose::Tests)]);
        let both = |line: &str| {
            let row = row(line);
            edges(&row, &log, Purpose::Product).len() + edges(&row, &log, Purpose::Tests).len()
        };
        assert_eq!(both("| `log` | `core` | `test` | – |"), 0);
        assert_eq!(both("| `log` | – | `test` | – |"), 1);
        assert_eq!(both("| `log` | `core`, `runtime` | `test` | – |"), 1);
        assert_eq!(both("| `log` | `core`, `test` | – | – |"), 2);
    }

    #[test]
    fn what_must_never_be_seen_is_caught_at_any_depth() {
        let row = row("| `core` | – | – | `tokio`, files |");
        let below = |name: &str| vec!["bytes".to_owned(), name.to_owned()];
        assert_eq!(never_seen(&row, &package("core", &[]), &below("tokio")).len(), 1);
        assert_eq!(never_seen(&row, &package("core", &[]), &below("jiff")), []);
    }
}
