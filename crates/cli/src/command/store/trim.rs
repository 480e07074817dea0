//! `ensue store trim`: drops events that are past their time.
//!
//! Invariant: nothing goes that a lane has not come to, that is a dead letter, or that a read model is being built from, unless its
//! subscription was named to be passed over.

use clap::Args;
use ensue::core::{Position, StoreExt, Topic};
use ensue::runtime::sharing::{Need, Reason, needs};
use ensue_postgres::{PostgresStore, Retention, Trimmed};
use serde::Serialize;

use super::retention::open;
use crate::command::Session;
use crate::failure::Failure;
use crate::find;
use crate::output::Row;

/// Drop events that are past their time and that no subscription needs any more
///
/// Of each topic that `ensue store retain` has named. Call it again and again, such as every hour: a partition takes events for an eighth of the
/// time, or for as long as nobody calls.
#[derive(Args)]
pub(crate) struct Trim {
    /// Do not wait for this subscription, such as one that is no longer run
    #[arg(long, value_name = "SUBSCRIPTION")]
    without: Vec<String>,
}

#[derive(Serialize)]
struct Dropped {
    topic: Topic,
    events: u64,
    until: Position,
}

impl Row for Dropped {
    const HEADINGS: &'static [&'static str] = &["topic", "events", "until"];

    fn cells(&self) -> Vec<String> {
        vec![self.topic.to_string(), self.events.to_string(), self.until.to_string()]
    }
}

impl Trim {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let store = open(session).await?;
        let mut needs = needs(&store).await?;
        for name in &self.without {
            if needs.iter().all(|need| need.subscription != *name) {
                find::handler(&store, name, &format!("subscription {name}")).await?;
            }
        }
        needs.retain(|need| !self.without.iter().any(|name| need.subscription == *name));
        let upto = match needs.first() {
            Some(need) => need.after,
            None => store.head().await?,
        };
        let mut trimmed = Vec::new();
        let outcome = store.trim(upto, &mut trimmed).await;
        let dropped = |Trimmed { topic, events, until }| Dropped { topic, events, until };
        let dropped: Vec<Dropped> = trimmed.into_iter().map(dropped).collect();
        // Also where it broke off: what is gone is gone.
        session.output.all(&dropped)?;
        outcome?;
        let held = held(&store, needs.first()).await?;
        for words in &held {
            session.output.say(words);
        }
        if dropped.is_empty() && held.is_empty() {
            session.output.say("nothing is past its time that could be dropped");
        }
        Ok(())
    }
}

/// What is past its time and waits for somebody, rather than for the rest of its partition.
async fn held(store: &PostgresStore, need: Option<&Need>) -> Result<Vec<String>, Failure> {
    let Some(need) = need else { return Ok(Vec::new()) };
    let retention = store.retention().await?.into_iter();
    let held = retention.filter(|kept| kept.due.is_some_and(|due| need.after < due));
    let words = |kept: Retention| {
        format!("events of {} are past their time and stay: {}", kept.topic, in_words(need))
    };
    Ok(held.map(words).collect())
}

fn in_words(need: &Need) -> String {
    let Need { subscription, after, reason } = need;
    let next = after.next();
    match reason {
        Reason::Lane => {
            format!("{subscription} has not come to position {next} yet (`ensue subscription ls`)")
        }
        Reason::Letters => {
            format!("{subscription} has set aside the event at position {next} (`ensue dead ls`)")
        }
        Reason::Build => format!(
            "{subscription} is being built anew; where that was interrupted, build it again (`ensue projection rebuild`)"
        ),
    }
}
