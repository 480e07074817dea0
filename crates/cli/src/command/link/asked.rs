//! `ensue link pause|resume|seek NAME --reason R`: what an operator asks of a link. It is kept in the store, and the processes that run the
//! link follow; one that starts later too.

use std::time::Duration;

use clap::Args;
use ensue::core::bus::Seek;
use ensue::core::{Code, Error, Store, Timestamp};
use ensue::runtime::link::{self, SeekOutcome, Wanted};
use serde::Serialize;

use crate::command::Session;
use crate::failure::Failure;

/// How often it is looked what came of it.
const LOOK: Duration = Duration::from_millis(200);

/// Which link, and why.
#[derive(Args)]
pub(crate) struct Asked {
    /// A link, or one relay or intake of it by the name that `link ls` prints
    #[arg(value_name = "NAME")]
    link: String,
    /// Why, for whoever asks later
    #[arg(long)]
    reason: String,
}

/// Which link, where to, and why.
#[derive(Args)]
pub(crate) struct SeekTo {
    #[command(flatten)]
    asked: Asked,
    /// `begin`, `end`, or a time: the first message published then or later
    #[arg(long, value_parser = place, value_name = "PLACE")]
    to: Seek,
    /// How long to wait for an answer of the process that runs the link, in seconds
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    wait: u64,
}

/// The shape that `docs/cli.md` promises.
#[derive(Serialize)]
struct Done<'a> {
    request: &'static str,
    names: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
}

impl Asked {
    pub(crate) async fn run(self, session: &mut Session, wanted: Wanted) -> Result<(), Failure> {
        let store = session.place.open().await?;
        let names = texts(&link::ask(&*store, &self.link, wanted, &self.reason).await?);
        let (request, words) = match wanted {
            Wanted::Pause => {
                ("pause", "pauses as soon as its process hears of it, and stays so until it is resumed")
            }
            Wanted::Resume => ("resume", "goes on as soon as its process hears of it"),
            Wanted::Seek(_) => ("seek", "goes on from elsewhere as soon as its process hears of it"),
        };
        let done = Done { request, names: &names, outcome: None };
        session.output.one(&done, &format!("{}: {words}", names.join(", ")))?;
        Ok(())
    }
}

impl SeekTo {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let store = session.place.open().await?;
        let Asked { link, reason } = &self.asked;
        let names = texts(&link::ask(&*store, link, Wanted::Seek(self.to), reason).await?);
        let mut outcome = SeekOutcome::Done;
        for name in &names {
            outcome = self.heard(session, &*store, name).await?;
            if outcome != SeekOutcome::Done {
                break;
            }
        }
        let (word, words) = match &outcome {
            SeekOutcome::Refused(trouble) => {
                let error = format!("{} {}", trouble.code, trouble.message);
                return Err(Error::new(
                    Code::CHECK_FAILED,
                    format!("it does not go on from elsewhere: {error}"),
                )
                .with_fix(trouble.fix.clone())
                .into());
            }
            SeekOutcome::Done => ("done", "goes on from there"),
            SeekOutcome::UnderWay => ("under_way", "is about to go on from there"),
            SeekOutcome::Unheard => {
                ("unheard", "goes on from there when a process runs the link: none has heard of it yet")
            }
        };
        let done = Done { request: "seek", names: &names, outcome: Some(word) };
        session.output.one(&done, &format!("{}: {words}", names.join(", ")))?;
        Ok(())
    }

    /// Waits until a process has seen to it, no longer than was said.
    async fn heard(&self, session: &Session, store: &dyn Store, name: &str) -> Result<SeekOutcome, Error> {
        let clock = &session.host.clock;
        let deadline = clock.monotonic() + Duration::from_secs(self.wait);
        loop {
            let outcome = link::outcome(store, name).await?;
            let is_open = matches!(outcome, SeekOutcome::Unheard | SeekOutcome::UnderWay);
            if !is_open || clock.monotonic() >= deadline {
                return Ok(outcome);
            }
            clock.sleep(LOOK).await;
        }
    }
}

fn texts(names: &[impl ToString]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn place(text: &str) -> Result<Seek, String> {
    match text {
        "begin" => Ok(Seek::Begin),
        "end" => Ok(Seek::End),
        time => time
            .parse::<Timestamp>()
            .map(Seek::At)
            .map_err(|_| "use begin, end, or a time such as 2026-01-15T10:30:00Z".to_owned()),
    }
}
