//! One opaque error for the whole project: a code with a page, a kind to branch on, a sentence, and what to do.
//!
//! `Display` is the sentence alone; the chain of sources is printed once, at the top of a program.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

mod codes;
mod page;
pub use codes::Code;
pub use page::page;

/// What sort of failure it is; callers branch on this.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// Somebody else was faster: a stale version, a failed condition, an id used for another body.
    Conflict,
    /// There is no such thing.
    NotFound,
    /// The backend cannot do it, and says so instead of pretending.
    Unsupported,
    /// Not now: not connected, in use, closing.
    Unavailable,
    /// The input breaks a rule.
    Invalid,
    /// Not allowed.
    Denied,
    /// Stored bytes are not what was written.
    Corrupt,
    /// The writer stopped after a failed write and takes nothing more.
    Poisoned,
    /// It took too long; the outcome may be unknown.
    Timeout,
    /// No room, or a bound was reached.
    Full,
    /// The user's own code failed.
    Failed,
}

impl Kind {
    /// Whether the same call may succeed later without a change by the caller.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Unavailable | Self::Timeout)
    }
}

/// The error of every fallible call. One pointer wide, cheap to clone.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    code: Code,
    message: String,
    fix: Option<String>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error with a sentence of its own. The sentence says what and where, not how to mend it.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner { code, message: message.into(), fix: None, source: None }))
    }

    /// Adds what to do, where this place knows better than the page of the code.
    #[must_use]
    pub fn with_fix(self, fix: impl Into<String>) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.0);
        inner.fix = Some(fix.into());
        Self(Arc::new(inner))
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.0);
        inner.source = Some(Arc::from(source.into()));
        Self(Arc::new(inner))
    }

    /// What went wrong, as a stable number with a page: `ensue explain E0201`.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> Kind {
        self.0.code.kind()
    }

    /// The sentence, without the code.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What to do about it.
    pub fn fix(&self) -> &str {
        self.0.fix.as_deref().unwrap_or(self.0.code.fix())
    }

    /// Whether the same call may succeed later without a change by the caller.
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        let mut cause = self.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_pointer_wide() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }

    #[test]
    fn display_does_not_repeat_the_source() {
        let error = Error::new(Code::IO, "cannot write the journal")
            .with_source(std::io::Error::other("disk on fire"));
        assert_eq!(error.to_string(), "E0407: cannot write the journal");
        assert_eq!(format!("{error:?}"), "E0407: cannot write the journal: disk on fire");
    }
}
