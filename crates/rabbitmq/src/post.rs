//! Posting: messages that may be under way at the same time, sent on a channel that nobody else uses, and judged together.
//!
//! A message that is routed to no queue comes back before it is confirmed, and the driver hands it over with whichever confirmation
//! arrives next, which need not be its own. So it is compared with what was sent, once all is known.

use std::sync::{Mutex, PoisonError};

use ensue_core::{Code, Error};
use futures_util::FutureExt;
use futures_util::future::{join_all, poll_fn};
use lapin::message::BasicReturnMessage;
use lapin::options::BasicPublishOptions;
use lapin::{Channel, Confirmation, PublisherConfirm};
use std::task::Poll;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::client::Link;
use crate::codec::Letter;
use crate::error;

/// How many channels publish at once; whoever needs one more waits.
const CHANNELS_MAX: usize = 32;

/// The channels of those who publish, each used by one at a time.
pub(crate) struct Post {
    turns: Semaphore,
    idle: Mutex<Vec<Channel>>,
}

type Answer = Option<lapin::Result<Confirmation>>;

impl Post {
    pub(crate) fn new() -> Self {
        Self { turns: Semaphore::new(CHANNELS_MAX), idle: Mutex::default() }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Channel>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends and waits until the broker has each safely, or is known not to. The outer error says that nothing was sent.
pub(crate) async fn post(link: &Link, letters: &[Letter]) -> Result<Vec<Result<(), Error>>, Error> {
    const TRYING: &str = "cannot publish";
    let _turn = link.post.turns.acquire().await;
    link.publishing.ready(TRYING).await?;
    let idle = std::iter::from_fn(|| link.post.idle().pop()).find(|channel| channel.status().connected());
    let channel = match idle {
        Some(channel) => channel,
        None => link.publishing.publisher(TRYING).await?,
    };
    let deadline = Instant::now() + link.config.answer_within;
    // The first poll numbers a message and puts it in line, so the numbers are those under which it is confirmed.
    let sending = join_all(letters.iter().map(|letter| send(&channel, letter)));
    let Ok(sent) = timeout_at(deadline, sending).await else {
        return Ok(letters.iter().map(|_| Err(open(&link.publishing.silent(TRYING)))).collect());
    };
    let answers = await_answers(sent, deadline).await;
    if answers.iter().all(|answer| matches!(answer, Some(Ok(_)))) {
        link.post.idle().push(channel);
    }
    Ok(judge(link, letters, answers))
}

async fn send(channel: &Channel, letter: &Letter) -> lapin::Result<PublisherConfirm> {
    let Letter { exchange, routing_key, properties, body } = letter;
    let mandatory = BasicPublishOptions { mandatory: true, immediate: false };
    channel.basic_publish(exchange.clone(), routing_key.clone(), mandatory, body, properties.clone()).await
}

/// Waits for all answers, or until the time is over.
async fn await_answers(sent: Vec<lapin::Result<PublisherConfirm>>, deadline: Instant) -> Vec<Answer> {
    let mut answers: Vec<Answer> = Vec::with_capacity(sent.len());
    let mut waiting = Vec::with_capacity(sent.len());
    for (index, sent) in sent.into_iter().enumerate() {
        match sent {
            Ok(confirm) => {
                waiting.push((index, confirm));
                answers.push(None);
            }
            Err(cause) => answers.push(Some(Err(cause))),
        }
    }
    let mut keep = |index: usize, answer| {
        if let Some(slot) = answers.get_mut(index) {
            *slot = Some(answer);
        }
    };
    let all = poll_fn(|context| {
        waiting.retain_mut(|(index, confirm)| match confirm.poll_unpin(context) {
            Poll::Ready(answer) => {
                keep(*index, answer);
                false
            }
            Poll::Pending => true,
        });
        if waiting.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    });
    let is_over = timeout_at(deadline, all).await.is_err();
    if is_over {
        // One that was confirmed a moment ago may hold the message of another one that was. What is confirmed by now is left open.
        for (index, confirm) in &mut waiting {
            if let Some(Ok(Confirmation::Ack(Some(back)) | Confirmation::Nack(Some(back)))) =
                confirm.now_or_never()
            {
                keep(*index, Ok(Confirmation::Nack(Some(back))));
            }
        }
    }
    answers
}

/// What became of each.
fn judge(link: &Link, letters: &[Letter], answers: Vec<Answer>) -> Vec<Result<(), Error>> {
    let mut back = Vec::new();
    let answers: Vec<_> = answers
        .into_iter()
        .map(|answer| match answer {
            Some(Ok(Confirmation::Ack(message))) => {
                back.extend(message);
                Ok(true)
            }
            Some(Ok(Confirmation::Nack(message))) => {
                back.extend(message);
                Ok(false)
            }
            Some(Ok(Confirmation::NotRequested)) | None => Err(None),
            Some(Err(cause)) => Err(Some(cause)),
        })
        .collect();
    let pairs = letters.iter().zip(answers);
    pairs
        .map(|(letter, answer)| {
            if back.iter().any(|message| is_of(message, letter)) {
                return Err(error::unroutable(letter.exchange.as_str(), letter.routing_key.as_str()));
            }
            let trying = format!("cannot publish to `{}`", letter.exchange);
            match answer {
                Ok(true) => Ok(()),
                Ok(false) => Err(Error::new(
                    Code::BUS_TIMEOUT,
                    format!(
                        "{trying}: the broker could not keep it: a queue is full, or has lost its majority"
                    ),
                )),
                Err(None) => Err(open(&link.publishing.silent(&trying))),
                Err(Some(cause)) => Err(unsent(link, letter, &trying, cause)),
            }
        })
        .collect()
}

/// Whether this is the message that came back. Equal ones are routed equally, so any of them will do.
fn is_of(message: &BasicReturnMessage, letter: &Letter) -> bool {
    message.exchange == letter.exchange
        && message.routing_key == letter.routing_key
        && message.properties == letter.properties
}

/// The error for a message whose channel has ended. The broker ends it for one message, and the others on it suffer.
fn unsent(link: &Link, letter: &Letter, trying: &str, cause: lapin::Error) -> Error {
    let failure = error::failed(trying, cause);
    let exchange = letter.exchange.as_str();
    match failure.code() {
        Code::BUS_UNROUTABLE if failure.message().contains(&format!("no exchange '{exchange}'")) => {
            link.forget(exchange);
            failure
        }
        Code::BUS_DENIED if failure.message().contains(&format!("exchange '{exchange}'")) => failure,
        Code::TOO_LARGE => failure,
        Code::BUS_TOPOLOGY if failure.message().contains("larger than") => {
            error::too_large(exchange, failure.message())
        }
        _ => open(&failure),
    }
}

/// The error for a message that was sent and whose confirmation did not come.
fn open(failure: &Error) -> Error {
    Error::new(Code::BUS_TIMEOUT, format!("{}; the broker has the message, or not", failure.message()))
        .with_source(failure.clone())
}
