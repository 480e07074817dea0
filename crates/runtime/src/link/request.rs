//! Commands over a broker, and their answers: request and reply.
//!
//! A relay takes a command out of the journal of the saga that sends it, and says in attributes who waits for the answer: the
//! journal, the step, and the log that they are in. Where it comes in it is handled like any other command. Its answer is an event
//! that goes back by another relay, and the log that asked puts it into the journal. Both are events on their way: remembered by
//! (source, id), so asked and answered once however often they are delivered.

use ensue_core::{Code, CommandInfo, Draft, Envelope, Error, EventType, Recorded, StreamName, Topic};
use smol_str::SmolStr;

use super::LINK;
use super::log_id::LogId;
use crate::command::Answer;
use crate::message::{self, COMMAND_KEY, REPLY_LOG, REPLY_TO, STEP, extension, set_extension};
use crate::saga::{self, reply_draft};
use crate::spaces;

/// The type of an answer that goes over a link.
const ANSWERED: &str = "ensue.CommandAnswered";

/// One end of a link, as far as it carries commands or answers.
#[derive(Clone)]
pub(crate) struct End {
    name: SmolStr,
    link: SmolStr,
    pub(crate) commands: Vec<&'static str>,
    answers: bool,
}

impl End {
    pub(super) fn new(name: &str, link: &str, commands: &[CommandInfo], answers: bool) -> Self {
        let commands = commands.iter().map(|command| command.command_type).collect();
        Self { name: name.into(), link: link.into(), commands, answers }
    }

    /// Refuses commands that go one way where no answers go the other.
    fn check(&self, back: &[&Self], missing: &str) -> Result<(), Error> {
        let is_answered = back.iter().any(|end| end.answers && end.link == self.link);
        if self.commands.is_empty() || is_answered {
            return Ok(());
        }
        let message =
            format!("{} carries commands, and no {missing} of link {} carries answers", self.name, self.link);
        Err(Error::new(Code::LINK_INVALID, message)
            .with_fix(format!("mount the {missing} with `.link(\"{}\")` and `.answers()`", self.link)))
    }
}

/// Whether each command that comes in is handled here, and each answer finds its way.
pub(crate) fn check(
    relays: &[&End],
    intakes: &[&End],
    is_handled: impl Fn(&str) -> bool,
) -> Result<(), Error> {
    relays.iter().try_for_each(|relay| relay.check(intakes, "intake"))?;
    for intake in intakes {
        intake.check(relays, "relay")?;
        if let Some(command) = intake.commands.iter().find(|command| !is_handled(command)) {
            let message = format!("{} brings {command} in, which nothing here handles", intake.name);
            return Err(Error::new(Code::COMMAND_UNHANDLED, message));
        }
    }
    Ok(())
}

/// What a relay takes out of the log.
#[derive(Clone, Debug)]
pub(crate) enum Outbound {
    /// The events of a topic.
    Topic(Topic),
    /// Commands that sagas send.
    Commands(Vec<EventType>),
}

impl Outbound {
    /// The answers to commands that came in over this link.
    pub(super) fn answers(link: &str) -> Result<Self, Error> {
        answers_topic(link).map(Self::Topic)
    }

    /// All commands of these types.
    pub(super) fn commands(commands: &[CommandInfo]) -> Result<Self, Error> {
        let types = commands.iter().map(|command| EventType::new(command.command_type));
        types.collect::<Result<_, _>>().map(Self::Commands)
    }

    /// Whether an event is one of those.
    pub(super) fn takes(&self, recorded: &Recorded) -> bool {
        match self {
            Self::Topic(topic) => recorded.stream.topic == *topic,
            Self::Commands(types) => types.contains(&recorded.envelope.event_type),
        }
    }

    /// What orders an event among them: a command travels in the stream of its saga, and has a key of its own.
    pub(super) fn key<'a>(&self, recorded: &'a Recorded) -> &'a str {
        let own = match self {
            Self::Topic(_) => None,
            Self::Commands(_) => extension(&recorded.envelope, COMMAND_KEY),
        };
        own.unwrap_or(recorded.stream.key.as_str())
    }

    /// The stream that an event has on its way.
    pub(super) fn stream(&self, recorded: &Recorded) -> StreamName {
        match self {
            Self::Topic(_) => recorded.stream.clone(),
            Self::Commands(_) => {
                let stream =
                    message::command_stream(recorded.envelope.event_type.as_str(), self.key(recorded));
                stream.unwrap_or_else(|_| recorded.stream.clone())
            }
        }
    }

    /// Says in a command in which log its answer is awaited.
    pub(super) fn address(&self, envelope: &mut Envelope, log: &LogId) {
        if matches!(self, Self::Commands(_)) && extension(envelope, REPLY_TO).is_some() {
            set_extension(envelope, REPLY_LOG, log.as_str());
        }
    }
}

fn answers_topic(link: &str) -> Result<Topic, Error> {
    Topic::new(format!("ensue.answers.{link}"))
}

/// The answer to a command that came in over a link, as it waits for the relay that takes it back. `None` if the command did not
/// come in over one.
pub(crate) fn answer_draft(command: &Recorded, answer: &Answer) -> Result<Option<Draft>, Error> {
    let envelope = &command.envelope;
    let (Some(_), Some(link)) = (extension(envelope, REPLY_LOG), extension(envelope, LINK)) else {
        return Ok(None);
    };
    Ok(Some(Draft {
        stream: StreamName { topic: answers_topic(link)?, key: command.stream.key.clone() },
        event_type: EventType::new(ANSWERED)?,
        schema_version: 1,
        tags: Vec::new(),
        data: spaces::encode(answer),
        later: None,
    }))
}

/// Says in an answer whom it is for, as the command does.
pub(crate) fn return_to(command: &Envelope, answer: &mut Envelope) {
    for name in [REPLY_TO, REPLY_LOG, STEP] {
        if let Some(value) = extension(command, name) {
            set_extension(answer, name, value);
        }
    }
}

/// What an intake makes of what comes.
#[derive(Clone, Debug)]
pub(super) enum Inbound {
    Events,
    /// Commands of these types.
    Commands(Vec<SmolStr>),
    Answers,
}

impl Inbound {
    /// Whether this log is the one that it is for. Every log that takes answers from a channel gets those of the others too.
    pub(super) fn is_for(&self, log: &LogId, envelope: &Envelope) -> bool {
        match self {
            Self::Events | Self::Commands(_) => true,
            Self::Answers => extension(envelope, REPLY_LOG) == Some(log.as_str()),
        }
    }
}

/// The stream of a command that came in. One that does not say in which log its answer is awaited is not answered: the journals of this log
/// are nobody else's.
pub(super) fn command(
    taken: &[SmolStr],
    mut envelope: Envelope,
    key: &str,
) -> Result<(StreamName, Envelope), Error> {
    let command_type = envelope.event_type.as_str();
    if !taken.iter().any(|known| known == command_type) {
        let message =
            format!("it is a {command_type}, and this intake takes the commands {}", taken.join(", "));
        return Err(Error::new(Code::UNREADABLE, message)
            .with_fix("send it elsewhere, or mount the intake with `.commands::<C>()` for it too"));
    }
    let stream = message::command_stream(command_type, key)?;
    if extension(&envelope, REPLY_LOG).is_none() {
        envelope.extensions.retain(|(name, _)| name != REPLY_TO);
    }
    Ok((stream, envelope))
}

/// An answer that came in, as it goes into the journal that waits for it.
pub(super) fn answer(mut envelope: Envelope) -> Result<(StreamName, Envelope), Error> {
    let wrong = |why: &str| Error::new(Code::UNREADABLE, format!("it is no answer to a command: {why}"));
    if envelope.event_type.as_str() != ANSWERED {
        return Err(wrong(&format!("it is a {}", envelope.event_type)));
    }
    let journal = extension(&envelope, REPLY_TO).ok_or_else(|| wrong("it does not say what it answers"))?;
    let journal: StreamName = journal.parse()?;
    if !saga::is_journal(&journal) {
        return Err(wrong(&format!("{journal} is no journal of a saga")));
    }
    let step = extension(&envelope, STEP).ok_or_else(|| wrong("it does not say which step it answers"))?;
    let answer: Answer = serde_json::from_slice(&envelope.data).map_err(|cause| wrong(&cause.to_string()))?;
    let draft = reply_draft(journal, step, &answer)?;
    // In a journal these say that an entry is a command.
    envelope.extensions.retain(|(name, _)| name != STEP && name != REPLY_TO);
    (envelope.event_type, envelope.data) = (draft.event_type, draft.data);
    (envelope.content_type, envelope.schema_version) = (Draft::content_type(), draft.schema_version);
    Ok((draft.stream, envelope))
}
