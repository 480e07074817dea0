//! `ensue bench read --events N --size B`: how fast a store is read from disk: everything in order, and stream by stream.

use std::time::Instant;

use clap::Args;
use ensue::core::{
    Append, Commit, ContentType, Envelope, Error, EventType, Expected, Host, Source, StreamName,
};
use ensue::log::{Config, Log, floor};
use ensue::{Read as Reading, Store};
use futures_util::TryStreamExt;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::command::Session;
use crate::failure::Failure;
use crate::scratch::Scratch;

/// Streams that the events are spread over.
const STREAMS: u64 = 1_000;
/// Events of a stream that are written together.
const TOGETHER: u64 = 10;
/// Longer reads than a minute are recorded as a minute.
const READ_US_MAX: u64 = 60_000_000;

/// How fast a store is read from disk: everything in order, and stream by stream
#[derive(Args)]
pub(crate) struct Read {
    /// How many events the store holds
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(10_000..=100_000_000))]
    events: u64,
    /// Bytes of data in an event
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(16..=1_000_000))]
    size: u64,
}

/// The shape that `docs/cli.md` promises.
#[derive(Serialize)]
struct Measured {
    events: u64,
    replay_events_per_s: f64,
    stream_read_us: Quantiles,
    floor: super::MeasuredFloor,
    mode: &'static str,
}

#[derive(Serialize)]
struct Quantiles {
    p50: u64,
    p99: u64,
}

impl Read {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let scratch = Scratch::beside(session.place.folder())?;
        let floor = floor::floor(scratch.path(), &*session.host.clock)?;
        let open = || Log::open(scratch.path(), Config::new(session.host.clone()));
        let log = open()?;
        self.fill(&log, &session.host).await?;
        log.close()?;
        drop(log);

        let log = open()?;
        let (events, replay_events_per_s) = replay(&log).await?;
        let streams = read_streams(&log).await?;
        log.close()?;
        let sync_write_4k_us_p50 = floor.sync_write_4k_us_p50;
        let measured = Measured {
            events,
            replay_events_per_s,
            stream_read_us: Quantiles {
                p50: streams.value_at_quantile(0.5),
                p99: streams.value_at_quantile(0.99),
            },
            floor: super::MeasuredFloor { sync_write_4k_us_p50 },
            mode: floor.mode.name(),
        };
        let words = format!(
            "{events} events replayed at {replay_events_per_s:.0}/s\na stream of {} events in p50 {} µs, p99 {} µs, from disk",
            events / STREAMS,
            measured.stream_read_us.p50,
            measured.stream_read_us.p99,
        );
        session.output.one(&measured, &words)?;
        Ok(())
    }

    async fn fill(&self, log: &Log, host: &Host) -> Result<(), Error> {
        let text = format!("{{\"text\":\"{}\"}}", "x".repeat(usize::try_from(self.size).unwrap_or(16) - 11));
        let template = Envelope {
            id: host.event_id(),
            source: Source::new("bench")?,
            event_type: EventType::new("Measured")?,
            schema_version: 1,
            time: host.clock.now(),
            correlation: None,
            causation: None,
            trace: None,
            tags: Vec::new(),
            extensions: Vec::new(),
            content_type: ContentType::json(),
            data: text.into(),
        };
        for round in 0..self.events / TOGETHER / 100 {
            let appends = (0..100).map(|index| {
                let stream = StreamName::new("Bench", ((round * 100 + index) % STREAMS).to_string())?;
                let events =
                    (0..TOGETHER).map(|_| Envelope { id: host.event_id(), ..template.clone() }).collect();
                Ok(Append { stream, expected: Expected::Any, events })
            });
            let appends = appends.collect::<Result<Vec<_>, Error>>()?;
            log.commit(Commit { appends, ..Commit::default() }).await?;
        }
        Ok(())
    }
}

async fn replay(log: &Log) -> Result<(u64, f64), Error> {
    let started = Instant::now();
    let mut events = 0;
    let mut everything = log.read(Reading::all());
    while everything.try_next().await?.is_some() {
        events += 1;
    }
    Ok((events, super::waiting::rate(events, started)))
}

async fn read_streams(log: &Log) -> Result<Histogram<u64>, Error> {
    let mut took = Histogram::new_with_bounds(1, READ_US_MAX, 3).expect("the bounds are in order");
    for number in 0..STREAMS {
        let stream = StreamName::new("Bench", number.to_string())?;
        let started = Instant::now();
        let read: Vec<_> = log.read(Reading::stream(stream)).try_collect().await?;
        assert!(!read.is_empty(), "every stream was written to");
        took.saturating_record(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    Ok(took)
}
