//! `ensue schedule ls`: what comes again and again, and when next.

use clap::Subcommand;
use ensue::runtime::schedule::{self, Listed};
use serde::Serialize;

use crate::command::Session;
use crate::failure::Failure;
use crate::output::{Row, short};
use crate::shape;

/// Look at what comes again and again
#[derive(Subcommand)]
pub(crate) enum Schedule {
    /// List schedules, and when each is due next
    Ls,
}

#[derive(Serialize)]
struct Line(Listed);

impl Row for Line {
    const HEADINGS: &'static [&'static str] = &["schedule", "cron", "zone", "missed", "next", "application"];

    fn cells(&self) -> Vec<String> {
        let Listed { schedule, application, cron, zone, missed, next } = &self.0;
        vec![
            short(schedule, 60),
            cron.clone(),
            zone.clone(),
            missed.to_string(),
            next.map(shape::time).unwrap_or_default(),
            short(application, 60),
        ]
    }
}

impl Schedule {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let Self::Ls = self;
        let store = session.place.open().await?;
        let lines: Vec<Line> = schedule::list(&*store).await?.into_iter().map(Line).collect();
        session.output.all(&lines)?;
        Ok(())
    }
}
