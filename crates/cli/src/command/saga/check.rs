//! `ensue saga check [--all]`: whether the code of this binary fits the journals of the instances in the folder.
//!
//! Replaying needs the code, so this binary checks the sagas of the shop; others are checked by a test in the program that
//! mounts them, with `App::check_sagas`.

use std::sync::Arc;

use clap::Args;
use ensue::core::{Code, Error, Store};
use ensue::runtime::saga::{Histories, Misfit, SagaCheck};
use ensue_shop::{Style, demo};

use crate::command::Session;
use crate::failure::Failure;
use crate::scratch::Scratch;
use crate::words::count;

/// Replay recorded histories against the code, without effects. Exit code 4 if an instance does not fit
#[derive(Args)]
pub(crate) struct Check {
    /// Instances that have ended, too
    #[arg(long)]
    all: bool,
}

impl Check {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let store: Arc<dyn Store> = session.place.open().await?;
        let scratch = Scratch::anywhere(session.place.folder())?;
        let outside = demo::stand_in(&*store, Style::Saga, &scratch.path().join("outside")).await?;
        let histories = if self.all { Histories::All } else { Histories::Live };
        let app = Style::Saga.app(Arc::clone(&store), &outside);
        let check = app.check_sagas(&*store, histories).await?;
        session.output.one(&check, &in_words(&check))?;
        if check.misfits.is_empty() {
            return Ok(());
        }
        let message =
            format!("{} of {} do not fit the code", check.misfits.len(), count(check.checked, "instance"));
        Err(Error::new(Code::CHECK_FAILED, message)
            .with_fix(
                "keep the old order of steps for running instances, or pin the change with `saga.version`",
            )
            .into())
    }
}

fn in_words(check: &SagaCheck) -> String {
    let mut lines =
        vec![format!("{} replayed, {} do not fit", count(check.checked, "instance"), check.misfits.len())];
    for Misfit { saga, key, reason, difference, .. } in &check.misfits {
        lines.push(format!("{saga} {key}: {reason}"));
        lines.extend(difference.iter().map(ToString::to_string));
    }
    let unknown = check.unknown.iter();
    lines.extend(unknown.map(|(saga, number)| {
        format!("{} of {saga} left out: this binary does not have its code", count(*number, "instance"))
    }));
    lines.join("\n")
}
