//! An append-only file of checksummed lines with group commit.
//!
//! A line is eight hex digits of CRC32C, a blank, the text, a line feed. One thread writes: it takes all lines that wait,
//! writes them at once, syncs once, and only then answers those who wait. The file grows in steps of zeros that the lines
//! then replace, because a sync of bytes that are there already need not write the file's size. At open an incomplete
//! last line, or one in which zeros were never replaced, is cut off with what follows, because nobody was told that it is
//! safe; any other damage is an error.
//!
//! Invariants: one process holds the file at a time. After a failed write nothing more is written or acknowledged.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use ensue::{Code, Error};
use tokio::sync::oneshot;

const FILE_NAME: &str = "ledger.lines";
const CHECKSUM_DIGITS: usize = 8;
/// So many zeros are put in front of the lines at a time.
const GROWTH_BYTES: usize = 1 << 20;
/// Bounds what one write holds in memory.
const BATCH_LINES_MAX: usize = 4_096;

/// The file and the thread that writes it.
pub(super) struct Lines {
    path: PathBuf,
    /// Taken when the file closes, which ends the thread.
    queue: Option<Sender<Waiting>>,
    thread: Option<JoinHandle<()>>,
    failure: Arc<OnceLock<Error>>,
}

struct Waiting {
    line: Vec<u8>,
    safe: oneshot::Sender<()>,
}

/// Resolves when the line is safe on the disk.
pub(super) struct Written {
    safe: oneshot::Receiver<()>,
    failure: Arc<OnceLock<Error>>,
}

impl Lines {
    /// Opens or makes the file in `dir` and hands every line in it to `line`.
    pub(super) fn open(dir: &Path, line: impl FnMut(&str) -> Result<(), Error>) -> Result<Self, Error> {
        let path = dir.join(FILE_NAME);
        let mut file = make(dir, &path).map_err(|cause| refused("open", &path, cause))?;
        lock(&file, &path)?;
        let safe_bytes = read(&file, &path, line)?;
        cut(&mut file, safe_bytes).map_err(|cause| refused("cut the end of", &path, cause))?;
        let failure = Arc::new(OnceLock::new());
        let (queue, waiting) = mpsc::channel();
        let thread = thread::Builder::new().name("ledger".to_owned()).spawn({
            let (path, failure) = (path.clone(), Arc::clone(&failure));
            move || {
                if let Err(cause) = write_waiting(&mut file, &waiting) {
                    // The first failure is the one that counts; there is one thread, so there is no second.
                    failure.get_or_init(|| stopped(&path, cause));
                }
            }
        });
        let thread = thread.map_err(|cause| refused("start a thread for", &path, cause))?;
        Ok(Self { path, queue: Some(queue), thread: Some(thread), failure })
    }

    /// Puts a line behind all earlier ones. Whoever waits for it knows that those are safe as well.
    pub(super) fn append(&self, text: &str) -> Written {
        let (safe, receiver) = oneshot::channel();
        if let Some(queue) = &self.queue {
            // Fails only after the thread has stopped; then `safe` is dropped and the caller is told why.
            queue.send(Waiting { line: framed(text), safe }).ok();
        }
        Written { safe: receiver, failure: Arc::clone(&self.failure) }
    }

    /// Reads the file again from its start. A line that is being written now is left out.
    pub(super) fn read_again(&self, line: impl FnMut(&str) -> Result<(), Error>) -> Result<(), Error> {
        let file = File::open(&self.path).map_err(|cause| refused("open", &self.path, cause))?;
        read(&file, &self.path, line).map(drop)
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has nobody left to be reported to; waiting for it releases the lock in time.
            thread.join().ok();
        }
    }
}

impl Written {
    /// Waits. Dropping this does not take the line back.
    pub(super) async fn wait(self) -> Result<(), Error> {
        let Self { safe, failure } = self;
        safe.await.map_err(|_| {
            let closed = || Error::new(Code::CLOSED, "the ledger closed before the line was safe");
            failure.get().cloned().unwrap_or_else(closed)
        })
    }
}

/// Writes until the queue closes; returns how many times it had to sync.
fn write_waiting(file: &mut File, waiting: &Receiver<Waiting>) -> io::Result<u64> {
    let mut syncs = 0;
    let mut room = 0;
    while let Ok(first) = waiting.recv() {
        let rest = waiting.try_iter().take(BATCH_LINES_MAX - 1);
        let (lines, callers): (Vec<_>, Vec<_>) =
            std::iter::once(first).chain(rest).map(|one| (one.line, one.safe)).unzip();
        let lines = lines.concat();
        if room < lines.len() {
            room = lines.len() + GROWTH_BYTES;
            grow(file, room)?;
        }
        file.write_all(&lines)?;
        file.sync_data()?;
        room -= lines.len();
        syncs += 1;
        for safe in callers {
            // A caller that went away does not need the answer; the line stands.
            safe.send(()).ok();
        }
    }
    if room > 0 {
        // Nothing depends on it, but the file of a closed ledger is plain text.
        let end = file.stream_position()?;
        file.set_len(end)?;
    }
    Ok(syncs)
}

/// Puts so many zeros behind the last line.
fn grow(file: &mut File, bytes: usize) -> io::Result<()> {
    let end = file.stream_position()?;
    file.write_all(&vec![0; bytes])?;
    file.seek(SeekFrom::Start(end)).map(drop)
}

fn make(dir: &Path, path: &Path) -> io::Result<File> {
    let new_folders = dir.ancestors().take_while(|folder| !here(folder).exists()).count();
    std::fs::create_dir_all(dir)?;
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    // A new file is safe only when the folder that names it is, and so on upward to one that was there before.
    for folder in dir.ancestors().take(new_folders + 1) {
        File::open(here(folder))?.sync_all()?;
    }
    Ok(file)
}

/// The parent of a relative path's first part is the current folder, which the path leaves out.
fn here(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

fn lock(file: &File, path: &Path) -> Result<(), Error> {
    file.try_lock().map_err(|cause| match cause {
        TryLockError::WouldBlock => {
            Error::new(Code::IN_USE, format!("{} is held by another process", path.display()))
        }
        TryLockError::Error(cause) => refused("lock", path, cause),
    })
}

/// Hands on every complete line and returns where the last of them ends.
fn read(file: &File, path: &Path, mut line: impl FnMut(&str) -> Result<(), Error>) -> Result<u64, Error> {
    let mut reader = BufReader::new(file);
    let mut offset = 0;
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let bytes = reader.read_until(b'\n', &mut buffer).map_err(|cause| refused("read", path, cause))?;
        let Some(complete) = buffer.strip_suffix(b"\n") else { return Ok(offset) };
        // Lines are text, so a zero is one that was never replaced.
        if complete.contains(&0) {
            return Ok(offset);
        }
        let damaged = || {
            Error::new(Code::CORRUPT, format!("the line at byte {offset} of {} is damaged", path.display()))
                .with_fix("restore the file from a backup; it is never cut in the middle")
        };
        line(unframed(complete).ok_or_else(damaged)?)?;
        offset += u64::try_from(bytes).expect("a line fits into memory");
    }
}

fn cut(file: &mut File, safe_bytes: u64) -> io::Result<()> {
    if file.metadata()?.len() > safe_bytes {
        file.set_len(safe_bytes)?;
        file.sync_data()?;
    }
    file.seek(SeekFrom::Start(safe_bytes)).map(drop)
}

fn framed(text: &str) -> Vec<u8> {
    assert!(!text.contains('\n'), "a line is one line");
    format!("{:08x} {text}\n", crc32c::crc32c(text.as_bytes())).into_bytes()
}

fn unframed(line: &[u8]) -> Option<&str> {
    let (digits, text) = line.split_at_checked(CHECKSUM_DIGITS)?;
    let text = text.strip_prefix(b" ")?;
    let expected = format!("{:08x}", crc32c::crc32c(text));
    (digits == expected.as_bytes()).then(|| std::str::from_utf8(text).ok())?
}

fn refused(what: &str, path: &Path, cause: io::Error) -> Error {
    Error::new(Code::IO, format!("cannot {what} {}", path.display())).with_source(cause)
}

fn stopped(path: &Path, cause: io::Error) -> Error {
    Error::new(Code::POISONED, format!("{} takes nothing more after a failed write", path.display()))
        .with_source(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("ensue-lines-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&dir).expect("a temporary folder");
            Self(dir)
        }

        fn file(&self) -> PathBuf {
            self.0.join(FILE_NAME)
        }

        fn lines(&self) -> Result<Vec<String>, Error> {
            let mut lines = Vec::new();
            Lines::open(&self.0, |line| {
                lines.push(line.to_owned());
                Ok(())
            })?;
            Ok(lines)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).ok();
        }
    }

    #[test]
    fn callers_that_wait_together_share_one_sync() {
        let folder = Folder::new("share");
        let mut file = make(&folder.0, &folder.file()).expect("a new file");
        let (queue, waiting) = mpsc::channel();
        let mut answers: Vec<_> = (0..100)
            .map(|number| {
                let (safe, answer) = oneshot::channel();
                queue.send(Waiting { line: framed(&format!("line {number}")), safe }).expect("it listens");
                answer
            })
            .collect();
        drop(queue);
        assert_eq!(write_waiting(&mut file, &waiting).expect("a writable folder"), 1);
        assert!(answers.iter_mut().all(|answer| answer.try_recv().is_ok()), "everybody is told");
        drop(file);
        assert_eq!(folder.lines().expect("whole").len(), 100);
    }

    #[test]
    fn a_write_cut_short_at_any_byte_loses_only_its_own_line() {
        let folder = Folder::new("torn");
        let whole: Vec<u8> = ["first", "second"].iter().flat_map(|text| framed(text)).collect();
        for length in framed("first").len()..whole.len() {
            let (kept, _) = whole.split_at(length);
            std::fs::write(folder.file(), kept).expect("a writable folder");
            assert_eq!(folder.lines().expect("a torn end is no damage"), ["first"], "{length} bytes");
            assert_eq!(std::fs::read(folder.file()).expect("it is there"), framed("first"), "{length} bytes");
        }
    }

    #[test]
    fn zeros_that_were_never_replaced_end_the_file() {
        let folder = Folder::new("zeros");
        let kept = framed("first");
        for lost in [vec![0; 64], [vec![0; 64], framed("never acknowledged")].concat()] {
            std::fs::write(folder.file(), [kept.clone(), lost].concat()).expect("a writable folder");
            assert_eq!(folder.lines().expect("a torn end is no damage"), ["first"]);
            assert_eq!(std::fs::read(folder.file()).expect("it is there"), kept);
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_in_a_complete_line_is_an_error_that_says_where() {
        let folder = Folder::new("rot");
        let whole: Vec<u8> = ["first", "second"].iter().flat_map(|text| framed(text)).collect();
        let last_line_feed = whole.len() - 1;
        for position in 0..last_line_feed {
            let mut damaged = whole.clone();
            *damaged.get_mut(position).expect("inside") ^= 0x10;
            std::fs::write(folder.file(), &damaged).expect("a writable folder");
            let error = folder.lines().expect_err("damage");
            assert_eq!(error.code(), Code::CORRUPT, "byte {position}: {error}");
            assert!(error.to_string().contains("the line at byte "), "{error}");
            assert_eq!(
                std::fs::read(folder.file()).expect("it is there"),
                damaged,
                "damage is never cut off"
            );
        }
    }

    #[test]
    fn a_file_has_one_owner_at_a_time() {
        let folder = Folder::new("owner");
        let first = Lines::open(&folder.0, |_| Ok(())).expect("a new file");
        assert_eq!(folder.lines().expect_err("held").code(), Code::IN_USE);
        drop(first);
        assert_eq!(folder.lines().expect("free again"), Vec::<String>::new());
    }

    #[tokio::test]
    async fn after_a_failed_write_nothing_more_is_acknowledged() {
        let folder = Folder::new("full");
        std::fs::write(folder.file(), b"").expect("a writable folder");
        let mut read_only = File::open(folder.file()).expect("it is there");
        let (queue, waiting) = mpsc::channel();
        let failure = Arc::new(OnceLock::new());
        let (safe, answer) = oneshot::channel();
        queue.send(Waiting { line: framed("lost"), safe }).expect("it listens");
        let cause = write_waiting(&mut read_only, &waiting).expect_err("a file that cannot be written");
        failure.get_or_init(|| stopped(&folder.file(), cause));
        drop(waiting);
        let lines =
            Lines { path: folder.file(), queue: Some(queue), thread: None, failure: Arc::clone(&failure) };
        let first = Written { safe: answer, failure }.wait().await.expect_err("not written");
        let second = lines.append("later").wait().await.expect_err("stopped");
        assert_eq!((first.code(), second.code()), (Code::POISONED, Code::POISONED));
    }
}
