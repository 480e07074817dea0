//! Moving a store: everything it holds, into another kind of store.

use futures_util::future::BoxFuture;

use crate::envelope::Recorded;
use crate::error::Error;
use crate::name::{Position, Space};
use crate::store::Store;

/// A store that can be copied exactly, or become an exact copy.
pub trait Portable: Store {
    /// The spaces that hold records, or have held some; in order.
    fn spaces(&self) -> BoxFuture<'_, Result<Vec<Space>, Error>>;

    /// Takes over events as another store has recorded them: positions, versions and times stay. They follow the head
    /// without a gap; `E0202` where they do not, and then none of them is taken. Nobody else may write meanwhile.
    ///
    /// Gives the new head, durably. A call that fails or is dropped may have taken the first of the events: read the head,
    /// and go on behind it.
    fn import(&self, events: Vec<Recorded>) -> BoxFuture<'_, Result<Position, Error>>;
}
