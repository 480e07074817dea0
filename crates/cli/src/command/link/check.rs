//! `ensue link check`: connects to each broker and compares it with what the links need. Moves nothing and makes nothing.

use std::sync::Arc;

use clap::Args;
use ensue::core::bus::{Declare, Topology};
use ensue::core::{Bus, Code, Error, Kind, Store};
use ensue::runtime::link;
use serde::Serialize;

use super::Given;
use crate::command::Session;
use crate::failure::Failure;
use crate::link::Link;
use crate::output::{Row, short};

/// Connect, and say what is missing in the broker; moves nothing and makes nothing
#[derive(Args)]
pub(crate) struct Check {
    #[command(flatten)]
    given: Given,
}

/// One line of the comparison.
#[derive(Serialize)]
struct Compared {
    link: String,
    backend: String,
    outcome: Outcome,
    what: String,
}

/// What became of one thing that a link needs.
#[derive(Serialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// It is there.
    Found,
    /// It is not there, and `run` makes it.
    Missing,
    /// It cannot work as it is.
    Wrong,
    /// The broker does not answer, so nobody knows.
    Unreachable,
}

impl Row for Compared {
    const HEADINGS: &'static [&'static str] = &["link", "backend", "outcome", "what"];

    fn cells(&self) -> Vec<String> {
        let outcome = match self.outcome {
            Outcome::Found => "found",
            Outcome::Missing => "missing",
            Outcome::Wrong => "wrong",
            Outcome::Unreachable => "unreachable",
        };
        vec![short(&self.link, 40), self.backend.clone(), outcome.to_owned(), short(&self.what, 600)]
    }
}

impl Check {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let links = self.given.links()?;
        let store = session.place.open_if_there().await?;
        let mut compared = Vec::new();
        for (name, link) in &links {
            let store = store.as_deref();
            let lines = match compare(name, link, store).await {
                Ok(lines) => lines,
                Err(error) => {
                    let is_away = error.kind() == Kind::Unavailable;
                    let outcome = if is_away { Outcome::Unreachable } else { Outcome::Wrong };
                    vec![(outcome, format!("{error}; {}", error.fix()))]
                }
            };
            let line = |(outcome, what)| Compared {
                link: name.clone(),
                backend: link.backend.clone(),
                outcome,
                what,
            };
            compared.extend(lines.into_iter().map(line));
        }
        session.output.all(&compared)?;
        let count = |outcome| compared.iter().filter(|line| line.outcome == outcome).count();
        let (wrong, unreachable) = (count(Outcome::Wrong), count(Outcome::Unreachable));
        if wrong > 0 {
            let message = format!("{wrong} of {} links cannot work as they are", links.len());
            return Err(Error::new(Code::CHECK_FAILED, message).into());
        }
        if unreachable > 0 {
            let message = format!("the brokers of {unreachable} of {} links do not answer", links.len());
            return Err(Error::new(Code::BUS_UNREACHABLE, message).into());
        }
        Ok(())
    }
}

async fn compare(
    name: &str,
    link: &Link,
    store: Option<&dyn Store>,
) -> Result<Vec<(Outcome, String)>, Error> {
    let bus: Arc<dyn Bus> = link.open(name).await?;
    link.mount(name, &bus, ensue::App::new("check")).check_declared()?;
    let mut topology = Topology::default();
    for relay in link.relays(name, &bus) {
        topology.targets.extend(relay.topology()?.targets);
    }
    let group = link::group_of(store, name).await?;
    for intake in link.intakes(name, &bus) {
        topology.sources.extend(intake.topology(group.as_str())?.sources);
    }
    let declared = bus.declare(&topology, Declare::DryRun).await?;
    let missing = if link.declares() { Outcome::Missing } else { Outcome::Wrong };
    let found = declared.found.into_iter().map(|line| (Outcome::Found, line));
    Ok(found.chain(declared.missing.into_iter().map(|line| (missing, line))).collect())
}
