//! What an operator does with dead letters, of a running application or of a store that nobody runs on.

use std::sync::Arc;

use ensue_core::{Code, Commit, CommitError, Error, EventId, Host, Position, RecordWrite, Store, Timestamp};
use serde::Serialize;
use smol_str::SmolStr;

use super::redrive::Asker;
use super::which::chosen;
use super::{DeadLetter, Discarded, Group, Planned, Redrive, Which, paced};
use crate::app::Running;
use crate::catalogue::Catalogue;
use crate::door::{self, Registry};
use crate::spaces::DEAD;

/// Keys that one commit asks for, so that a commit stays small however much is parked.
pub(super) const KEYS_PER_COMMIT: usize = 500;

/// The dead letters of a store.
pub struct DeadLetters<'a> {
    pub(super) store: Arc<dyn Store>,
    pub(super) host: Host,
    pub(super) by: SmolStr,
    /// What is told of requests. Without it they wait in the store until their handlers run.
    pub(super) running: Option<&'a Running>,
    /// The types by which edited bodies are checked.
    registry: Registry,
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
        Self { store, host, by: by.into(), running: None, registry: Registry::default() }
    }
}

impl<'a> DeadLetters<'a> {
    pub(crate) fn of(running: &'a Running, host: Host, by: &str) -> Self {
        let store = Arc::clone(running.store());
        Self { store, host, by: by.into(), running: Some(running), registry: Registry::default() }
    }

    /// Who asks, for the record; the application where nobody else is named.
    #[must_use]
    pub fn by(self, name: &str) -> Self {
        Self { by: name.into(), ..self }
    }

    /// The types by which edited bodies are checked; a running application knows those of its reactions.
    #[must_use]
    pub fn registry(self, registry: Registry) -> Self {
        Self { registry, ..self }
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
            let mut records = Vec::with_capacity(keys.len());
            for key in keys {
                records.push(asker.ask(&key.handler, &key.key, key.letters.len()));
                if let Some(first) = key.letters.first() {
                    records.extend(paced::take_back(&*self.store, &key.handler, *first).await?);
                }
            }
            self.write(records).await?;
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
        let letter = self.letter(handler, key, position).await?;
        self.give_up(vec![vec![letter]], reason).await
    }

    /// Gives a letter another body. The copy is an event of its own that names the original (`editedfrom`) and who edited
    /// it why; it keeps the original's place in the order of its key and its idempotency key, and only this handler sees
    /// it. It is tried when the key is redriven.
    ///
    /// Errors: `E0414` if there is no such letter, `E0102`, `E0105` and `E0106` for a body that cannot stand in its place,
    /// `E0203` if somebody else was at the letter at the same moment.
    pub async fn edit(
        &self,
        handler: &str,
        key: &str,
        position: Position,
        data: &[u8],
        reason: &str,
    ) -> Result<EventId, Error> {
        let letter = self.letter(handler, key, position).await?;
        let original = super::edit::original(&*self.store, handler, &letter.parked).await?;
        let asker = Asker::new(&self.host, self.by.clone());
        let (append, parked) = super::edit::edited(&letter, &original, data, &asker, reason, &self.registry)?;
        let record = parked.write(handler).expect(letter.revision);
        self.commit(Commit { appends: vec![append], records: vec![record], ..Commit::default() }).await?;
        Ok(asker.request().clone())
    }

    /// One letter; `E0414` if it is not there.
    pub async fn letter(&self, handler: &str, key: &str, position: Position) -> Result<DeadLetter, Error> {
        let letters = chosen(&*self.store, &Which::key(handler, key)).await?;
        let found = letters.into_iter().flatten().find(|letter| letter.parked.position == position);
        found.ok_or_else(|| {
            let message = format!("{handler} has nothing parked under {key} at position {position}");
            Error::new(Code::NOT_FOUND, message).with_fix("`ensue dead ls` lists the positions")
        })
    }

    async fn give_up(&self, keys: Vec<Vec<DeadLetter>>, reason: &str) -> Result<usize, Error> {
        if reason.trim().is_empty() {
            return Err(Error::new(Code::USAGE, "giving a dead letter up needs a reason")
                .with_fix("say why, for whoever asks later: `--reason TEXT`"));
        }
        let asker = Asker::new(&self.host, self.by.clone());
        let catalogues = Catalogue::load(&*self.store).await?;
        let mut given_up = 0;
        for letters in keys {
            let Some(first) = letters.first() else { continue };
            let (handler, key) = (first.handler.clone(), first.parked.key.clone());
            let owner = catalogues.iter().find(|catalogue| catalogue.handler(&handler).is_some());
            let lapses_at = door::lapse(asker.at(), owner.map_or(door::WINDOW, Catalogue::window));
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
                    records.extend(self.let_go(letter, lapses_at).await?);
                    records.extend(paced::take_back(&*self.store, &handler, letter.parked.position).await?);
                }
                self.write(records).await?;
                given_up += some.len();
            }
            self.tell(&handler, &key).await;
        }
        Ok(given_up)
    }

    /// The write that lets the door forget the id of a letter when the window is over.
    async fn let_go(&self, letter: &DeadLetter, lapses_at: Timestamp) -> Result<Option<RecordWrite>, Error> {
        let Some(source) = &letter.parked.source else { return Ok(None) };
        door::let_go(&*self.store, source, &letter.parked.event_id, &letter.handler, lapses_at).await
    }

    pub(super) async fn write(&self, records: Vec<RecordWrite>) -> Result<(), Error> {
        self.commit(Commit { records, ..Commit::default() }).await
    }

    async fn commit(&self, commit: Commit) -> Result<(), Error> {
        match self.store.commit(commit).await {
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
