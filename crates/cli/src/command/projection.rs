//! `ensue projection ls|verify|audit|rebuild|state|diff|blame`: read models, how they stand, compared with the log, built anew
//! from it, and as they were.
//!
//! A read model is code, so this binary knows those of the applications it carries: the shop's and the bank's.

use std::sync::Arc;

use clap::Subcommand;
use ensue::core::Store;
use ensue::runtime::projection::ReadModel;
use ensue_bank::Accounts;
use ensue_shop::OrdersView;
use ensue_shop::analytics::Sales;

use crate::command::Session;
use crate::failure::Failure;
use crate::known;

mod audit;
mod ls;
mod past;
mod rebuild;
mod verify;

/// Read models: how they stand, compared with the log, built anew, or as they were
#[derive(Subcommand)]
pub(crate) enum Projection {
    /// How every read model stands
    Ls(ls::Ls),
    /// Replay the log and compare row by row; exit code 4 if they differ
    Verify(verify::Verify),
    /// Compare what was counted with what is there, without a replay; exit code 4 if they differ
    Audit(audit::Audit),
    /// Build the read model anew from the log, compare, and put it in the place of the old one
    Rebuild(rebuild::Rebuild),
    /// A document as it was
    State(past::State),
    /// What changed in a document between two moments
    Diff(past::Diff),
    /// Which event last changed a field of a document
    Blame(past::Blame),
}

impl Projection {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        match self {
            Self::Ls(ls) => ls.run(session).await,
            Self::Verify(verify) => verify.run(session).await,
            Self::Audit(audit) => audit.run(session).await,
            Self::Rebuild(rebuild) => rebuild.run(session).await,
            Self::State(state) => state.run(session).await,
            Self::Diff(diff) => diff.run(session).await,
            Self::Blame(blame) => blame.run(session).await,
        }
    }
}

/// The read models that this binary knows, on this store.
fn known(session: &Session, store: &Arc<dyn Store>) -> [ReadModel; 3] {
    let (store, host) = (|| Arc::clone(store), || session.host.clone());
    [
        ReadModel::new(OrdersView, store(), host()),
        ReadModel::new(Sales, store(), host()),
        ReadModel::new(Accounts, store(), host()),
    ]
}

/// One of them; `E0414` if this binary does not know it.
fn named(session: &Session, store: &Arc<dyn Store>, name: &str) -> Result<ReadModel, Failure> {
    let known = known(session, store).into_iter().find(|model| model.name() == name);
    known.ok_or_else(|| known::unknown(name).into())
}
