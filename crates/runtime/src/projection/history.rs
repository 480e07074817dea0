//! A read model as it was: the document of one key at a moment, and which event changed what in it.
//!
//! A document is a fold of events, so it is had by folding them again: what is stored is not asked.

use ensue_core::{Error, EventSet, EventType, Position, Query, Read, Recorded, Store};
use futures_util::TryStreamExt;

use super::Projection;
use crate::blame::{Blame, Blamed, encoded};
use crate::context::Meta;
use crate::moment::Moment;

/// The document of a key as it was at a moment; `None` if there was none. Reads every event that feeds the read model, up
/// to the moment.
pub async fn document_at<P: Projection>(
    projection: &P,
    store: &dyn Store,
    key: &str,
    moment: Moment,
) -> Result<Option<P::Document>, Error> {
    let mut document = None;
    let until = moment.position(store).await?;
    follow(projection, store, key, until, |now, _| {
        document.clone_from(now);
        Ok(())
    })
    .await?;
    Ok(document)
}

/// Every field that the document of a key ever had, with the event that changed it last up to a moment.
pub async fn blame<P: Projection>(
    projection: &P,
    store: &dyn Store,
    key: &str,
    moment: Moment,
) -> Result<Vec<Blamed>, Error> {
    let mut blame = Blame::default();
    let until = moment.position(store).await?;
    follow(projection, store, key, until, |document, event| {
        blame.observe(document.as_ref().map(encoded).as_deref(), event)
    })
    .await?;
    Ok(blame.into_fields())
}

/// Folds the document of one key and shows it after each event that may have changed it.
async fn follow<P: Projection>(
    projection: &P,
    store: &dyn Store,
    key: &str,
    until: Position,
    mut show: impl FnMut(&Option<P::Document>, &Recorded) -> Result<(), Error>,
) -> Result<(), Error> {
    let types = P::Event::types().into_iter().map(|info| EventType::new(info.event_type));
    let types = types.collect::<Result<Vec<_>, _>>()?;
    let mut events = store.read(Read::query(Query::types(types)).until(until));
    let mut document = None;
    while let Some(recorded) = events.try_next().await? {
        let event: P::Event = recorded.decode()?;
        if projection.key(&event).as_deref() == Some(key) {
            projection.apply(&mut document, &event, &Meta::from(&recorded));
            show(&document, &recorded)?;
        }
    }
    Ok(())
}
