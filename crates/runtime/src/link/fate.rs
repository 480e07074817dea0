//! What becomes of each message that came: found out for a batch of them, which is then taken in by as few commits as possible.

use ensue_core::Error;
use ensue_core::bus::{Delivery, Settled};

use super::batch::{Admission, Entry, Taking};
use super::came::Came;
use super::log_id::LogId;
use super::parked;
use super::read::{DELIVERY, ID_FROM, content_id};
use super::session::{STUCK_PAUSE, Session};
use crate::message::extension;

/// What became of one delivery.
enum Fate {
    Event(Entry),
    /// It has been in this log before.
    Looped,
    /// It is for another log, which gets it too.
    Elsewhere,
    /// It cannot be taken in: kept as it came.
    Unreadable(Entry),
    /// It cannot even be kept.
    Refused(Error),
}

/// Messages that came together, and what is to become of each.
#[derive(Default)]
pub(super) struct Sorted {
    tokens: Vec<u64>,
    came: Vec<Came>,
    fates: Vec<Fate>,
}

impl Sorted {
    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// What there is to commit.
    fn entries(&self) -> Vec<&Entry> {
        self.fates.iter().filter_map(Fate::entry).collect()
    }
}

impl Fate {
    fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Event(entry) | Self::Unreadable(entry) => Some(entry),
            Self::Looped | Self::Elsewhere | Self::Refused(_) => None,
        }
    }
}

impl Session {
    /// Reads what came. Nothing is done yet.
    pub(super) fn sort(&self, deliveries: Vec<Delivery>, log: &LogId) -> Sorted {
        let tokens = deliveries.iter().map(|delivery| delivery.token).collect();
        let now = self.shared.press.host.clock.now();
        let capabilities = self.bus.capabilities();
        let came: Vec<Came> =
            deliveries.into_iter().map(|delivery| Came::of(delivery, capabilities, now)).collect();
        let fates = came.iter().enumerate().map(|(index, came)| self.fate_of(index, came, log)).collect();
        Sorted { tokens, came, fates }
    }

    /// Takes it in, and says how each message is settled.
    pub(super) async fn take_in(&self, mut sorted: Sorted) -> Result<Vec<Settled>, Error> {
        let first = self.taking().take(&sorted.entries()).await?;
        let again = self.keep_refused(&first, &mut sorted);
        let kept: Vec<&Entry> = again.iter().filter_map(|index| sorted.fates.get(*index)?.entry()).collect();
        let second = self.taking().take(&kept).await?;
        for (index, error) in &second.refused {
            if let Some(fate) = sorted.fates.get_mut(*index) {
                *fate = Fate::Refused(error.clone());
            }
        }
        let new: Vec<usize> = [first.taken, second.taken].concat();
        self.count(&sorted.fates, &new, first.duplicates + second.duplicates);
        Ok(sorted.fates.iter().zip(sorted.tokens).map(|(fate, token)| self.settled(fate, token)).collect())
    }

    /// What the store can never take is kept as it came. Says which that are.
    fn keep_refused(&self, first: &Admission, sorted: &mut Sorted) -> Vec<usize> {
        let mut again = Vec::new();
        for (index, error) in &first.refused {
            if let (Some(fate), Some(came)) = (sorted.fates.get_mut(*index), sorted.came.get(*index)) {
                *fate = match fate {
                    // It was the message as it came that was too large.
                    Fate::Unreadable(_) => Fate::Refused(error.clone()),
                    _ => self.unreadable(*index, came, error),
                };
                again.push(*index);
            }
        }
        again
    }

    fn taking(&self) -> Taking<'_> {
        Taking { shared: &self.shared, door: &self.door }
    }

    fn fate_of(&self, index: usize, came: &Came, log: &LogId) -> Fate {
        let read = self.reader.read(came, &self.shared.registry, self.shared.press.host.clock.now());
        let read = read.and_then(|(stream, envelope)| {
            self.shared.inline.refuse(envelope.event_type.as_str())?;
            Ok((stream, envelope))
        });
        match read {
            Ok((_, envelope)) if !self.reader.takes.is_for(log, &envelope) => Fate::Elsewhere,
            Ok((_, envelope)) if log.has_had(&envelope) => Fate::Looped,
            Ok((stream, envelope)) => {
                let is_named = extension(&envelope, ID_FROM) != Some(DELIVERY);
                let again = (!is_named).then(|| content_id(came));
                Fate::Event(Entry::new(index, stream, envelope).known_again_as(again))
            }
            Err(error) => self.unreadable(index, came, &error),
        }
    }

    fn unreadable(&self, index: usize, came: &Came, error: &Error) -> Fate {
        let now = self.shared.press.host.clock.now();
        self.gauge.troubled(error, now);
        match parked::keep(came, &self.gauge.name, error, now) {
            Ok((stream, envelope)) => {
                let again = came.is_known_by_delivery().then(|| content_id(came));
                let again = again.filter(|again| *again != envelope.id);
                Fate::Unreadable(Entry::new(index, stream, envelope).known_again_as(again))
            }
            Err(error) => Fate::Refused(error),
        }
    }

    fn settled(&self, fate: &Fate, token: u64) -> Settled {
        match fate {
            Fate::Event(_) | Fate::Looped | Fate::Elsewhere | Fate::Unreadable(_) => Settled::Ack(token),
            Fate::Refused(error) => {
                self.gauge.troubled(error, self.shared.press.host.clock.now());
                // Where there are no dead letters, what is refused would be gone.
                if self.bus.capabilities().has_dead_letters {
                    Settled::Reject(token, error.to_string())
                } else {
                    Settled::Nack(token, STUCK_PAUSE)
                }
            }
        }
    }

    fn count(&self, fates: &[Fate], new: &[usize], duplicates: u64) {
        let of = |wanted: fn(&Fate) -> bool| {
            new.iter().filter_map(|index| fates.get(*index)).filter(|fate| wanted(fate)).count() as u64
        };
        let looped = fates.iter().filter(|fate| matches!(fate, Fate::Looped)).count() as u64;
        self.gauge.count(|counts| {
            counts.passed += of(|fate| matches!(fate, Fate::Event(_)));
            counts.unreadable += of(|fate| matches!(fate, Fate::Unreadable(_)));
            counts.duplicates += duplicates;
            counts.looped += looped;
        });
    }
}
