//! What this binary knows by its Rust types: events, so that a body is checked before it goes into the log, and read models, so
//! that they can be folded anew.

use ensue::Projection;
use ensue::core::{Code, Error};
use ensue::runtime::door::Registry;
use ensue_bank::Accounts;
use ensue_shop::OrdersView;
use ensue_shop::analytics::Sales;

/// Every known event type. The types of other programs are found in the catalogues that they leave in the store.
pub(crate) fn registry() -> Registry {
    ensue_shop::registry().and(ensue_bank::registry())
}

/// Something to do with a read model, whatever its type.
pub(crate) trait WithProjection {
    type Output;

    async fn work<P: Projection>(self, projection: P) -> Result<Self::Output, Error>;
}

/// Does it with the read model of this name. `E0414` for one that is not known here.
pub(crate) async fn projection<W: WithProjection>(name: &str, with: W) -> Result<W::Output, Error> {
    match name {
        OrdersView::NAME => with.work(OrdersView).await,
        Sales::NAME => with.work(Sales).await,
        Accounts::NAME => with.work(Accounts).await,
        _ => Err(unknown(name)),
    }
}

/// `E0414` for a read model that this binary does not know.
pub(crate) fn unknown(name: &str) -> Error {
    Error::new(Code::NOT_FOUND, format!("this binary knows no read model `{name}`")).with_fix(format!(
        "it knows {}, {} and {}; `ensue projection ls` lists those of this store, and the program that mounts another one can \
         look into it",
        OrdersView::NAME,
        Sales::NAME,
        Accounts::NAME,
    ))
}
