//! Publishing: many keys in one request, the messages of one key one behind the other's confirmation.
//!
//! `EventBridge` answers for each entry of a request by itself, so an entry may be refused while those behind it are taken. Therefore no
//! request holds two messages of one key: they go out in rounds, and a key whose message failed takes part in no further round.

use std::collections::{HashMap, VecDeque};

use aws_sdk_eventbridge::types::{PutEventsRequestEntry, PutEventsResultEntry};
use ensue_core::Error;
use ensue_core::bus::{Outgoing, Receipt};
use futures_util::{StreamExt, stream};
use smol_str::format_smolstr;

use crate::client::Link;
use crate::codec::{self, Entry};
use crate::error;

/// The most entries that Amazon takes in one request.
const ENTRIES_MAX: usize = 10;
/// How many requests are under way at once.
const REQUESTS_MAX: usize = 8;

type Answer = Result<Receipt, Error>;

/// A message on its way: its place in the batch, and what is sent.
struct Letter {
    index: usize,
    entry: Entry,
}

/// Answers for each message, in the order in which they were given.
pub(crate) async fn publish(link: &Link, batch: Vec<Outgoing>) -> Vec<Answer> {
    let mut answers: Vec<Option<Answer>> = batch.iter().map(|_| None).collect();
    let mut keys = by_key(&batch);
    drop_unroutable(link, &batch, &mut keys, &mut answers).await;
    loop {
        let round: Vec<Letter> =
            keys.iter_mut().filter_map(|key| next_letter(link, &batch, key, &mut answers)).collect();
        if round.is_empty() {
            break;
        }
        let requests = stream::iter(requests(round, link.config.entry_bytes_max));
        let sent = requests.map(|letters| send(link, letters)).buffer_unordered(REQUESTS_MAX);
        for (index, answer) in sent.collect::<Vec<_>>().await.into_iter().flatten() {
            put(&mut answers, index, answer);
        }
        for key in &mut keys {
            fail_behind(key, &mut answers);
        }
    }
    let missing = || Err(error::of_entry("cannot publish", "Ensue", "the message was not answered for"));
    answers.into_iter().map(|answer| answer.unwrap_or_else(missing)).collect()
}

/// The messages of one channel and key: those that wait, and the one that was sent last.
struct Key {
    waiting: VecDeque<usize>,
    last: Option<usize>,
}

fn by_key(batch: &[Outgoing]) -> Vec<Key> {
    let mut places = HashMap::new();
    let mut keys: Vec<Key> = Vec::new();
    for (index, outgoing) in batch.iter().enumerate() {
        let place = *places.entry((&outgoing.to, &outgoing.stream.key)).or_insert(keys.len());
        match keys.get_mut(place) {
            Some(key) => key.waiting.push_back(index),
            None => keys.push(Key { waiting: VecDeque::from([index]), last: None }),
        }
    }
    keys
}

fn put(answers: &mut [Option<Answer>], index: usize, answer: Answer) {
    if let Some(place) = answers.get_mut(index) {
        *place = Some(answer);
    }
}

/// Fails what goes to an event bus that leads nowhere.
async fn drop_unroutable(link: &Link, batch: &[Outgoing], keys: &mut [Key], answers: &mut [Option<Answer>]) {
    let mut outcomes: HashMap<&str, Result<(), Error>> = HashMap::new();
    for key in keys {
        let Some(first) = key.waiting.front().and_then(|index| batch.get(*index)) else { continue };
        let bus = first.to.as_str();
        if !outcomes.contains_key(bus) {
            outcomes.insert(bus, link.check_route(bus).await);
        }
        if let Some(Err(error)) = outcomes.get(bus) {
            for index in key.waiting.drain(..) {
                put(answers, index, Err(error.clone()));
            }
        }
    }
}

/// The next message of a key, unless it cannot be sent at all: then those behind it fail as well.
fn next_letter(
    link: &Link,
    batch: &[Outgoing],
    key: &mut Key,
    answers: &mut [Option<Answer>],
) -> Option<Letter> {
    let index = key.waiting.pop_front()?;
    let outgoing = batch.get(index)?;
    key.last = Some(index);
    match encode(link, outgoing) {
        Ok(entry) => Some(Letter { index, entry }),
        Err(error) => {
            put(answers, index, Err(error));
            fail_behind(key, answers);
            None
        }
    }
}

fn encode(link: &Link, outgoing: &Outgoing) -> Result<Entry, Error> {
    let entry = codec::encode(outgoing)?;
    let (bytes, bytes_max) = (entry.bytes(), link.config.entry_bytes_max);
    if bytes > bytes_max { Err(error::too_large(&entry.bus, bytes, bytes_max)) } else { Ok(entry) }
}

/// Where the last message of a key has failed, those behind it are not sent.
fn fail_behind(key: &mut Key, answers: &mut [Option<Answer>]) {
    let last = key.last.and_then(|index| answers.get(index));
    let Some(Some(Err(before))) = last else { return };
    let message = format!("not sent, because one of the same key before it failed: {before}");
    let error = Error::new(before.code(), message);
    for index in key.waiting.drain(..) {
        put(answers, index, Err(error.clone()));
    }
}

/// As few requests as Amazon allows: ten entries each, and together no larger than one may be alone.
fn requests(letters: Vec<Letter>, bytes_max: usize) -> Vec<Vec<Letter>> {
    let mut requests: Vec<Vec<Letter>> = Vec::new();
    let mut bytes = 0;
    for letter in letters {
        let size = letter.entry.bytes();
        match requests.last_mut() {
            Some(request) if request.len() < ENTRIES_MAX && bytes + size <= bytes_max => {
                bytes += size;
                request.push(letter);
            }
            _ => {
                bytes = size;
                requests.push(vec![letter]);
            }
        }
    }
    requests
}

async fn send(link: &Link, letters: Vec<Letter>) -> Vec<(usize, Answer)> {
    let indexes: Vec<(usize, String)> =
        letters.iter().map(|letter| (letter.index, letter.entry.bus.clone())).collect();
    let entries = letters.into_iter().map(|Letter { entry, .. }| {
        PutEventsRequestEntry::builder()
            .event_bus_name(entry.bus)
            .source(entry.source)
            .detail_type(entry.detail_type)
            .detail(entry.detail)
            .build()
    });
    match link.events.put_events().set_entries(Some(entries.collect())).send().await {
        Ok(done) => {
            let results = done.entries().iter().map(Some).chain(std::iter::repeat(None));
            indexes
                .into_iter()
                .zip(results)
                .map(|((index, bus), result)| (index, answer(&bus, result)))
                .collect()
        }
        Err(cause) => {
            indexes.iter().for_each(|(_, bus)| link.forget_route(bus));
            let buses: Vec<&str> = indexes.iter().map(|(_, bus)| bus.as_str()).collect();
            let bus = buses.first().copied().unwrap_or_default();
            let error = error::failed(&format!("cannot publish to `{bus}`"), cause);
            indexes.into_iter().map(|(index, _)| (index, Err(error.clone()))).collect()
        }
    }
}

fn answer(bus: &str, result: Option<&PutEventsResultEntry>) -> Answer {
    let trying = format!("cannot publish to `{bus}`");
    let Some(result) = result else {
        return Err(error::of_entry(&trying, "InternalFailure", "EventBridge did not answer for it"));
    };
    match (result.event_id(), result.error_code()) {
        (Some(id), None) => Ok(Receipt { place: format_smolstr!("{bus}/{id}") }),
        (_, name) => Err(error::of_entry(
            &trying,
            name.unwrap_or("InternalFailure"),
            result.error_message().unwrap_or("EventBridge did not take it"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(index: usize, bytes: usize) -> Letter {
        let entry = Entry {
            bus: String::new(),
            source: String::new(),
            detail_type: String::new(),
            detail: "x".repeat(bytes),
        };
        Letter { index, entry }
    }

    #[test]
    fn a_request_has_ten_entries_and_no_more_bytes_than_one_entry_may() {
        let many = requests((0..25).map(|index| letter(index, 1)).collect(), 100);
        assert_eq!(many.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 5]);
        let large = requests((0..5).map(|index| letter(index, 40)).collect(), 100);
        assert_eq!(large.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
        let order: Vec<usize> = large.into_iter().flatten().map(|letter| letter.index).collect();
        assert_eq!(order, [0, 1, 2, 3, 4]);
    }
}
