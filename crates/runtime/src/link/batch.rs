//! Taking in: events of a batch with what remembers their ids, in as few commits as the store allows, each event once.
//!
//! It is taken for granted that nothing has come before, and looked up where the store says otherwise: what is new costs no
//! reading.

use std::collections::HashSet;

use ensue_core::{
    Append, Code, Commit, CommitError, Envelope, Error, EventId, Expected, Kind, Source, StreamName,
};

use crate::door::{Door, Fingerprint};
use crate::lane::STORE_PAUSE;
use crate::message::appends;
use crate::subscription::Shared;

/// An event to take in.
pub(super) struct Entry {
    /// Which of the deliveries it is.
    pub(super) index: usize,
    pub(super) stream: StreamName,
    pub(super) envelope: Envelope,
    fingerprint: Fingerprint,
    /// The id that it will have if it is delivered again.
    again: Option<EventId>,
}

impl Entry {
    pub(super) fn new(index: usize, stream: StreamName, envelope: Envelope) -> Self {
        let fingerprint = Fingerprint::of_event(&stream, &envelope);
        Self { index, stream, envelope, fingerprint, again: None }
    }

    pub(super) fn known_again_as(self, again: Option<EventId>) -> Self {
        Self { again, ..self }
    }

    /// What is remembered of it.
    fn ids(&self) -> impl Iterator<Item = (&Source, &EventId)> {
        [Some(&self.envelope.id), self.again.as_ref()]
            .into_iter()
            .flatten()
            .map(|id| (&self.envelope.source, id))
    }
}

/// What became of a batch.
#[derive(Default)]
pub(super) struct Admission {
    /// Which are new in the log.
    pub(super) taken: Vec<usize>,
    /// How many had come before.
    pub(super) duplicates: u64,
    /// Which can never be taken, and why.
    pub(super) refused: Vec<(usize, Error)>,
}

/// Takes entries in, in order.
pub(super) struct Taking<'a> {
    pub(super) shared: &'a Shared,
    pub(super) door: &'a Door,
}

impl Taking<'_> {
    /// An error means that the store takes nothing at the moment, or that the application closes: what is not acknowledged
    /// comes again.
    pub(super) async fn take(&self, entries: &[&Entry]) -> Result<Admission, Error> {
        let mut admission = Admission::default();
        let mut rest = entries;
        while !rest.is_empty() {
            let (run, later) = rest.split_at(self.run_length(rest));
            self.take_run(run, &mut admission).await?;
            rest = later;
        }
        Ok(admission)
    }

    /// How many may share a commit: no id twice, and not more than the store takes at once.
    fn run_length(&self, entries: &[&Entry]) -> usize {
        let bytes_max = self.shared.store.capabilities().commit_bytes_max / 2;
        let (mut seen, mut bytes) = (HashSet::new(), 0);
        for (length, entry) in entries.iter().enumerate() {
            bytes += entry.envelope.size();
            if length > 0 && (bytes > bytes_max || entry.ids().any(|id| seen.contains(&id))) {
                return length;
            }
            seen.extend(entry.ids());
        }
        entries.len()
    }

    async fn take_run(&self, run: &[&Entry], admission: &mut Admission) -> Result<(), Error> {
        let mut open = run.to_vec();
        while !open.is_empty() {
            match self.shared.store.commit(self.commit_of(&open)).await {
                Ok(_) => {
                    admission.taken.extend(open.iter().map(|entry| entry.index));
                    return Ok(());
                }
                Err(CommitError::RecordConflict { .. }) => self.look_up(&mut open, admission).await?,
                Err(error) => {
                    let error = Error::from(error);
                    if is_of_the_events(&error) {
                        return self.take_singly(&open, error, admission).await;
                    }
                    self.wait(error).await?;
                }
            }
        }
        Ok(())
    }

    /// One by one, so that the one that is wrong is known.
    async fn take_singly(
        &self,
        open: &[&Entry],
        error: Error,
        admission: &mut Admission,
    ) -> Result<(), Error> {
        if let [only] = open {
            admission.refused.push((only.index, error));
            return Ok(());
        }
        for entry in open {
            Box::pin(self.take_run(std::slice::from_ref(entry), admission)).await?;
        }
        Ok(())
    }

    /// Waits for a store that is away for a moment.
    async fn wait(&self, error: Error) -> Result<(), Error> {
        if !error.is_retryable() || error.code() == Code::CLOSED {
            return Err(error);
        }
        tokio::select! {
            biased;
            () = self.shared.closed() => Err(error),
            () = self.shared.press.host.clock.sleep(STORE_PAUSE) => Ok(()),
        }
    }

    /// Drops what is there already.
    async fn look_up(&self, open: &mut Vec<&Entry>, admission: &mut Admission) -> Result<(), Error> {
        let mut new = Vec::with_capacity(open.len());
        for entry in open.iter() {
            match self.door.earlier(&entry.envelope, &entry.fingerprint).await {
                Ok(None) => new.push(*entry),
                Ok(Some(_)) => admission.duplicates += 1,
                Err(error) if error.code() == Code::DUPLICATE_ID => {
                    admission.refused.push((entry.index, error));
                }
                Err(error) => return Err(error),
            }
        }
        *open = new;
        Ok(())
    }

    fn commit_of(&self, open: &[&Entry]) -> Commit {
        let events = open.iter().map(|entry| (entry.stream.clone(), entry.envelope.clone()));
        let appends: Vec<Append> = appends(events);
        debug_assert!(appends.iter().all(|append| append.expected == Expected::Any), "order is the broker's");
        let mut records = Vec::with_capacity(open.len());
        for entry in open {
            records.push(self.door.remember(&entry.envelope, &entry.fingerprint, None));
            let again = entry.again.as_ref();
            records.extend(
                again.map(|id| self.door.remember_also(&entry.envelope.source, id, &entry.fingerprint)),
            );
        }
        Commit { appends, records, ..Commit::default() }
    }
}

/// Whether the store would take other events: these are too large, or have what no store can keep.
fn is_of_the_events(error: &Error) -> bool {
    error.code() == Code::TOO_LARGE || matches!(error.kind(), Kind::Invalid | Kind::Unsupported)
}

/// The commit effects of one event: nothing where it had come before.
pub(super) async fn effects_of(
    door: &Door,
    stream: StreamName,
    envelope: Envelope,
) -> Result<crate::effects::Effects, Error> {
    let mut effects = crate::effects::Effects::default();
    let entry = Entry::new(0, stream, envelope);
    if door.earlier(&entry.envelope, &entry.fingerprint).await?.is_some() {
        return Ok(effects);
    }
    effects.records.push(door.remember(&entry.envelope, &entry.fingerprint, None));
    effects.appends = appends([(entry.stream, entry.envelope)]);
    Ok(effects)
}
