//! Which dead letters an operator means, and what trying them would do.

use ensue_core::{Code, Error, Position, Store};
use serde::Serialize;
use smol_str::SmolStr;

use super::{DeadLetter, GroupId};

/// Which dead letters are meant. Always whole keys: a key is tried in order or not at all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Which {
    /// Those of one key of one handler.
    Key {
        /// The handler.
        handler: SmolStr,
        /// The key.
        key: SmolStr,
    },
    /// The keys that wait for a letter of this group.
    Group(GroupId),
    /// Those of one handler.
    Handler(SmolStr),
    /// Every one.
    All,
}

/// One key with its letters, in the order in which they are tried.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Planned {
    /// The handler that tries them.
    pub handler: SmolStr,
    /// The key.
    pub key: SmolStr,
    /// The group of the first letter.
    pub group: GroupId,
    /// The positions of the events, oldest first.
    pub letters: Vec<Position>,
}

impl Which {
    /// One key.
    pub fn key(handler: &str, key: &str) -> Self {
        Self::Key { handler: handler.into(), key: key.into() }
    }

    /// A key that is deferred is meant only where it is named: it is not dead.
    fn takes(&self, front: &DeadLetter) -> bool {
        match self {
            Self::Group(_) | Self::Handler(_) | Self::All if front.parked.until.is_some() => false,
            Self::Key { handler, key } => front.handler == *handler && front.parked.key == *key,
            Self::Group(group) => GroupId::of_letter(front) == *group,
            Self::Handler(handler) => front.handler == *handler,
            Self::All => true,
        }
    }

    fn nothing(&self) -> Error {
        let what = match self {
            Self::Key { handler, key } => format!("{handler} has nothing parked under {key}"),
            Self::Group(group) => format!("no dead letter is of group {group}"),
            Self::Handler(handler) => format!("{handler} has nothing parked"),
            Self::All => "nothing is parked".to_owned(),
        };
        Error::new(Code::NOT_FOUND, what).with_fix("`ensue dead ls` lists handlers and keys")
    }
}

/// The letters that are meant, one list for each key, oldest first. `E0414` if there is none.
pub(super) async fn chosen(store: &dyn Store, which: &Which) -> Result<Vec<Vec<DeadLetter>>, Error> {
    let letters = super::letters(store).await?;
    let keys = letters.chunk_by(|a, b| (&a.handler, &a.parked.key) == (&b.handler, &b.parked.key));
    let meant = keys.filter(|letters| letters.first().is_some_and(|front| which.takes(front)));
    let chosen: Vec<Vec<DeadLetter>> = meant.map(<[DeadLetter]>::to_vec).collect();
    if chosen.is_empty() { Err(which.nothing()) } else { Ok(chosen) }
}

/// What a redrive would try, key by key and letter by letter; changes nothing. `E0414` if there is nothing to try.
pub async fn plan(store: &dyn Store, which: &Which) -> Result<Vec<Planned>, Error> {
    let planned = |letters: Vec<DeadLetter>| {
        let front = letters.first()?;
        Some(Planned {
            handler: front.handler.clone(),
            key: front.parked.key.clone(),
            group: GroupId::of_letter(front),
            letters: letters.iter().map(|letter| letter.parked.position).collect(),
        })
    };
    Ok(chosen(store, which).await?.into_iter().filter_map(planned).collect())
}
