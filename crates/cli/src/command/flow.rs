//! `ensue flow ls|show|stuck|stats|map|lint|fork`.

use clap::Subcommand;
use ensue::runtime::flow::Flows;

use crate::command::Session;
use crate::failure::Failure;
use crate::output::Format;

mod fork;
mod lint;
mod ls;
mod map;
mod mermaid;
mod sequence;
mod show;
mod stats;
mod stuck;

/// Look at flows: where an order is, and why it stopped
#[derive(Subcommand)]
pub(crate) enum Flow {
    /// List the newest flows and how they stand
    Ls(ls::Ls),
    /// One flow as a tree: what happened, what is open, why it stopped
    Show(show::Show),
    /// List the flows that do not go on as they should, each with the reason
    Stuck(stuck::Stuck),
    /// Kinds of flow: the ways they went, how long each step took, and whether the log knows everything
    Stats(stats::Stats),
    /// Services and what passes between them, declared against observed
    Map(map::Map),
    /// What does not hold together in the topology, declared and observed
    Lint(lint::Lint),
    /// Play a flow again in a scratch store, with another event or today's code, and compare
    Fork(fork::Fork),
}

impl Flow {
    /// The drawings it can print besides tables and JSON.
    pub(crate) fn drawings(&self) -> &'static [Format] {
        match self {
            Self::Show(_) => &[Format::Tree, Format::Sequence, Format::Mermaid],
            Self::Map(_) => &[Format::Mermaid],
            _ => &[],
        }
    }

    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        match self {
            Self::Ls(ls) => ls.run(session).await,
            Self::Show(show) => show.run(session).await,
            Self::Stuck(stuck) => stuck.run(session).await,
            Self::Stats(stats) => stats.run(session).await,
            Self::Map(map) => map.run(session).await,
            Self::Lint(lint) => lint.run(session).await,
            Self::Fork(fork) => fork.run(session).await,
        }
    }
}

/// The flows of the folder, as they stand now.
async fn flows(session: &Session) -> Result<Flows, Failure> {
    Ok(Flows::open(session.place.open().await?, session.host.clock.now()).await?)
}
