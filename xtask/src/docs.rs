//! `cargo xtask docs`: writes the pages that are made from a definition in the code. `tidy` checks that they are current.

use std::fs;

use ensue_core::error::{self, Code};

use crate::tree;

/// The folder of the error pages, relative to the root.
pub(crate) const ERRORS: &str = "docs/errors/";

/// Every generated page: path relative to the root, and text.
pub(crate) fn pages() -> Vec<(String, String)> {
    Code::all().map(|code| (format!("{ERRORS}{code}.md"), error::page(code))).collect()
}

/// Writes every page, and removes pages of codes that do not exist.
pub(crate) fn run() -> Result<(), String> {
    let folder = tree::root().join(ERRORS);
    let written = pages();
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|error| format!("cannot clear {ERRORS}: {error}"))?;
    }
    fs::create_dir_all(&folder).map_err(|error| format!("cannot make {ERRORS}: {error}"))?;
    for (path, text) in &written {
        fs::write(tree::root().join(path), text).map_err(|error| format!("cannot write {path}: {error}"))?;
    }
    eprintln!("docs: {} error pages in {ERRORS}", written.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_page_that_names_it() {
        let pages = pages();
        assert_eq!(pages.len(), Code::all().count());
        for ((path, text), code) in pages.iter().zip(Code::all()) {
            assert!(path.ends_with(&format!("{code}.md")) && text.contains(code.title()), "{path}");
        }
    }
}
