//! The files of the repository, without what `.gitignore` names: build output and data directories.
//!
//! It walks the folders itself, so that it works without git and in a checkout that somebody else owns. Of
//! `.gitignore` it understands plain names.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::source::Source;

/// Everything the rules look at, read once.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) root: PathBuf,
    /// Every `.rs` file.
    pub(crate) sources: Vec<Source>,
    /// Every other file that is text.
    pub(crate) texts: Vec<Text>,
}

/// A file that is not Rust.
#[derive(Debug)]
pub(crate) struct Text {
    /// Relative to the root, with forward slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Tree {
    /// Reads the repository this program was built from.
    pub(crate) fn read() -> Result<Self, String> {
        let root = root();
        let mut tree = Self { root, sources: Vec::new(), texts: Vec::new() };
        for path in list(&tree.root)? {
            let bytes =
                fs::read(tree.root.join(&path)).map_err(|error| format!("cannot read {path}: {error}"))?;
            let Ok(text) = String::from_utf8(bytes) else { continue };
            if Path::new(&path).extension().is_some_and(|extension| extension == "rs") {
                tree.sources.push(Source::new(path, text));
            } else {
                tree.texts.push(Text { path, text });
            }
        }
        Ok(tree)
    }

    /// The text of a file that is not Rust, by its path.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.texts.iter().find(|text| text.path == path).map(|text| text.text.as_str())
    }
}

/// The root of the repository: where cargo was asked to run us, else where we were built.
pub(crate) fn root() -> PathBuf {
    let asked = env::var("CARGO_MANIFEST_DIR");
    let here = Path::new(asked.as_deref().unwrap_or(env!("CARGO_MANIFEST_DIR")));
    here.parent().unwrap_or(here).to_owned()
}

/// Every file below the root but the ignored ones, sorted.
fn list(root: &Path) -> Result<Vec<String>, String> {
    let ignored = fs::read_to_string(root.join(".gitignore")).unwrap_or_default();
    let ignored: Vec<&str> = ignored.lines().map(|line| line.trim_matches('/')).chain([".git"]).collect();
    let mut paths = Vec::new();
    walk(root, "", &ignored, &mut paths)?;
    paths.sort();
    Ok(paths)
}

fn walk(root: &Path, folder: &str, ignored: &[&str], paths: &mut Vec<String>) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot list `{folder}`: {error}");
    for entry in fs::read_dir(root.join(folder)).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if ignored.contains(&name.as_str()) {
            continue;
        }
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() && !is_cache(&entry.path()) {
            walk(root, &path, ignored, paths)?;
        } else if kind.is_file() {
            paths.push(path);
        }
    }
    Ok(())
}

/// Whether the folder says of itself that it can be made again (bford.info/cachedir), as cargo's output does.
fn is_cache(folder: &Path) -> bool {
    folder.join("CACHEDIR.TAG").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_holds_this_file_and_no_build_output() {
        let tree = Tree::read().expect("the repository is readable");
        assert!(tree.sources.iter().any(|source| source.path == "xtask/src/tree.rs"));
        assert!(tree.text("Cargo.toml").is_some());
        assert!(tree.sources.iter().all(|source| !source.path.starts_with("target/")));
        assert!(tree.texts.iter().all(|text| !text.path.starts_with(".git/")));
    }
}
