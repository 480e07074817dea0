//! Publishing: keys side by side, the messages of one key one behind the other's confirmation.

use std::collections::HashMap;

use ensue_core::bus::{Outgoing, Receipt};
use ensue_core::{Code, Error};
use futures_util::{StreamExt, stream};
use smol_str::format_smolstr;

use crate::client::Link;
use crate::{codec, error};

/// How many keys are under way at once.
const KEYS_MAX: usize = 256;

type Answer = (usize, Result<Receipt, Error>);

/// Answers for each message, in the order in which they were given.
pub(crate) async fn publish(link: &Link, batch: Vec<Outgoing>) -> Vec<Result<Receipt, Error>> {
    let mut keys: HashMap<_, Vec<(usize, Outgoing)>> = HashMap::new();
    for (index, outgoing) in batch.into_iter().enumerate() {
        let key = (outgoing.to.clone(), outgoing.stream.key.clone());
        keys.entry(key).or_default().push((index, outgoing));
    }
    let keys = stream::iter(keys.into_values().map(|messages| publish_key(link, messages)));
    let answers: Vec<Vec<Answer>> = keys.buffer_unordered(KEYS_MAX).collect().await;
    let mut answers: Vec<Answer> = answers.into_iter().flatten().collect();
    answers.sort_unstable_by_key(|(index, _)| *index);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// Once one has failed, those behind it are not sent.
async fn publish_key(link: &Link, messages: Vec<(usize, Outgoing)>) -> Vec<Answer> {
    let mut answers = Vec::with_capacity(messages.len());
    let mut failure: Option<Error> = None;
    for (index, outgoing) in messages {
        let answer = match &failure {
            None => publish_one(link, &outgoing).await,
            Some(before) => {
                let message = format!("not sent, because one of the same key before it failed: {before}");
                Err(Error::new(before.code(), message))
            }
        };
        failure = answer.as_ref().err().cloned().or(failure);
        answers.push((index, answer));
    }
    answers
}

async fn publish_one(link: &Link, outgoing: &Outgoing) -> Result<Receipt, Error> {
    let channel = outgoing.to.as_str();
    let (headers, body) = codec::encode(outgoing);
    let (bytes, bytes_max) = (codec::size(&headers, &body), link.config.message_bytes_max);
    if bytes > bytes_max {
        return Err(error::too_large(
            channel,
            &format!("it has {bytes} bytes, at most {bytes_max} are allowed"),
        ));
    }
    if link.is_down() {
        // The driver would keep it and send it at a time of its own.
        return Err(link.failed(
            &format!("cannot publish to `{channel}`"),
            Code::BUS_UNREACHABLE,
            "no connection",
        ));
    }
    let sent = link.context.publish_with_headers(channel.to_owned(), headers, body).await;
    let confirmed = match sent {
        Ok(confirmation) => confirmation.await,
        Err(cause) => Err(cause),
    };
    let place = match confirmed {
        Ok(place) => place,
        Err(cause) => return Err(link.unpublished(channel, cause).await),
    };
    Ok(Receipt { place: format_smolstr!("{}#{}", place.stream, place.sequence) })
}
