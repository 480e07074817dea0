//! `ensue timer ls|show|cancel|reschedule|fire`: what is set for later, and changing it.

use std::sync::Arc;

use clap::{Args, Subcommand};
use ensue::core::{Code, Error, EventId, Source, Store, Timestamp};
use ensue::runtime::timer::{Action, Filter, Timer as Set, TimerId, Timers};
use serde::Serialize;

use crate::command::Session;
use crate::failure::Failure;
use crate::output::{Row, short};
use crate::shape;

/// Who changes timers, for the record.
const SOURCE: &str = "ensue-cli";

/// Look at what is set for later, and change it
#[derive(Subcommand)]
pub(crate) enum Timer {
    /// List timers by due time
    Ls(Ls),
    /// One timer
    Show(Named),
    /// It does not fire any more
    Cancel(Change),
    /// It is due at another time
    Reschedule(Reschedule),
    /// It is due now
    Fire(Change),
}

/// List timers by due time
#[derive(Args)]
pub(crate) struct Ls {
    /// Only those of this flow
    #[arg(long)]
    flow: Option<String>,
    /// Only those of this owner: a stream such as Order/ORD-1 or saga.fulfil/ORD-1, or a handler
    #[arg(long)]
    owner: Option<String>,
    /// Only those that are due by this time
    #[arg(long, value_name = "TIME")]
    due_by: Option<String>,
}

/// Which timer.
#[derive(Args)]
pub(crate) struct Named {
    /// Whose: a stream or a handler
    owner: String,
    /// Which of the owner's
    name: String,
}

/// Which timer, and why it is changed.
#[derive(Args)]
pub(crate) struct Change {
    #[command(flatten)]
    named: Named,
    /// Why; kept as an event of the timer's flow
    #[arg(long)]
    reason: String,
    /// Only say which timer it is
    #[arg(long)]
    dry_run: bool,
}

/// It is due at another time
#[derive(Args)]
pub(crate) struct Reschedule {
    #[command(flatten)]
    change: Change,
    /// When, such as 2024-01-15T10:30:00Z
    #[arg(long, value_name = "TIME")]
    to: String,
}

#[derive(Serialize)]
struct Line(Set);

impl Row for Line {
    const HEADINGS: &'static [&'static str] = &["due", "owner", "name", "does", "flow"];

    fn cells(&self) -> Vec<String> {
        let timer = &self.0;
        vec![
            shape::time(timer.due),
            timer.owner.to_string(),
            timer.name.to_string(),
            short(&does(&timer.action), 60),
            timer.flow.to_string(),
        ]
    }
}

/// What was done to a timer.
#[derive(Serialize)]
struct Changed {
    done: &'static str,
    dry_run: bool,
    timer: Set,
}

/// What is asked of one timer.
#[derive(Clone, Copy)]
enum Ask {
    Cancel,
    Move(Timestamp),
    Fire,
}

impl Timer {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        match self {
            Self::Ls(ls) => ls.run(session).await,
            Self::Show(named) => {
                let timer = timers(session).await?.get(&named.id()).await?;
                let words = in_words(&timer);
                Ok(session.output.one(&timer, &words)?)
            }
            Self::Cancel(change) => change.run(session, Ask::Cancel).await,
            Self::Reschedule(Reschedule { change, to }) => change.run(session, Ask::Move(time(&to)?)).await,
            Self::Fire(change) => change.run(session, Ask::Fire).await,
        }
    }
}

impl Ls {
    async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let filter = Filter {
            flow: self.flow.map(EventId::new).transpose()?,
            owner: self.owner.map(Into::into),
            due_by: self.due_by.as_deref().map(time).transpose()?,
        };
        let timers = timers(session).await?;
        let lines: Vec<Line> = timers.list(&filter).await?.into_iter().map(Line).collect();
        session.output.all(&lines)?;
        for broken in timers.broken().await? {
            session.output.say(&format!("set aside: {} {}: {}", broken.code, broken.reason, broken.timer));
        }
        Ok(())
    }
}

impl Named {
    fn id(&self) -> TimerId {
        TimerId { owner: self.owner.as_str().into(), name: self.name.as_str().into() }
    }
}

impl Change {
    async fn run(self, session: &mut Session, ask: Ask) -> Result<(), Failure> {
        let (timers, id) = (timers(session).await?, self.named.id());
        let timer = match ask {
            Ask::Cancel if self.dry_run => {
                let timer = timers.get(&id).await?;
                timer.can_be_cancelled()?;
                timer
            }
            _ if self.dry_run => timers.get(&id).await?,
            Ask::Cancel => timers.cancel(&id, &self.reason).await?,
            Ask::Move(due) => timers.reschedule(&id, due, &self.reason).await?,
            Ask::Fire => timers.fire(&id, &self.reason).await?,
        };
        let done = match ask {
            Ask::Cancel => "cancelled",
            Ask::Move(_) => "rescheduled",
            Ask::Fire => "due now",
        };
        let would = if self.dry_run { "would be " } else { "" };
        let words = format!("{would}{done}: {}", in_words(&timer));
        session.output.one(&Changed { done, dry_run: self.dry_run, timer }, &words)?;
        Ok(())
    }
}

async fn timers(session: &Session) -> Result<Timers, Error> {
    let store: Arc<dyn Store> = session.place.open().await?;
    Ok(Timers::of(store, session.host.clone(), Source::new(SOURCE)?))
}

fn time(text: &str) -> Result<Timestamp, Error> {
    text.parse().map_err(|_| {
        Error::new(Code::USAGE, format!("`{}` is not a time", text.escape_debug()))
            .with_fix("write a time such as `2024-01-15T10:30:00Z`")
    })
}

fn in_words(timer: &Set) -> String {
    let does = does(&timer.action);
    format!("{} {} at {}: {does} (flow {})", timer.owner, timer.name, shape::time(timer.due), timer.flow)
}

fn does(action: &Action) -> String {
    match action {
        Action::Wake => "wakes the saga".to_owned(),
        Action::Redrive(redrive) => format!("redrives {}", redrive.key),
        Action::Tick => "ticks".to_owned(),
        Action::Append { stream, event } => format!("appends {} to {stream}", event.event_type),
        Action::Deliver { key, position } => format!("delivers #{position} of {key} again"),
    }
}
