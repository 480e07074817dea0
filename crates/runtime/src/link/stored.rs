//! What the store knows of links: what their processes said last, how far relays are, what is parked. For tools, and for whoever
//! asks a running application.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ensue_core::{
    Channel, Commit, Error, Position, Read, RecordWrite, Recorded, Store, StoreExt, SubscriptionName,
    Timestamp, Topic,
};
use futures_util::TryStreamExt;
use smol_str::SmolStr;

use super::desired;
use super::log_id::LogId;
use super::request::Outbound;
use super::status::{Direction, LinkState, LinkStatus};
use crate::dead::{self, DeadLetter};
use crate::spaces::{self, LINK, spread};
use crate::subscription::{Checkpoints, Shared};

/// No more than one record is written in this time.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// And no less than one in this, so that counts are those of now, and silence says something.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// Who has said nothing for so long is silent.
const SILENT_AFTER: Duration = Duration::from_secs(35);

/// What the processes of links say is kept under this and the name of the relay or intake.
pub(super) const STATUS: &str = "status";

/// Which relay or intake is asked for.
pub struct Asked {
    /// `relay.NAME` or `intake.NAME`.
    pub name: SmolStr,
    /// The link it belongs to.
    pub link: SmolStr,
    /// The broker.
    pub backend: SmolStr,
    /// Where it sends to, or takes from.
    pub channel: Channel,
    /// What a relay takes; `None` for an intake.
    pub topic: Option<Topic>,
}

/// The consumer group of a link that was told none: made of its name and who the log is. A log that has had no link yet draws
/// its identity at the first start, so until then the end of the name is open.
pub async fn group_of(store: Option<&dyn Store>, link: &str) -> Result<SubscriptionName, Error> {
    let id = match store {
        Some(store) => LogId::stored(store).await?,
        None => None,
    };
    id.map_or_else(|| SubscriptionName::new(format!("ensue.{link}.new")), |id| id.group(link))
}

/// How a relay or an intake stands, as far as the store knows.
pub async fn stored(store: Option<&dyn Store>, asked: Asked, now: Timestamp) -> Result<LinkStatus, Error> {
    let Asked { name, link, backend, channel, topic } = asked;
    let direction = if topic.is_some() { Direction::Relay } else { Direction::Intake };
    let never = LinkStatus {
        name,
        link,
        direction,
        backend,
        channel,
        group: None,
        state: LinkState::Stopped,
        since: now,
        as_of: now,
        trouble: None,
        passed: 0,
        duplicates: 0,
        looped: 0,
        unreadable: 0,
        lag: None,
        head_since: None,
        parked: 0,
        paused_because: None,
        window_seconds: None,
    };
    let Some(store) = store else { return Ok(never) };
    let said = store.record(LINK.clone(), key_of(&never.name)).await?;
    let said = said.map(|record| spaces::decode("link", &record.value)).transpose()?;
    let said = said.map(|status| heard(status, now));
    let letters = dead::list(store).await?;
    completed(store, said.unwrap_or(never), topic.map(Outbound::Topic).as_ref(), &letters).await
}

/// What a process said, and whether it still would.
fn heard(status: LinkStatus, now: Timestamp) -> LinkStatus {
    let is_silent = status.state != LinkState::Stopped && now > status.as_of + SILENT_AFTER;
    if !is_silent {
        return status;
    }
    LinkStatus { state: LinkState::Silent, since: status.as_of, ..status }
}

/// The status with what only the store knows.
pub(crate) async fn completed(
    store: &dyn Store,
    status: LinkStatus,
    takes: Option<&Outbound>,
    letters: &[DeadLetter],
) -> Result<LinkStatus, Error> {
    let parked = letters.iter().filter(|letter| letter.handler == status.name);
    let first_parked = parked.clone().map(|letter| letter.parked.position).min();
    let paused_because = desired::reason(store, &status.name).await?;
    let status = LinkStatus { parked: parked.count(), paused_because, ..status };
    let Some(takes) = takes else { return Ok(status) };
    let head = store.head().await?;
    let unsent = first_unsent(store, &status.name, takes).await?;
    let parked = match first_parked {
        Some(position) => at(store, position).await?,
        None => None,
    };
    let behind = unsent.as_ref().map_or(0, |recorded| (head.0 + 1).saturating_sub(recorded.position.0));
    let waiting = unsent.into_iter().chain(parked).map(|recorded| recorded.recorded_at);
    Ok(LinkStatus { lag: Some(behind), head_since: waiting.min(), ..status })
}

/// The first event that a relay has not settled. Lanes without events are not moved on with the others, so what is behind
/// their checkpoints belongs to other lanes.
async fn first_unsent(
    store: &dyn Store,
    name: &SmolStr,
    takes: &Outbound,
) -> Result<Option<Recorded>, Error> {
    let checkpoints = Checkpoints::load(store, name).await?;
    let settled = checkpoints.settled();
    let lanes = checkpoints.lane_count();
    let mut events = store.read(Read::all().after(checkpoints.floor()));
    while let Some(recorded) = events.try_next().await? {
        let lane = usize::from(spread(takes.key(&recorded), lanes));
        let is_settled = settled.get(lane).is_some_and(|settled| recorded.position <= *settled);
        if takes.takes(&recorded) && !is_settled {
            return Ok(Some(recorded));
        }
    }
    Ok(None)
}

async fn at(store: &dyn Store, position: Position) -> Result<Option<Recorded>, Error> {
    let read = Read::all().after(position.previous()).until(position);
    Ok(store.collect(read).await?.pop())
}

fn key_of(name: &str) -> Bytes {
    spaces::join(&[STATUS, name])
}

/// Has the store know how the links stand, from the start, whenever that changes and every now and then, until the application closes.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let mut changes = shared.links.changes();
    let mut is_closing = false;
    loop {
        say(&shared, is_closing).await;
        if is_closing {
            return;
        }
        let clock = &shared.press.host.clock;
        is_closing = tokio::select! {
            biased;
            () = shared.closed() => true,
            () = clock.sleep(WRITE_EVERY) => false,
        };
        if !is_closing {
            is_closing = tokio::select! {
                biased;
                () = shared.closed() => true,
                () = changes.next() => false,
                () = clock.sleep(SAY_EVERY) => false,
            };
        }
    }
}

/// Writes how the links stand now.
async fn say(shared: &Shared, is_closing: bool) {
    let now = shared.press.host.clock.now();
    let mut all: Vec<LinkStatus> = shared.links.all().iter().map(|gauge| gauge.status(now)).collect();
    if is_closing {
        all.iter_mut().for_each(|status| (status.state, status.since) = (LinkState::Stopped, now));
    }
    let records = all
        .iter()
        .map(|status| RecordWrite::put(LINK.clone(), key_of(&status.name), spaces::encode(status)))
        .collect();
    // It is for people; where the store is away there is more to be seen elsewhere.
    let _told = shared.store.commit(Commit { records, ..Commit::default() }).await.is_ok();
}
