//! `cargo xtask conformance`: writes `docs/conformance.md`, the table of cases and brokers, from a run of the suite on all of them.
//! `cargo xtask test` runs them anyway, and fails where the page says anything else than the run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::test;
use crate::tree;

/// The generated page, relative to the root.
pub(crate) const PAGE: &str = "docs/conformance.md";

/// Where a run of the suite notes what it found.
pub(crate) const FOLDER_VARIABLE: &str = "ENSUE_CONFORMANCE_FOLDER";

const HEAD: &str = "\
# What each broker does

Written by `cargo xtask conformance` from a run of `ensue_test::conformance::bus` on every broker, and compared with each run of
`cargo xtask test`. A case has passed, or the adapter declares that its broker cannot do it, and the case has shown that it refuses or
does without. There is no third state. Cases of a fault have proved that the fault happened. Where the broker is a fake that forgets
everything when it ends, the cases that kill it say what was not killed.

";

/// What came of each case, by broker. Cases have their place in front, which sorts them.
type Table = BTreeMap<String, BTreeMap<String, String>>;

/// Runs the suite on every broker and writes the page.
pub(crate) fn run() -> Result<(), String> {
    let root = tree::root();
    clear(&root)?;
    if !test::run_brokers(&root)? {
        return Err("a suite is red, see above; the page is left as it was".to_owned());
    }
    let text = page(&root)?;
    fs::write(root.join(PAGE), text).map_err(|error| format!("cannot write {PAGE}: {error}"))
}

/// Whether the page says what the last run found.
pub(crate) fn check(root: &Path) -> Result<(), String> {
    let there = fs::read_to_string(root.join(PAGE)).unwrap_or_default();
    if there == page(root)? {
        Ok(())
    } else {
        Err(format!("{PAGE} does not say what this run found; write it by `cargo xtask conformance`"))
    }
}

/// Where runs note what they find.
pub(crate) fn folder(root: &Path) -> PathBuf {
    root.join("target/conformance")
}

/// Forgets what earlier runs found.
pub(crate) fn clear(root: &Path) -> Result<(), String> {
    let folder = folder(root);
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|error| format!("cannot clear {}: {error}", folder.display()))?;
    }
    fs::create_dir_all(&folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))
}

fn page(root: &Path) -> Result<String, String> {
    let mut files = Vec::new();
    let folder = folder(root);
    let entries =
        fs::read_dir(&folder).map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        let text =
            fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let broker = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        files.push((broker, text));
    }
    Ok(format!("{HEAD}{}", render(&table(&files)?)))
}

fn table(files: &[(String, String)]) -> Result<Table, String> {
    let mut table = Table::new();
    for (broker, text) in files {
        for line in text.lines() {
            let mut words = line.splitn(3, ' ');
            let (Some(place), Some(case), Some(outcome)) = (words.next(), words.next(), words.next()) else {
                return Err(format!("the run on {broker} noted `{line}`, which is not understood"));
            };
            let row = table.entry(format!("{place} {case}")).or_default();
            row.insert(broker.clone(), outcome.to_owned());
        }
    }
    Ok(table)
}

fn render(table: &Table) -> String {
    let mut brokers: Vec<&String> = table.values().flat_map(BTreeMap::keys).collect();
    brokers.sort();
    brokers.dedup();
    let heading: Vec<String> = brokers.iter().map(|broker| format!(" {broker} |")).collect();
    let head = format!("| case |{}\n|---|{}\n", heading.concat(), "---|".repeat(brokers.len()));
    let rows = table.iter().map(|(case, row)| {
        let name = words(case.split_once(' ').map_or(case.as_str(), |(_, name)| name));
        let cells: Vec<String> = brokers.iter().map(|broker| cell(row.get(*broker))).collect();
        format!("| {name} | {} |\n", cells.join(" | "))
    });
    head + &rows.collect::<Vec<_>>().concat()
}

/// The name of a case as the page writes it.
pub(crate) fn words(case: &str) -> String {
    case.replace('_', " ")
}

/// A case that a broker has not run is shown as such: the page is then not to be committed.
fn cell(outcome: Option<&String>) -> String {
    match outcome.map(String::as_str) {
        None => "**not run**".to_owned(),
        Some(outcome) => match outcome.split_once(' ') {
            Some(("refused", capability)) => format!("refused: `{capability}`"),
            Some((passed, caveat)) => format!("{passed}, but {caveat}"),
            None => outcome.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(broker: &str, text: &str) -> (String, String) {
        (broker.to_owned(), text.to_owned())
    }

    #[test]
    fn what_runs_noted_becomes_a_table_in_the_order_of_the_cases() {
        let files = [
            file("nats", "01 it_seeks passed\n00 it_arrives passed\n"),
            file("kafka", "01 it_seeks refused can_seek\n"),
            file("pubsub", "01 it_seeks passed its memory was spared\n"),
        ];
        let text = render(&table(&files).expect("it is understood"));
        let wanted = "| case | kafka | nats | pubsub |\n|---|---|---|---|\n\
            | it arrives | **not run** | passed | **not run** |\n\
            | it seeks | refused: `can_seek` | passed | passed, but its memory was spared |\n";
        assert_eq!(text, wanted);
    }

    #[test]
    fn a_line_that_is_not_understood_is_an_error() {
        assert!(table(&[file("nats", "what\n")]).is_err());
    }
}
