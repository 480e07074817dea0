//! `ensue projection verify|rebuild|state|diff|blame`: read models compared with a fresh replay of the log, or built anew from it.
//!
//! A read model is code, so this binary knows those of the applications it carries: the shop's and the bank's.

use std::sync::Arc;

use clap::{Args, Subcommand};
use ensue::Projection as _;
use ensue::core::{Code, Error, Store};
use ensue::runtime::projection::{Difference, rebuild, verify};
use ensue_bank::Accounts;
use ensue_shop::OrdersView;
use ensue_shop::analytics::Sales;
use serde::Serialize;

use crate::command::Session;
use crate::failure::Failure;

mod past;

/// Compare read models with the log, build them anew, or look at what they were
#[derive(Subcommand)]
pub(crate) enum Projection {
    /// Replay the log and compare row by row; exit code 4 if they differ
    Verify(Named),
    /// Build the read model anew from the log, and say what differed
    Rebuild(Named),
    /// A document as it was
    State(past::State),
    /// What changed in a document between two moments
    Diff(past::Diff),
    /// Which event last changed a field of a document
    Blame(past::Blame),
}

/// Which one.
#[derive(Args)]
pub(crate) struct Named {
    /// Its name, such as `orders_view`
    name: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Task {
    Verify,
    Rebuild,
}

#[derive(Serialize)]
struct Compared<'a> {
    projection: &'a str,
    rebuilt: bool,
    #[serde(flatten)]
    difference: &'a Difference,
}

impl Projection {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let (task, name) = match self {
            Self::Verify(named) => (Task::Verify, named.name),
            Self::Rebuild(named) => (Task::Rebuild, named.name),
            Self::State(state) => return state.run(session).await,
            Self::Diff(diff) => return diff.run(session).await,
            Self::Blame(blame) => return blame.run(session).await,
        };
        let store: Arc<dyn Store> = Arc::new(session.folder.open()?);
        let difference = match name.as_str() {
            OrdersView::NAME => carry_out(task, || OrdersView, store).await?,
            Sales::NAME => carry_out(task, || Sales, store).await?,
            Accounts::NAME => carry_out(task, || Accounts, store).await?,
            _ => {
                return Err(Error::new(Code::NOT_FOUND, format!("this binary knows no read model `{name}`"))
                    .with_fix("use orders_view, sales or accounts; others are compared by the program that mounts them")
                    .into());
            }
        };
        let rebuilt = task == Task::Rebuild;
        let words = in_words(&name, rebuilt, &difference);
        session.output.one(&Compared { projection: &name, rebuilt, difference: &difference }, &words)?;
        if !rebuilt && !difference.is_none() {
            return Err(Error::new(Code::CHECK_FAILED, format!("{name} differs from the log"))
                .with_fix(format!("`ensue projection rebuild {name}` builds it anew"))
                .into());
        }
        Ok(())
    }
}

async fn carry_out<P: ensue::Projection>(
    task: Task,
    projection: impl Fn() -> P,
    store: Arc<dyn Store>,
) -> Result<Difference, Error> {
    match task {
        Task::Verify => verify(projection(), store).await,
        Task::Rebuild => rebuild(projection(), store).await,
    }
}

fn in_words(name: &str, rebuilt: bool, difference: &Difference) -> String {
    let Difference { events, documents, missing, added, different } = difference;
    let mut lines = vec![format!("{name}: {documents} documents from {events} events")];
    if difference.is_none() {
        lines.push("equal to a fresh replay".to_owned());
    }
    for (what, keys) in [("missing", missing), ("added", added), ("different", different)] {
        lines.extend(keys.iter().map(|key| format!("  {what}: {key}")));
    }
    if rebuilt {
        lines.push("built anew".to_owned());
    }
    lines.join("\n")
}
