//! An append-only file of checksummed lines that several processes share.
//!
//! A line is eight hex digits of CRC32C, a blank, the text, a line feed. Whoever holds the file reads what others have
//! written since, puts their own lines behind it, and syncs before letting go. The file grows in steps of zeros that the
//! lines then replace, because a sync of bytes that are there already need not write the file's size. An incomplete last
//! line, or one in which zeros were never replaced, is of a process that was killed: it is cut off by the next one that
//! holds the file, because nobody was told that it is safe; any other damage is an error.
//!
//! Invariants: one process holds the file at a time, and lets go of it when it ends, however it ends. What one has read
//! stays as it is.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ensue::{Code, Error};

const FILE_NAME: &str = "ledger.lines";
const CHECKSUM_DIGITS: usize = 8;
/// So many zeros are put in front of the lines at a time.
const GROWTH_BYTES: usize = 1 << 20;

/// The file, and how far it was read.
pub(super) struct Lines {
    file: File,
    path: PathBuf,
    /// Where the last line ends that was read or written here.
    end: u64,
}

/// The file while it is ours.
pub(super) struct Held<'a>(&'a mut Lines);

/// What stands behind the last complete line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// Nothing, or zeros.
    Free,
    /// A line that was never finished.
    Torn,
}

impl Lines {
    /// Opens or makes the file in `dir` and hands every line in it to `line`.
    pub(super) fn open(dir: &Path, line: impl FnMut(&str) -> Result<(), Error>) -> Result<Self, Error> {
        let path = dir.join(FILE_NAME);
        let file = make(dir, &path).map_err(|cause| refused("open", &path, cause))?;
        let mut lines = Self { file, path, end: 0 };
        let mut held = lines.hold()?;
        held.read_on(line)?;
        held.cut_what_was_lost()?;
        drop(held);
        Ok(lines)
    }

    /// Waits until no other process holds the file.
    pub(super) fn hold(&mut self) -> Result<Held<'_>, Error> {
        self.file.lock().map_err(|cause| refused("lock", &self.path, cause))?;
        Ok(Held(self))
    }

    fn refused(&self, what: &str, cause: io::Error) -> Error {
        refused(what, &self.path, cause)
    }
}

impl Held<'_> {
    /// Hands on every line that was written by others since the last time.
    pub(super) fn read_on(&mut self, line: impl FnMut(&str) -> Result<(), Error>) -> Result<(), Error> {
        let Lines { file, path, end } = &mut *self.0;
        if read(file, path, end, line)? == Tail::Torn {
            self.cut()?;
        }
        Ok(())
    }

    /// Reads the file again from its start.
    pub(super) fn read_again(&self, line: impl FnMut(&str) -> Result<(), Error>) -> Result<(), Error> {
        read(&self.0.file, &self.0.path, &mut 0, line).map(drop)
    }

    /// Puts these lines behind all others and waits until they are safe. After a failure nothing more may be written here:
    /// nobody knows what of them is in the file.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), Error> {
        let Lines { file, end, path } = &mut *self.0;
        write(file, *end, lines).map_err(|cause| stopped(path, cause))?;
        *end += bytes(lines.len());
        Ok(())
    }

    /// A machine that stopped may have kept later pages of a write and lost earlier ones.
    fn cut_what_was_lost(&mut self) -> Result<(), Error> {
        let mut tail = Vec::new();
        let mut file = &self.0.file;
        let read = file.seek(SeekFrom::Start(self.0.end)).and_then(|_| file.read_to_end(&mut tail));
        read.map_err(|cause| self.0.refused("read", cause))?;
        if tail.iter().any(|byte| *byte != 0) { self.cut() } else { Ok(()) }
    }

    /// Cuts off what stands behind the last complete line.
    fn cut(&mut self) -> Result<(), Error> {
        let cut = self.0.file.set_len(self.0.end).and_then(|()| self.0.file.sync_data());
        cut.map_err(|cause| self.0.refused("cut the end of", cause))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // Fails only for a file that is not locked; and whoever ends lets go in any case.
        self.0.file.unlock().ok();
    }
}

impl Drop for Lines {
    /// Nothing depends on it, but the file of a closed ledger is plain text.
    fn drop(&mut self) {
        if let Ok(mut held) = self.hold()
            && held.read_on(|_| Ok(())).is_ok()
        {
            held.0.file.set_len(held.0.end).ok();
        }
    }
}

/// One line as it stands in the file.
pub(super) fn framed(text: &str) -> String {
    assert!(!text.contains('\n'), "a line is one line");
    format!("{:08x} {text}\n", crc32c::crc32c(text.as_bytes()))
}

fn unframed(line: &[u8]) -> Option<&str> {
    let (digits, text) = line.split_at_checked(CHECKSUM_DIGITS)?;
    let text = text.strip_prefix(b" ")?;
    let expected = format!("{:08x}", crc32c::crc32c(text));
    (digits == expected.as_bytes()).then(|| std::str::from_utf8(text).ok())?
}

/// Hands on every complete line from `end` on, which moves with them.
fn read(
    mut file: &File,
    path: &Path,
    end: &mut u64,
    mut line: impl FnMut(&str) -> Result<(), Error>,
) -> Result<Tail, Error> {
    let failed = |cause| refused("read", path, cause);
    file.seek(SeekFrom::Start(*end)).map_err(failed)?;
    let mut reader = BufReader::new(file);
    let mut buffer = Vec::new();
    // Lines are text, so a zero is one that was never replaced.
    while reader.fill_buf().map_err(failed)?.first().is_some_and(|byte| *byte != 0) {
        buffer.clear();
        let length = reader.read_until(b'\n', &mut buffer).map_err(failed)?;
        let Some(complete) = buffer.strip_suffix(b"\n").filter(|line| !line.contains(&0)) else {
            return Ok(Tail::Torn);
        };
        let damaged = || {
            Error::new(Code::CORRUPT, format!("the line at byte {end} of {} is damaged", path.display()))
                .with_fix("restore the file from a backup; it is never cut in the middle")
        };
        line(unframed(complete).ok_or_else(damaged)?)?;
        *end += bytes(length);
    }
    Ok(Tail::Free)
}

/// Replaces zeros behind `end`, and puts more of them there where they do not suffice.
fn write(file: &File, end: u64, lines: &[u8]) -> io::Result<()> {
    if file.metadata()?.len() < end + bytes(lines.len()) {
        file.write_all_at(&vec![0; lines.len() + GROWTH_BYTES], end)?;
    }
    file.write_all_at(lines, end)?;
    file.sync_data()
}

fn bytes(length: usize) -> u64 {
    u64::try_from(length).expect("what is in memory can be counted")
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

        fn open(&self) -> Result<(Lines, Vec<String>), Error> {
            let mut seen = Vec::new();
            let lines = Lines::open(&self.0, collect(&mut seen))?;
            Ok((lines, seen))
        }

        fn lines(&self) -> Result<Vec<String>, Error> {
            self.open().map(|(_, seen)| seen)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).ok();
        }
    }

    fn collect(seen: &mut Vec<String>) -> impl FnMut(&str) -> Result<(), Error> {
        |line| {
            seen.push(line.to_owned());
            Ok(())
        }
    }

    fn write_one(lines: &mut Lines, text: &str) -> Vec<String> {
        let mut seen = Vec::new();
        let mut held = lines.hold().expect("free");
        held.read_on(collect(&mut seen)).expect("whole");
        held.append(framed(text).as_bytes()).expect("writable");
        seen
    }

    #[test]
    fn who_shares_a_file_reads_what_the_others_wrote_before_writing() {
        let folder = Folder::new("share");
        let (mut one, _) = folder.open().expect("a new file");
        let (mut other, _) = folder.open().expect("it is shared");
        assert_eq!(write_one(&mut one, "1"), Vec::<String>::new());
        assert_eq!(write_one(&mut other, "2"), ["1"]);
        assert_eq!(write_one(&mut other, "3"), Vec::<String>::new());
        assert_eq!(write_one(&mut one, "4"), ["2", "3"]);
        // One that closes takes the zeros away that the other would have replaced.
        drop(one);
        assert_eq!(write_one(&mut other, "5"), ["4"]);
        drop(other);
        assert_eq!(folder.lines().expect("whole"), ["1", "2", "3", "4", "5"]);
    }

    #[test]
    fn a_file_that_is_held_is_waited_for() {
        let folder = Folder::new("held");
        let (mut one, _) = folder.open().expect("a new file");
        let (other, _) = folder.open().expect("it is shared");
        let held = one.hold().expect("free");
        assert!(other.file.try_lock().is_err(), "one at a time");
        drop(held);
        other.file.try_lock().expect("free again");
    }

    #[test]
    fn the_torn_line_of_a_killed_process_is_mended_by_those_that_live() {
        let folder = Folder::new("mended");
        let (mut living, _) = folder.open().expect("a new file");
        write_one(&mut living, "first");
        let torn = framed("a long line that was cut short when its writer was killed");
        for length in [1, 8, 30, torn.len() - 1] {
            let (torn, _) = torn.as_bytes().split_at(length);
            living.file.write_all_at(torn, living.end).expect("the zeros are there");
            assert_eq!(write_one(&mut living, "short"), Vec::<String>::new(), "{length} bytes");
        }
        drop(living);
        let (_, seen) = folder.open().expect("nothing of the torn line is left");
        assert_eq!(seen, ["first", "short", "short", "short", "short"]);
    }

    #[test]
    fn a_write_cut_short_at_any_byte_loses_only_its_own_line() {
        let folder = Folder::new("torn");
        let whole = framed("first") + &framed("second");
        for length in framed("first").len()..whole.len() {
            let (kept, _) = whole.as_bytes().split_at(length);
            std::fs::write(folder.file(), kept).expect("a writable folder");
            assert_eq!(folder.lines().expect("a torn end is no damage"), ["first"], "{length} bytes");
            let left = std::fs::read_to_string(folder.file()).expect("it is there");
            assert_eq!(left, framed("first"), "{length} bytes");
        }
    }

    #[test]
    fn zeros_that_were_never_replaced_end_the_file() {
        let folder = Folder::new("zeros");
        let kept = framed("first").into_bytes();
        for lost in [vec![0; 64], [vec![0; 64], framed("never acknowledged").into_bytes()].concat()] {
            std::fs::write(folder.file(), [kept.clone(), lost].concat()).expect("a writable folder");
            let (lines, seen) = folder.open().expect("a torn end is no damage");
            assert_eq!(seen, ["first"]);
            let tail = std::fs::read(folder.file()).expect("it is there").split_off(kept.len());
            assert!(tail.iter().all(|byte| *byte == 0), "nothing is left that a later line could join");
            drop(lines);
            assert_eq!(std::fs::read(folder.file()).expect("it is there"), kept);
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_in_a_complete_line_is_an_error_that_says_where() {
        let folder = Folder::new("rot");
        let whole = (framed("first") + &framed("second")).into_bytes();
        let last_line_feed = whole.len() - 1;
        for position in 0..last_line_feed {
            let mut damaged = whole.clone();
            *damaged.get_mut(position).expect("inside") ^= 0x10;
            std::fs::write(folder.file(), &damaged).expect("a writable folder");
            let error = folder.lines().expect_err("damage");
            assert_eq!(error.code(), Code::CORRUPT, "byte {position}: {error}");
            assert!(error.to_string().contains("the line at byte "), "{error}");
            let left = std::fs::read(folder.file()).expect("it is there");
            assert_eq!(left, damaged, "damage is never cut off");
        }
    }

    #[test]
    fn a_write_that_fails_says_that_nothing_more_is_taken() {
        let folder = Folder::new("full");
        std::fs::write(folder.file(), b"").expect("a writable folder");
        let file = File::open(folder.file()).expect("it is there");
        let mut lines = Lines { file, path: folder.file(), end: 0 };
        let error = lines.hold().expect("free").append(framed("lost").as_bytes()).expect_err("read only");
        assert_eq!(error.code(), Code::POISONED);
    }
}
