//! Where the store is: opened if it is there, made only by a command that brings something to put into it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use ensue::core::{Code, Error, Host, Portable, Position, Store};
use ensue::log::{Config, Log};
use ensue_postgres::PostgresStore;
use ensue_sqlite::SqliteStore;

use crate::words::count;

/// What `--store` names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Address {
    /// `file:DIR`: the embedded log in a folder.
    Folder(PathBuf),
    /// `postgres://…`: a PostgreSQL database.
    Postgres(String),
    /// `sqlite:FILE`: a database file, beside the tables of an application.
    Sqlite(PathBuf),
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let address = match text.split_once(':') {
            Some(("file", folder)) => path(folder).map(Self::Folder),
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => {
                Some(Self::Postgres(text.to_owned()))
            }
            Some(("sqlite", file)) => path(file).map(Self::Sqlite),
            _ => None,
        };
        // The text is not repeated: with a slip in it, nobody can tell where its password is.
        address.ok_or_else(|| {
            Error::new(Code::USAGE, "what was given is no address of a store").with_fix(
                "a store is named by `file:DIR`, `postgres://USER@HOST/DATABASE` or `sqlite:FILE`, without parameters",
            )
        })
    }
}

/// What follows the scheme, as a path. Two slashes may stand before it, as other programs have it: `//shop.db` is in the current
/// folder, `///srv/shop.db` is not.
fn path(rest: &str) -> Option<PathBuf> {
    let url = rest.strip_prefix("//");
    // As a part of the name they would make a file that nobody looks for.
    let has_parameters = url.is_some_and(|path| path.contains('?'));
    let path = url.unwrap_or(rest);
    (!path.is_empty() && !has_parameters).then(|| path.into())
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "file:{}", folder.display()),
            Self::Postgres(url) => f.write_str(&without_password(url)),
            Self::Sqlite(file) => write!(f, "sqlite:{}", file.display()),
        }
    }
}

/// The address as it may be shown: what stands between the user and the host is left out, and so are parameters. A password may hold
/// any sign, `?` and `@` too, so the host begins behind the last `@`.
fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let first = |text: &str, ends: &[char]| text.split(ends).next().unwrap_or_default().to_owned();
    match rest.rsplit_once('@') {
        None => format!("{scheme}://{}", first(rest, &['?'])),
        // An `@` among the parameters: what is behind it may be the rest of a password.
        Some((before, _)) if before.contains("password=") => format!("{scheme}://…"),
        Some((before, host)) => {
            format!("{scheme}://{}@{}", first(before, &[':', '?', '/']), first(host, &['?', '&']))
        }
    }
}

impl Address {
    /// The address by which a store is known from everywhere: without links and roundabout ways, as far as the path is there.
    pub(crate) fn resolved(&self) -> Self {
        let whole = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
        match self {
            Self::Folder(folder) => Self::Folder(whole(folder)),
            Self::Postgres(url) => Self::Postgres(url.clone()),
            Self::Sqlite(file) => Self::Sqlite(whole(file)),
        }
    }

    /// Opens the store; `E0406` if there is none.
    pub(crate) async fn open(&self, host: &Host, talk: Talk) -> Result<Arc<dyn Portable>, Error> {
        match self {
            Self::Folder(folder) => Ok(Arc::new(open_log(folder, host)?)),
            Self::Postgres(url) => Ok(Arc::new(open_database(url, talk).await?)),
            Self::Sqlite(file) => Ok(Arc::new(open_file(file, host).await?)),
        }
    }

    /// `E0416` where events were dropped: a copy has every position.
    pub(crate) async fn check_whole(&self, talk: Talk) -> Result<(), Error> {
        let Self::Postgres(url) = self else { return Ok(()) };
        let dropped = open_database(url, talk).await?.dropped(Position::ZERO, Position::MAX).await?;
        if dropped == 0 {
            return Ok(());
        }
        let message =
            format!("{self} has dropped {}, and a copy has every position", count(dropped, "event"));
        Err(Error::new(Code::NO_COPY, message).with_fix(
            "such a log stays in its database: move that with the tools of the database, such as `pg_dump`",
        ))
    }

    /// Opens the store, or makes one where there is nothing; `E0406` if there is something else.
    pub(crate) async fn open_or_make(&self, host: &Host, talk: Talk) -> Result<Arc<dyn Portable>, Error> {
        match self {
            Self::Folder(folder) => Ok(Arc::new(Log::open(folder, Config::new(host.clone()))?)),
            Self::Postgres(url) => Ok(Arc::new(database(url, talk)?.open().await?)),
            Self::Sqlite(file) => Ok(Arc::new(sqlite(file, host).open().await?)),
        }
    }
}

fn sqlite(file: &Path, host: &Host) -> ensue_sqlite::Config {
    ensue_sqlite::Config::new(file).clock(Arc::clone(&host.clock))
}

/// Where sentences go that are no data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Talk {
    /// To standard error.
    Aloud,
    /// Nowhere.
    Quiet,
}

/// How a database is opened: that it is away for a while, and back, is said.
fn database(url: &str, talk: Talk) -> Result<ensue_postgres::Config, Error> {
    let config = ensue_postgres::Config::new(url)?;
    Ok(match talk {
        Talk::Aloud => config.on_outage(|outage| eprintln!("{outage}")),
        Talk::Quiet => config,
    })
}

async fn open_database(url: &str, talk: Talk) -> Result<PostgresStore, Error> {
    let config = || database(url, talk);
    match config()?.without_migration().open().await {
        // As with a folder: a standby can be looked at.
        Err(error) if error.code() == Code::DATABASE_READ_ONLY => config()?.to_read().open().await,
        opened => opened,
    }
}

async fn open_file(file: &Path, host: &Host) -> Result<SqliteStore, Error> {
    match sqlite(file, host).existing().open().await {
        // As with a folder.
        Err(error) if error.code() == Code::DATABASE_READ_ONLY => sqlite(file, host).to_read().open().await,
        opened => opened,
    }
}

fn open_log(folder: &Path, host: &Host) -> Result<Log, Error> {
    if !folder.exists() {
        return Err(Error::new(Code::NOT_A_STORE, format!("there is no folder {}", folder.display())));
    }
    let config = || Config::new(host.clone());
    match Log::open_existing(folder, config()) {
        // What only looks can look there all the same; what changes something is refused when it tries.
        Err(error) if error.code() == Code::READ_ONLY => Log::open_to_read(folder, config()),
        opened => opened,
    }
}

/// The store of a command, whether it exists or not.
pub(crate) struct Place {
    address: Address,
    folder: PathBuf,
    host: Host,
    talk: Talk,
}

impl Place {
    /// The store at the address, or else in the folder.
    pub(crate) fn new(address: Option<Address>, folder: PathBuf, host: Host, talk: Talk) -> Self {
        let (address, folder) = match address {
            None => (Address::Folder(folder.clone()), folder),
            Some(Address::Folder(folder)) => (Address::Folder(folder.clone()), folder),
            Some(address) => (address, folder),
        };
        Self { address, folder, host, talk }
    }

    /// Whether to say what is no data.
    pub(crate) fn talk(&self) -> Talk {
        self.talk
    }

    /// Where the store is.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// The folder that belongs to the command: that of the store where it is one, and else that of `--data`.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Opens the store; `E0406` if there is none.
    pub(crate) async fn open(&self) -> Result<Arc<dyn Store>, Error> {
        Ok(self.address.open(&self.host, self.talk).await?)
    }

    /// Opens the store if there is one.
    pub(crate) async fn open_if_there(&self) -> Result<Option<Arc<dyn Store>>, Error> {
        match self.open().await {
            Ok(store) => Ok(Some(store)),
            Err(error) if error.code() == Code::NOT_A_STORE => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the store, or makes one where there is nothing; `E0406` if there is something else.
    pub(crate) async fn open_or_make(&self) -> Result<Arc<dyn Store>, Error> {
        Ok(self.address.open_or_make(&self.host, self.talk).await?)
    }

    /// The address of the store, where it is no embedded log.
    pub(crate) fn database(&self) -> Option<&Address> {
        Some(&self.address).filter(|address| !matches!(address, Address::Folder(_)))
    }

    /// Opens the PostgreSQL database, for what only it can do; `E0506`, with what helps instead, if the store is another.
    pub(crate) async fn open_postgres(&self, what: &str, fix: &'static str) -> Result<PostgresStore, Error> {
        match &self.address {
            Address::Postgres(url) => open_database(url, self.talk).await,
            address => {
                let message = format!("only PostgreSQL {what}, and {address} is none");
                Err(Error::new(Code::UNSUPPORTED, message).with_fix(fix))
            }
        }
    }

    /// Opens the store in its own kind, for what each kind tells of itself; `E0406` if there is none.
    pub(crate) async fn open_kind(&self) -> Result<Kind, Error> {
        Ok(match &self.address {
            Address::Folder(folder) => Kind::Log(open_log(folder, &self.host)?),
            Address::Postgres(url) => Kind::Postgres(open_database(url, self.talk).await?),
            Address::Sqlite(file) => Kind::Sqlite(open_file(file, &self.host).await?),
        })
    }
}

/// A store in its own kind.
pub(crate) enum Kind {
    Log(Log),
    Postgres(PostgresStore),
    Sqlite(SqliteStore),
}

impl Kind {
    pub(crate) fn portable(&self) -> &dyn Portable {
        match self {
            Self::Log(log) => log,
            Self::Postgres(database) => database,
            Self::Sqlite(file) => file,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_password() {
        let shown = |text: &str| text.parse::<Address>().expect("an address").to_string();
        assert_eq!(shown("postgres://app:p@ss:w@db/shop?sslmode=require"), "postgres://app@db/shop");
        assert_eq!(shown("postgres://db:5433/shop?password=p"), "postgres://db:5433/shop");
        assert_eq!(shown("postgres://app:p?s@db/shop?sslmode=require"), "postgres://app@db/shop");
        assert_eq!(shown("postgres://app:p/s?t@u@db/shop"), "postgres://app@db/shop");
        assert_eq!(shown("postgres://db/shop?password=p@s"), "postgres://…");
        assert_eq!(shown("postgres://app@db/shop"), "postgres://app@db/shop");
        assert_eq!(shown("file:./data"), "file:./data");
    }
}
