//! Windows that dead letters have outlived. The id of the letter itself is held; what came in beside it is not remembered.

use std::fmt;
use std::time::Duration;

use ensue_core::{Error, Store, Timestamp};
use smol_str::SmolStr;

use crate::catalogue::{Catalogue, span};

/// An application whose oldest dead letter is older than the ids that its door remembers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outlived {
    /// The application.
    pub application: String,
    /// How long its door remembers ids.
    pub window: Duration,
    /// The handler of its oldest letter.
    pub handler: SmolStr,
    /// How old that is.
    pub age: Duration,
}

/// Every application of the store whose window is shorter than the age of its oldest dead letter.
pub async fn outlived(store: &dyn Store, now: Timestamp) -> Result<Vec<Outlived>, Error> {
    let letters = super::list(store).await?;
    let catalogues = Catalogue::load(store).await?;
    let outlived = |catalogue: Catalogue| {
        let own = letters.iter().filter(|letter| catalogue.handler(&letter.handler).is_some());
        let oldest = own.min_by_key(|letter| letter.parked.parked_at)?;
        let age = Duration::try_from(now.duration_since(oldest.parked.parked_at)).unwrap_or_default();
        let (window, handler) = (catalogue.window(), oldest.handler.clone());
        (age > window).then_some(Outlived { application: catalogue.application, window, handler, age })
    };
    Ok(catalogues.into_iter().filter_map(outlived).collect())
}

impl fmt::Display for Outlived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { application, window, handler, age } = self;
        let (window, age) = (span(*window), span(*age));
        write!(
            f,
            "{application} remembers ids for {window}, but {handler} has a dead letter of {age}: what was sent along with it \
             and is repeated now comes in anew; make `App::window` longer, or redrive and discard sooner"
        )
    }
}
