//! The packages of the workspace, as `cargo metadata` tells them.

use std::path::Path;

use serde_json::Value;

use crate::cargo;

/// One of our packages.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// Folder, relative to the root.
    pub(crate) folder: String,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) targets: Vec<Target>,
}

/// What a package's manifest asks for.
#[derive(Clone, Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) purpose: Purpose,
    /// Whether it is a package of this workspace.
    pub(crate) is_ours: bool,
}

/// What a dependency is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// It ships, or builds what ships.
    Product,
    /// Tests and benchmarks only.
    Tests,
}

/// Something cargo compiles.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// Root file, relative to the root of the repository.
    pub(crate) root_file: String,
    /// Whether `cargo test` runs it.
    pub(crate) is_tested: bool,
    /// Whether `cargo test` runs the examples in its documentation.
    pub(crate) has_doc_tests: bool,
}

/// Manifests of workspaces beside ours, which no check builds; they are held to the same style.
const BESIDE: [&str; 1] = ["bench/peers/Cargo.toml"];

/// The packages of our workspace.
pub(crate) fn packages(root: &Path) -> Result<Vec<Package>, String> {
    ask(root, "Cargo.toml")
}

/// The packages of the workspaces beside ours.
pub(crate) fn packages_beside(root: &Path) -> Result<Vec<Package>, String> {
    let each: Vec<Vec<Package>> =
        BESIDE.iter().map(|manifest| ask(root, manifest)).collect::<Result<_, _>>()?;
    Ok(each.concat())
}

fn ask(root: &Path, manifest: &str) -> Result<Vec<Package>, String> {
    let arguments = ["metadata", "--format-version", "1", "--no-deps", "--manifest-path", manifest];
    let output = cargo::output(root, &arguments)?;
    let document: Value = serde_json::from_slice(&output)
        .map_err(|error| format!("cargo metadata is not the JSON it should be: {error}"))?;
    Ok(parse(&document, root))
}

fn parse(document: &Value, root: &Path) -> Vec<Package> {
    let mut packages: Vec<Package> =
        list(document, "packages").map(|package| parse_package(package, root)).collect();
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    packages
}

fn parse_package(package: &Value, root: &Path) -> Package {
    let manifest = relative(text(package, "manifest_path"), root);
    Package {
        name: text(package, "name").to_owned(),
        folder: manifest.trim_end_matches("Cargo.toml").trim_end_matches('/').to_owned(),
        dependencies: list(package, "dependencies").map(parse_dependency).collect(),
        targets: list(package, "targets").map(|target| parse_target(target, root)).collect(),
    }
}

fn parse_dependency(dependency: &Value) -> Dependency {
    let purpose = if text(dependency, "kind") == "dev" { Purpose::Tests } else { Purpose::Product };
    Dependency {
        name: text(dependency, "name").to_owned(),
        purpose,
        is_ours: dependency.get("path").is_some_and(Value::is_string),
    }
}

fn parse_target(target: &Value, root: &Path) -> Target {
    let flag = |name: &str| target.get(name).and_then(Value::as_bool).unwrap_or(false);
    Target {
        name: text(target, "name").to_owned(),
        root_file: relative(text(target, "src_path"), root),
        is_tested: flag("test"),
        has_doc_tests: flag("doctest"),
    }
}

fn relative(path: &str, root: &Path) -> String {
    let path = Path::new(path);
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/")
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_becomes_packages_with_targets_and_purposes() {
        let document = serde_json::json!({ "packages": [{
            "name": "ensue-log",
            "manifest_path": "/r/crates/log/Cargo.toml",
            "dependencies": [
                { "name": "ensue-core", "kind": null, "path": "/r/crates/core" },
                { "name": "proptest", "kind": "dev" },
            ],
            "targets": [{ "name": "it", "src_path": "/r/crates/log/tests/it/main.rs", "test": true, "doctest": false }],
        }]});
        let packages = parse(&document, Path::new("/r"));
        let package = packages.first().expect("one package");
        assert_eq!(package.folder, "crates/log");
        let seen: Vec<_> =
            package.dependencies.iter().map(|d| (d.name.as_str(), d.purpose, d.is_ours)).collect();
        assert_eq!(seen, [("ensue-core", Purpose::Product, true), ("proptest", Purpose::Tests, false)]);
        let target = package.targets.first().expect("one target");
        assert_eq!(target.root_file, "crates/log/tests/it/main.rs");
        assert!(target.is_tested && !target.has_doc_tests);
    }
}
