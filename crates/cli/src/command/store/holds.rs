//! `ensue store holds`: whose open transaction keeps events from being read, streams from being written, or the server from cleaning up.

use ensue::Timestamp;
use ensue_postgres::Hold;
use serde::Serialize;

use crate::command::Session;
use crate::failure::Failure;
use crate::output::{Row, short};

#[derive(Serialize)]
struct Held {
    /// What it holds back.
    holds: &'static str,
    process: Option<i32>,
    user: String,
    application: String,
    client: String,
    state: String,
    since: Option<Timestamp>,
    /// Sessions that wait for it.
    waiting: i64,
    statement: String,
    /// The statement that ends it.
    end: String,
}

impl Row for Held {
    const HEADINGS: &'static [&'static str] = &[
        "holds",
        "process",
        "user",
        "application",
        "client",
        "state",
        "since",
        "waiting",
        "statement",
        "end",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.holds.to_owned(),
            self.process.map_or_else(|| "-".to_owned(), |process| process.to_string()),
            self.user.clone(),
            self.application.clone(),
            self.client.clone(),
            self.state.clone(),
            self.since.map_or_else(|| "-".to_owned(), |since| since.to_string()),
            self.waiting.to_string(),
            short(&self.statement, 60),
            self.end.clone(),
        ]
    }
}

const FIX: &str = "a folder and a database file have one writer at a time, whom the error names";

/// Lists them: first who holds back writes, of each sort the oldest first.
pub(crate) async fn run(session: &mut Session) -> Result<(), Failure> {
    let store = session.place.open_postgres("can tell", FIX).await?;
    let all = [
        ("writes", store.holds().await?),
        ("retention", store.reading().await?),
        ("clean-up", store.lingering().await?),
    ];
    let mut held: Vec<Held> = Vec::new();
    for (what, hold) in
        all.into_iter().flat_map(|(what, holds)| holds.into_iter().map(move |hold| (what, hold)))
    {
        // Each once, for the worst that it does.
        if held.iter().all(|other| other.end != hold.end) {
            held.push(Held::new(what, hold));
        }
    }
    session.output.all(&held)?;
    Ok(())
}

impl Held {
    fn new(holds: &'static str, hold: Hold) -> Self {
        let Hold { process, user, application, client, state, since, waiting, statement, end } = hold;
        Self { holds, process, user, application, client, state, since, waiting, statement, end }
    }
}
