//! `ensue bench rebuild [--events N] [--rate R]`: how fast `orders_view` is built anew, and what durable publications pay for
//! it meanwhile, on a scratch store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use ensue::core::{
    Append, Commit, Draft, Envelope, EventSet as _, Expected, Host, Source, Store as _, StoreExt as _,
};
use ensue::log::{Config, Log, floor};
use ensue::runtime::projection::{Load, Rebuilt};
use ensue::{App, Code, Error, Event, Projection as _, Running};
use ensue_shop::events::{
    CustomerNotified, InventoryFailed, OrderPlaced, PaymentCompleted, PaymentFailed, PaymentRefunded,
    ShipmentCreated, ShipmentFailed, StockReleased, StockReserved,
};
use ensue_shop::order::OrderHistory;
use ensue_shop::{OrdersView, PaymentId, ReservationId, ShipmentId, orders};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::MeasuredFloor;
use super::load::{Latency, float};
use super::pace::pace;
use crate::command::Session;
use crate::failure::Failure;
use crate::scratch::Scratch;

/// Events of an order that is served.
const EVENTS_PER_ORDER: u64 = 5;
/// Orders that are written together.
const TOGETHER: usize = 200;
/// Longer latencies than a minute are recorded as a minute.
const LATENCY_US_MAX: u64 = 60_000_000;
/// For how long publications go on before they are measured.
const WARM_UP: Duration = Duration::from_secs(10);
/// Nobody measures for longer.
const LONGEST: Duration = Duration::from_hours(24);
/// For how long publications are measured before the rebuild.
const BEFORE: Duration = Duration::from_secs(5);

/// How fast a read model is built anew, and what durable publications pay for it meanwhile
#[derive(Args)]
pub(crate) struct Rebuild {
    /// How many events the store holds
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(10_000..=100_000_000))]
    events: u64,
    /// Durable publications a second, whatever the response
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// The share of the time of one core that the rebuild beside them may take
    #[arg(long, default_value_t = Load::PERCENT, value_parser = clap::value_parser!(u8).range(1..=100))]
    percent: u8,
    /// Let it go as fast as it can instead
    #[arg(long, conflicts_with = "percent")]
    full_speed: bool,
}

/// The shape that `docs/cli.md` promises.
#[derive(Serialize)]
struct Measured {
    events: u64,
    documents: u64,
    /// With nothing else going on.
    alone_events_per_s: f64,
    /// While publications go on.
    events_per_s: f64,
    publish_us_before: Latency,
    publish_us_during: Latency,
    p99_ratio: f64,
    floor: MeasuredFloor,
    mode: &'static str,
}

/// What is published meanwhile: nothing that the read model is fed with.
#[derive(Event, Serialize, Deserialize)]
#[event(topic = "Bench", key = number)]
struct Published {
    number: u64,
}

impl Rebuild {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let scratch = Scratch::beside(session.place.folder())?;
        let floor = floor::floor(scratch.path(), &*session.host.clock)?;
        let log = Log::open(scratch.path(), Config::new(session.host.clone()))?;
        let orders = self.events / EVENTS_PER_ORDER;
        fill(&log, &session.host, orders).await?;
        log.close()?;
        drop(log);

        let log = Arc::new(Log::open(scratch.path(), Config::new(session.host.clone()))?);
        let running = Arc::new(mount(log.clone()).start().await?);
        // Whatever follows the log has caught up before anything is measured.
        running.settled(log.head().await?).await;
        let alone = rebuild(Arc::clone(&running), Load::Full).await?;
        // The index still works off what the first rebuild has written.
        publish(&running, self.rate, session.host.clock.sleep(WARM_UP)).await?;
        let before = publish(&running, self.rate, session.host.clock.sleep(BEFORE)).await?.0;
        let load = if self.full_speed { Load::Full } else { Load::Percent(self.percent) };
        let work = rebuild(Arc::clone(&running), load);
        let (during, rebuilt) = publish(&running, self.rate, work).await?;
        let rebuilt = rebuilt?;
        Arc::into_inner(running).expect("every publication is done").stop(Duration::from_secs(10)).await?;
        log.close()?;
        drop(scratch);
        let per_s = |rebuilt: &Rebuilt| (float(rebuilt.events) / rebuilt.seconds).round();
        let measured = Measured {
            events: rebuilt.events,
            documents: rebuilt.difference.as_ref().map_or(0, |difference| difference.documents),
            alone_events_per_s: per_s(&alone),
            events_per_s: per_s(&rebuilt),
            p99_ratio: float(during.p99) / float(before.p99.max(1)),
            publish_us_before: before,
            publish_us_during: during,
            floor: MeasuredFloor { sync_write_4k_us_p50: floor.sync_write_4k_us_p50 },
            mode: floor.mode.name(),
        };
        session.output.one(&measured, &in_words(&measured))?;
        Ok(())
    }
}

/// In a task of its own, as an operator's request is.
async fn rebuild(running: Arc<Running>, load: Load) -> Result<Rebuilt, Error> {
    let work = tokio::spawn(async move { running.projections().rebuild(OrdersView::NAME, load).await });
    work.await.map_err(|cause| Error::new(Code::CLOSED, "the rebuild was cancelled").with_source(cause))?
}

fn mount(log: Arc<Log>) -> App {
    App::new("bench")
        .store(log)
        .external::<OrderPlaced>()
        .external::<PaymentCompleted>()
        .external::<PaymentFailed>()
        .external::<PaymentRefunded>()
        .external::<StockReserved>()
        .external::<InventoryFailed>()
        .external::<StockReleased>()
        .external::<ShipmentCreated>()
        .external::<ShipmentFailed>()
        .external::<CustomerNotified>()
        .external::<Published>()
        .project(OrdersView)
}

/// Orders that are served, their events one kind after the other within each commit, as they come when many are under way.
async fn fill(log: &Log, host: &Host, count: u64) -> Result<(), Error> {
    let mut placed = orders(1, count).peekable();
    while placed.peek().is_some() {
        let together: Vec<[OrderHistory; 5]> = placed.by_ref().take(TOGETHER).map(served).collect();
        let mut appends = Vec::new();
        for kind in 0..5 {
            for event in together.iter().filter_map(|events| events.get(kind)) {
                let Draft { stream, event_type, schema_version, tags, data, later: _ } = event.draft()?;
                let envelope = Envelope {
                    id: host.event_id(),
                    source: Source::new("bench")?,
                    event_type,
                    schema_version,
                    time: host.clock.now(),
                    correlation: None,
                    causation: None,
                    trace: None,
                    tags,
                    extensions: Vec::new(),
                    content_type: Draft::content_type(),
                    data,
                };
                appends.push(Append { stream, expected: Expected::Any, events: vec![envelope] });
            }
        }
        log.commit(Commit { appends, ..Commit::default() }).await?;
    }
    Ok(())
}

fn served(order: OrderPlaced) -> [OrderHistory; 5] {
    let OrderPlaced { order_id, customer_id, items, total, .. } = order.clone();
    let number = order_id.as_str().to_owned();
    [
        OrderHistory::Placed(order),
        OrderHistory::Paid(PaymentCompleted {
            order_id: order_id.clone(),
            payment_id: PaymentId::numbered("PAY", &number),
            amount: total,
            customer_id: Some(customer_id.clone()),
            items: items.clone(),
        }),
        OrderHistory::Reserved(StockReserved {
            order_id: order_id.clone(),
            reservation_id: ReservationId::numbered("RES", &number),
            items,
            customer_id: Some(customer_id.clone()),
        }),
        OrderHistory::Shipped(ShipmentCreated {
            order_id: order_id.clone(),
            shipment_id: ShipmentId::numbered("SHIP", &number),
            customer_id: customer_id.clone(),
        }),
        OrderHistory::Notified(CustomerNotified { order_id, customer_id, text: "on its way".to_owned() }),
    ]
}

/// Publishes at a rate, whatever the response, until something else is done.
async fn publish<T>(
    running: &Arc<Running>,
    per_s: u32,
    until: impl Future<Output = T>,
) -> Result<(Latency, T), Error> {
    let mut moments = pace(per_s, Instant::now()..Instant::now() + LONGEST);
    let mut until = std::pin::pin!(until);
    let mut tasks: JoinSet<Result<Duration, Error>> = JoinSet::new();
    let mut number = 0;
    let done = loop {
        tokio::select! {
            biased;
            done = &mut until => break done,
            Some(due) = moments.recv() => {
                number += 1;
                let running = Arc::clone(running);
                tasks.spawn(async move {
                    running.publish(Published { number }).await?;
                    // From when it was due: a late start counts.
                    Ok(Instant::now().saturating_duration_since(due))
                });
            }
        }
    };
    let mut latency =
        Histogram::<u64>::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are in order");
    while let Some(ended) = tasks.join_next().await {
        let took = ended
            .map_err(|cause| Error::new(Code::CLOSED, "a publication was cancelled").with_source(cause))??;
        latency.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
    let latency = Latency {
        p50: latency.value_at_quantile(0.5),
        p95: latency.value_at_quantile(0.95),
        p99: latency.value_at_quantile(0.99),
        max: latency.max(),
    };
    Ok((latency, done))
}

fn in_words(measured: &Measured) -> String {
    let Measured { events, documents, alone_events_per_s, events_per_s, p99_ratio, .. } = measured;
    let (before, during) = (&measured.publish_us_before, &measured.publish_us_during);
    format!(
        "orders_view built anew from {events} events, {documents} documents: {alone_events_per_s:.0} events/s alone, \
         {events_per_s:.0} events/s beside publications\na durable publication took p50 {} µs, p99 {} µs before and \
         p50 {} µs, p99 {} µs meanwhile: p99 times {p99_ratio:.2}\nfloor {} µs: one synced write of 4 KiB here, by {}",
        before.p50, before.p99, during.p50, during.p99, measured.floor.sync_write_4k_us_p50, measured.mode,
    )
}
