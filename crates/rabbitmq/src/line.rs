//! One connection to the broker, made again by us when it is gone.
//!
//! The driver can recover by itself, and is not asked to: it would send again what we have already given up, and a lost confirmation
//! would look like a confirmation that is still to come. There are two lines, one to publish and one to consume, because a broker that
//! is short of memory or disk stops reading from those who publish, and acknowledgements must still get through.
//!
//! Invariant: there is at most one attempt to connect at a time, and attempts keep a distance; whoever needs the line waits for it, for
//! as long as an answer may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ensue_core::{Code, Error};
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use crate::error;
use crate::tls;

/// What a broker allows where nothing is configured.
const FRAME_BYTES_MAX: usize = 128 * 1024;
/// How far apart two attempts to connect are.
const ATTEMPTS_EVERY: Duration = Duration::from_millis(250);
/// When an attempt is given up, and another one begins.
const ATTEMPT_MAX: Duration = Duration::from_secs(30);
/// How often it is looked whether the broker takes messages again.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// See the module.
pub(crate) struct Line {
    uri: AMQPUri,
    tls: Option<TlsConnector>,
    properties: ConnectionProperties,
    answer_within: Duration,
    frame_bytes_max: AtomicUsize,
    state: Mutex<State>,
}

struct State {
    connection: Option<Arc<Connection>>,
    attempt: Option<JoinHandle<lapin::Result<Connection>>>,
    pace: Interval,
}

impl Line {
    pub(crate) fn new(
        uri: AMQPUri,
        tls: Option<TlsConnector>,
        purpose: &str,
        answer_within: Duration,
    ) -> Self {
        let mut pace = interval(ATTEMPTS_EVERY);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            uri,
            tls,
            properties: ConnectionProperties::default()
                .with_connection_name(format!("ensue, {purpose}").into()),
            answer_within,
            frame_bytes_max: AtomicUsize::new(FRAME_BYTES_MAX),
            state: Mutex::new(State { connection: None, attempt: None, pace }),
        }
    }

    /// Largest frame, as it was agreed upon when the line was last connected.
    pub(crate) fn frame_bytes_max(&self) -> usize {
        self.frame_bytes_max.load(Ordering::Relaxed)
    }

    /// A channel of its own.
    pub(crate) async fn channel(&self, trying: &str) -> Result<Channel, Error> {
        let connection = self.connection(trying).await?;
        self.answer(trying, connection.create_channel()).await
    }

    /// Waits until there is a connection whose broker takes messages.
    pub(crate) async fn ready(&self, trying: &str) -> Result<(), Error> {
        let connection = self.connection(trying).await?;
        self.wait_until_it_takes(trying, &connection).await
    }

    /// A channel that confirms what is published.
    pub(crate) async fn publisher(&self, trying: &str) -> Result<Channel, Error> {
        let channel = self.channel(trying).await?;
        self.answer(trying, channel.confirm_select(lapin::options::ConfirmSelectOptions::default())).await?;
        Ok(channel)
    }

    /// What the broker answers, if it does so in time.
    pub(crate) async fn answer<T>(
        &self,
        trying: &str,
        call: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, Error> {
        match timeout(self.answer_within, call).await {
            Ok(answer) => answer.map_err(|cause| error::failed(trying, cause)),
            Err(_) => Err(self.silent(trying)),
        }
    }

    pub(crate) fn silent(&self, trying: &str) -> Error {
        Error::new(Code::BUS_TIMEOUT, format!("{trying}: no answer within {:?}", self.answer_within))
    }

    /// The connection, made where there is none.
    async fn connection(&self, trying: &str) -> Result<Arc<Connection>, Error> {
        let deadline = Instant::now() + self.answer_within;
        let mut failure: lapin::Error = ErrorKind::MissingHeartbeatError.into();
        let connecting = async {
            let mut state = self.state.lock().await;
            loop {
                match state.advance(self).await {
                    Err(cause) if !error::is_final(&cause) => failure = cause,
                    done => return done,
                }
            }
        };
        let connected = timeout_at(deadline, connecting).await;
        match connected {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(cause)) => Err(error::failed(trying, cause)),
            Err(_) => {
                let host = format!("{}:{}", self.uri.authority.host, self.uri.authority.port);
                let message = format!("{trying}: no connection to {host}: {failure}");
                Err(Error::new(Code::BUS_UNREACHABLE, message).with_source(failure))
            }
        }
    }

    /// A broker that is short of memory or disk takes nothing from those who publish. What the driver is given all the same it keeps, and
    /// sends at a time of its own.
    async fn wait_until_it_takes(&self, trying: &str, connection: &Connection) -> Result<(), Error> {
        let mut looks = interval(LOOK_EVERY);
        let waiting = async {
            while connection.status().blocked() {
                looks.tick().await;
            }
        };
        timeout(self.answer_within, waiting).await.map_err(|_| {
            Error::new(Code::BUS_UNREACHABLE, format!("{trying}: the broker takes no messages at the moment"))
                .with_fix("it is short of memory or of disk: `rabbitmq-diagnostics alarms` says of which; it goes on by itself afterwards")
        })
    }
}

impl State {
    /// Goes on with the attempt that is under way, or begins one.
    async fn advance(&mut self, line: &Line) -> lapin::Result<Arc<Connection>> {
        if let Some(connection) = &self.connection
            && connection.status().connected()
        {
            return Ok(Arc::clone(connection));
        }
        self.connection = None;
        if self.attempt.is_none() {
            self.pace.tick().await;
        }
        let attempt = self.attempt.get_or_insert_with(|| {
            let connecting = tls::connect(line.uri.clone(), line.properties.clone(), line.tls.clone());
            tokio::spawn(async move {
                let connected = timeout(ATTEMPT_MAX, connecting).await;
                connected.unwrap_or_else(|_| Err(ErrorKind::MissingHeartbeatError.into()))
            })
        });
        let ended = attempt.await;
        self.attempt = None;
        let connection = Arc::new(ended.map_err(std::io::Error::other)??);
        let frame_bytes_max = usize::try_from(connection.configuration().frame_max()).unwrap_or(usize::MAX);
        line.frame_bytes_max.store(frame_bytes_max, Ordering::Relaxed);
        self.connection = Some(Arc::clone(&connection));
        Ok(connection)
    }
}
