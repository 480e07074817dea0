//! `ensue subscription ls [NAME]`: how far each lane is, and which process has it.

use clap::Args;
use ensue::runtime::pressure::{OpenBreaker, open_breakers};
use ensue::runtime::sharing::{LaneStatus, MemberId, lanes, members};
use ensue::{Position, Timestamp};
use serde::Serialize;

use crate::command::Session;
use crate::failure::Failure;
use crate::find;
use crate::output::{Row, short};
use crate::shape;

/// List the lanes of every subscription
#[derive(Args)]
pub(crate) struct Ls {
    /// Only those of this subscription
    name: Option<String>,
}

/// Where a lane stands.
#[derive(Serialize)]
struct Standing {
    subscription: String,
    lane: u16,
    position: Position,
    settlements: u64,
    owner: Option<String>,
    epoch: u64,
    since: Option<Timestamp>,
    code: Option<String>,
    reason: Option<String>,
}

impl From<LaneStatus> for Standing {
    fn from(lane: LaneStatus) -> Self {
        let (code, reason) = lane.halted.unzip();
        Self {
            subscription: lane.subscription.to_string(),
            lane: lane.lane,
            position: lane.position,
            settlements: lane.settlements,
            owner: lane.owner.as_ref().map(MemberId::to_string),
            epoch: lane.epoch,
            since: lane.since,
            code,
            reason,
        }
    }
}

impl Row for Standing {
    const HEADINGS: &'static [&'static str] =
        &["subscription", "lane", "position", "owner", "epoch", "since", "stopped"];

    fn cells(&self) -> Vec<String> {
        let stopped = self.code.iter().zip(&self.reason).map(|(code, reason)| format!("{code} {reason}"));
        vec![
            short(&self.subscription, 60),
            self.lane.to_string(),
            self.position.to_string(),
            self.owner.clone().unwrap_or_default(),
            self.epoch.to_string(),
            self.since.map(shape::time).unwrap_or_default(),
            short(&stopped.collect::<String>(), 80),
        ]
    }
}

impl Ls {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let store = session.place.open().await?;
        let mut lanes = lanes(&store).await?;
        if let Some(name) = &self.name {
            lanes.retain(|lane| lane.subscription == *name);
            if lanes.is_empty() {
                find::handler(&store, name, &format!("subscription {name}")).await?;
            }
        }
        let lanes: Vec<Standing> = lanes.into_iter().map(Standing::from).collect();
        session.output.all(&lanes)?;
        for breaker in open_breakers(&store).await? {
            let (since, waiting) = (shape::time(breaker.since), breaker.handlers.join(", "));
            let OpenBreaker { name, application, code, reason, .. } = breaker;
            session.output.say(&format!(
                "breaker {name} of {application} is open since {since} after {code} {reason}; for it wait {waiting}"
            ));
        }
        for member in members(&store).await? {
            let (id, since) = (member.id, shape::time(member.since));
            session
                .output
                .say(&format!("process {id} of {} shares the store since {since}", member.application));
        }
        Ok(())
    }
}
