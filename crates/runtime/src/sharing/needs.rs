//! Who still needs events of the log, and from where on. For whoever drops old ones.

use std::collections::BTreeMap;

use ensue_core::{Error, Position, Store};
use serde::Serialize;
use smol_str::SmolStr;

use super::lanes;
use crate::{dead, projection};

/// Events beyond a position that a subscription has not done with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Need {
    /// Whose.
    pub subscription: SmolStr,
    /// It needs events beyond this position.
    pub after: Position,
    /// What for.
    pub reason: Reason,
}

/// What events are needed for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// A lane has not come to them yet.
    Lane,
    /// They are dead letters, or deferred, and may be tried again.
    Letters,
    /// A read model is being built from them.
    Build,
}

/// For each subscription that has ever run on the store what it needs, the oldest first. One that never runs again needs its events for ever.
///
/// A read model that will be built anew, and a subscription that does not exist yet, begin with what the log still has: they are not in here.
/// One that is being built needs all of it. In another database than that of the log it is not seen; it finds out by itself.
pub async fn needs(store: &dyn Store) -> Result<Vec<Need>, Error> {
    let mut needs = BTreeMap::<SmolStr, (Position, Reason)>::new();
    let lanes = lanes(store).await?.into_iter().map(|lane| (lane.subscription, lane.position, Reason::Lane));
    let letters = dead::letters(store).await?.into_iter();
    let letters = letters.map(|letter| (letter.handler, letter.parked.position.previous(), Reason::Letters));
    let builds = projection::under_construction(store).await?.into_iter();
    let builds = builds.map(|subscription| (subscription.into(), Position::ZERO, Reason::Build));
    for (subscription, after, reason) in lanes.chain(letters).chain(builds) {
        let need = needs.entry(subscription).or_insert((after, reason));
        if after < need.0 {
            *need = (after, reason);
        }
    }
    let need = |(subscription, (after, reason))| Need { subscription, after, reason };
    let mut needs: Vec<Need> = needs.into_iter().map(need).collect();
    needs.sort_by_key(|need| need.after);
    Ok(needs)
}
