//! The real binary on temporary folders: what it prints, how it exits, and that nothing is lost when it refuses.

#![expect(clippy::indexing_slicing, reason = "an index that is not there is a failed test that says where")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

mod application;
mod bad_luck;
mod copy;
mod demo;
mod emit;
mod flow;
mod link;
mod look;
mod outage;
mod past;
mod place;
mod repair;
mod retention;
mod store;
mod three;
mod timer;

/// The event of the documentation, as it stands.
const ORDER: &str = r#"{"event_type":"OrderPlaced","event_id":"evt-a1b2c3","timestamp":"2024-01-15T10:30:00Z","data":{"order_id":"ORD-5001","customer_id":"CUST-1001","items":[{"sku":"WIDGET-1","qty":2,"price":29.99}],"total":59.98}}"#;
/// The command of the documentation, as it stands.
const COMMAND: &str = r#"{"command_type":"ProcessPayment","command_id":"cmd-x1y2z3","data":{"order_id":"ORD-5001","amount":59.98,"payment_method":"credit_card"}}"#;

/// A data directory that is not there yet, and the binary that works on it.
struct Ensue {
    around: TempDir,
}

/// What a run of the binary left behind.
#[derive(Debug)]
struct Answer {
    exit: i32,
    out: String,
    err: String,
}

impl Ensue {
    fn new() -> Self {
        Self { around: tempfile::tempdir().expect("a temporary folder") }
    }

    fn data(&self) -> PathBuf {
        self.around.path().join("data")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        on(&self.data(), arguments)
    }

    fn run(&self, arguments: &[&str]) -> Answer {
        answer(self.command(arguments), "")
    }

    fn emit(&self, arguments: &[&str], document: &str) -> Answer {
        answer(self.command(&[&["emit", "-d", "-"], arguments].concat()), document)
    }

    /// Events of one stream whose data are counts, to look at.
    fn with_counts(counts: u32) -> Self {
        let ensue = Self::new();
        for count in 1..=counts {
            let document =
                format!(r#"{{"event_type":"Counted","event_id":"c{count}","data":{{"count":{count}}}}}"#);
            ensue.emit(&["--stream", "Counter/one"], &document).ok();
        }
        ensue
    }

    fn ids(&self) -> Vec<String> {
        let lines = self.run(&["tail", "-e", "-o", "jsonl"]).ok().objects();
        lines.iter().map(|event| event["id"].as_str().expect("an id").to_owned()).collect()
    }

    fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary starts")
    }
}

/// The names of the members of an object, sorted.
#[track_caller]
fn members(object: &Value) -> Vec<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn on(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ensue"));
    command.args(arguments).env("ENSUE_DATA", data);
    command
}

fn answer(mut command: Command, input: &str) -> Answer {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    let mut stdin = child.stdin.take().expect("it was piped");
    // Whoever refuses a document does not read it to its end.
    let _refused = stdin.write_all(input.as_bytes()).is_err();
    drop(stdin);
    let output = child.wait_with_output().expect("the binary ends");
    let text = |bytes| String::from_utf8(bytes).expect("the binary prints text");
    Answer {
        exit: output.status.code().expect("no signal"),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

impl Answer {
    #[track_caller]
    fn ok(self) -> Self {
        assert_eq!(self.exit, 0, "{}", self.err);
        self
    }

    /// Asserts a refusal: exit code, and the code of the error on standard error.
    #[track_caller]
    fn refused(self, exit: i32, code: &str) -> Self {
        assert_eq!(self.exit, exit, "{}{}", self.out, self.err);
        assert!(self.err.contains(code), "{code}: {}", self.err);
        assert_eq!(self.out, "", "a refusal prints no data");
        self
    }

    #[track_caller]
    fn says(self, text: &str) -> Self {
        assert!(self.err.contains(text), "`{text}` is not in: {}", self.err);
        self
    }

    #[track_caller]
    fn object(&self) -> Value {
        serde_json::from_str(&self.out).expect(&self.out)
    }

    #[track_caller]
    fn objects(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }
}
