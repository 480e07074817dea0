//! What has arrived and is not handed out: of each key one message at a time is with whoever handles it, and those behind it wait.
//!
//! The service sends several messages of a key at once, in order, and sends them again from the first one that comes back. So whatever
//! waits behind a message that goes back has to go back with it.

use std::collections::{HashMap, VecDeque};

use tokio::time::Instant;

use crate::config::Order;
use crate::wire::Received;

/// See the module.
pub(crate) struct Lanes {
    order: Order,
    ready: VecDeque<Received>,
    /// By key: those of which a message is ready, in hand, or expected again.
    keys: HashMap<String, Lane>,
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Received>,
    /// The message that went back: what was on its way behind it waits until it comes again, or this time is over.
    expected: Option<(String, Instant)>,
}

impl Lanes {
    pub(crate) fn new(order: Order) -> Self {
        Self { order, ready: VecDeque::new(), keys: HashMap::new() }
    }

    /// Takes in what has arrived.
    pub(crate) fn arrive(&mut self, came: Received) {
        let Some(key) = self.key(&came) else {
            self.ready.push_back(came);
            return;
        };
        let Some(lane) = self.keys.get_mut(&key) else {
            self.keys.insert(key, Lane::default());
            self.ready.push_back(came);
            return;
        };
        // One that is here already and comes again has a new name to settle it by.
        let same = self.ready.iter_mut().chain(&mut lane.waiting).find(|other| id(other) == id(&came));
        if let Some(same) = same {
            *same = came;
        } else if lane.expected.take_if(|(expected, _)| expected == id(&came)).is_some() {
            self.ready.push_back(came);
        } else {
            lane.waiting.push_back(came);
        }
    }

    /// The next one to hand out.
    pub(crate) fn take(&mut self) -> Option<Received> {
        self.ready.pop_front()
    }

    /// It is done with: the next one of its key may go.
    pub(crate) fn done(&mut self, settled: &Received) {
        let Some(key) = self.key(settled) else { return };
        let Some(lane) = self.keys.get_mut(&key) else { return };
        match lane.waiting.pop_front() {
            Some(next) => self.ready.push_back(next),
            None => drop(self.keys.remove(&key)),
        }
    }

    /// It goes back and is expected again until then. Answers with those that have to go back with it.
    pub(crate) fn back(&mut self, settled: &Received, until: Instant) -> Vec<Received> {
        let lane = self.key(settled).and_then(|key| self.keys.get_mut(&key));
        let Some(lane) = lane else { return Vec::new() };
        lane.expected = Some((id(settled).to_owned(), until));
        lane.waiting.drain(..).collect()
    }

    /// Nobody knows whether it is done with. Answers with those that have to go back, because it may come again.
    pub(crate) fn forget(&mut self, settled: &Received) -> Vec<Received> {
        let lane = self.key(settled).and_then(|key| self.keys.remove(&key));
        lane.map(|lane| lane.waiting.into()).unwrap_or_default()
    }

    /// Ends waiting for what has not come again in time: it went to another member.
    pub(crate) fn expire(&mut self, now: Instant) {
        let ready = &mut self.ready;
        self.keys.retain(|_, lane| {
            if lane.expected.take_if(|(_, until)| *until <= now).is_none() {
                return true;
            }
            let next = lane.waiting.pop_front();
            let goes_on = next.is_some();
            ready.extend(next);
            goes_on
        });
    }

    /// When [`expire`](Self::expire) has something to do.
    pub(crate) fn expires_at(&self) -> Option<Instant> {
        self.keys.values().filter_map(|lane| lane.expected.as_ref()).map(|(_, until)| *until).min()
    }

    /// All that is here.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Received> {
        self.ready.iter().chain(self.keys.values().flat_map(|lane| &lane.waiting))
    }

    fn key(&self, received: &Received) -> Option<String> {
        let key = &received.message.as_ref()?.ordering_key;
        (self.order == Order::ByKey && !key.is_empty()).then(|| key.clone())
    }
}

/// What the service calls the message, each time that it is delivered.
fn id(received: &Received) -> &str {
    received.message.as_ref().map_or("", |message| &message.message_id)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::PubsubMessage;

    fn received(key: &str, id: &str, ack: &str) -> Received {
        let message =
            PubsubMessage { ordering_key: key.into(), message_id: id.into(), ..PubsubMessage::default() };
        Received { ack_id: ack.into(), message: Some(message), delivery_attempt: 0 }
    }

    fn lanes(order: Order, came: &[(&str, &str)]) -> Lanes {
        let mut lanes = Lanes::new(order);
        came.iter().for_each(|(key, id)| lanes.arrive(received(key, id, id)));
        lanes
    }

    fn taken(lanes: &mut Lanes) -> Vec<String> {
        std::iter::from_fn(|| lanes.take()).map(|received| received.ack_id).collect()
    }

    fn acks(received: Vec<Received>) -> Vec<String> {
        received.into_iter().map(|received| received.ack_id).collect()
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_mins(1)
    }

    #[test]
    fn one_of_a_key_is_out_at_a_time() {
        let mut lanes = lanes(Order::ByKey, &[("A", "a1"), ("A", "a2"), ("B", "b1"), ("", "x"), ("", "y")]);
        assert_eq!(taken(&mut lanes), ["a1", "b1", "x", "y"]);
        lanes.done(&received("A", "a1", "a1"));
        assert_eq!(taken(&mut lanes), ["a2"]);
        lanes.done(&received("A", "a2", "a2"));
        lanes.arrive(received("A", "a3", "a3"));
        assert_eq!(taken(&mut lanes), ["a3"]);
    }

    #[test]
    fn without_order_nothing_waits() {
        let mut lanes = lanes(Order::None, &[("A", "a1"), ("A", "a2")]);
        assert_eq!(taken(&mut lanes), ["a1", "a2"]);
    }

    #[test]
    fn what_waits_behind_one_that_goes_back_goes_with_it() {
        let mut lanes = lanes(Order::ByKey, &[("A", "a1"), ("A", "a2"), ("A", "a3")]);
        assert_eq!(taken(&mut lanes), ["a1"]);
        assert_eq!(acks(lanes.back(&received("A", "a1", "a1"), later())), ["a2", "a3"]);
        // It was on its way already.
        lanes.arrive(received("A", "a4", "a4"));
        assert!(taken(&mut lanes).is_empty(), "a4 must not pass a1");
        lanes.arrive(received("A", "a1", "again"));
        assert_eq!(taken(&mut lanes), ["again"]);
        lanes.done(&received("A", "a1", "again"));
        assert_eq!(taken(&mut lanes), ["a4"]);
    }

    #[test]
    fn one_that_does_not_come_again_holds_its_key_up_for_a_while_only() {
        let mut lanes = lanes(Order::ByKey, &[("A", "a1")]);
        assert_eq!(taken(&mut lanes), ["a1"]);
        let until = later();
        assert!(lanes.back(&received("A", "a1", "a1"), until).is_empty());
        lanes.arrive(received("A", "a2", "a2"));
        assert_eq!(lanes.expires_at(), Some(until));
        lanes.expire(until - Duration::from_secs(1));
        assert!(taken(&mut lanes).is_empty());
        lanes.expire(until);
        assert_eq!((taken(&mut lanes), lanes.expires_at()), (vec!["a2".to_owned()], None));
    }

    #[test]
    fn where_nobody_knows_the_next_to_come_goes_first() {
        let mut lanes = lanes(Order::ByKey, &[("A", "a1"), ("A", "a2")]);
        assert_eq!(taken(&mut lanes), ["a1"]);
        assert_eq!(acks(lanes.forget(&received("A", "a1", "a1"))), ["a2"]);
        lanes.arrive(received("A", "a2", "again"));
        assert_eq!(taken(&mut lanes), ["again"]);
    }

    #[test]
    fn one_that_waits_and_comes_again_is_settled_by_its_new_name() {
        let mut lanes = lanes(Order::ByKey, &[("A", "a1"), ("A", "a2")]);
        assert_eq!(taken(&mut lanes), ["a1"]);
        lanes.arrive(received("A", "a2", "new"));
        assert_eq!(lanes.all().count(), 1);
        lanes.done(&received("A", "a1", "a1"));
        assert_eq!(taken(&mut lanes), ["new"]);
    }
}
