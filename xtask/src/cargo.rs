//! Runs cargo: the one that runs us, in the root of the repository.

use std::env;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

/// A cargo command with its output going where ours goes.
pub(crate) fn command(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root);
    // What `cargo run` says of this program is none of the packages': a build script that looks at it would run again, and all that
    // stands on it would be built again.
    for (name, _) in env::vars_os().filter(|(name, _)| is_of_this_package(name)) {
        command.env_remove(name);
    }
    command
}

fn is_of_this_package(variable: &OsStr) -> bool {
    let name = variable.to_string_lossy();
    name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
}

/// What cargo prints to standard output; its talk goes where ours goes.
pub(crate) fn output(root: &Path, arguments: &[&str]) -> Result<Vec<u8>, String> {
    let output = command(root, arguments)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(format!("cargo {} failed", arguments.join(" ")))
    }
}

/// Runs it for its exit code.
pub(crate) fn run(root: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Result<(), String> {
    let status = command(root, arguments)
        .envs(environment.iter().copied())
        .status()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("cargo {} failed", arguments.join(" "))) }
}

/// Every package that the product code of this one stands on, on this platform and with its default features.
pub(crate) fn below(root: &Path, package: &str) -> Result<Vec<String>, String> {
    let arguments =
        ["tree", "--package", package, "--edges", "normal,build", "--prefix", "none", "--format", "{p}"];
    let lines = output(root, &arguments)?;
    Ok(names(&String::from_utf8_lossy(&lines)))
}

/// The first word of each line, each once.
fn names(lines: &str) -> Vec<String> {
    let names = lines.lines().filter_map(|line| line.split(' ').next());
    let mut names: Vec<String> = names.filter(|name| !name.is_empty()).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_cargo_tree_become_names() {
        assert_eq!(
            names("ensue v0.1.0 (crates/ensue)\nbytes v1.12.0\n\nbytes v1.12.0 (*)\n"),
            ["bytes", "ensue"]
        );
    }
}
