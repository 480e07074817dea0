//! `cargo xtask test`: every suite of the workspace (unit, integration, documentation), and the proof that none was
//! left out.
//!
//! What there is to run comes from the manifests, what ran comes from cargo's own report; the difference is an error.
//! Standard output is cargo's alone, so its summary lines stay the last ones.

use std::collections::BTreeSet;
use std::hint;
use std::io::{BufRead, BufReader, IsTerminal, stderr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::cargo;
use crate::conformance;
use crate::services::{self, Purpose, Service, process};
use crate::tree;
use crate::workspace::{self, Package};

/// Packages, and the services that their ignored tests ask for. Ignored tests of other packages have other reasons.
const SERVERS: [(&str, &[&str]); 3] = [
    ("ensue-cli", &["aws", "kafka", "nats", "postgres", "pubsub", "rabbitmq"]),
    ("ensue-orders-axum", &["postgres"]),
    ("ensue-postgres", &["postgres"]),
];

/// The same for those that run the suite of buses.
const BROKERS: [(&str, &[&str]); 5] = [
    ("ensue-eventbridge", &["aws"]),
    ("ensue-kafka", &["kafka"]),
    ("ensue-nats", &["nats"]),
    ("ensue-pubsub", &["pubsub"]),
    ("ensue-rabbitmq", &["rabbitmq"]),
];

/// A suite of services that has not ended by then hangs: the longest takes five minutes on two cores.
const SUITE_MAX: Duration = Duration::from_mins(20);

/// How far to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scope {
    /// All suites, with the servers they need.
    Everything,
    /// Only tests that need no service; those that do are marked `#[ignore = "needs …"]`.
    Embedded,
}

/// Runs as the words of the command line say.
pub(crate) fn run_as(words: &[&str]) -> Result<(), String> {
    let (scope, words) = match words {
        ["--embedded", words @ ..] => (Scope::Embedded, words),
        words => (Scope::Everything, words),
    };
    let beside = match words {
        [] => Some(0),
        ["--beside", number] => number.parse().ok(),
        _ => None,
    };
    run(scope, beside.ok_or("usage: cargo xtask test [--embedded] [--beside N]")?)
}

/// Builds, runs and accounts for all suites. Beside them so many processors are kept busy: much of what is wrong with time shows only there.
pub(crate) fn run(scope: Scope, beside: usize) -> Result<(), String> {
    let root = tree::root();
    let wanted = wanted(&workspace::packages(&root)?);
    let executables = build(&root)?;
    for _ in 0..beside {
        // Until this program ends.
        thread::spawn(|| {
            loop {
                hint::spin_loop();
            }
        });
    }
    let (ran, mut passed) = execute(&root, &executables)?;
    if scope == Scope::Everything {
        conformance::clear(&root)?;
        passed &= run_all_on(&SERVERS, &executables, &root)?;
        passed &= run_all_on(&BROKERS, &executables, &root)?;
    }
    eprintln!("\n{}", report(scope, &ran));
    let missing: Vec<&str> = wanted.difference(&ran).map(String::as_str).collect();
    if !missing.is_empty() {
        return Err(format!("left out: {}", missing.join(", ")));
    }
    if !passed {
        return Err("a suite is red, see above".to_owned());
    }
    if scope == Scope::Everything { conformance::check(&root) } else { Ok(()) }
}

/// Runs what needs a broker, on every one: whether all are green.
pub(crate) fn run_brokers(root: &Path) -> Result<bool, String> {
    run_all_on(&BROKERS, &build(root)?, root)
}

/// Runs what needs services, of each of these packages, whatever fails: whether all are green.
fn run_all_on(asking: &[(&str, &[&str])], executables: &[Executable], root: &Path) -> Result<bool, String> {
    let mut passed = true;
    for (package, services) in asking {
        let executable = executables.iter().find(|executable| executable.holds_ignored_tests_of(package));
        let executable = executable.ok_or_else(|| format!("{package} has no suite `it`"))?;
        passed &= run_on(services, executable, root)?;
    }
    Ok(passed)
}

fn report(scope: Scope, ran: &BTreeSet<String>) -> String {
    let lines: Vec<String> = ran.iter().map(|suite| format!("  {suite}")).collect();
    let title = match scope {
        Scope::Everything => "suites that ran",
        Scope::Embedded => "suites that ran, without services",
    };
    format!("{title} ({}):\n{}", ran.len(), lines.join("\n"))
}

/// The name of a suite of tests in code.
fn code_suite(package: &str, file: &str) -> String {
    format!("{package} {file}")
}

/// The name of a suite of examples in documentation. Cargo reports these by library.
fn doc_suite(library: &str) -> String {
    format!("{} documentation", library.replace('-', "_"))
}

/// What the manifests say there is.
fn wanted(packages: &[Package]) -> BTreeSet<String> {
    let mut suites = BTreeSet::new();
    for package in packages {
        for target in &package.targets {
            if target.is_tested {
                suites.insert(code_suite(&package.name, &target.root_file));
            }
            if target.has_doc_tests {
                suites.insert(doc_suite(&target.name));
            }
        }
    }
    suites
}

/// A program of tests that cargo has built.
struct Executable {
    path: PathBuf,
    package: String,
    /// The folder of the package, in which cargo runs it.
    folder: String,
    /// The file that it is built from.
    source: String,
}

impl Executable {
    fn suite(&self) -> String {
        code_suite(&self.package, &self.source)
    }

    fn holds_ignored_tests_of(&self, package: &str) -> bool {
        self.package == package && self.source.ends_with("/tests/it/main.rs")
    }
}

/// Builds all programs of tests.
fn build(root: &Path) -> Result<Vec<Executable>, String> {
    let packages = workspace::packages(root)?;
    let arguments = ["test", "--workspace", "--no-run", "--message-format", "json-render-diagnostics"];
    let messages = cargo::output(root, &arguments)?;
    let lines = messages.split(|byte| *byte == b'\n');
    let documents = lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    Ok(documents.filter_map(|message| executable(&message, root, &packages)).collect())
}

/// The program that a message of cargo announces.
fn executable(message: &Value, root: &Path, packages: &[Package]) -> Option<Executable> {
    let is_test = message.get("profile")?.get("test")?.as_bool()?;
    let path = message.get("executable")?.as_str().filter(|_| is_test)?;
    let source = Path::new(message.get("target")?.get("src_path")?.as_str()?);
    let source = source.strip_prefix(root).unwrap_or(source).to_string_lossy().replace('\\', "/");
    let package = packages.iter().find(|package| source.starts_with(&format!("{}/", package.folder)))?;
    Some(Executable {
        path: path.into(),
        package: package.name.clone(),
        folder: package.folder.clone(),
        source,
    })
}

/// Runs the tests of a program that need services: whether they are green. Services that did not run before are stopped.
///
/// The program is the one that is built already: asked for one package alone, cargo would build all below it with other features.
fn run_on(services: &[&str], executable: &Executable, root: &Path) -> Result<bool, String> {
    let services: Vec<&dyn Service> =
        services.iter().map(|name| services::find(name)).collect::<Result<_, _>>()?;
    let (running, stopped): (Vec<_>, Vec<_>) =
        services.into_iter().partition(|service| services::is_running(*service, Purpose::Tests));
    let mut environment =
        vec![(conformance::FOLDER_VARIABLE, conformance::folder(root).display().to_string())];
    for service in running.iter().chain(&stopped) {
        environment.extend(service.environment(&services::up(*service, Purpose::Tests)?));
    }
    eprintln!("\n     Running what needs services of {}", executable.suite());
    let mut command = Command::new(&executable.path);
    command.arg("--ignored").current_dir(root.join(&executable.folder)).envs(environment);
    let ended = end_of(&mut command, &executable.suite());
    stopped.into_iter().try_for_each(|service| services::down(service, Purpose::Tests))?;
    ended
}

/// Runs a program to its end: whether it was content. One that hangs is killed with what it has started, so that the others have their turn.
fn end_of(command: &mut Command, suite: &str) -> Result<bool, String> {
    let failed = |error| format!("cannot run {suite}: {error}");
    let mut child = command.spawn().map_err(failed)?;
    let (ended, watch) = mpsc::channel::<()>();
    let (pid, name) = (child.id(), suite.to_owned());
    thread::spawn(move || {
        if watch.recv_timeout(SUITE_MAX) == Err(RecvTimeoutError::Timeout) {
            eprintln!(
                "\n{name} still runs after {SUITE_MAX:?} and is killed: what it has not said `ok` of hangs"
            );
            let family = process::family(pid).into_iter().map(|pid| pid.to_string());
            drop(Command::new("kill").arg("-KILL").args(family).status());
        }
    });
    let status = child.wait().map_err(failed)?;
    drop(ended);
    Ok(status.success())
}

/// Runs everything that is not ignored, whatever fails: the suites that ran, and whether all are green.
fn execute(root: &Path, executables: &[Executable]) -> Result<(BTreeSet<String>, bool), String> {
    let mut command = cargo::command(root, &["test", "--workspace", "--no-fail-fast"]);
    if stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child =
        command.stderr(Stdio::piped()).spawn().map_err(|error| format!("cannot run cargo: {error}"))?;
    let mut ran = BTreeSet::new();
    if let Some(talk) = child.stderr.take() {
        for line in BufReader::new(talk).lines() {
            let line = line.map_err(|error| format!("cannot read what cargo says: {error}"))?;
            eprintln!("{line}");
            ran.extend(suite(&plain(&line), executables));
        }
    }
    let status = child.wait().map_err(|error| format!("cannot wait for cargo: {error}"))?;
    Ok((ran, status.success()))
}

/// The suite that cargo announces with this line.
fn suite(line: &str, executables: &[Executable]) -> Option<String> {
    let line = line.trim();
    if let Some(library) = line.strip_prefix("Doc-tests ") {
        return Some(doc_suite(library));
    }
    let path = line.strip_prefix("Running ")?.rsplit_once('(')?.1.strip_suffix(')')?;
    let name = Path::new(path).file_name();
    executables.iter().find(|executable| executable.path.file_name() == name).map(Executable::suite)
}

/// The line without colours.
fn plain(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or(part, |(_, rest)| rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Target;

    fn package() -> Package {
        let target = |name: &str, file: &str, has_doc_tests| Target {
            name: name.to_owned(),
            root_file: file.to_owned(),
            is_tested: true,
            has_doc_tests,
        };
        Package {
            name: "ensue-log".to_owned(),
            folder: "crates/log".to_owned(),
            dependencies: Vec::new(),
            targets: vec![
                target("ensue-log", "crates/log/src/lib.rs", true),
                target("it", "crates/log/tests/it/main.rs", false),
            ],
        }
    }

    #[test]
    fn what_cargo_announces_is_what_the_manifests_want() {
        let message = |file: &str, executable: &str| {
            serde_json::json!({
                "profile": { "test": true },
                "executable": executable,
                "target": { "src_path": format!("/r/{file}") },
            })
        };
        let packages = [package()];
        let messages = [
            message("crates/log/src/lib.rs", "/t/debug/deps/ensue_log-1"),
            message("crates/log/tests/it/main.rs", "/t/debug/deps/it-2"),
        ];
        let executables: Vec<Executable> =
            messages.iter().filter_map(|message| executable(message, Path::new("/r"), &packages)).collect();
        let lines = [
            "\u{1b}[1m     Running\u{1b}[0m unittests src/lib.rs (/t/debug/deps/ensue_log-1)",
            "     Running tests/it/main.rs (target/debug/deps/it-2)",
            "   Doc-tests ensue_log",
            "   Compiling ensue-log v0.1.0",
        ];
        let ran: BTreeSet<String> =
            lines.iter().filter_map(|line| suite(&plain(line), &executables)).collect();
        assert_eq!(ran, wanted(&packages));
    }

    #[test]
    fn a_suite_that_did_not_run_is_missing_by_name() {
        let wanted = wanted(&[package()]);
        let ran = BTreeSet::from([doc_suite("ensue-log"), code_suite("ensue-log", "crates/log/src/lib.rs")]);
        let missing: Vec<&String> = wanted.difference(&ran).collect();
        assert_eq!(missing, ["ensue-log crates/log/tests/it/main.rs"]);
    }
}
