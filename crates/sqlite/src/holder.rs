//! Who holds the write lock: SQLite does not say, but Linux does.
//!
//! The lock of a database in WAL mode is a lock of the operating system on one byte of the file `-shm` beside it, as the
//! page <https://sqlite.org/walformat.html#locks> has it.

use std::path::Path;

/// The byte of the file that whoever writes has locked.
#[cfg(target_os = "linux")]
const WRITE_LOCK: u64 = 120;

/// How often to look before nobody is found. `/proc/locks` is one picture for as long as it fits in one reading, a page of
/// some seventy locks; where it takes more and others lock and unlock meanwhile, one look in twenty passes over a lock.
#[cfg(target_os = "linux")]
const LOOKS: u32 = 10;

/// Room for more than any one reading of `/proc/locks` gives.
#[cfg(target_os = "linux")]
const READ_BYTES: usize = 64 << 10;

/// What holds the write lock of this database, as words for a message; `None` if nobody does, or nobody can tell.
#[cfg(target_os = "linux")]
pub(crate) fn of(database: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;

    let mut shared = database.as_os_str().to_owned();
    shared.push("-shm");
    let inode = std::fs::metadata(shared).ok()?.ino();
    let process = (0..LOOKS).find_map(|_| locks().ok()?.lines().find_map(|line| writer(line, inode)))?;
    if process == std::process::id() {
        return Some("another connection of this process".to_owned());
    }
    let name = std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    Some(format!("process {process} ({})", name.trim()))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn of(_database: &Path) -> Option<String> {
    None
}

/// The lines of `/proc/locks`, in as few readings as it can be had: without room it would begin with a few bytes.
#[cfg(target_os = "linux")]
fn locks() -> std::io::Result<String> {
    use std::io::Read;

    let mut lines = String::with_capacity(READ_BYTES);
    std::fs::File::open("/proc/locks")?.read_to_string(&mut lines)?;
    Ok(lines)
}

/// The process that has locked the byte, if this line of `/proc/locks` says so:
/// `1: POSIX  ADVISORY  WRITE 4711 fe:01:131097 120 120`.
#[cfg(target_os = "linux")]
fn writer(line: &str, inode: u64) -> Option<u32> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, _, _, "WRITE", process, place, first, last] = fields.as_slice() else { return None };
    let of_file: u64 = place.rsplit(':').next()?.parse().ok()?;
    let first: u64 = first.parse().ok()?;
    let last: u64 = last.parse().unwrap_or(u64::MAX);
    let is_it = of_file == inode && (first..=last).contains(&WRITE_LOCK);
    is_it.then(|| process.parse().ok()).flatten()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs::File;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use rusqlite::{Connection, TransactionBehavior};

    use super::*;

    #[test]
    fn whoever_holds_it_is_found_while_others_lock_and_unlock() {
        let folder = tempfile::tempdir().expect("there is room");
        let database = folder.path().join("shop.db");
        let mut connection = Connection::open(&database).expect("it opens");
        connection.pragma_update(None, "journal_mode", "wal").expect("it is set");
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).expect("it begins");
        let lock_files = |thread: usize| -> Vec<File> {
            let path = |number: usize| folder.path().join(format!("{thread}-{number}"));
            (0..50).map(|number| File::create(path(number)).expect("there is room")).collect()
        };
        let is_done = AtomicBool::new(false);
        let found = thread::scope(|scope| {
            for thread in 0..4 {
                let files = lock_files(thread);
                let is_done = &is_done;
                scope.spawn(move || {
                    while !is_done.load(Ordering::Relaxed) {
                        files.iter().for_each(|file| file.lock().expect("it is free"));
                        files.iter().for_each(|file| file.unlock().expect("it was locked"));
                    }
                });
            }
            let found = (0..500).filter(|_| of(&database).is_some()).count();
            is_done.store(true, Ordering::Relaxed);
            found
        });
        assert_eq!(found, 500);
        drop(transaction);
        assert_eq!(of(&database), None, "nobody holds it");
    }

    #[test]
    fn the_line_of_the_writer_is_known() {
        let line = "1: POSIX  ADVISORY  WRITE 4711 fe:01:131097 120 120";
        assert_eq!(writer(line, 131_097), Some(4711));
        assert_eq!(writer(line, 131_098), None, "another file");
        assert_eq!(writer("1: POSIX  ADVISORY  READ  4711 fe:01:131097 120 120", 131_097), None);
        assert_eq!(writer("1: POSIX  ADVISORY  WRITE 4711 fe:01:131097 123 127", 131_097), None);
        assert_eq!(
            writer("1: -> POSIX  ADVISORY  WRITE 4711 fe:01:131097 120 120", 131_097),
            None,
            "it waits"
        );
        assert_eq!(writer("1: POSIX  ADVISORY  WRITE 4711 fe:01:131097 0 EOF", 131_097), Some(4711));
    }
}
