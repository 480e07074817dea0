//! How far a subscription is when other processes have some of its lanes: read from the store, which knows.

use ensue_core::{Error, Position, Query, Read};
use futures_util::TryStreamExt;

use super::{Checkpoints, Subscription};
use crate::spaces;

impl Subscription {
    /// Resolves when everything up to this position is settled, in whatever process; an error if a lane has stopped.
    pub(crate) async fn until_settled(&self, position: Position) -> Result<(), Error> {
        loop {
            if let Some(error) = self.standing.halted() {
                return Err(error);
            }
            let is_settled_here = self.standing.has_all() && self.standing.floor() >= position;
            if is_settled_here {
                return Ok(());
            }
            match self.look_elsewhere(position).await {
                Ok(false) => {}
                Ok(true) => return Ok(()),
                Err(error) if error.is_retryable() => {}
                Err(error) => return Err(error),
            }
            self.shared.press.host.clock.sleep(self.shared.sharing.look).await;
        }
    }

    /// Like [`Self::until_settled`], and where the store is not shared without looking at it again and again.
    pub(crate) async fn reached(&self, position: Position) -> Result<(), Error> {
        if self.shared.is_shared() {
            return self.until_settled(position).await;
        }
        let standing = &self.standing;
        self.shared.board.until(|_| standing.is_halted() || standing.floor() >= position).await;
        standing.halted().map_or(Ok(()), Err)
    }

    async fn look_elsewhere(&self, position: Position) -> Result<bool, Error> {
        if self.is_settled(position).await? {
            return Ok(true);
        }
        self.halted_elsewhere().await?.map_or(Ok(false), Err)
    }

    /// Whether the checkpoints in the store are past every event of this subscription up to `position`.
    pub(crate) async fn is_settled(&self, position: Position) -> Result<bool, Error> {
        let store = &*self.shared.store;
        let checkpoints = Checkpoints::load(store, &self.name).await?;
        if !checkpoints.has_run() {
            return Ok(false);
        }
        let (settled, lanes) = (checkpoints.settled(), checkpoints.lane_count());
        self.handler.refresh().await?;
        let types = self.handler.types();
        let least = checkpoints.floor();
        if least >= position || types.is_empty() {
            return Ok(true);
        }
        let mut events = store.read(Read::query(Query::types(types)).after(least).until(position));
        while let Some(recorded) = events.try_next().await? {
            let lane = spaces::spread(self.handler.key(&recorded), lanes);
            if settled.get(usize::from(lane)).is_none_or(|settled| *settled < recorded.position) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Why a lane has stopped, in whatever process.
    async fn halted_elsewhere(&self) -> Result<Option<Error>, Error> {
        let halted = crate::dead::halted(&*self.shared.store).await?;
        let ours = halted.into_iter().find(|halted| halted.handler == self.name);
        Ok(ours.map(|halted| {
            let code = halted.code.parse().unwrap_or(ensue_core::Code::HANDLER_FAILED);
            Error::new(
                code,
                format!("lane {} of {} has stopped: {}", halted.lane, halted.handler, halted.reason),
            )
        }))
    }
}
