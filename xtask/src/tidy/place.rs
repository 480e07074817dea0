//! No file names a place of the machine it was written on: paths in the tree are relative or made at run time.

use crate::finding::Finding;
use crate::tree::Tree;

const RULE: &str = "place";

/// First folders of paths that exist on one machine only. Parted, so that this file does not catch itself.
const FOLDERS: [&str; 5] = [
    concat!("/", "root"),
    concat!("/", "home"),
    concat!("/", "tmp"),
    concat!("/", "work"),
    concat!("/", "Users"),
];

/// Looks at every text file.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let sources = tree.sources.iter().map(|source| (source.path.as_str(), source.text.as_str()));
    let texts = tree.texts.iter().map(|text| (text.path.as_str(), text.text.as_str()));
    sources.chain(texts).flat_map(|(path, text)| check_text(path, text)).collect()
}

fn check_text(path: &str, text: &str) -> Vec<Finding> {
    let lines = text.lines().enumerate();
    lines
        .filter_map(|(index, line)| {
            let folder = FOLDERS.iter().find(|folder| names(line, folder))?;
            let advice = format!(
                "`{folder}` is a place of one machine; use a relative path or ask for a temporary folder"
            );
            Some(Finding::new(path, index + 1, RULE, advice))
        })
        .collect()
}

/// Whether the line holds an absolute path that starts with this folder.
fn names(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(start, _)| {
        let before = line.get(..start).and_then(|before| before.chars().next_back());
        let after = line.get(start + folder.len()..).and_then(|after| after.chars().next());
        let in_a_longer_path = before.is_some_and(|c| c.is_alphanumeric() || "._-/}~".contains(c));
        let in_a_longer_name = after.is_some_and(|c| c.is_alphanumeric() || "_-.".contains(c));
        !in_a_longer_path && !in_a_longer_name
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_paths_of_a_machine_are_caught() {
        for folder in FOLDERS {
            let text = format!("one\nopen(\"{folder}/ensue\")\n");
            let lines: Vec<usize> = check_text("a.rs", &text).iter().map(|finding| finding.line).collect();
            assert_eq!(lines, [2], "{folder}");
        }
    }

    #[test]
    fn relative_paths_and_longer_names_pass() {
        let text = "target/tmp x/home/y https://example.org/home GET /homepage /worker /rooted\n";
        assert_eq!(check_text("a.md", text), []);
    }
}
