//! Whether the server can be reached, told once when it changes.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ensue_core::{Code, Error};
use tokio::time::Instant;

/// What operators should know of the server; as text, one line.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Outage {
    /// No connection can be made. Calls wait as long as patience lasts and go on trying.
    Began(Error),
    /// Connections can be made again, after so long.
    Ended(Duration),
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Began(error) => write!(f, "{error}; it is tried again until it can"),
            Self::Ended(after) => {
                write!(f, "the database is reached again, after {:.1} s", after.as_secs_f64())
            }
        }
    }
}

/// Whoever wants to be told.
pub(crate) type Tell = Arc<dyn Fn(&Outage) + Send + Sync>;

/// What was told last.
pub(crate) struct Watch {
    tell: Option<Tell>,
    since: Mutex<Option<Instant>>,
}

impl Watch {
    pub(crate) fn new(tell: Option<Tell>) -> Self {
        Self { tell, since: Mutex::default() }
    }

    /// A connection could not be made. Only what passes by itself is an outage.
    pub(crate) fn failed(&self, error: &Error) {
        if error.code() != Code::DATABASE_UNREACHABLE {
            return;
        }
        let is_news = {
            let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
            let is_news = since.is_none();
            since.get_or_insert_with(Instant::now);
            is_news
        };
        if is_news {
            self.say(&Outage::Began(error.clone()));
        }
    }

    /// A connection was made.
    pub(crate) fn connected(&self) {
        let since = self.since.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(since) = since {
            self.say(&Outage::Ended(since.elapsed()));
        }
    }

    fn say(&self, outage: &Outage) {
        if let Some(tell) = &self.tell {
            tell(outage);
        }
    }
}
