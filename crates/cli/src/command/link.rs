//! `ensue link ls|check|run --config F`, `ensue link pause|resume|seek NAME`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use ensue::runtime::link::Wanted;

use crate::command::Session;
use crate::failure::Failure;

mod asked;
mod check;
mod ls;
mod row;
mod run;

/// Links to brokers, as a file says them
#[derive(Subcommand)]
pub(crate) enum Link {
    /// List the links of a file, and how they stand
    Ls(ls::Ls),
    /// Connect, and say what is missing in the broker; moves nothing and makes nothing
    Check(check::Check),
    /// Run the links until SIGTERM or Ctrl-C, then finish what is in hand
    Run(run::Run),
    /// Move nothing until it is resumed, whatever restarts
    Pause(asked::Asked),
    /// Go on after a pause
    Resume(asked::Asked),
    /// Have the intakes go on from elsewhere; what comes again is dropped as long as its id is remembered
    Seek(asked::SeekTo),
}

/// Which file, and which of its links.
#[derive(Args)]
pub(crate) struct Given {
    /// The file with `[links.NAME]` tables
    #[arg(long, value_name = "FILE", env = "ENSUE_CONFIG", default_value = "./ensue.toml")]
    config: PathBuf,
    /// Only these links
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

impl Link {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        match self {
            Self::Ls(ls) => ls.run(session).await,
            Self::Check(check) => check.run(session).await,
            Self::Run(run) => run.run(session).await,
            Self::Pause(asked) => asked.run(session, Wanted::Pause).await,
            Self::Resume(asked) => asked.run(session, Wanted::Resume).await,
            Self::Seek(seek) => seek.run(session).await,
        }
    }
}

impl Given {
    /// The links that are meant; `E0414` for a name that the file does not have.
    fn links(&self) -> Result<std::collections::BTreeMap<String, crate::link::Link>, Failure> {
        let mut file = crate::link::File::read(&self.config)?;
        if let Some(unknown) = self.names.iter().find(|name| !file.links.contains_key(*name)) {
            let known: Vec<&str> = file.links.keys().map(String::as_str).collect();
            let message = format!("{} has no link named {unknown}", self.config.display());
            return Err(ensue::core::Error::new(ensue::core::Code::NOT_FOUND, message)
                .with_fix(format!("it has {}", known.join(", ")))
                .into());
        }
        if !self.names.is_empty() {
            file.links.retain(|name, _| self.names.contains(name));
        }
        Ok(file.links)
    }
}
