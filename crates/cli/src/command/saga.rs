//! `ensue saga ls|show|pause|resume|cancel|retry|resolve|terminate|restart|check`.

use clap::Subcommand;
use ensue::runtime::saga::Request;

use crate::command::Session;
use crate::failure::Failure;

mod check;
mod ls;
mod request;
mod resolve;
mod restart;
mod show;

/// Look at sagas, and decide what they cannot decide by themselves
#[derive(Subcommand)]
pub(crate) enum Saga {
    /// List instances and how they stand
    Ls(ls::Ls),
    /// One instance with its journal
    Show(show::Show),
    /// Take nothing more up until it is resumed; what arrives is kept
    Pause(request::Asked),
    /// Go on after a pause
    Resume(request::Asked),
    /// Go back: undo what is done, last first. Only up to the point of no return
    Cancel(request::Asked),
    /// Try again what made it stop, or what pauses between two attempts
    Retry(request::Asked),
    /// Give a step its outcome by hand
    Resolve(resolve::Resolve),
    /// End it here, with everything left as it is
    Terminate(request::Asked),
    /// End an instance and go on at one of its steps as a new one
    Restart(restart::Restart),
    /// Replay recorded histories against the code, without effects. Exit code 4 if an instance does not fit
    Check(check::Check),
}

impl Saga {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        match self {
            Self::Ls(ls) => ls.run(session).await,
            Self::Show(show) => show.run(session).await,
            Self::Pause(asked) => asked.run(session, Request::Pause).await,
            Self::Resume(asked) => asked.run(session, Request::Resume).await,
            Self::Cancel(asked) => asked.run(session, Request::Cancel).await,
            Self::Retry(asked) => asked.run(session, Request::Retry).await,
            Self::Resolve(resolve) => resolve.run(session).await,
            Self::Terminate(asked) => asked.run(session, Request::Terminate).await,
            Self::Restart(restart) => restart.run(session).await,
            Self::Check(check) => check.run(session).await,
        }
    }
}
