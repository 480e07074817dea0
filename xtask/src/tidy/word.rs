//! Names say what a thing is. The words caught here say only that somebody did not know.

use crate::finding::Finding;
use crate::source::Source;

const RULE: &str = "word";

/// Never a part of a name, of whatever kind.
const DRAWERS: [(&str, &str); 8] = [
    ("manager", "name what it does to what it manages"),
    ("helper", "name the concept it serves"),
    ("helpers", "name the concept they serve"),
    ("util", "name the concept it serves"),
    ("utils", "name the concept they serve"),
    ("worker", "say handler, lane or thread"),
    ("processor", "say handler, reaction or projection"),
    ("dlq", "say dead letters"),
];

/// Never a name alone; as an adjective they say something.
const VAGUE: [(&str, &str); 2] =
    [("common", "name what the users have in common"), ("misc", "give each thing a home of its own")];

/// Never the last part of a type's name.
const ENDINGS: [(&str, &str); 4] = [
    ("impl", "name how it differs from its siblings"),
    ("data", "name what the data is"),
    ("info", "name what is known of it"),
    ("base", "name what the users have in common"),
];

/// What is known of a type without having a value: the two places where the word means something.
const TYPES_EXCEPTED: [&str; 2] = ["EventInfo", "CommandInfo"];
const TYPE_KEYWORDS: [&str; 5] = ["struct", "enum", "trait", "type", "union"];
const OTHER_KEYWORDS: [&str; 4] = ["fn", "mod", "const", "static"];

/// Looks at the path of a file and at the names it declares.
pub(super) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = check_path(&source.path);
    for window in source.tokens.windows(2) {
        let [keyword, name] = window else { continue };
        let is_type = TYPE_KEYWORDS.iter().any(|word| keyword.is(word));
        if is_type || OTHER_KEYWORDS.iter().any(|word| keyword.is(word)) {
            let advice = advice(&name.text, is_type);
            findings.extend(advice.map(|advice| Finding::new(&source.path, name.line, RULE, advice)));
        }
    }
    findings
}

fn check_path(path: &str) -> Vec<Finding> {
    if path.ends_with("/mod.rs") {
        return vec![Finding::new(
            path,
            1,
            RULE,
            "name the file after its module, beside the folder: `foo.rs`, `foo/`",
        )];
    }
    let mut parts = path.split('/').map(|part| part.trim_end_matches(".rs"));
    let advice = parts.find_map(|part| advice(part, false));
    advice.map(|advice| Finding::new(path, 1, RULE, advice)).into_iter().collect()
}

fn advice(name: &str, is_type: bool) -> Option<String> {
    if TYPES_EXCEPTED.contains(&name) {
        return None;
    }
    let parts = parts(name);
    let drawer = DRAWERS.iter().find(|(word, _)| parts.iter().any(|part| part == word));
    let last = parts.last().filter(|_| is_type);
    let ending = ENDINGS.iter().find(|(word, _)| last.is_some_and(|last| last == word));
    let vague =
        VAGUE.iter().find(|(word, _)| parts.len() == 1 && parts.first().is_some_and(|part| part == word));
    drawer.or(vague).or(ending).map(|(word, advice)| format!("`{name}`: not `{word}`; {advice}"))
}

/// `FooBar`, `foo_bar` and `foo-bar` are foo and bar.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut after_lower = false;
    for c in name.chars() {
        if c == '_' || c == '-' || (c.is_uppercase() && after_lower) {
            parts.push(String::new());
        }
        if let Some(part) = parts.last_mut().filter(|_| c.is_alphanumeric()) {
            part.extend(c.to_lowercase());
        }
        after_lower = c.is_lowercase() || c.is_numeric();
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        check(&Source::new(path, text)).len()
    }

    #[test]
    fn banned_words_in_declared_names_are_caught() {
        assert_eq!(count("a.rs", "struct LaneManager; mod util; fn retry_helper() {} const DLQ: u8 = 1;"), 4);
        assert_eq!(count("a.rs", "struct OrderData; trait StoreBase {} struct LaneInfo; struct LogImpl;"), 4);
    }

    #[test]
    fn names_that_say_something_pass() {
        assert_eq!(
            count("a.rs", "struct EventInfo; struct DataDirectory; fn common_prefix() {} fn data() {}"),
            0
        );
        assert_eq!(count("a.rs", "use futures_util::stream; fn f() { builder.worker_threads(2); }"), 0);
    }

    #[test]
    fn drawers_among_the_files_are_caught() {
        assert_eq!(count("crates/log/src/util.rs", ""), 1);
        assert_eq!(count("crates/log/src/common/x.rs", ""), 1);
        assert_eq!(count("crates/log/src/index/mod.rs", ""), 1);
        assert_eq!(count("crates/log/src/index.rs", ""), 0);
    }
}
