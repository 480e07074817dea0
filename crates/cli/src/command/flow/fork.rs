//! `ensue flow fork KEY [--change POSITION=BODY] [--until POSITION] [--run HANDLER]`: what would have happened.
//!
//! A fork needs the code of the application, so this binary forks the flows of the shop. Nothing of the folder changes, and
//! nobody outside is called: handlers answer from the record, and those that `--run` names work with a provider, a warehouse
//! and a carrier of their own that are gone afterwards.

use std::sync::Arc;

use clap::Args;
use ensue::core::{Code, Error, Position, Store};
use ensue::log::{Config, Log};
use ensue::runtime::fork::{self, ForkReport, Moved};
use ensue::runtime::{App, Catalogue};
use ensue_shop::{Style, demo, style};

use crate::command::Session;
use crate::document;
use crate::failure::Failure;
use crate::scratch::Scratch;
use crate::words::count;

/// Play a flow again in a scratch store, with another event or today's code, and compare
#[derive(Args)]
pub(crate) struct Fork {
    /// The business key of the event that began it, such as ORD-5001, or the id of the flow
    key: String,
    /// Give the event at a position another body, as JSON; can be given several times
    #[arg(long, value_name = "POSITION=BODY")]
    change: Vec<String>,
    /// Count the record only up to this position
    #[arg(long, value_name = "POSITION")]
    until: Option<u64>,
    /// Let the code of this handler run, or of `all`; the others answer from the record. Can be given several times
    #[arg(long, value_name = "HANDLER")]
    run: Vec<String>,
}

impl Fork {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let store: Arc<dyn Store> = session.place.open().await?;
        let style = style_of(&*store).await?;
        let mut fork = fork::Fork::of(Arc::clone(&store), &self.key).await?;
        if let Some(until) = self.until {
            fork = fork.until(Position(until));
        }
        for change in &self.change {
            let (position, body) = parse(change)?;
            let body = document::json_argument("--change", body)?;
            fork = fork.change(position, body);
        }
        for handler in &self.run {
            fork = if handler == "all" { fork.run_all() } else { fork.run(handler) };
        }
        let scratch = Scratch::anywhere(session.place.folder())?;
        let log = Log::open(scratch.path(), Config::new(session.host.clone()))?;
        let outside = demo::stand_in(&*store, style, &scratch.path().join("outside")).await?;
        let app: App = style.app(Arc::new(log.clone()), &outside);
        let report = fork.play(app, log.clone()).await?;
        log.close()?;
        session.output.one(&report, &in_words(&report))?;
        Ok(())
    }
}

fn parse(change: &str) -> Result<(Position, &str), Error> {
    let parts = change.split_once('=').and_then(|(position, body)| Some((position.parse().ok()?, body)));
    let (position, body) = parts.ok_or_else(|| {
        Error::new(Code::USAGE, format!("`{}` is not POSITION=BODY", change.escape_debug()))
            .with_fix("write for instance --change '17={\"order_id\":\"ORD-1\"}'; `ensue flow show` lists the positions")
    })?;
    Ok((Position(position), body))
}

/// How the shop of this store serves its orders.
async fn style_of(store: &dyn Store) -> Result<Style, Error> {
    let all = Catalogue::load(store).await?;
    let Some(shop) = all.iter().find(|catalogue| catalogue.application == style::APPLICATION) else {
        return Err(Error::new(
            Code::UNSUPPORTED,
            "a fork needs the code of the application, and this binary has only the shop's",
        )
        .with_fix("fork in the program that mounts the handlers: `ensue::runtime::Fork`"));
    };
    let has_saga =
        shop.handlers.iter().any(|handler| handler.kind == ensue::runtime::catalogue::HandlerKind::Saga);
    Ok(if has_saga { Style::Saga } else { Style::Choreography })
}

fn in_words(report: &ForkReport) -> String {
    let status = |summary: &Option<ensue::runtime::flow::FlowSummary>| {
        summary.as_ref().map_or("nothing of it is there", |summary| summary.status.as_str())
    };
    let mut lines =
        vec![format!("{}  was {}, would be {}", report.key, status(&report.before), status(&report.after))];
    lines.push(format!("  {} as before", count(report.same, "event")));
    lines.extend(report.missing.iter().map(|event| line("−", event)));
    lines.extend(report.added.iter().map(|event| line("+", event)));
    for event in &report.changed {
        lines.push(line("~", event));
        lines.extend(event.fields.iter().map(|changed| {
            let value = |side: &Option<Box<serde_json::value::RawValue>>| {
                side.as_ref().map_or_else(|| "nothing".to_owned(), |raw| crate::output::short(raw.get(), 60))
            };
            format!("      {}: {} → {}", changed.field, value(&changed.before), value(&changed.after))
        }));
    }
    for call in &report.suppressed {
        lines.push(format!(
            "  ! {} would be called with {} of {}; `--run {}` lets its code run",
            call.handler, call.event_type, call.stream, call.handler
        ));
    }
    if report.not_replayed > 0 {
        let foreign = count(report.not_replayed, "event");
        lines.push(format!("  {foreign} of other flows in these streams not replayed"));
    }
    lines.join("\n")
}

fn line(sign: &str, event: &Moved) -> String {
    let position = event.position.map(|position| format!(" #{position}")).unwrap_or_default();
    let data = event.data.as_ref().map(|raw| crate::output::short(raw.get(), 80)).unwrap_or_default();
    format!("  {sign} {} {}{position}  {data}", event.event_type, event.stream)
}
