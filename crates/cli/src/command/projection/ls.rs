//! `ensue projection ls`: how every read model stands.

use clap::Args;
use ensue::runtime::projection::{ModelStatus, declared};
use serde::Serialize;

use crate::command::Session;
use crate::failure::Failure;
use crate::output::{Row, short};

/// How every read model stands
#[derive(Args)]
pub(crate) struct Ls {}

/// One read model.
#[derive(Serialize)]
struct Model(ModelStatus);

impl Row for Model {
    const HEADINGS: &'static [&'static str] = &[
        "projection",
        "version",
        "generation",
        "inline",
        "position",
        "behind",
        "skipped",
        "parked",
        "alarm",
    ];

    fn cells(&self) -> Vec<String> {
        let status = &self.0;
        let alarm = status.alarm.as_ref().map(|alarm| short(&alarm.findings.join("; "), 80));
        let numbers = [status.behind, status.skipped, status.parked].map(|number| number.to_string());
        let mut cells = vec![
            status.projection.clone(),
            status.live.version.to_string(),
            status.live.number.to_string(),
            if status.inline { "yes" } else { "" }.to_owned(),
            status.position.to_string(),
        ];
        cells.extend(numbers);
        cells.push(alarm.unwrap_or_default());
        cells
    }
}

impl Ls {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let store = session.place.open().await?;
        let rows: Vec<Model> = declared(&*store).await?.into_iter().map(Model).collect();
        session.output.all(&rows)?;
        Ok(())
    }
}
