//! `ensue saga restart SAGA KEY --at STEP --as KEY`: another instance takes over what is behind, and goes on at a step.

use clap::Args;
use ensue::runtime::saga::Request;

use super::request::Asked;
use crate::command::Session;
use crate::failure::Failure;

/// End an instance and go on at one of its steps as a new one
#[derive(Args)]
pub(crate) struct Restart {
    #[command(flatten)]
    asked: Asked,
    /// The first step that is done anew
    #[arg(long)]
    at: String,
    /// The key of the new instance
    #[arg(long = "as", value_name = "KEY")]
    new_key: String,
}

impl Restart {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        self.asked.run(session, Request::Restart { at: self.at.into(), key: self.new_key }).await
    }
}
