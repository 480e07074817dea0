//! A consumer group: what waits for it, and what its members have in hand.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use ensue_core::bus::Seek;
use ensue_core::{BusCapabilities, Channel, Entropy};
use smol_str::SmolStr;

use super::luck::Luck;
use super::state::Stored;

/// See the file.
pub(super) struct Group {
    pub(super) channel: Channel,
    /// How much of the channel has been queued.
    read: usize,
    /// By place in the channel, and which copy it is.
    waiting: BTreeMap<(usize, u32), Waiting>,
    /// By token.
    open: BTreeMap<u64, Open>,
}

struct Waiting {
    due: Duration,
    attempt: u32,
}

struct Open {
    place: (usize, u32),
    member: u64,
    late_at: Duration,
    attempt: u32,
}

/// A message that is handed out.
pub(super) struct Handed {
    pub(super) token: u64,
    pub(super) index: usize,
    pub(super) attempt: u32,
    pub(super) stored: Stored,
}

impl Group {
    pub(super) fn new(channel: Channel, read: usize) -> Self {
        Self { channel, read, waiting: BTreeMap::new(), open: BTreeMap::new() }
    }

    pub(super) fn unsettled(&self, stored: &[Stored]) -> usize {
        self.waiting.len() + self.open.len() + stored.len().saturating_sub(self.read)
    }

    /// What these members had in hand waits again.
    pub(super) fn take_back(&mut self, is_lost: impl Fn(u64) -> bool) {
        self.take_back_open(|open| is_lost(open.member));
    }

    fn take_back_open(&mut self, is_lost: impl Fn(&Open) -> bool) {
        let Self { open, waiting, .. } = self;
        open.retain(|_, open| {
            let is_lost = is_lost(open);
            if is_lost {
                waiting.insert(open.place, Waiting { due: Duration::ZERO, attempt: open.attempt });
            }
            !is_lost
        });
    }

    /// Hands out at most so many that are due, no two of one key where order is promised.
    pub(super) fn hand_out(
        &mut self,
        stored: &[Stored],
        (member, max): (u64, usize),
        now: Duration,
        capabilities: &BusCapabilities,
        (luck, last_token): (&mut Luck, &mut u64),
    ) -> Vec<Handed> {
        self.take_back_open(|open| open.late_at <= now);
        for index in self.read..stored.len() {
            luck.strikes += usize::try_from(luck.deliver_times.saturating_sub(1)).unwrap_or_default();
            for copy in 0..luck.deliver_times {
                self.waiting.insert((index, copy), Waiting { due: Duration::ZERO, attempt: copy });
            }
        }
        self.read = stored.len();
        let late_at = capabilities.redelivers_after.map_or(Duration::MAX, |after| now.saturating_add(after));
        let mut handed = Vec::new();
        for place in self.ready(stored, now, capabilities.can_order_by_key, luck) {
            let Some(stored) = stored.get(place.0).filter(|_| handed.len() < max) else { break };
            let Some(waiting) = self.waiting.remove(&place) else { continue };
            *last_token += 1;
            let attempt = waiting.attempt + 1;
            self.open.insert(*last_token, Open { place, member, late_at, attempt });
            handed.push(Handed { token: *last_token, index: place.0, attempt, stored: stored.clone() });
        }
        handed
    }

    fn ready(
        &self,
        stored: &[Stored],
        now: Duration,
        is_ordered: bool,
        luck: &mut Luck,
    ) -> Vec<(usize, u32)> {
        let key_of = |place: &(usize, u32)| stored.get(place.0).and_then(|stored| stored.key.clone());
        let mut taken: HashSet<SmolStr> = HashSet::new();
        if is_ordered {
            taken.extend(self.open.values().filter_map(|open| key_of(&open.place)));
        }
        let mut ready = Vec::new();
        for (place, waiting) in &self.waiting {
            let is_free = !is_ordered || key_of(place).is_none_or(|key| taken.insert(key));
            if is_free && waiting.due <= now {
                ready.push(*place);
            }
        }
        if let Some(entropy) = &luck.reorder {
            let random = || {
                let mut bytes = [0; 8];
                entropy.fill(&mut bytes);
                u64::from_le_bytes(bytes)
            };
            ready.sort_by_cached_key(|_| random());
        }
        ready
    }

    /// How long until something comes again by itself.
    pub(super) fn next_due(&self, now: Duration) -> Option<Duration> {
        let waiting = self.waiting.values().map(|waiting| waiting.due).filter(|due| *due > now);
        let open = self.open.values().map(|open| open.late_at).filter(|late_at| *late_at < Duration::MAX);
        waiting.chain(open).min().map(|due| due.saturating_sub(now))
    }

    /// Settles what a member has in hand. `None`: it has not.
    pub(super) fn close(&mut self, token: u64, member: u64) -> Option<()> {
        self.open.get(&token).filter(|open| open.member == member)?;
        self.open.remove(&token).map(drop)
    }

    /// Has it come again at a time.
    pub(super) fn put_back(&mut self, token: u64, member: u64, due: Duration) -> Option<()> {
        self.open.get(&token).filter(|open| open.member == member)?;
        let open = self.open.remove(&token)?;
        self.waiting.insert(open.place, Waiting { due, attempt: open.attempt });
        Some(())
    }

    pub(super) fn seek(&mut self, to: Seek, stored: &[Stored]) {
        self.waiting.clear();
        self.open.clear();
        self.read = match to {
            Seek::Begin => 0,
            Seek::End => stored.len(),
            Seek::At(time) => {
                stored.iter().position(|stored| stored.published_at >= time).unwrap_or(stored.len())
            }
        };
    }
}
