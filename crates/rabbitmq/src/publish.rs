//! Publishing: keys side by side, the messages of one key one behind the other's confirmation.

use std::collections::HashMap;

use ensue_core::bus::{Outgoing, Receipt};
use ensue_core::name::Channel;
use ensue_core::{Code, Error};
use smol_str::{SmolStr, format_smolstr};

use crate::client::Link;
use crate::codec::{self, Letter};
use crate::error;
use crate::post::post;

/// How many messages are under way at once, of as many keys.
const ROUND_MAX: usize = 256;
/// What the frame that holds the properties needs besides them.
const FRAME_OVERHEAD: usize = 64;

type Key = (Channel, SmolStr);

/// Answers for each message, in the order in which they were given.
pub(crate) async fn publish(link: &Link, batch: Vec<Outgoing>) -> Vec<Result<Receipt, Error>> {
    let mut progress =
        Progress { answers: batch.iter().map(|_| None).collect(), failures: HashMap::new(), down: None };
    for round in rounds(batch) {
        for part in round.chunks(ROUND_MAX) {
            progress.publish(link, part).await;
        }
    }
    let unanswered = || Err(Error::new(Code::BUS_TIMEOUT, "the message was not sent"));
    progress.answers.into_iter().map(|answer| answer.unwrap_or_else(unanswered)).collect()
}

/// The first of each key, then the second of each key that has one, and so on.
fn rounds(batch: Vec<Outgoing>) -> Vec<Vec<(usize, Key, Outgoing)>> {
    let mut rounds: Vec<Vec<_>> = Vec::new();
    let mut seen: HashMap<Key, usize> = HashMap::new();
    for (index, outgoing) in batch.into_iter().enumerate() {
        let key = (outgoing.to.clone(), SmolStr::new(outgoing.stream.key.as_str()));
        let round = seen.entry(key.clone()).or_default();
        match rounds.get_mut(*round) {
            Some(messages) => messages.push((index, key, outgoing)),
            None => rounds.push(vec![(index, key, outgoing)]),
        }
        *round += 1;
    }
    rounds
}

/// How far a batch has come.
struct Progress {
    answers: Vec<Option<Result<Receipt, Error>>>,
    /// The keys that go no further, and why.
    failures: HashMap<Key, Error>,
    /// Why nothing more is sent.
    down: Option<Error>,
}

impl Progress {
    async fn publish(&mut self, link: &Link, part: &[(usize, Key, Outgoing)]) {
        let mut sending = Vec::with_capacity(part.len());
        let mut letters = Vec::with_capacity(part.len());
        for (index, key, outgoing) in part {
            match self.letter(link, key, outgoing).await {
                Ok(letter) => {
                    letters.push(letter);
                    sending.push((*index, key));
                }
                Err(error) => self.answer(*index, key, Err(error)),
            }
        }
        if letters.is_empty() {
            return;
        }
        match post(link, &letters).await {
            Ok(outcomes) => {
                for (((index, key), letter), outcome) in sending.into_iter().zip(&letters).zip(outcomes) {
                    self.answer(index, key, outcome.map(|()| receipt(letter)));
                }
            }
            Err(error) => {
                sending.into_iter().for_each(|(index, key)| self.answer(index, key, Err(error.clone())));
                self.down = Some(error);
            }
        }
    }

    /// The message, unless it need not be tried.
    async fn letter(&mut self, link: &Link, key: &Key, outgoing: &Outgoing) -> Result<Letter, Error> {
        if let Some(before) = self.failures.get(key) {
            let message = format!("not sent, because one of the same key before it failed: {before}");
            return Err(Error::new(before.code(), message));
        }
        if let Some(down) = &self.down {
            return Err(down.clone());
        }
        let letter = letter(link, outgoing).await;
        self.down = letter.as_ref().err().filter(|error| error.is_retryable()).cloned();
        letter
    }

    fn answer(&mut self, index: usize, key: &Key, answer: Result<Receipt, Error>) {
        if let Err(error) = &answer {
            self.failures.entry(key.clone()).or_insert_with(|| error.clone());
        }
        if let Some(slot) = self.answers.get_mut(index) {
            *slot = Some(answer);
        }
    }
}

fn receipt(letter: &Letter) -> Receipt {
    Receipt { place: format_smolstr!("{}/{}", letter.exchange, letter.routing_key) }
}

/// The message, once it is known to fit and to have an exchange to go to.
async fn letter(link: &Link, outgoing: &Outgoing) -> Result<Letter, Error> {
    let letter = codec::encode(outgoing, &link.config.route)?;
    let channel = outgoing.to.as_str();
    let (bytes, bytes_max) = (letter.bytes(), link.config.message_bytes_max);
    if bytes > bytes_max {
        let reason = format!("it has {bytes} bytes, at most {bytes_max} are allowed");
        return Err(error::too_large(channel, &reason));
    }
    let frame_bytes_max = link.publishing.frame_bytes_max();
    let (bytes, bytes_max) = (letter.header_bytes(), frame_bytes_max.saturating_sub(FRAME_OVERHEAD));
    if bytes > bytes_max {
        let reason = format!(
            "its headers have {bytes} bytes, at most {bytes_max} are allowed, because they go in one frame (`frame_max`)"
        );
        return Err(error::too_large(channel, &reason));
    }
    link.need_exchange(channel).await?;
    Ok(letter)
}
