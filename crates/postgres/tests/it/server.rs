//! A PostgreSQL of the test's own: a folder, a port and settings of its own, so that what happens to it disturbs nobody.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use ensue_postgres::{Config, PostgresStore};
use ensue_test::server::free_port;
use tempfile::TempDir;
use tokio_postgres::Client;

use crate::given::session;

/// What it runs with. A server that is killed keeps what it has acknowledged; the machine is not lost here.
const SETTINGS: &str = "listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\nmax_connections = 60\n\
    shared_buffers = '16MB'\nfsync = off\nwal_level = replica\n";

/// One that runs until this is dropped.
pub(crate) struct Server {
    folder: TempDir,
    port: u16,
    child: Mutex<Option<Child>>,
}

impl Server {
    /// With an empty database `postgres` and these lines of configuration besides.
    pub(crate) fn new(settings: &str) -> Self {
        let server = Self::without_data();
        let data = server.data();
        let options = ["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"];
        run(program("initdb").arg("-D").arg(&data).args(options));
        server.configure(SETTINGS);
        server.configure(settings);
        server.configure(&format!("port = {}\n", server.port));
        server.start();
        server
    }

    /// A hot standby that follows this server.
    pub(crate) fn standby(&self) -> Self {
        let standby = Self::without_data();
        let port = self.port.to_string();
        let from = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "--write-recovery-conf", "--no-sync"];
        run(program("pg_basebackup").arg("-D").arg(standby.data()).args(from).arg("--checkpoint=fast"));
        standby.configure(&format!("port = {}\n", standby.port));
        standby.start();
        standby
    }

    fn without_data() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        give_away(folder.path());
        Self { folder, port: free_port(), child: Mutex::new(None) }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Adds lines to its configuration, which count from the next start.
    pub(crate) fn configure(&self, lines: &str) {
        let file = File::options().append(true).open(self.data().join("postgresql.conf"));
        file.and_then(|mut file| file.write_all(lines.as_bytes())).expect("the folder is ours");
    }

    /// Replaces its rules for who may come in, and starts it anew: a running server reads them at some later moment.
    pub(crate) fn admit(&self, rules: &str) {
        fs::write(self.data().join("pg_hba.conf"), rules).expect("the folder is ours");
        self.stop_immediately();
        self.start();
    }

    /// A folder of its own with so many bytes of room and no more, until the server is dropped.
    pub(crate) fn small_disk(&self, bytes: usize) -> SmallDisk {
        let folder = self.folder.path().join("small");
        fs::create_dir(&folder).expect("the folder is ours");
        let size = format!("size={bytes}");
        run(as_root("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&folder));
        give_away(&folder);
        SmallDisk { folder }
    }

    /// Starts it; returns when it takes connections.
    pub(crate) fn start(&self) {
        let log = self.folder.path().join("log");
        let talk = File::options().create(true).append(true).open(&log).expect("the folder is ours");
        let mut command = program("postgres");
        command.arg("-D").arg(self.data()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(talk);
        let mut child = command.spawn().expect("it is installed");
        let port = self.port.to_string();
        while !succeeds(program("pg_isready").args(["-q", "-h", "127.0.0.1", "-p", &port])) {
            let ended = child.try_wait().expect("it is ours");
            assert_eq!(ended, None, "{}", fs::read_to_string(&log).unwrap_or_default());
        }
        *self.lock() = Some(child);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its first process has ended; without us it would stay in the list of processes, and the next one would take it for alive.
    fn bury(&self) {
        if let Some(mut child) = self.lock().take() {
            child.wait().expect("it is ours");
        }
    }

    /// Kills all of its processes at once, as a lost machine would; answers with how many there were.
    pub(crate) fn kill(&self) -> usize {
        let processes = self.processes();
        assert!(processes.len() > 1, "the server runs: {processes:?}");
        let pids: Vec<String> = processes.iter().map(u32::to_string).collect();
        let _some_have_ended = succeeds(Command::new("kill").arg("-KILL").args(&pids).stderr(Stdio::null()));
        self.bury();
        while processes.iter().any(|pid| is_alive(*pid)) {
            thread::yield_now();
        }
        processes.len()
    }

    /// Makes it stand still, as a machine does that is out of breath: its connections stay, and nothing answers.
    pub(crate) fn freeze(&self) {
        // The first one first: then there come no others.
        self.signal("-STOP");
        self.signal_all("-STOP");
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal_all("-CONT");
    }

    /// One that has ended meanwhile needs no signal.
    fn signal_all(&self, name: &str) {
        let pids: Vec<String> = self.processes().iter().map(u32::to_string).collect();
        let _some_have_ended = succeeds(Command::new("kill").arg(name).args(&pids).stderr(Stdio::null()));
    }

    /// Makes it throw everybody out and stop without tidying up.
    pub(crate) fn stop_immediately(&self) {
        let processes = self.processes();
        self.signal("-QUIT");
        self.bury();
        while processes.iter().any(|pid| is_alive(*pid)) {
            thread::yield_now();
        }
    }

    /// Stops it, copies what it holds, and starts it again.
    pub(crate) fn copied(&self) -> PathBuf {
        let copy = self.folder.path().join("copy");
        self.stop_immediately();
        run(Command::new("cp").arg("--archive").args([&self.data(), &copy]));
        self.start();
        copy
    }

    /// Puts the copy in the place of what it holds, as a restore does.
    pub(crate) fn come_back_as(&self, copy: &Path) {
        self.stop_immediately();
        fs::remove_dir_all(self.data()).expect("the folder is ours");
        fs::rename(copy, self.data()).expect("the folder is ours");
        self.start();
    }

    /// The processes that serve: the first and its children. None if it does not run.
    fn processes(&self) -> BTreeSet<u32> {
        let Some(first) = self.lock().as_ref().map(Child::id) else { return BTreeSet::new() };
        let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children"));
        let children = children.expect("the kernel tells children");
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        children.chain([first]).collect()
    }

    fn signal(&self, name: &str) {
        let pid = self.lock().as_ref().map(|child| child.id().to_string()).expect("it runs");
        run(Command::new("kill").args([name, &pid]));
    }

    /// Its address, for this user.
    pub(crate) fn url(&self, user: &str) -> String {
        format!("host=127.0.0.1 port={} user={user} dbname=postgres sslmode=disable", self.port)
    }

    /// How its store is opened.
    pub(crate) fn config(&self) -> Config {
        Config::new(&self.url("postgres")).expect("a valid address")
    }

    /// Its store.
    pub(crate) async fn open(&self) -> PostgresStore {
        self.config().open().await.expect("an empty database becomes a store")
    }

    /// A session of it outside of the store.
    pub(crate) async fn session(&self) -> Client {
        session(&self.url("postgres").parse().expect("a valid address")).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.processes().is_empty() {
            self.thaw();
            self.signal("-QUIT");
            self.bury();
        }
    }
}

/// A disk of little room.
pub(crate) struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    /// Makes it larger.
    pub(crate) fn grow(&self, bytes: usize) {
        let size = format!("remount,size={bytes}");
        run(as_root("mount").args(["-o", &size]).arg(&self.folder));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the server may still have files open there, and goes right after.
        run(as_root("umount").arg("-l").arg(&self.folder));
    }
}

/// A program of the server. It refuses to run as root, so there it runs as the user that its package makes.
fn program(name: &str) -> Command {
    let folder = env::var("ENSUE_TEST_POSTGRES_PROGRAMS")
        .expect("ENSUE_TEST_POSTGRES_PROGRAMS names the folder of initdb; `cargo xtask test` sets it");
    as_server(&Path::new(&folder).join(name))
}

/// The program as the user that serves.
pub(crate) fn as_server(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
    command.current_dir("/");
    command
}

/// What only root may do; elsewhere a `sudo` that does not ask must be there.
fn as_root(program: &str) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["-n", program]);
    command
}

fn is_root() -> bool {
    fs::metadata("/proc/self").expect("a process").uid() == 0
}

/// Makes a folder the server's.
pub(crate) fn give_away(folder: &Path) {
    if is_root() {
        run(Command::new("chown").arg("postgres").arg(folder));
    }
}

/// Runs a program to its end.
#[track_caller]
fn run(command: &mut Command) {
    assert!(succeeds(command), "{command:?} failed");
}

fn succeeds(command: &mut Command) -> bool {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Whether a process lives. One that nobody has buried yet does not.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state stands behind the name, which is in parentheses.
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}
