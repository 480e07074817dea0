//! `cargo xtask ci`: everything that must hold before a change is taken, in one command.
//!
//! All steps run, whatever fails before, so that one run shows everything there is to mend.

use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use crate::cargo;
use crate::test;
use crate::tidy;
use crate::tree;

/// The facade: what a user's default build consists of stands below it.
const FACADE: &str = "ensue";

/// Builds C code or looks for C libraries.
const C_BUILDERS: [&str; 8] =
    ["autotools", "bindgen", "cc", "cmake", "pkg-config", "pkgconf", "system-deps", "vcpkg"];

/// Named after a system but declarations only: nothing is compiled from C, nothing foreign is linked but the system's
/// own library, which every Rust program links.
const C_HARMLESS: [&str; 3] = ["libc", "linux-raw-sys", "windows-sys"];

/// What a step came to that did not fail.
enum Outcome {
    Held,
    /// It could not look. That is no failure, and nothing to be called ok either.
    NotChecked,
}

type Step = (&'static str, fn(&Path) -> Result<Outcome, String>);

const STEPS: [Step; 7] = [
    ("format", |root| held(cargo::run(root, &["fmt", "--all", "--check"], &[]))),
    ("clippy", |root| {
        held(cargo::run(root, &["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"], &[]))
    }),
    ("tidy", |_| held(tidy::run(tidy::Mode::Check))),
    ("test", |_| held(test::run(test::Scope::Everything, 0))),
    ("documentation", |root| {
        // Libraries only: the binary `ensue` and the library `ensue` would write to the same place.
        let arguments = ["doc", "--workspace", "--no-deps", "--lib"];
        held(cargo::run(root, &arguments, &[("RUSTDOCFLAGS", "--deny warnings")]))
    }),
    ("no-c-code", |root| held(no_c_code(root))),
    ("licences", licences),
];

/// Runs all steps, or the one of this name, and names those that failed.
pub(crate) fn run(only: Option<&str>) -> Result<(), String> {
    let root = tree::root();
    let steps: Vec<Step> =
        STEPS.into_iter().filter(|(name, _)| only.is_none_or(|only| only == *name)).collect();
    if steps.is_empty() {
        return Err(format!(
            "there is no such step; the steps are {}",
            STEPS.map(|(name, _)| name).join(", ")
        ));
    }
    let failed: Vec<&str> = steps.into_iter().filter_map(|step| execute(&root, step).err()).collect();
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
}

/// Runs one step; its name is the error.
fn execute(root: &Path, (name, step): Step) -> Result<(), &'static str> {
    eprintln!("\n== {name}");
    let start = Instant::now();
    let result = step(root);
    let seconds = start.elapsed().as_secs();
    match &result {
        Ok(Outcome::Held) => eprintln!("== {name}: ok, {seconds} s"),
        Ok(Outcome::NotChecked) => eprintln!("== {name}: not checked, see above"),
        Err(message) => eprintln!("== {name}: FAILED, {seconds} s: {message}"),
    }
    result.map(drop).map_err(|_| name)
}

fn held(result: Result<(), String>) -> Result<Outcome, String> {
    result.map(|()| Outcome::Held)
}

/// The default build of the facade compiles no C and links no foreign library.
fn no_c_code(root: &Path) -> Result<(), String> {
    let below = cargo::below(root, FACADE)?;
    let linking = linking(root)?;
    let found: Vec<&str> = below.iter().map(String::as_str).filter(|name| is_c(name, &linking)).collect();
    if found.is_empty() {
        eprintln!("{} packages below `{FACADE}`, none builds or links C", below.len());
        return Ok(());
    }
    Err(format!(
        "`{FACADE}` pulls in C code through {}; see `cargo tree -p {FACADE} -i NAME`",
        found.join(", ")
    ))
}

fn is_c(name: &str, linking: &[String]) -> bool {
    let is_suspect =
        C_BUILDERS.contains(&name) || name.ends_with("-sys") || linking.iter().any(|link| link == name);
    is_suspect && !C_HARMLESS.contains(&name)
}

/// Packages that declare a native library in `links`. A package without dependencies of ours may use the key only
/// to be alone in a program (`rayon-core` does): these link nothing and are told by their value.
fn linking(root: &Path) -> Result<Vec<String>, String> {
    let output = cargo::output(root, &["metadata", "--format-version", "1"])?;
    let document: Value =
        serde_json::from_slice(&output).map_err(|error| format!("cargo metadata is not JSON: {error}"))?;
    let packages = document.get("packages").and_then(Value::as_array).into_iter().flatten();
    let names = packages.filter_map(|package| {
        let name = package.get("name")?.as_str()?;
        let library = package.get("links")?.as_str()?;
        (library != name).then(|| name.to_owned())
    });
    Ok(names.collect())
}

/// Licences, sources and duplicate versions, by `deny.toml`.
fn licences(root: &Path) -> Result<Outcome, String> {
    let probe = cargo::command(root, &["deny", "--version"]).output();
    if probe.is_ok_and(|output| output.status.success()) {
        return held(cargo::run(root, &["deny", "check"], &[]));
    }
    eprintln!("cargo-deny is not installed: `cargo install --locked cargo-deny`");
    Ok(Outcome::NotChecked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_compiles_or_links_c_is_caught() {
        let linking = ["ring".to_owned()];
        for name in ["cc", "cmake", "pkg-config", "zstd-sys", "ring"] {
            assert!(is_c(name, &linking), "{name}");
        }
    }

    #[test]
    fn declarations_of_the_system_pass() {
        for name in ["libc", "linux-raw-sys", "windows-sys", "bytes"] {
            assert!(!is_c(name, &[]), "{name}");
        }
    }
}
