//! Who holds the write lock: SQLite does not say, but Linux does.
//!
//! The lock of a database in WAL mode is a lock of the operating system on one byte of the file `-shm` beside it, as the
//! page <https://sqlite.org/walformat.html#locks> has it.

use std::path::Path;

/// The byte of the file that whoever writes has locked.
#[cfg(target_os = "linux")]
const WRITE_LOCK: u64 = 120;

/// What holds the write lock of this database, as words for a message; `None` if nobody does, or nobody can tell.
#[cfg(target_os = "linux")]
pub(crate) fn of(database: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;

    let mut shared = database.as_os_str().to_owned();
    shared.push("-shm");
    let inode = std::fs::metadata(shared).ok()?.ino();
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let process = locks.lines().find_map(|line| writer(line, inode))?;
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
    use super::*;

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
