//! Whatever queues up has a bound: the files of core, log and runtime in which something does stand in a table of
//! ARCHITECTURE.md, with the bound and what happens when it is reached. Channels without a bound are nowhere.

use crate::finding::Finding;
use crate::source::Source;
use crate::tidy::MAP;
use crate::tidy::table;

const RULE: &str = "queue";
const HEADING: &str = "## Queues";
const FOLDERS: [&str; 3] = ["crates/core/src/", "crates/log/src/", "crates/runtime/src/"];

/// What makes a queue. A `oneshot` and a `watch` hold one value.
const QUEUES: [&str; 3] = ["VecDeque", "mpsc :: channel", "sync_channel"];
/// What makes one without a bound.
const UNBOUNDED: [&str; 3] = ["unbounded_channel", "unbounded ::", "LinkedList"];

/// Compares the files with the table in the map.
pub(super) fn check(sources: &[Source], map: &str) -> Vec<Finding> {
    let rows = table::rows(map, HEADING);
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| FOLDERS.iter().any(|folder| source.path.starts_with(folder)))
    {
        let advice = "a queue has a bound: make it one that makes whoever fills it wait";
        findings.extend(UNBOUNDED.iter().flat_map(|sequence| found(source, sequence, advice)));
        let advice =
            format!("say its bound, and what happens when it is full, in the table \"{HEADING}\" of {MAP}");
        let queues: Vec<Finding> =
            QUEUES.iter().flat_map(|sequence| found(source, sequence, &advice)).collect();
        match (rows.iter().find(|row| row.names(0).contains(&source.path.as_str())), queues.is_empty()) {
            (Some(row), true) => {
                let advice = format!("nothing queues up in `{}`: remove the row", source.path);
                findings.push(Finding::new(MAP, row.line, RULE, advice));
            }
            (None, false) => findings.extend(queues.into_iter().take(1)),
            (Some(_), false) | (None, true) => {}
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

fn found(source: &Source, sequence: &str, advice: &str) -> Vec<Finding> {
    let product = source.find(sequence).into_iter().filter(|index| !source.is_test(*index));
    product.map(|index| Finding::new(&source.path, source.line(index), RULE, advice.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "## Queues\n\n| file | bound |\n|---|---|\n| `crates/log/src/queue.rs` | 64 MiB |\n";
    const QUEUE: &str = "struct Queue { waiting: VecDeque<u64> }";

    #[test]
    fn a_queue_that_is_not_listed_is_caught_once_for_each_file() {
        let sources = [
            Source::new("crates/log/src/queue.rs", QUEUE),
            Source::new("crates/runtime/src/a.rs", format!("{QUEUE} fn f() {{ mpsc::channel(8); }}")),
        ];
        let findings = check(&sources, TABLE);
        let files: Vec<&str> = findings.iter().map(|finding| finding.file.as_str()).collect();
        assert_eq!(files, ["crates/runtime/src/a.rs"]);
    }

    #[test]
    fn one_without_a_bound_is_caught_even_where_it_is_listed() {
        let unbounded = format!("{QUEUE} fn f() {{ mpsc::unbounded_channel(); }}");
        let findings = check(&[Source::new("crates/log/src/queue.rs", unbounded)], TABLE);
        assert_eq!(findings.len(), 1, "{findings:?}");
    }

    #[test]
    fn tests_and_outer_crates_pass() {
        let sources = [
            Source::new("crates/log/src/queue.rs", QUEUE),
            Source::new("crates/log/src/a.rs", format!("#[cfg(test)] mod tests {{ {QUEUE} }}")),
            Source::new("crates/cli/src/main.rs", QUEUE),
        ];
        assert_eq!(check(&sources, TABLE), []);
    }

    #[test]
    fn a_row_that_is_not_needed_or_names_no_file_is_caught() {
        let idle = [Source::new("crates/log/src/queue.rs", "fn f() {}")];
        assert!(check(&idle, TABLE).iter().any(|finding| finding.replacement.contains("remove the row")));
        assert!(check(&[], TABLE).iter().any(|finding| finding.replacement.contains("there is no file")));
    }
}
