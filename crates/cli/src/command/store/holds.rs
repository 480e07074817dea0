//! `ensue store holds`: whose open transaction keeps events from being read, or streams from being written.

use ensue::Timestamp;
use ensue_postgres::Hold;
use serde::Serialize;

use crate::command::Session;
use crate::failure::Failure;
use crate::output::{Row, short};

#[derive(Serialize)]
struct Held {
    process: Option<i32>,
    user: String,
    application: String,
    client: String,
    state: String,
    since: Timestamp,
    /// Sessions that wait for it.
    waiting: i64,
    statement: String,
    /// The statement that ends it.
    end: String,
}

impl Row for Held {
    const HEADINGS: &'static [&'static str] =
        &["process", "user", "application", "client", "state", "since", "waiting", "statement", "end"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.process.map_or_else(|| "-".to_owned(), |process| process.to_string()),
            self.user.clone(),
            self.application.clone(),
            self.client.clone(),
            self.state.clone(),
            self.since.to_string(),
            self.waiting.to_string(),
            short(&self.statement, 60),
            self.end.clone(),
        ]
    }
}

/// Lists them, the oldest first.
pub(crate) async fn run(session: &mut Session) -> Result<(), Failure> {
    let holds = session.place.open_postgres().await?.holds().await?;
    let held: Vec<Held> = holds.into_iter().map(Held::from).collect();
    session.output.all(&held)?;
    Ok(())
}

impl From<Hold> for Held {
    fn from(hold: Hold) -> Self {
        let Hold { process, user, application, client, state, since, waiting, statement, end } = hold;
        Self { process, user, application, client, state, since, waiting, statement, end }
    }
}
