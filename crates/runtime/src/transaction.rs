//! `Tx`: a handler's own tables change in the commit that settles the delivery.

use std::any::type_name;

use ensue_core::{Code, Commit, CommitError, Committed, Error, Failure, Store, Transaction};

use crate::context::{Context, FromContext};
use crate::lane::STORE_PAUSE;

/// The transaction in which this delivery is settled: what the handler changes through it, the events it causes and its
/// checkpoint are taken together, or not at all. `T` is the session of the store's adapter.
///
/// The transaction is begun before the handler is called and ends after it has returned: keep it short, and do not keep
/// the session. An attempt that fails leaves nothing. Deliveries of such a handler are settled one by one. A store without
/// transactions is refused at the start.
pub struct Tx<T>(pub T);

impl<T: Clone + Send + Sync + 'static> FromContext for Tx<T> {
    const JOINS: bool = true;

    fn from_context(context: &Context) -> Result<Self, Error> {
        let session = context.session.as_ref().and_then(|session| session.downcast_ref::<T>());
        session.cloned().map(Tx).ok_or_else(|| {
            let message = format!("there is no transaction of type {} here", type_name::<T>());
            Error::new(Code::UNSUPPORTED, message).with_fix(
                "reactions and command handlers can take `Tx`, with the session of the store they run on",
            )
        })
    }
}

/// Begins the transaction of a delivery and gives its session to the handler. That the store is away for a moment is no
/// failure of the handler.
pub(crate) async fn begin(store: &dyn Store, context: &mut Context) -> Result<Box<dyn Transaction>, Failure> {
    let transaction = store.begin().await.map_err(|error| {
        if error.is_retryable() { Failure::Later(STORE_PAUSE) } else { Failure::Failed(error) }
    })?;
    context.session = Some(transaction.session());
    Ok(transaction)
}

/// Commits in the transaction in which the handler has worked, or else by itself.
pub(crate) async fn commit(
    store: &dyn Store,
    transaction: Option<Box<dyn Transaction>>,
    commit: Commit,
) -> Result<Committed, CommitError> {
    match transaction {
        Some(transaction) => transaction.commit(commit).await,
        None => store.commit(commit).await,
    }
}

/// Refuses handlers that ask for a transaction of a store that has none.
pub(crate) fn check(store: &dyn Store, joining: &[String]) -> Result<(), Error> {
    let capabilities = store.capabilities();
    match joining.first() {
        Some(handler) if !capabilities.can_transact => {
            let message =
                format!("{handler} takes `Tx`, but the {} has no transactions to join", capabilities.name);
            Err(Error::new(Code::UNSUPPORTED, message)
                .with_fix("run on a store in the database of the handler's tables, or make the handler idempotent with `Cause`"))
        }
        _ => Ok(()),
    }
}
