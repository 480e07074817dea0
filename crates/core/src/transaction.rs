//! A transaction of the database a store lives in, shared with the application.

use std::any::Any;

use futures_util::future::BoxFuture;

use crate::commit::{Commit, CommitError, Committed};

/// An open transaction of the store's own database. What the application changes in it and one [`Commit`] are taken
/// together, or not at all. Dropping it takes back what was done in it.
///
/// It is begun by [`Store::begin`](crate::Store::begin). It holds a connection: begin it late and end it soon.
pub trait Transaction: Send {
    /// What the application works with: the adapter's own type, cheap to clone. It must not be used after the commit.
    fn session(&self) -> Box<dyn Any + Send + Sync>;

    /// Takes the commit and everything done in the session, or nothing of both. As [`Store::commit`](crate::Store::commit)
    /// in all else, but it cannot be repeated: where the outcome is unknown, look whether the commit is there.
    fn commit(self: Box<Self>, commit: Commit) -> BoxFuture<'static, Result<Committed, CommitError>>;
}
