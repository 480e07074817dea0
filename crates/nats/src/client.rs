//! The connection, and the topology on it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use async_nats::connection::State;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy};
use async_nats::jetstream::context::{Context, ContextBuilder};
use async_nats::jetstream::stream::{
    self, ConsumerError, ConsumerErrorKind, DiscardPolicy, RetentionPolicy, StorageType,
};
use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, ServerError, rustls};
use ensue_core::bus::{Bus, Consume, Consumer, Declare, Declared, Outgoing, Receipt, Topology};
use ensue_core::{BusCapabilities, Channel, Code, Error};
use futures_util::future::BoxFuture;

use crate::capability;
use crate::config::{Config, Login};
use crate::consume::Member;
use crate::publish;

/// How often a consumer is made anew at another place, if members make it anew at the beginning in between.
const MOVE_TRIES: usize = 10;

/// The durable pull consumer of a group.
pub(crate) type Durable = consumer::Consumer<pull::Config>;

/// A connection to NATS with `JetStream`.
pub struct NatsBus {
    link: Link,
    capabilities: BusCapabilities,
}

/// What the parts of the adapter share.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) client: Client,
    pub(crate) context: Context,
    pub(crate) config: Arc<Config>,
    unwelcome: Unwelcome,
}

/// Why the last attempt to connect failed, where waiting alone does not help.
#[derive(Clone, Default)]
struct Unwelcome(Arc<Mutex<Option<(Code, String)>>>);

impl Unwelcome {
    fn set(&self, why: Option<(Code, String)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    fn get(&self) -> Option<(Code, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, event: &Event) {
        let is_denied = match event {
            Event::Connected => return self.set(None),
            Event::ServerError(ServerError::AuthorizationViolation) => true,
            Event::ClientError(error) => error.to_string().to_lowercase().contains("authorization"),
            _ => false,
        };
        if is_denied {
            self.set(Some((Code::BUS_DENIED, "the server does not let us in".to_owned())));
        }
    }

    /// What is wrong with certificates. The driver says it only of a first attempt that is not repeated.
    fn note_certificates(&self, cause: &ConnectError) {
        let first: &(dyn std::error::Error + 'static) = cause;
        let reason = std::iter::successors(Some(first), |cause| cause.source()).find_map(|cause| {
            let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            inner.and_then(|inner| inner.downcast_ref::<rustls::Error>())
        });
        if let Some(reason) = reason {
            self.set(Some((Code::BUS_ADDRESS, reason.to_string())));
        }
    }
}

impl NatsBus {
    pub(crate) async fn open(config: Config) -> Result<Self, Error> {
        let unwelcome = Unwelcome::default();
        let options = async || {
            let seen = unwelcome.clone();
            Ok::<_, Error>(options(&config).await?.event_callback(move |event| {
                seen.note(&event);
                async {}
            }))
        };
        let servers: Vec<&str> = config.url.split(',').map(str::trim).collect();
        let connected = match options().await?.connect(&servers).await {
            Ok(client) => Ok(client),
            Err(cause) => {
                unwelcome.note_certificates(&cause);
                options().await?.retry_on_initial_connect().connect(&servers).await
            }
        };
        let client = connected.map_err(|cause| {
            let code = match cause.kind() {
                ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                    Code::BUS_DENIED
                }
                ConnectErrorKind::ServerParse | ConnectErrorKind::Tls => Code::BUS_ADDRESS,
                _ => Code::BUS_UNREACHABLE,
            };
            Error::new(code, format!("cannot connect to NATS: {cause}")).with_source(cause)
        })?;
        // A server that is there answers at once; one that is not may come later, which is no error here.
        drop(tokio::time::timeout(config.answer_within, client.flush()).await);
        let context = ContextBuilder::new()
            .timeout(config.answer_within)
            .ack_timeout(config.answer_within)
            .build(client.clone());
        let capabilities = capability::of(&config);
        Ok(Self { link: Link { client, context, config: Arc::new(config), unwelcome }, capabilities })
    }
}

impl Bus for NatsBus {
    fn capabilities(&self) -> &BusCapabilities {
        &self.capabilities
    }

    fn declare(&self, topology: &Topology, declare: Declare) -> BoxFuture<'_, Result<Declared, Error>> {
        let topology = topology.clone();
        Box::pin(async move {
            let mut declared = Declared::default();
            topology.targets.iter().try_for_each(check_subject)?;
            let sources = topology.sources.iter().map(|source| &source.from);
            for channel in topology.targets.iter().chain(sources) {
                self.link.declare_stream(channel.as_str(), declare, &mut declared).await?;
            }
            for source in &topology.sources {
                self.link.declare_consumer(source, declare, &mut declared).await?;
            }
            Ok(declared)
        })
    }

    fn publish(&self, batch: Vec<Outgoing>) -> BoxFuture<'_, Vec<Result<Receipt, Error>>> {
        Box::pin(publish::publish(&self.link, batch))
    }

    fn consume(&self, consume: Consume) -> BoxFuture<'_, Result<Box<dyn Consumer>, Error>> {
        Box::pin(async move {
            let member = Member::join(self.link.clone(), consume).await?;
            Ok(Box::new(member) as Box<dyn Consumer>)
        })
    }
}

impl Link {
    /// Why there is no connection, where it is known to be more than that nobody is there.
    pub(crate) fn unwelcome(&self) -> Option<(Code, String)> {
        self.unwelcome.get().filter(|_| self.is_down())
    }

    pub(crate) fn is_down(&self) -> bool {
        self.client.connection_state() != State::Connected
    }

    /// The stream that keeps a subject, if there is one.
    pub(crate) async fn stream_of(&self, subject: &str) -> Result<Option<String>, Error> {
        use async_nats::jetstream::context::GetStreamByNameErrorKind as Kind;
        match self.context.stream_by_subject(subject).await {
            Ok(name) => Ok(Some(name)),
            Err(cause) if cause.kind() == Kind::NotFound => Ok(None),
            Err(cause) => Err(self.failed(&format!("cannot look up `{subject}`"), Code::BUS_TIMEOUT, cause)),
        }
    }

    async fn declare_stream(
        &self,
        subject: &str,
        how: Declare,
        declared: &mut Declared,
    ) -> Result<(), Error> {
        if let Some(name) = self.stream_of(subject).await? {
            self.check_stream(&name, subject).await?;
            push(&mut declared.found, format!("stream `{name}` for `{subject}`"));
            return Ok(());
        }
        let name = plain_name(subject);
        push(&mut declared.missing, format!("stream `{name}` for `{subject}`"));
        if how == Declare::DryRun {
            return Ok(());
        }
        let wanted = stream::Config {
            name: name.clone(),
            subjects: vec![subject.to_owned()],
            storage: StorageType::File,
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::New,
            num_replicas: self.config.replicas,
            max_age: self.config.retention.unwrap_or_default(),
            // The server takes no window that is longer than what it keeps.
            duplicate_window: self
                .config
                .retention
                .map_or(self.config.duplicate_window, |age| age.min(self.config.duplicate_window)),
            ..stream::Config::default()
        };
        let made = self.context.create_stream(wanted).await;
        let trying = format!("cannot make the stream `{name}`");
        made.map(|_| ()).map_err(|cause| self.failed(&trying, Code::BUS_TOPOLOGY, cause))
    }

    /// A stream that somebody else made must keep what the port promises: confirmations, files, and a copy for each group.
    async fn check_stream(&self, name: &str, subject: &str) -> Result<(), Error> {
        let trying = format!("cannot look at the stream `{name}`");
        let found = self.context.get_stream(name).await;
        let found = found.map_err(|cause| self.failed(&trying, Code::BUS_TIMEOUT, cause))?;
        let settings = &found.cached_info().config;
        let wrong = [
            (settings.no_ack, "confirms nothing (`no_ack`), confirmations are needed"),
            (settings.storage != StorageType::File, "is in memory, storage in files is needed"),
            (
                settings.retention == RetentionPolicy::WorkQueue,
                "is a work queue, retention by limits or interest is needed",
            ),
        ];
        let said = wrong.into_iter().find(|(is_wrong, _)| *is_wrong).map(|(_, why)| why.to_owned());
        let why = said.or_else(|| {
            let wanted = self.config.retention.filter(|wanted| *wanted != settings.max_age)?;
            Some(format!("keeps messages for {:?} (zero: for ever), not for {wanted:?}", settings.max_age))
        });
        match why {
            Some(why) => {
                let message = format!("the stream `{name}` that keeps `{subject}` {why}");
                Err(Error::new(Code::BUS_TOPOLOGY, message))
            }
            None => Ok(()),
        }
    }

    async fn declare_consumer(
        &self,
        source: &Consume,
        how: Declare,
        declared: &mut Declared,
    ) -> Result<(), Error> {
        let name = consumer_name(source);
        let line = format!("consumer `{name}` of `{}`", source.from);
        let found = match self.stream_of(source.from.as_str()).await? {
            Some(stream) => self.find_consumer(&stream, &name).await?,
            None => None,
        };
        match (found, how) {
            (Some(consumer), _) => {
                self.check_consumer(&consumer, source)?;
                push(&mut declared.found, line);
            }
            (None, Declare::DryRun) => push(&mut declared.missing, line),
            (None, Declare::Make) => {
                push(&mut declared.missing, line);
                self.consumer(source).await?;
            }
        }
        Ok(())
    }

    /// The durable consumer of a group, made where it is missing.
    pub(crate) async fn consumer(&self, source: &Consume) -> Result<Durable, Error> {
        let stream = self.stream_to_consume(source).await?;
        let found = self.find_consumer(&stream, &consumer_name(source)).await?;
        let consumer = match found {
            Some(consumer) => consumer,
            // A create that meets one of other settings is refused by the server, so a race of two members is none.
            None => self.make_consumer(&stream, source, DeliverPolicy::All).await?,
        };
        self.check_consumer(&consumer, source)?;
        Ok(consumer)
    }

    /// The durable consumer of a group, made anew at another place. Members that are at it find the new one by themselves.
    pub(crate) async fn move_consumer(&self, source: &Consume, to: DeliverPolicy) -> Result<Durable, Error> {
        let (stream, name) = (self.stream_to_consume(source).await?, consumer_name(source));
        let mut tries_left = MOVE_TRIES;
        loop {
            let deleted = self.context.delete_consumer_from_stream(&name, &stream).await;
            if let Err(cause) = deleted
                && !is_not_found(&cause)
            {
                let trying = format!("cannot move the consumer `{name}` of the stream `{stream}`");
                return Err(self.failed(&trying, Code::BUS_TIMEOUT, cause));
            }
            tries_left -= 1;
            match self.make_consumer(&stream, source, to).await {
                // Another member was quicker and has made it anew at the beginning.
                Err(_) if tries_left > 0 && !self.is_down() => {}
                made => return made,
            }
        }
    }

    async fn stream_to_consume(&self, source: &Consume) -> Result<String, Error> {
        let subject = source.from.as_str();
        self.stream_of(subject).await?.ok_or_else(|| {
            let message = format!("cannot consume `{subject}`: no stream keeps this subject");
            Error::new(Code::BUS_UNROUTABLE, message)
        })
    }

    async fn find_consumer(&self, stream: &str, name: &str) -> Result<Option<Durable>, Error> {
        match self.context.get_consumer_from_stream(name, stream).await {
            Ok(consumer) => Ok(Some(consumer)),
            Err(cause) if is_not_found(&cause) => Ok(None),
            Err(cause) => {
                let trying = format!("cannot look at the consumer `{name}` of the stream `{stream}`");
                Err(self.failed(&trying, Code::BUS_TIMEOUT, cause))
            }
        }
    }

    async fn make_consumer(
        &self,
        stream: &str,
        source: &Consume,
        from: DeliverPolicy,
    ) -> Result<Durable, Error> {
        let name = consumer_name(source);
        let wanted = pull::Config {
            durable_name: Some(name.clone()),
            filter_subject: source.from.to_string(),
            deliver_policy: from,
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.config.settle_within,
            max_ack_pending: self.in_flight_max(),
            ..pull::Config::default()
        };
        let trying = format!("cannot make the consumer `{name}` of the stream `{stream}`");
        let made = self.context.create_consumer_on_stream(wanted, stream).await;
        made.map_err(|cause| self.failed(&trying, Code::BUS_TOPOLOGY, cause))
    }

    /// A consumer that somebody else made, or that we made with another configuration, must do what this one says.
    fn check_consumer(&self, consumer: &Durable, source: &Consume) -> Result<(), Error> {
        let settings = &consumer.cached_info().config;
        let (wait, wait_wanted) = (settings.ack_wait, self.config.settle_within);
        let (open, open_wanted) = (settings.max_ack_pending, self.in_flight_max());
        let wrong = if settings.ack_policy != AckPolicy::Explicit {
            "does not settle message by message (`ack_policy`)".to_owned()
        } else if settings.filter_subject != source.from.as_str() {
            format!("filters `{}`", settings.filter_subject)
        } else if wait != wait_wanted {
            format!(
                "delivers again after {wait:?} (`ack_wait`), and the bus is configured for {wait_wanted:?} (`settle_within`)"
            )
        } else if open != open_wanted {
            format!(
                "has {open} messages in flight (`max_ack_pending`), and the bus is configured for {open_wanted} (`in_flight_max`)"
            )
        } else {
            return Ok(());
        };
        let message = format!("the consumer `{}` of `{}` {wrong}", consumer_name(source), source.from);
        Err(Error::new(Code::BUS_TOPOLOGY, message).with_fix(
            "configure the bus as the consumer is, or change the consumer with the broker's own tools",
        ))
    }

    fn in_flight_max(&self) -> i64 {
        i64::try_from(self.config.in_flight_max).unwrap_or(i64::MAX)
    }
}

/// Whether the server says that there is no such consumer; anything else says nothing about it.
fn is_not_found(cause: &ConsumerError) -> bool {
    matches!(cause.kind(), ConsumerErrorKind::JetStream(error) if error.error_code() == ErrorCode::CONSUMER_NOT_FOUND)
}

/// What is published has one subject: with `*` or `>`, or with an empty part, it would be a pattern or nothing.
fn check_subject(channel: &Channel) -> Result<(), Error> {
    let is_plain =
        |part: &str| !part.is_empty() && !part.contains(['*', '>']) && !part.contains(char::is_whitespace);
    if channel.as_str().split('.').all(is_plain) {
        return Ok(());
    }
    let message = format!("`{channel}` is no subject of NATS that can be published to");
    Err(Error::new(Code::INVALID_NAME, message)
        .with_fix("write words with `.` between them, without spaces, `*` and `>`"))
}

fn push(lines: &mut Vec<String>, line: String) {
    if !lines.contains(&line) {
        lines.push(line);
    }
}

/// Names of streams and consumers may not hold what has a meaning in subjects.
fn plain_name(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    text.chars().map(plain).collect()
}

/// A group may consume several subjects of one stream, each from a place of its own.
fn consumer_name(source: &Consume) -> String {
    format!("{}--{}", plain_name(source.group.as_str()), plain_name(source.from.as_str()))
}

async fn options(config: &Config) -> Result<ConnectOptions, Error> {
    let options = ConnectOptions::new().connection_timeout(config.answer_within);
    let mut options = match &config.login {
        Login::InAddress => options,
        Login::Token(token) => options.token(token.clone()),
        Login::Password { user, password } => options.user_and_password(user.clone(), password.clone()),
        Login::Nkey(seed) => options.nkey(seed.clone()),
        Login::Credentials(file) => options.credentials_file(file).await.map_err(|cause| {
            let message = format!("cannot read the credentials {}: {cause}", file.display());
            Error::new(Code::BUS_ADDRESS, message).with_source(cause)
        })?,
    };
    if let Some(file) = &config.authorities {
        options = options.add_root_certificates(file.clone());
    }
    if let Some((certificate, key)) = &config.certificate {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok(options)
}
