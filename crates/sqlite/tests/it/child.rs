//! Other processes: this test binary, started again for one of the roles below.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use ensue_core::{Commit, Expected, RecordWrite, Space, Version};
use ensue_sqlite::rusqlite::{Connection, TransactionBehavior};

use crate::given::{append, stream};

const FILE: &str = "ENSUE_TEST_FILE";
const BEGINNINGS: &str = "ENSUE_TEST_BEGINNINGS";

/// Streams that a writing process appends to, each by a task of its own.
pub(crate) const WRITERS: usize = 6;

/// A process in a role, which is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

/// How a process in this role is started.
pub(crate) fn command(role: &str, file: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this test has a file"));
    let test = format!("child::{role}");
    command.args(["--exact", &test, "--nocapture"]).env(FILE, file).stdout(Stdio::piped());
    command
}

impl Process {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the system starts a process");
        let said = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, said }
    }

    /// A process that writes, in each stream from the version that stands in this list.
    pub(crate) fn writing(file: &Path, beginnings: &[u64; WRITERS]) -> Self {
        let mut command = command("writes", file);
        let beginnings: Vec<String> = beginnings.iter().map(u64::to_string).collect();
        command.env(BEGINNINGS, beginnings.join(","));
        Self::start(command)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next thing that it says about itself, without the prefix; `None` after its end.
    pub(crate) fn hear(&mut self) -> Option<String> {
        self.said.find_map(|line| line.ok()?.split_once("child: ").map(|(_, words)| words.to_owned()))
    }

    /// Kills it with SIGKILL, and gives back what it had said by then.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.child.kill().expect("it runs");
        let status = self.child.wait().expect("it was ours");
        assert!(!status.success() && status.code().is_none(), "it ended before it was killed: {status}");
        std::iter::from_fn(|| self.hear()).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The commit of a version of a writer: an event in each of two streams, and a record.
pub(crate) fn numbered(writer: usize, version: u64) -> Commit {
    let ids = ["l", "r"].map(|side| format!("{side}{writer}-{version}"));
    let expected = Expected::Exact(Version(version - 1));
    let [mut commit, right] = [("left", &ids[0]), ("right", &ids[1])]
        .map(|(side, id)| append(&format!("{side}-{writer}"), expected, &[id]));
    assert_eq!(commit.appends[0].stream, stream(&format!("left-{writer}")));
    commit.appends.extend(right.appends);
    let space = Space::new("test.writer").expect("a valid space");
    commit.records.push(RecordWrite::put(space, writer.to_string(), version.to_string()));
    commit
}

/// The file that the test which has started this names; without one, this is no process of a test and has nothing to do.
fn file() -> Option<std::path::PathBuf> {
    std::env::var_os(FILE).map(Into::into)
}

fn say(words: &str) {
    let mut out = std::io::stdout().lock();
    // Whoever listens may have gone.
    drop(writeln!(out, "child: {words}").and_then(|()| out.flush()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes() {
    let Some(file) = file() else { return };
    let store = ensue_sqlite::open(file).await.expect("the file is a store");
    let beginnings = std::env::var(BEGINNINGS).expect("the test says where to begin");
    let writers = beginnings.split(',').map(|text| text.parse::<u64>().expect("a number")).enumerate().map(
        |(writer, begin)| {
            let store = store.clone();
            tokio::spawn(async move {
                for version in begin.. {
                    say(&format!("asks {writer} {version}"));
                    let committed = ensue_core::Store::commit(&store, numbered(writer, version)).await;
                    assert!(committed.is_ok(), "{committed:?}");
                    say(&format!("answer {writer} {version}"));
                }
            })
        },
    );
    futures_util::future::join_all(writers.collect::<Vec<_>>()).await;
    panic!("nobody has killed this process");
}

#[test]
fn holds_the_lock() {
    let Some(file) = file() else { return };
    let mut connection = Connection::open(file).expect("the file is a database");
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).expect("nobody else writes");
    say("it is held");
    // Until whoever has started this closes the pipe, or kills the process.
    let mut line = String::new();
    assert_eq!(std::io::stdin().read_line(&mut line).expect("a pipe"), 0);
    drop(transaction);
}

#[tokio::test]
async fn opens() {
    let Some(file) = file() else { return };
    let outcome = ensue_sqlite::open(file).await;
    assert!(outcome.is_err(), "the file can be opened");
    say(&outcome.expect_err("it is refused").code().to_string());
}
