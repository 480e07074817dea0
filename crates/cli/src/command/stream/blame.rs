//! `ensue stream blame TOPIC/KEY [FIELD] [--at …]`: which event last changed a field of the merged state.

use clap::Args;
use ensue::core::StreamName;

use crate::command::Session;
use crate::failure::Failure;
use crate::history::print_blame;
use crate::state::{At, blamed};

/// Which event last changed a field of a stream's state
#[derive(Args)]
pub(crate) struct Blame {
    /// The stream
    #[arg(value_name = "TOPIC/KEY")]
    stream: String,
    /// A field of the data, or the JSON Pointer of a value inside it, such as /items/0/qty; every field without it
    field: Option<String>,
    /// As it was at a version, at a position such as #1234, or at a time such as 2024-01-15T10:30:00Z
    #[arg(long, value_name = "VERSION|#POSITION|TIME")]
    at: Option<String>,
}

impl Blame {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let stream: StreamName = self.stream.parse()?;
        let at = self.at.as_deref().map_or(Ok(At::End), str::parse)?;
        let fields = blamed(&session.place.open().await?, &stream, at).await?;
        print_blame(session, fields, self.field.as_deref(), &stream.to_string())
    }
}
