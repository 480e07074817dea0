//! Publishing: keys side by side, the messages of one key together, in requests that the service takes or refuses as a whole.

use std::collections::HashMap;

use ensue_core::bus::{Outgoing, Receipt};
use ensue_core::name::Channel;
use ensue_core::{Code, Error};
use futures_util::{StreamExt, stream};
use smol_str::format_smolstr;

use crate::client::Link;
use crate::wire::{PUBLISH, Publish, Published, PubsubMessage};
use crate::{codec, error};

/// How many keys are under way at once; a connection to the service carries as many calls.
const KEYS_MAX: usize = 100;
/// Limits of the service for one request, with some room.
const MESSAGES_MAX: usize = 1000;
const REQUEST_BYTES_MAX: usize = 9 * 1024 * 1024;

type Answer = (usize, Result<Receipt, Error>);

/// Answers for each message, in the order in which they were given.
pub(crate) async fn publish(link: &Link, batch: Vec<Outgoing>) -> Vec<Result<Receipt, Error>> {
    let mut keys: HashMap<_, Vec<(usize, Outgoing)>> = HashMap::new();
    for (index, outgoing) in batch.into_iter().enumerate() {
        let key = (outgoing.to.clone(), outgoing.stream.key.clone());
        keys.entry(key).or_default().push((index, outgoing));
    }
    let keys = keys.into_iter().map(|((to, _), messages)| publish_key(link, to, messages));
    let answers: Vec<Vec<Answer>> = stream::iter(keys).buffer_unordered(KEYS_MAX).collect().await;
    let mut answers: Vec<Answer> = answers.into_iter().flatten().collect();
    answers.sort_unstable_by_key(|(index, _)| *index);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// Once one has failed, those behind it are not sent.
async fn publish_key(link: &Link, to: Channel, messages: Vec<(usize, Outgoing)>) -> Vec<Answer> {
    let mut answers = Vec::with_capacity(messages.len());
    let mut failure: Option<Error> = None;
    let mut request = Request::default();
    for (index, outgoing) in messages {
        if let Some(before) = &failure {
            let message = format!("not sent, because one of the same key before it failed: {before}");
            answers.push((index, Err(Error::new(before.code(), message))));
            continue;
        }
        match codec::encode(&outgoing, link.config.message_bytes_max) {
            Ok(message) => {
                if !request.has_room(&message) {
                    failure = std::mem::take(&mut request).send(link, &to, &mut answers).await.err();
                }
                request.push(index, message);
            }
            Err(error) => {
                failure = std::mem::take(&mut request).send(link, &to, &mut answers).await.err();
                failure.get_or_insert_with(|| error.clone());
                answers.push((index, Err(error)));
            }
        }
    }
    match failure {
        // What was put into a request after the one before it had failed.
        Some(before) => answers.extend(request.indexes.into_iter().map(|index| (index, Err(before.clone())))),
        None => drop(request.send(link, &to, &mut answers).await), // the answers say so
    }
    answers
}

/// Messages of one key that go together.
#[derive(Default)]
struct Request {
    indexes: Vec<usize>,
    messages: Vec<PubsubMessage>,
    bytes: usize,
}

impl Request {
    fn has_room(&self, message: &PubsubMessage) -> bool {
        let bytes = self.bytes + codec::bytes(message);
        self.messages.is_empty() || (self.messages.len() < MESSAGES_MAX && bytes <= REQUEST_BYTES_MAX)
    }

    fn push(&mut self, index: usize, message: PubsubMessage) {
        self.bytes += codec::bytes(&message);
        self.indexes.push(index);
        self.messages.push(message);
    }

    /// Sends them and notes the answer to each; fails as they do.
    async fn send(self, link: &Link, to: &Channel, answers: &mut Vec<Answer>) -> Result<(), Error> {
        if self.messages.is_empty() {
            return Ok(());
        }
        match link.publish_request(to.as_str(), self.messages).await {
            Ok(ids) => {
                let receipts = ids.into_iter().map(|id| Receipt { place: format_smolstr!("{to}/{id}") });
                answers.extend(self.indexes.into_iter().zip(receipts.map(Ok)));
                Ok(())
            }
            Err(error) => {
                answers.extend(self.indexes.into_iter().map(|index| (index, Err(error.clone()))));
                Err(error)
            }
        }
    }
}

impl Link {
    /// The ids that the service gives to these messages, which are of one key.
    pub(crate) async fn publish_request(
        &self,
        to: &str,
        messages: Vec<PubsubMessage>,
    ) -> Result<Vec<String>, Error> {
        let (name, count) = (self.name("topics", to), messages.len());
        let trying = format!("cannot publish to `{to}`");
        let request = Publish { topic: name.clone(), messages };
        let published: Published =
            self.call(&PUBLISH, &name, request).await.map_err(|failure| error::failed(&trying, failure))?;
        let ids = published.message_ids;
        if ids.len() == count {
            return Ok(ids);
        }
        let message = format!("{trying}: {count} messages were sent and {} are confirmed", ids.len());
        Err(Error::new(Code::BUS_REFUSED, message))
    }
}
