//! `ensue tail [PATTERN] [--from begin|end|POSITION] [-e] [-n N]`: events as they are, and as they come.

use clap::Args;
use ensue::core::{Code, Direction, Error, Position, Read, Recorded, Select, Store, StoreExt};
use futures_util::TryStreamExt;

use crate::command::Session;
use crate::failure::Failure;
use crate::output::{List, Output};
use crate::pattern::Pattern;
use crate::shape::Shown;

/// Print events, and follow the log
#[derive(Args)]
pub(crate) struct Tail {
    /// A glob over the type, such as `Order*`, or over TOPIC/KEY, such as `Payment/*`
    pattern: Option<String>,
    /// Where to begin: `begin`, `end`, or a position, whose event is the first
    #[arg(long, default_value = "begin", value_name = "begin|end|POSITION")]
    from: String,
    /// Exit at the end instead of waiting for more
    #[arg(short = 'e', long = "exit")]
    exits: bool,
    /// Begin with the last N events
    #[arg(short = 'n', long = "last", value_name = "N", conflicts_with = "from")]
    last: Option<usize>,
}

impl Tail {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let from = self.from()?;
        let store = session.place.open().await?;
        self.follow(&store, from, &mut session.output).await
    }

    async fn follow(
        self,
        store: &dyn Store,
        from: Option<Position>,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let pattern = self.pattern.map_or_else(|| Pattern::new("*"), Pattern::new);
        let mut list = output.list::<Shown<'_>>();
        let mut head = store.head().await?;
        let mut after = from.unwrap_or(head);
        if let Some(count) = self.last {
            let last = last_matching(store, &pattern, head, count).await?;
            last.iter().rev().try_for_each(|recorded| list.push(&Shown(recorded)))?;
            after = head;
        }
        loop {
            let printed = print(store, &pattern, &mut after, head, &mut list).await;
            if self.exits {
                printed?;
                list.finish()?;
                return Ok(());
            }
            list.flush()?;
            if unless_away(printed)?.is_none() {
                continue;
            }
            if let Some(advanced) = unless_away(store.advanced(after).await.map_err(Failure::from))? {
                head = advanced;
            }
        }
    }

    /// Read what comes after this; `None` is the end.
    fn from(&self) -> Result<Option<Position>, Error> {
        match self.from.as_str() {
            "begin" => Ok(Some(Position::ZERO)),
            "end" => Ok(None),
            text => text.parse().map(|position| Some(Position(position).previous())).map_err(|_| {
                let message =
                    format!("`--from {}` is neither begin nor end nor a position", text.escape_debug());
                Error::new(Code::USAGE, message).with_fix("positions are whole numbers from 1 upward")
            }),
        }
    }
}

fn selected(pattern: &Pattern) -> Read {
    match pattern.select() {
        Select::Stream { stream, .. } => Read::stream(stream),
        Select::Query(query) => Read::query(query),
        Select::All | Select::Flow(_) => Read::all(),
    }
}

/// What came of a call; nothing where the store is away for a while, which whoever follows it outlasts.
fn unless_away<T>(answer: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match answer {
        Err(Failure::Coded(error, _)) if error.is_retryable() && error.code() != Code::CLOSED => Ok(None),
        answer => answer.map(Some),
    }
}

/// Prints what matches, and brings `after` forward behind it.
async fn print(
    store: &dyn Store,
    pattern: &Pattern,
    after: &mut Position,
    until: Position,
    list: &mut List<'_>,
) -> Result<(), Failure> {
    let mut events = store.read(selected(pattern).after(*after).until(until));
    while let Some(recorded) = events.try_next().await? {
        if pattern.matches(&recorded) {
            list.push(&Shown(&recorded))?;
        }
        *after = recorded.position;
    }
    *after = until.max(*after);
    Ok(())
}

/// The last events that match, newest first.
async fn last_matching(
    store: &dyn Store,
    pattern: &Pattern,
    head: Position,
    count: usize,
) -> Result<Vec<Recorded>, Error> {
    let read = Read { direction: Direction::Backward, ..selected(pattern).until(head) };
    let mut events = store.read(read);
    let mut last = Vec::new();
    while last.len() < count {
        let Some(recorded) = events.try_next().await? else { break };
        if pattern.matches(&recorded) {
            last.push(recorded);
        }
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use ensue::core::{Append, Commit, EventType, Expected, StreamName};
    use ensue::log::{Config, Log};
    use std::io::{self, Write};
    use tokio::sync::watch;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        tail: Tail,
    }

    /// Shows what was flushed, and only that.
    struct Window {
        pending: Vec<u8>,
        shown: watch::Sender<String>,
    }

    impl Write for Window {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.pending.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            let text = String::from_utf8(std::mem::take(&mut self.pending)).expect("text");
            self.shown.send_modify(|shown| shown.push_str(&text));
            Ok(())
        }
    }

    async fn append(log: &Log, event_type: &str) {
        let event_type = EventType::new(event_type).expect("a type");
        let document = format!(
            r#"{{"specversion":"1.0","id":"{event_type}","source":"test","type":"{event_type}","time":"2024-01-15T10:30:00Z"}}"#
        );
        let event = ensue::core::cloudevents::json::parse(document.as_bytes()).expect("an event");
        let stream = StreamName::new("Test", "1").expect("a stream");
        let events = vec![event.into_envelope().expect("it is complete")];
        let appends = vec![Append { stream, expected: Expected::Any, events }];
        log.commit(Commit { appends, ..Commit::default() }).await.expect("there is room");
    }

    #[tokio::test]
    async fn whoever_follows_sees_each_match_as_soon_as_it_is_stored() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = Config::new(ensue::runtime::host::system());
        let log = Log::open(folder.path().join("data"), config).expect("an empty folder");
        append(&log, "OrderPlaced").await;
        let (shown, mut seen) = watch::channel(String::new());
        let mut output = Output::to(Window { pending: Vec::new(), shown });
        let tail = Line::parse_from(["tail", "Order*"]).tail;
        let from = tail.from().expect("the beginning");
        let feed = async {
            seen.wait_for(|shown| shown.contains("OrderPlaced")).await.expect("tail runs");
            append(&log, "PaymentCompleted").await;
            append(&log, "OrderPaid").await;
            seen.wait_for(|shown| shown.contains("OrderPaid")).await.expect("tail runs").clone()
        };
        let text = tokio::select! {
            ended = tail.follow(&log, from, &mut output) => panic!("it follows for ever: {ended:?}"),
            text = feed => text,
        };
        assert!(!text.contains("PaymentCompleted"), "{text}");
    }
}
