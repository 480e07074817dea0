//! Publishing: what is refused, what is kept, and what the publisher hears of it.

use std::collections::HashMap;

use bytes::Bytes;
use ensue_core::bus::{Message, Mode, Outgoing, Receipt};
use ensue_core::cloudevents::json;
use ensue_core::{BusCapabilities, Channel, Code, Error, Key, Timestamp};
use smol_str::{SmolStr, format_smolstr};

use super::state::State;

/// Answers for each message; once one has failed, those of its channel and key behind it do.
pub(super) fn publish(
    state: &mut State,
    capabilities: &BusCapabilities,
    batch: Vec<Outgoing>,
    now: Timestamp,
) -> Vec<Result<Receipt, Error>> {
    let mut failed: HashMap<(Channel, Key), Error> = HashMap::new();
    let mut answers = Vec::with_capacity(batch.len());
    for outgoing in batch {
        let place = (outgoing.to.clone(), outgoing.stream.key.clone());
        let answer = match failed.get(&place) {
            Some(before) => Err(before.clone()),
            None => publish_one(state, capabilities, &outgoing, now),
        };
        if let Err(error) = &answer {
            failed.insert(place, error.clone());
        }
        answers.push(answer);
    }
    answers
}

fn publish_one(
    state: &mut State,
    capabilities: &BusCapabilities,
    outgoing: &Outgoing,
    now: Timestamp,
) -> Result<Receipt, Error> {
    let channel = &outgoing.to;
    if let Some(error) = state.luck.refused.get(channel.as_str()).cloned() {
        state.luck.strikes += 1;
        return Err(error);
    }
    let message = encode(capabilities, outgoing);
    let bytes = size(&message);
    if bytes > capabilities.message_bytes_max {
        let message =
            format!("{bytes} bytes for `{channel}`, at most {} are allowed", capabilities.message_bytes_max);
        return Err(Error::new(Code::TOO_LARGE, message));
    }
    if !state.has(channel) {
        if capabilities.can_detect_unroutable {
            return Err(Error::new(Code::BUS_UNROUTABLE, format!("there is no channel `{channel}`")));
        }
        return Ok(Receipt { place: SmolStr::default() });
    }
    let id = format!("{} {}", outgoing.envelope.source, outgoing.envelope.id);
    if capabilities.can_deduplicate && !state.is_new(channel, &id) {
        return Ok(Receipt { place: channel.as_str().into() });
    }
    let index = state.keep(channel, Some(outgoing.stream.key.as_str().into()), message, now);
    if state.luck.loses_confirmation() {
        return Err(Error::new(Code::BUS_TIMEOUT, "the confirmation was lost on request"));
    }
    Ok(Receipt { place: format_smolstr!("{channel}#{index}") })
}

fn encode(capabilities: &BusCapabilities, outgoing: &Outgoing) -> Message {
    let Outgoing { stream, envelope, mode, .. } = outgoing;
    match mode {
        Mode::Binary => {
            let mut headers = Vec::new();
            capabilities.binding.write(envelope, Some(stream), |name, value| {
                headers.push((SmolStr::from(name), Bytes::from(value.to_owned())));
            });
            let content_type = Some(envelope.content_type.as_str().into());
            Message { headers, content_type, body: envelope.data.clone() }
        }
        Mode::Structured => {
            let mut body = Vec::new();
            json::write(envelope, Some(stream), &mut body);
            Message { headers: Vec::new(), content_type: Some(json::MEDIA_TYPE.into()), body: body.into() }
        }
    }
}

fn size(message: &Message) -> usize {
    message.body.len() + message.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
}
