//! What a member has of its partitions: what is not settled, what was handed back and when it is due, what waits behind it.
//!
//! Kafka remembers one number for each partition, below which everything is done with. Here is the rest: each message is settled by
//! itself, and the number moves on to the first that is not. A message that was handed back is delivered again from memory, and later ones
//! of its key wait until it is settled.
//!
//! Not here: the driver, the clock and the network.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use krafka::ConsumerRecord;
use tokio::time::Instant;

/// What has an order: a key of a partition. A record without a key has none, and so a lane of its own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Lane {
    Key(i32, Bytes),
    Alone(i32, i64),
}

impl Lane {
    fn of(record: &ConsumerRecord) -> Self {
        match &record.key {
            Some(key) => Self::Key(record.partition, key.clone()),
            None => Self::Alone(record.partition, record.offset),
        }
    }

    fn partition(&self) -> i32 {
        match self {
            Self::Key(partition, _) | Self::Alone(partition, _) => *partition,
        }
    }
}

/// A record on its way to be delivered, and how often it was.
#[derive(Clone, Debug)]
struct Item {
    record: ConsumerRecord,
    delivered: u32,
    /// When, where it was handed back.
    due: Option<Instant>,
}

/// A lane in which something was handed back.
#[derive(Default, Debug)]
struct Held {
    /// In the order of their offsets.
    queue: VecDeque<Item>,
    /// The one that was delivered again and is not settled.
    in_hand: Option<i64>,
    /// Under which time it stands among those that are due.
    armed: Option<Instant>,
}

/// How far a partition is.
#[derive(Debug)]
struct Progress {
    unsettled: BTreeSet<i64>,
    /// Behind the last one that came.
    end: i64,
}

impl Progress {
    fn committable(&self) -> i64 {
        self.unsettled.first().copied().unwrap_or(self.end)
    }
}

/// What is delivered, for the consumer to make a delivery of.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) token: u64,
    pub(crate) attempt: u32,
    pub(crate) record: ConsumerRecord,
}

/// See the file.
#[derive(Default, Debug)]
pub(crate) struct Work {
    last_token: u64,
    progress: HashMap<i32, Progress>,
    ready: VecDeque<Item>,
    /// What is delivered and not settled, and since when.
    open: BTreeMap<u64, (Instant, Item)>,
    held: HashMap<Lane, Held>,
    due: BTreeSet<(Instant, Lane)>,
}

impl Work {
    /// Takes in what came, in the order in which it came.
    pub(crate) fn take(&mut self, records: Vec<ConsumerRecord>) {
        for record in records {
            let (partition, offset) = (record.partition, record.offset);
            let progress = self
                .progress
                .entry(partition)
                .or_insert_with(|| Progress { unsettled: BTreeSet::new(), end: offset });
            progress.unsettled.insert(offset);
            progress.end = offset + 1;
            let lane = Lane::of(&record);
            let item = Item { record, delivered: 0, due: None };
            match self.held.get_mut(&lane) {
                Some(held) => held.queue.push_back(item),
                None => self.ready.push_back(item),
            }
        }
    }

    /// Hands out at most so many: what is due again before what is new.
    pub(crate) fn deliver(&mut self, max: usize, now: Instant) -> Vec<Handed> {
        let mut handed = Vec::new();
        while handed.len() < max {
            let Some(item) = self.next_due(now).or_else(|| self.ready.pop_front()) else { break };
            handed.push(self.hand_out(item, now));
        }
        handed
    }

    fn next_due(&mut self, now: Instant) -> Option<Item> {
        let (_, lane) = self.due.first().filter(|(due, _)| *due <= now)?.clone();
        self.due.pop_first();
        let held = self.held.get_mut(&lane)?;
        held.armed = None;
        let item = held.queue.pop_front()?;
        held.in_hand = Some(item.record.offset);
        Some(item)
    }

    fn hand_out(&mut self, mut item: Item, now: Instant) -> Handed {
        self.last_token += 1;
        item.delivered += 1;
        item.due = None;
        let handed = Handed { token: self.last_token, attempt: item.delivered, record: item.record.clone() };
        self.open.insert(self.last_token, (now, item));
        handed
    }

    /// Done with: the partition it was of, or nothing where the delivery is not open.
    pub(crate) fn done(&mut self, token: u64) -> Option<i32> {
        let (_, item) = self.open.remove(&token)?;
        let (partition, offset) = (item.record.partition, item.record.offset);
        if let Some(progress) = self.progress.get_mut(&partition) {
            progress.unsettled.remove(&offset);
        }
        let lane = Lane::of(&item.record);
        if let Some(held) = self.held.get_mut(&lane)
            && held.in_hand == Some(offset)
        {
            held.in_hand = None;
            self.advance(&lane);
        }
        Some(partition)
    }

    /// Again, not before then: the partition it was of, or nothing where the delivery is not open.
    pub(crate) fn again(&mut self, token: u64, due: Instant) -> Option<i32> {
        let (_, mut item) = self.open.remove(&token)?;
        item.due = Some(due);
        let (partition, offset) = (item.record.partition, item.record.offset);
        let lane = Lane::of(&item.record);
        let behind = if self.held.contains_key(&lane) { VecDeque::new() } else { self.take_ready(&lane) };
        let held = self.held.entry(lane.clone()).or_default();
        held.queue.extend(behind);
        if held.in_hand == Some(offset) {
            held.in_hand = None;
        }
        let place = held.queue.partition_point(|other| other.record.offset < offset);
        held.queue.insert(place, item);
        self.advance(&lane);
        Some(partition)
    }

    /// What was not settled for so long is due again.
    pub(crate) fn expire(&mut self, now: Instant, limit: Duration) {
        // Tokens are given in the order of time.
        while let Some((&token, (since, _))) = self.open.first_key_value()
            && now.saturating_duration_since(*since) >= limit
        {
            self.again(token, now);
        }
    }

    /// What is ready in a lane waits with it from now on.
    fn take_ready(&mut self, lane: &Lane) -> VecDeque<Item> {
        let (of_lane, others) = self.ready.drain(..).partition(|item| Lane::of(&item.record) == *lane);
        self.ready = others;
        of_lane
    }

    /// Lets go what waits for nothing more, and notes when the next one is due.
    fn advance(&mut self, lane: &Lane) {
        let Some(held) = self.held.get_mut(lane) else { return };
        if let Some(due) = held.armed.take() {
            self.due.remove(&(due, lane.clone()));
        }
        if held.in_hand.is_some() {
            return;
        }
        while let Some(item) = held.queue.pop_front() {
            let Some(due) = item.due else {
                self.ready.push_back(item);
                continue;
            };
            held.queue.push_front(item);
            held.armed = Some(due);
            self.due.insert((due, lane.clone()));
            return;
        }
        self.held.remove(lane);
    }

    /// Forgets partitions that are somebody else's now.
    pub(crate) fn lose(&mut self, is_lost: impl Fn(i32) -> bool) {
        self.progress.retain(|partition, _| !is_lost(*partition));
        self.ready.retain(|item| !is_lost(item.record.partition));
        self.open.retain(|_, (_, item)| !is_lost(item.record.partition));
        self.held.retain(|lane, _| !is_lost(lane.partition()));
        self.due.retain(|(_, lane)| !is_lost(lane.partition()));
    }

    /// Below which offset everything of a partition is done with.
    pub(crate) fn committable(&self, partition: i32) -> Option<i64> {
        self.progress.get(&partition).map(Progress::committable)
    }

    /// How long it takes until there is something to deliver, as far as that is known here.
    pub(crate) fn ready_in(&self, now: Instant) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        self.due.first().map(|(due, _)| due.saturating_duration_since(now))
    }

    /// How many are here and not delivered.
    pub(crate) fn waiting(&self) -> usize {
        self.ready.len() + self.held.values().map(|held| held.queue.len()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records of partition 0, `key` and offset.
    fn records(of: &[(&'static str, i64)]) -> Vec<ConsumerRecord> {
        let record = |(key, offset): &(&'static str, i64)| {
            ConsumerRecord::new("t", 0, *offset, Some(Bytes::from_static(key.as_bytes())), None)
        };
        of.iter().map(record).collect()
    }

    fn offsets(handed: &[Handed]) -> Vec<(i64, u32)> {
        handed.iter().map(|handed| (handed.record.offset, handed.attempt)).collect()
    }

    fn tokens(handed: &[Handed]) -> Vec<u64> {
        handed.iter().map(|handed| handed.token).collect()
    }

    #[test]
    fn the_number_to_commit_stays_below_what_is_not_settled() {
        let (mut work, now) = (Work::default(), Instant::now());
        work.take(records(&[("a", 5), ("b", 7), ("c", 8)]));
        let tokens = tokens(&work.deliver(9, now));
        let [first, second, third] = tokens[..] else { panic!("three were delivered: {tokens:?}") };
        assert_eq!(work.done(third), Some(0));
        assert_eq!(work.done(second), Some(0));
        assert_eq!(work.committable(0), Some(5));
        assert_eq!(work.done(first), Some(0));
        assert_eq!(work.committable(0), Some(9));
        assert_eq!(work.done(first), None, "it is settled once");
    }

    #[test]
    fn what_was_handed_back_is_not_passed_by_its_key() {
        let (mut work, now) = (Work::default(), Instant::now());
        work.take(records(&[("a", 0), ("a", 1), ("b", 2)]));
        let first = work.deliver(1, now);
        let later = now + Duration::from_secs(1);
        work.again(first.first().expect("one").token, later);
        work.take(records(&[("a", 3)]));
        assert_eq!(offsets(&work.deliver(9, now)), [(2, 1)], "only the other key goes on");
        assert_eq!(work.ready_in(now), Some(later - now));
        let again = work.deliver(9, later);
        assert_eq!(offsets(&again), [(0, 2)], "alone, until it is settled");
        assert_eq!(offsets(&work.deliver(9, later)), []);
        work.done(again.first().expect("one").token);
        assert_eq!(offsets(&work.deliver(9, later)), [(1, 1), (3, 1)]);
        assert_eq!((work.waiting(), work.ready_in(now)), (0, None));
        assert_eq!(work.committable(0), Some(1));
    }

    #[test]
    fn two_that_were_handed_back_come_in_their_order_whichever_was_first() {
        let (mut work, now) = (Work::default(), Instant::now());
        work.take(records(&[("a", 0), ("a", 1), ("a", 2)]));
        let handed = tokens(&work.deliver(9, now));
        for token in handed.iter().rev() {
            work.again(*token, now);
        }
        for wanted in 0..3 {
            let again = work.deliver(9, now);
            assert_eq!(offsets(&again), [(wanted, 2)]);
            work.done(again.first().expect("one").token);
        }
        assert_eq!(work.committable(0), Some(3));
    }

    #[test]
    fn what_is_not_settled_in_time_is_due_again_and_too_late_to_be_settled() {
        let (mut work, now) = (Work::default(), Instant::now());
        let limit = Duration::from_secs(1);
        work.take(records(&[("a", 0)]));
        let first = work.deliver(9, now);
        work.expire(now + limit / 2, limit);
        assert_eq!(offsets(&work.deliver(9, now + limit / 2)), [], "its time is not over");
        work.expire(now + limit, limit);
        assert_eq!(offsets(&work.deliver(9, now + limit)), [(0, 2)]);
        assert_eq!(work.done(first.first().expect("one").token), None);
    }

    #[test]
    fn records_without_a_key_do_not_wait_for_each_other() {
        let (mut work, now) = (Work::default(), Instant::now());
        work.take((0..2).map(|offset| ConsumerRecord::new("t", 0, offset, None, None)).collect());
        let first = work.deliver(1, now);
        work.again(first.first().expect("one").token, now + Duration::from_secs(1));
        assert_eq!(offsets(&work.deliver(9, now)), [(1, 1)]);
    }

    #[test]
    fn nothing_of_a_partition_that_was_lost_is_left() {
        let (mut work, now) = (Work::default(), Instant::now());
        work.take(records(&[("a", 0), ("a", 1), ("b", 2)]));
        let handed = work.deliver(1, now);
        let token = handed.first().expect("one").token;
        work.again(token, now);
        work.deliver(1, now);
        work.lose(|partition| partition == 0);
        assert_eq!((work.waiting(), work.ready_in(now), work.committable(0)), (0, None, None));
        assert_eq!(offsets(&work.deliver(9, now)), []);
        assert_eq!(work.done(token + 1), None, "its delivery can no longer be settled");
    }
}
