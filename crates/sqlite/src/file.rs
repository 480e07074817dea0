//! The file: how connections to it are made, and whether it is still the one that was opened.

use std::path::Path;

use ensue_core::{Code, Error};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::attributes::signed;
use crate::config::{Absent, Access, Config};
use crate::error;

/// Statements that a connection keeps prepared.
const STATEMENTS_MAX: usize = 64;
/// What is left of the write-ahead log after it was copied into the file, so that one busy hour does not keep its room.
const LEFT_BYTES_MAX: i64 = 64 << 20;

/// A database file.
#[derive(Clone)]
pub(crate) struct File {
    config: Config,
    identity: Identity,
}

/// What tells one file from another of the same name: device and number. Where the system keeps an open file from being
/// replaced, there is nothing to tell apart. It is asked for by name: opening the file and closing it again would take the
/// locks that SQLite holds on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Identity(u64, u64);

impl Identity {
    #[cfg(unix)]
    fn of(path: &Path) -> std::io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(path).map(|metadata| Self(metadata.dev(), metadata.ino()))
    }

    #[cfg(not(unix))]
    fn of(path: &Path) -> std::io::Result<Self> {
        std::fs::metadata(path).map(|_| Self(0, 0))
    }
}

impl File {
    /// The file and a first connection to it.
    pub(crate) fn open(config: &Config) -> Result<(Self, Connection), Error> {
        let path = &config.path;
        if config.absent == Absent::Refuse && !path.exists() {
            return Err(Error::new(Code::NOT_A_STORE, format!("there is no file {}", path.display()))
                .with_fix(error::FIX_NO_STORE));
        }
        let connection = connect(config, OpenFlags::SQLITE_OPEN_CREATE)?;
        // Opening looks at nothing yet; this is where a file that is no database shows.
        connection
            .query_row("SELECT count(*) FROM sqlite_schema", (), |_| Ok(()))
            .map_err(|cause| refused(path, cause))?;
        let identity = Identity::of(path).map_err(|cause| {
            let message = format!("{} is no file that could be shared: {cause}", path.display());
            Error::new(Code::UNSUPPORTED, message).with_source(cause)
        })?;
        Ok((Self { config: config.clone(), identity }, connection))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.config.path
    }

    /// One more connection to the same file.
    pub(crate) fn connect(&self) -> Result<Connection, Error> {
        let connection = connect(&self.config, OpenFlags::empty());
        self.check_unmoved()?;
        connection
    }

    /// Fails if the name stands for another file by now, or for none: what is written would be lost with the old one.
    pub(crate) fn check_unmoved(&self) -> Result<(), Error> {
        let reason = match Identity::of(self.path()) {
            Ok(identity) if identity == self.identity => return Ok(()),
            Ok(_) => "is another file than the one that was opened".to_owned(),
            Err(cause) => format!("is gone: {cause}"),
        };
        Err(Error::new(Code::DATABASE_MOVED, format!("{} {reason}", self.path().display())))
    }
}

fn connect(config: &Config, create: OpenFlags) -> Result<Connection, Error> {
    let path = &config.path;
    if config.access == Access::Read {
        return connect_to_read(config).map_err(|cause| refused(path, cause));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | create;
    let connection = Connection::open_with_flags(path, flags).map_err(|cause| refused(path, cause))?;
    // Asked first: in a folder that cannot be written nothing else can be asked.
    if connection.is_readonly("main").map_err(|cause| refused(path, cause))? {
        return Err(Error::new(Code::DATABASE_READ_ONLY, format!("{} cannot be written", path.display())));
    }
    set_up(&connection, config).map_err(|cause| refused(path, cause))?;
    Ok(connection)
}

fn connect_to_read(config: &Config) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = |connection: Connection| {
        set_up(&connection, config)?;
        connection.query_row("SELECT count(*) FROM sqlite_schema", (), |_| Ok(()))?;
        Ok(connection)
    };
    let path = &config.path;
    match Connection::open_with_flags(path, flags).and_then(open) {
        // A reader of a write-ahead log wants to make files beside it. Where there is nothing in that log and they cannot be made, the
        // file is all there is, and stays so: whoever could write it would have made them.
        Err(cause) if is_beside(&cause) && !has_log(path) => {
            Connection::open_with_flags(immutable(path), flags | OpenFlags::SQLITE_OPEN_URI).and_then(open)
        }
        opened => opened,
    }
}

/// Whether a file beside the database could not be made.
fn is_beside(cause: &rusqlite::Error) -> bool {
    matches!(cause.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
}

/// Whether there is a write-ahead log with something in it.
fn has_log(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    std::fs::metadata(log).is_ok_and(|log| log.len() > 0)
}

/// The file as SQLite is told that nobody changes it. <https://www.sqlite.org/uri.html>
fn immutable(path: &Path) -> String {
    let path = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    format!("file:{path}?immutable=1")
}

/// What is not a property of the file.
fn set_up(connection: &Connection, config: &Config) -> rusqlite::Result<()> {
    connection.busy_timeout(config.patience)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_size_limit", LEFT_BYTES_MAX)?;
    if let Some(bytes) = config.file_bytes_max {
        let page_bytes: i64 = connection.query_row("PRAGMA page_size", (), |row| row.get(0))?;
        // Zero would ask for the bound instead of setting it.
        connection.pragma_update(None, "max_page_count", (signed(bytes) / page_bytes.max(1)).max(1))?;
    }
    Ok(())
}

fn refused(path: &Path, cause: rusqlite::Error) -> Error {
    error::of(&format!("cannot open {}", path.display()), cause)
}
