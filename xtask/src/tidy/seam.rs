//! Time, randomness, threads and files enter core, log and runtime through one seam, so that the same code runs under
//! virtual time and simulated faults. And nobody waits for a clock to pass: not a test, not a handler.
//!
//! The files that are the seam stand in a table of ARCHITECTURE.md; a row that is not needed is a finding.

use crate::finding::Finding;
use crate::source::Source;
use crate::tidy::MAP;
use crate::tidy::table;

const RULE: &str = "seam";
const HEADING: &str = "## Where the world comes in";
const FOLDERS: [&str; 3] = ["crates/core/src/", "crates/log/src/", "crates/runtime/src/"];

/// What product code behind the seam may not touch, and what it says instead.
const WORLD: [(&str, &str); 14] = [
    ("SystemTime :: now", "ask `host.clock.now()`"),
    ("Timestamp :: now", "ask `host.clock.now()`"),
    ("Zoned :: now", "ask `host.clock.now()`"),
    ("Instant :: now", "ask `host.clock.monotonic()`"),
    ("tokio :: time", "ask `host.clock.sleep(..)`"),
    ("thread :: spawn", "hand the work to the module that owns the threads"),
    ("thread :: Builder", "hand the work to the module that owns the threads"),
    ("fs ::", "go through the disk seam"),
    ("File :: open", "go through the disk seam"),
    ("OpenOptions :: new", "go through the disk seam"),
    ("rand ::", "ask `host.entropy`"),
    ("getrandom ::", "ask `host.entropy`"),
    ("Uuid :: new_v4", "ask `host.event_id()`"),
    ("Uuid :: now_v7", "ask `host.event_id()`"),
];

/// What nobody does, tests included.
const WAITS: [&str; 2] = ["thread :: sleep", "time :: sleep"];

/// Compares all files with the table in the map.
pub(super) fn check(sources: &[Source], map: &str) -> Vec<Finding> {
    let rows = table::rows(map, HEADING);
    let mut findings = Vec::new();
    for source in sources {
        let found = touches(source);
        let row = rows.iter().find(|row| row.names(0).contains(&source.path.as_str()));
        match (found.is_empty(), row) {
            (true, Some(row)) => {
                let advice = format!("`{}` touches nothing that needs a reason: remove the row", source.path);
                findings.push(Finding::new(MAP, row.line, RULE, advice));
            }
            (false, None) => findings.extend(found),
            (true, None) | (false, Some(_)) => {}
        }
    }
    let missing = rows.iter().flat_map(|row| row.names(0).into_iter().map(|name| (row.line, name)));
    let missing = missing.filter(|(_, name)| sources.iter().all(|source| source.path != *name));
    findings.extend(missing.map(|(line, name)| {
        Finding::new(
            MAP,
            line,
            RULE,
            format!("there is no file `{name}`: remove the row or correct the path"),
        )
    }));
    findings
}

fn touches(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (sequence, advice) in WORLD.iter().filter(|_| is_behind_the_seam(&source.path)) {
        let found = source.find(sequence).into_iter().filter(|index| !source.is_test(*index));
        findings.extend(found.map(|index| finding(source, index, sequence, advice)));
    }
    for sequence in WAITS {
        let advice = "wait for the thing itself, or sleep on the host's clock";
        findings
            .extend(source.find(sequence).into_iter().map(|index| finding(source, index, sequence, advice)));
    }
    findings
}

fn is_behind_the_seam(path: &str) -> bool {
    FOLDERS.iter().any(|folder| path.starts_with(folder))
}

fn finding(source: &Source, index: usize, sequence: &str, advice: &str) -> Finding {
    let replacement = format!("instead of `{}` {advice}", sequence.replace(' ', ""));
    Finding::new(&source.path, source.line(index), RULE, replacement)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "## Where the world comes in\n\n| file | why |\n|---|---|\n| `crates/log/src/disk.rs` | it is the seam |\n";
    const CLOCK: &str = "fn f() { let now = std::time::Instant::now(); std::fs::read(x); }";

    #[test]
    fn the_world_is_caught_outside_the_seam() {
        let sources =
            [Source::new("crates/log/src/disk.rs", CLOCK), Source::new("crates/core/src/a.rs", CLOCK)];
        let findings = check(&sources, TABLE);
        assert_eq!(findings.len(), 2);
        assert!(findings.iter().all(|finding| finding.file == "crates/core/src/a.rs"), "{findings:?}");
    }

    #[test]
    fn the_seam_itself_tests_and_outer_crates_pass() {
        let sources = [
            Source::new("crates/log/src/disk.rs", CLOCK),
            Source::new("crates/log/tests/it/main.rs", CLOCK),
            Source::new("crates/log/src/a.rs", format!("#[cfg(test)] mod tests {{ {CLOCK} }}")),
            Source::new("crates/cli/src/main.rs", CLOCK),
        ];
        assert_eq!(check(&sources, TABLE), []);
    }

    #[test]
    fn sleeping_is_caught_everywhere_also_in_tests() {
        let sleep =
            "#[test] fn waits() { std::thread::sleep(d); tokio::time::sleep(d); host.clock.sleep(d); }";
        let sources = [Source::new("crates/cli/tests/it/main.rs", sleep)];
        assert_eq!(check(&sources, "").len(), 2);
    }

    #[test]
    fn a_row_that_is_not_needed_or_names_no_file_is_caught() {
        let idle = [Source::new("crates/log/src/disk.rs", "fn f() {}")];
        assert!(check(&idle, TABLE).iter().any(|finding| finding.replacement.contains("remove the row")));
        assert!(check(&[], TABLE).iter().any(|finding| finding.replacement.contains("there is no file")));
    }
}
