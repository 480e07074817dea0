//! What a command names: one event by its position or id, with what belongs to it, or a handler.

use ensue::core::{Code, Error, EventId, Position, Read, Recorded, Store, StoreExt};
use ensue::runtime::Catalogue;
use futures_util::TryStreamExt;

/// The event at a position or, if the text is none or nothing stands there, the newest one with this id. `E0414` if there
/// is neither.
pub(crate) async fn event(store: &dyn Store, reference: &str) -> Result<Recorded, Error> {
    if let Ok(position) = reference.parse::<u64>().map(Position) {
        let read = Read::all().after(position.previous()).until(position).limit(1);
        if let Some(found) = store.collect(read).await?.pop().filter(|found| found.position == position) {
            return Ok(found);
        }
    }
    let id = EventId::new(reference)?;
    if let Some(found) = of_flow(store, &id).await?.into_iter().find(|recorded| recorded.envelope.id == id) {
        return Ok(found);
    }
    if let Ok(position) = reference.parse::<u64>().map(Position)
        && store.dropped(position.previous(), position).await? > 0
    {
        let message = format!("the event at position {position} was dropped: it was past its time");
        return Err(Error::new(Code::NOT_FOUND, message)
            .with_fix("`ensue store retention` says for how long each topic is kept"));
    }
    // Events have no index by id: the flow of the event is not known, so the log is searched from its end.
    let mut events = store.read(Read::all().backward());
    while let Some(recorded) = events.try_next().await? {
        if recorded.envelope.id == id {
            return Ok(recorded);
        }
    }
    Err(Error::new(Code::NOT_FOUND, format!("there is no event `{id}`"))
        .with_fix("`ensue tail -e` lists the events of the store; give an id or a position"))
}

/// `E0414` unless an application on this store has declared a handler of this name; `what` says what it was taken for.
///
/// For lists of something of a handler: none is an answer, for a handler that there is.
pub(crate) async fn handler(store: &dyn Store, name: &str, what: &str) -> Result<(), Error> {
    let catalogues = Catalogue::load(store).await?;
    if catalogues.iter().any(|catalogue| catalogue.handler(name).is_some()) {
        return Ok(());
    }
    Err(Error::new(Code::NOT_FOUND, format!("there is no {what}"))
        .with_fix("`ensue subscription ls` lists every handler, projection and saga that runs here"))
}

/// All events of a flow, oldest first.
pub(crate) async fn of_flow(store: &dyn Store, flow: &EventId) -> Result<Vec<Recorded>, Error> {
    store.collect(Read::flow(flow.clone())).await
}
