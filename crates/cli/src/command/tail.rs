//! `ensue tail [PATTERN] [--from begin|end|POSITION] [-e] [-n N]`: events as they are, and as they come.

use clap::Args;
use ensue::core::{Code, Direction, Error, Position, Read, Recorded, Select, Store, StoreExt};
use futures_util::TryStreamExt;

use crate::command::Session;
use crate::failure::Failure;
use crate::output::List;
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
        let store = session.folder.open()?;
        let pattern = self.pattern.map_or_else(|| Pattern::new("*"), Pattern::new);
        let mut list = session.output.list::<Shown<'_>>();
        let mut head = store.head().await?;
        let mut after = from.unwrap_or(head).min(head);
        if let Some(count) = self.last {
            let last = last_matching(&store, &pattern, head, count).await?;
            last.iter().rev().try_for_each(|recorded| list.push(&Shown(recorded)))?;
            after = head;
        }
        loop {
            print(&store, &pattern, after, head, &mut list).await?;
            if self.exits {
                list.finish()?;
                return Ok(());
            }
            list.flush()?;
            after = head;
            head = store.advanced(after).await?;
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

async fn print(
    store: &dyn Store,
    pattern: &Pattern,
    after: Position,
    until: Position,
    list: &mut List<'_>,
) -> Result<(), Failure> {
    let mut events = store.read(selected(pattern).after(after).until(until));
    while let Some(recorded) = events.try_next().await? {
        if pattern.matches(&recorded) {
            list.push(&Shown(&recorded))?;
        }
    }
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
