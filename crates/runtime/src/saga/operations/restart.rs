//! Restarting from a step: a new instance takes over what the old one has behind it.

use ensue_core::{Code, Error};

use super::super::handler::load;
use super::super::journal::{Entry, Journal};
use super::super::stream_of;
use super::request::is_over;
use super::{Operations, Plan, Planned};

impl Operations {
    /// The old instance ends and the new one begins in one commit, so that what is done is owned by one of them.
    pub(super) async fn restart(
        &self,
        mut old: Plan<'_>,
        at: &str,
        key: &str,
        reason: &str,
    ) -> Result<Planned, Error> {
        let (saga, from) = (old.saga.clone(), old.stream.to_string());
        let new = load(&*self.store, stream_of(&saga, key)?).await?;
        if new.journal.start.is_some() {
            return Err(Error::new(Code::SAGA_NOT_SO, format!("saga {saga} has an instance {key} already"))
                .with_fix("give the new instance another key"));
        }
        let (started, restarted) = entries(&old.journal, &from, at, reason)?;
        if !is_over(&old.journal) {
            old.write(&Entry::Terminated { reason: format!("restarted at `{at}` as {key}: {reason}") })?;
            old.let_go();
        }
        let head = old.head();
        old.effects.put(head.write());
        let flow = old.journal.flow.clone();
        let mut plan = Plan::new(self, &saga, new);
        plan.journal.flow = flow;
        plan.write(&started)?;
        plan.write(&restarted)?;
        let mut planned = plan.finish();
        old.effects.absorb(planned.effects);
        planned.effects = old.effects;
        Ok(planned)
    }
}

/// How the new instance begins.
fn entries(old: &Journal, from: &str, at: &str, reason: &str) -> Result<(Entry, Entry), Error> {
    let no_step = || {
        Error::new(Code::NOT_FOUND, format!("{from} has no step `{at}`"))
            .with_fix("`ensue saga show` lists its steps")
    };
    let behind = old.behind(at).ok_or_else(no_step)?.map_err(|why_not| {
        Error::new(Code::SAGA_NOT_SO, format!("{from} cannot be restarted at `{at}`: {why_not}"))
            .with_fix("restart at an earlier step")
    })?;
    let start = old.start.as_ref().ok_or_else(no_step)?;
    let started = Entry::Started {
        event_id: start.event_id.clone(),
        event_type: start.event_type.clone(),
        schema_version: start.schema_version,
        position: start.position,
        event: super::super::journal::raw(&start.body)?,
        // Whoever waits for the old instance waits for the new one.
        parent: old.parent.clone(),
    };
    let restarted = Entry::Restarted {
        from: from.to_owned(),
        at: at.into(),
        behind,
        used: old.used.iter().cloned().collect(),
        pins: old.pins.clone(),
        reason: reason.to_owned(),
    };
    Ok((started, restarted))
}
