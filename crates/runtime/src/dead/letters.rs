//! What an operator does with dead letters, of a running application or of a store that nobody runs on.

use std::sync::Arc;

use ensue_core::{Code, Commit, CommitError, Error, EventId, Host, Position, RecordWrite, Store};
use serde::Serialize;
use smol_str::SmolStr;

use super::redrive::Asker;
use super::which::chosen;
use super::{DeadLetter, Discarded, Group, Planned, Redrive, Which};
use crate::app::Running;
use crate::spaces::DEAD;

/// Keys that one commit asks for, so that a commit stays small however much is parked.
const KEYS_PER_COMMIT: usize = 500;

/// The dead letters of a store.
pub struct DeadLetters<'a> {
    store: Arc<dyn Store>,
    host: Host,
    by: SmolStr,
    /// What is told of requests. Without it they wait in the store until their handlers run.
    running: Option<&'a Running>,
}

/// A redrive that was asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Requested {
    /// The request, by which [`DeadLetters::redrives`] knows it.
    pub request: EventId,
    /// For how many keys.
    pub keys: usize,
    /// How many letters they hold.
    pub letters: usize,
}

impl DeadLetters<'static> {
    /// The dead letters of a store that no application runs on here. `by` is who asks, for the record.
    pub fn new(store: Arc<dyn Store>, host: Host, by: &str) -> Self {
        Self { store, host, by: by.into(), running: None }
    }
}

impl<'a> DeadLetters<'a> {
    pub(crate) fn of(running: &'a Running, host: Host, by: &str) -> Self {
        Self { store: Arc::clone(running.store()), host, by: by.into(), running: Some(running) }
    }

    /// Who asks, for the record; the application where nobody else is named.
    #[must_use]
    pub fn by(self, name: &str) -> Self {
        Self { by: name.into(), ..self }
    }

    /// Every dead letter, by handler, key and position.
    pub async fn list(&self) -> Result<Vec<DeadLetter>, Error> {
        super::list(&*self.store).await
    }

    /// The groups of dead letters, the largest first.
    pub async fn groups(&self) -> Result<Vec<Group>, Error> {
        super::groups(&*self.store).await
    }

    /// What was given up.
    pub async fn discarded(&self) -> Result<Vec<Discarded>, Error> {
        super::discarded(&*self.store).await
    }

    /// How redrives go on, and how they ended.
    pub async fn redrives(&self) -> Result<Vec<Redrive>, Error> {
        super::redrives(&*self.store).await
    }

    /// What a redrive would try, key by key and letter by letter. Changes nothing.
    pub async fn plan(&self, which: &Which) -> Result<Vec<Planned>, Error> {
        super::plan(&*self.store, which).await
    }

    /// Asks that these keys be tried again, each in order. A letter that fails again stays at its place, and what is
    /// behind it waits. A handler that does not run does it as soon as it does. `E0414` if nothing is parked there.
    ///
    /// Cancellation leaves some keys asked for and others not; asking again does no harm.
    pub async fn redrive(&self, which: &Which) -> Result<Requested, Error> {
        let planned = self.plan(which).await?;
        let asker = Asker::new(&self.host, self.by.clone());
        for keys in planned.chunks(KEYS_PER_COMMIT) {
            let ask = |key: &Planned| asker.ask(&key.handler, &key.key, key.letters.len());
            self.commit(keys.iter().map(ask).collect()).await?;
        }
        for key in &planned {
            self.tell(&key.handler, &key.key).await;
        }
        let letters = planned.iter().map(|key| key.letters.len()).sum();
        Ok(Requested { request: asker.request().clone(), keys: planned.len(), letters })
    }

    /// Gives letters up: all of a key, of a handler, every one; of a group, the letters that failed, not those that wait
    /// behind them. They are kept aside with the reason. What remains is tried again, so that nothing waits behind a
    /// letter that is gone. Returns how many were given up; `E0414` if none is there.
    pub async fn discard(&self, which: &Which, reason: &str) -> Result<usize, Error> {
        let mut keys = chosen(&*self.store, which).await?;
        if matches!(which, Which::Group(_)) {
            keys.iter_mut().for_each(|letters| letters.truncate(1));
        }
        self.give_up(keys, reason).await
    }

    /// Gives up the letter of one event, as [`DeadLetters::discard`] does.
    pub async fn discard_one(
        &self,
        handler: &str,
        key: &str,
        position: Position,
        reason: &str,
    ) -> Result<usize, Error> {
        let mut keys = chosen(&*self.store, &Which::key(handler, key)).await?;
        keys.iter_mut().for_each(|letters| letters.retain(|letter| letter.parked.position == position));
        if keys.iter().all(Vec::is_empty) {
            let message = format!("{handler} has nothing parked under {key} at position {position}");
            return Err(Error::new(Code::NOT_FOUND, message).with_fix("`ensue dead ls` lists the positions"));
        }
        self.give_up(keys, reason).await
    }

    async fn give_up(&self, keys: Vec<Vec<DeadLetter>>, reason: &str) -> Result<usize, Error> {
        let asker = Asker::new(&self.host, self.by.clone());
        let mut given_up = 0;
        for letters in keys {
            let Some(first) = letters.first() else { continue };
            let (handler, key) = (first.handler.clone(), first.parked.key.clone());
            // A crash between two of these leaves what remains parked, as if it had not been asked for yet.
            for some in letters.chunks(KEYS_PER_COMMIT) {
                let mut records = vec![asker.ask(&handler, &key, 0)];
                for letter in some {
                    records.push(
                        RecordWrite::delete(DEAD.clone(), letter.parked.place(&handler))
                            .expect(letter.revision),
                    );
                    let aside = Discarded::new(letter.clone(), asker.by().clone(), asker.at(), reason);
                    records.push(aside.write());
                }
                self.commit(records).await?;
                given_up += some.len();
            }
            self.tell(&handler, &key).await;
        }
        Ok(given_up)
    }

    async fn commit(&self, records: Vec<RecordWrite>) -> Result<(), Error> {
        match self.store.commit(Commit { records, ..Commit::default() }).await {
            Ok(_) => Ok(()),
            Err(CommitError::RecordConflict { .. }) => Err(Error::new(
                Code::STALE_RECORD,
                "the letter was tried, edited or given up by somebody else at this moment",
            )
            .with_fix("look again with `ensue dead ls`, and decide again")),
            Err(error) => Err(error.into()),
        }
    }

    async fn tell(&self, handler: &str, key: &str) {
        if let Some(running) = self.running {
            running.ask_redrive(handler, key).await;
        }
    }
}
