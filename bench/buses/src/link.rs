//! Links over a broker, beside the broker's own client in the same run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ensue::core::Position;
use ensue::core::bus::{Bus, Consume, Declare, Feed, Topology};
use ensue::core::name::{Channel, SubscriptionName};
use ensue::{App, Intake, Log, Pick, Read, Relay, Running, Store};
use futures_util::TryStreamExt;
use tokio::task::JoinHandle;
use tokio::time::interval;

use crate::Failure;
use crate::client::{self, Client, PATIENCE, complete, read_into, send_all, send_paced};
use crate::log;
use crate::measure::{Figures, LinkSide, Load, Meter, rate};
use crate::message;

/// How often it is looked how far a link has come.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The broker by its own client; then, where there is one topic, relay and intake, each alone.
pub(crate) async fn measure<C: Client>(url: &str, load: Load) -> Result<Figures, Failure> {
    let bus = C::bus(url).await?;
    let client = Arc::new(C::connect(url).await?);
    let place = Place { of_run: message::now(), bus };
    let mut channels = Vec::new();
    for topic in 0..load.topics {
        channels.push(place.made(&*client, &format!("raw{topic}"), "raw").await?);
    }
    let paced = place.made(&*client, "raw-paced", "raw").await?;
    warm(&client, &place, load).await?;
    let raw = client::measure(&client, &channels, &paced, load).await?;
    if load.topics > 1 {
        return Ok(Figures { raw, ..Figures::default() });
    }
    let (relay_per_s, relay_latency) = relayed(&client, &place, load).await?;
    let (intake_per_s, intake_latency) = taken_in(&client, &place, load).await?;
    let link = LinkSide { relay_per_s, intake_per_s, relay_latency, intake_latency };
    Ok(Figures { raw, link: Some(link), ..Figures::default() })
}

/// The whole of what the client does, once without counting it: a broker that was just started says nothing of brokers.
async fn warm<C: Client>(client: &Arc<C>, place: &Place, load: Load) -> Result<(), Failure> {
    let channel = place.made(&**client, "warm", "raw").await?;
    let paced = place.made(&**client, "warm-paced", "raw").await?;
    client::measure(client, &[channel], &paced, load).await.map(drop)
}

/// Channels of this run alone.
struct Place {
    of_run: u64,
    bus: Arc<dyn Bus>,
}

impl Place {
    /// A channel that the adapter makes, with what a group consumes of it.
    async fn made<C: Client>(&self, client: &C, name: &str, group: &str) -> Result<String, Failure> {
        let channel = format!("bench{}.{name}", self.of_run);
        client.make(&channel).await?;
        let target = Channel::new(&channel)?;
        let source = Consume {
            group: SubscriptionName::new(group)?,
            from: Channel::new(C::consumed(&channel, group))?,
            fed_by: C::IS_FED.then(|| Feed { from: target.clone(), filter: None }),
        };
        let topology = Topology { targets: vec![target], sources: vec![source] };
        self.bus.declare(&topology, Declare::Make).await?;
        Ok(channel)
    }

    fn relay(&self, to: &str) -> Relay {
        Relay::new("out", Arc::clone(&self.bus)).topic("Item").to(to)
    }

    fn intake<C: Client>(&self, from: &str) -> Intake {
        let intake = Intake::new("in", Arc::clone(&self.bus))
            .from(&C::consumed(from, "taken"))
            .topic("Item")
            .event_type(Pick::Const("ItemMade".to_owned()))
            .key(Pick::Field("key".to_owned()));
        if C::IS_FED { intake.fed_by(from, None) } else { intake }
    }
}

fn app(log: &Log) -> App {
    App::new("bench").store(Arc::new(log.clone()) as Arc<dyn Store>).external::<message::ItemMade>()
}

/// A log that is full, emptied by a relay; then what is committed at the fixed rate, received by the broker's own client.
async fn relayed<C: Client>(
    client: &Arc<C>,
    place: &Place,
    load: Load,
) -> Result<(f64, crate::measure::Latency), Failure> {
    let folder = tempfile::tempdir_in(".")?;
    let log = log::open(folder.path()).await?;
    log::append_all(&log, load.messages).await?;
    let to = place.made(&**client, "full", "raw").await?;
    let running = app(&log).relay(place.relay(&to)).start().await?;
    let per_s = passed(&running, load.messages).await?;
    running.stop(PATIENCE).await?;

    let folder = tempfile::tempdir_in(".")?;
    let log = log::open(folder.path()).await?;
    let to = place.made(&**client, "paced", "raw").await?;
    let running = app(&log).relay(place.relay(&to)).start().await?;
    let meter = Meter::new(load.paced())?;
    let mut readers = read_into(client.readers(&[to], "raw").await?, &meter);
    log::append_paced(&log, load).await?;
    complete(&meter, &mut readers).await?;
    readers.iter().for_each(JoinHandle::abort);
    running.stop(PATIENCE).await?;
    Ok((per_s, meter.latency()))
}

/// A channel that is full, emptied by an intake; then what the broker's own client sends at the fixed rate, read from the log.
async fn taken_in<C: Client>(
    client: &Arc<C>,
    place: &Place,
    load: Load,
) -> Result<(f64, crate::measure::Latency), Failure> {
    let folder = tempfile::tempdir_in(".")?;
    let log = log::open(folder.path()).await?;
    let from = place.made(&**client, "heap", "taken").await?;
    send_all(&**client, std::slice::from_ref(&from), load.messages).await?;
    let running = app(&log).intake(place.intake::<C>(&from)).start().await?;
    let per_s = passed(&running, load.messages).await?;
    running.stop(PATIENCE).await?;

    let folder = tempfile::tempdir_in(".")?;
    let log = log::open(folder.path()).await?;
    let from = place.made(&**client, "flow", "taken").await?;
    let running = app(&log).intake(place.intake::<C>(&from)).start().await?;
    let meter = Meter::new(load.paced())?;
    let mut readers = vec![tokio::spawn(tail(log.clone(), Arc::clone(&meter)))];
    send_paced(client, &from, load).await?;
    complete(&meter, &mut readers).await?;
    readers.iter().for_each(JoinHandle::abort);
    running.stop(PATIENCE).await?;
    Ok((per_s, meter.latency()))
}

/// Waits until the one link has let so many pass: how many a second, from the first that it was seen to.
async fn passed(running: &Running, messages: usize) -> Result<f64, Failure> {
    let deadline = Instant::now() + PATIENCE;
    let mut first: Option<(Instant, u64)> = None;
    let mut looks = interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        let links = running.links().await?;
        let link = links.first().ok_or("there is no link")?;
        let (now, passed) = (Instant::now(), link.passed);
        if passed > 0 && first.is_none() {
            first = Some((now, passed));
        }
        match first {
            Some((since, before)) if passed >= messages as u64 => {
                return Ok(rate(usize::try_from(passed - before)?, now - since));
            }
            _ if now > deadline => {
                return Err(format!("{passed} of {messages} messages passed, {:?}", link.trouble).into());
            }
            _ => {}
        }
    }
}

/// Counts the items that come to stand in the log.
async fn tail(log: Log, meter: Arc<Meter>) -> Result<(), Failure> {
    let mut after = Position::ZERO;
    loop {
        let head = log.advanced(after).await?;
        let mut events = log.read(Read::all().after(after).until(head));
        while let Some(event) = events.try_next().await? {
            if event.stream.topic.as_str() == "Item" {
                meter.arrived([message::due(&event.envelope.data)?]);
            }
        }
        after = head;
    }
}
