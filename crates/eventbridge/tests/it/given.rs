//! A fake of Amazon's services of its own for each case: a process, a folder, a port. See `ensue_test::server`.

use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use ensue_core::bus::{Bus, Consume, Delivery, Feed, Mode, Outgoing};
use ensue_core::cloudevents::json;
use ensue_core::name::{Channel, ContentType, EventId, EventType, Source, StreamName, SubscriptionName};
use ensue_core::{BoxFuture, Envelope, Error, Timestamp};
use ensue_eventbridge::Config;
use ensue_test::conformance::bus::{Broker, Fault, Line, Process, Tunnel};
use ensue_test::server::{AMAZON, AMAZON_KEY as KEY, free_port};
use tempfile::TempDir;

/// See [`Broker`].
pub(crate) struct Server {
    folder: TempDir,
    address: SocketAddr,
    tunnel: Tunnel,
    process: Process,
    scheme: &'static str,
}

/// One that runs and holds nothing.
pub(crate) async fn fresh() -> Arc<dyn Broker> {
    server().await
}

fn config(scheme: &str, address: SocketAddr, secret: &str) -> Config {
    Config::new(format!("aws://us-east-1?endpoint={scheme}://{address}"))
        .keys(KEY.0, secret)
        .answer_within(Duration::from_secs(10))
        .hidden_for(Duration::from_secs(6))
        .settle_within(Duration::from_secs(10))
}

/// The same, for what the suite does not know.
pub(crate) async fn server() -> Arc<Server> {
    serving("http").await
}

/// The same, over TLS.
pub(crate) async fn server_with_tls() -> Arc<Server> {
    serving("https").await
}

async fn serving(scheme: &'static str) -> Arc<Server> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let server = Server {
        folder: tempfile::tempdir().expect("a folder"),
        address,
        tunnel: Tunnel::to(address).await,
        process: Process::default(),
        scheme,
    };
    server.strike(Fault::Start).await;
    Arc::new(server)
}

impl Server {
    pub(crate) fn config(&self) -> Config {
        config(self.scheme, self.address, KEY.1)
    }

    /// The file of the authority that has signed its certificate, where it serves TLS.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// `EventBridge`, for somebody else.
    pub(crate) fn events(&self) -> aws_sdk_eventbridge::Client {
        let config = aws_sdk_eventbridge::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .endpoint_url(format!("http://{}", self.address))
            .credentials_provider(Credentials::new(KEY.0, KEY.1, None, None, "tests"))
            .http_client(aws_smithy_http_client::Builder::new().build_http());
        aws_sdk_eventbridge::Client::from_conf(config.build())
    }

    /// SQS, for somebody else.
    pub(crate) fn queues(&self) -> aws_sdk_sqs::Client {
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .endpoint_url(format!("http://{}", self.address))
            .credentials_provider(Credentials::new(KEY.0, KEY.1, None, None, "tests"))
            .http_client(aws_smithy_http_client::Builder::new().build_http());
        aws_sdk_sqs::Client::from_conf(config.build())
    }

    fn start(&self) {
        let python = env::var("ENSUE_TEST_AWS_PYTHON").expect("ENSUE_TEST_AWS_PYTHON names the interpreter");
        let mut command = Command::new(python);
        command.args(["-c", AMAZON, &self.address.port().to_string()]);
        command.arg(self.folder.path().join("recording"));
        if self.scheme == "https" {
            command.arg(self.folder.path());
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the fake starts");
        let line = Line::of(child.stdout.take(), "ready");
        self.process.hold(child);
        line.come().expect("the fake says that it listens");
    }
}

/// The group `billing`, on a queue that an event bus feeds.
pub(crate) fn source(queue: &str, bus: &str, filter: Option<&str>) -> Consume {
    let from = Channel::new(bus).expect("a valid name");
    let fed_by = Some(Feed { from, filter: filter.map(Into::into) });
    Consume { fed_by, ..unfed(queue) }
}

/// The same group, on the dead letters of a queue.
pub(crate) fn dead_letters_of(queue: &str) -> Consume {
    match queue.strip_suffix(".fifo") {
        Some(plain) => unfed(&format!("{plain}-dead.fifo")),
        None => unfed(&format!("{queue}-dead")),
    }
}

fn unfed(queue: &str) -> Consume {
    let group = SubscriptionName::new("billing").expect("a valid name");
    Consume { group, from: Channel::new(queue).expect("a valid name"), fed_by: None }
}

/// An event of this key, id and data, as JSON.
pub(crate) fn event(bus: &str, key: &str, id: &str, data: &str) -> Outgoing {
    Outgoing {
        to: Channel::new(bus).expect("a valid name"),
        stream: StreamName::new("Order", key).expect("a valid key"),
        envelope: Envelope {
            id: EventId::new(id).expect("a valid id"),
            source: Source::new("shop-tests").expect("a valid source"),
            event_type: EventType::new("OrderPlaced").expect("a valid type"),
            schema_version: 1,
            time: Timestamp::UNIX_EPOCH,
            correlation: None,
            causation: None,
            trace: None,
            tags: Vec::new(),
            extensions: Vec::new(),
            content_type: ContentType::json(),
            data: data.to_owned().into(),
        },
        mode: Mode::Binary,
    }
}

/// The id of an event of ours that was delivered.
pub(crate) fn id(delivery: &Delivery) -> String {
    let event = json::parse(&delivery.message.body).expect("it is an event of ours");
    event.id.expect("it has an id").to_string()
}

/// The queue of a group for what is published to a bus.
fn queue(group: &SubscriptionName, target: &Channel) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    format!("{group}-{target}").chars().map(plain).collect()
}

impl Broker for Server {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Bus>, Error>> {
        Box::pin(async { Ok(Arc::new(self.config().open().await?) as Arc<dyn Bus>) })
    }

    fn open_denied(&self) -> BoxFuture<'_, Result<Arc<dyn Bus>, Error>> {
        Box::pin(async {
            Ok(Arc::new(config(self.scheme, self.address, "wrong").open().await?) as Arc<dyn Bus>)
        })
    }

    fn source(&self, group: SubscriptionName, target: &Channel) -> Consume {
        let from = Channel::new(queue(&group, target)).expect("a valid name");
        Consume { group, from, fed_by: Some(Feed { from: target.clone(), filter: None }) }
    }

    fn dead_letters(&self, source: &Consume) -> Option<Consume> {
        Some(Consume { group: source.group.clone(), ..dead_letters_of(source.from.as_str()) })
    }

    fn open_tunnelled(&self) -> BoxFuture<'_, Result<Arc<dyn Bus>, Error>> {
        let config = config(self.scheme, self.tunnel.address(), KEY.1);
        Box::pin(async { Ok(Arc::new(config.open().await?) as Arc<dyn Bus>) })
    }

    fn cut(&self) -> usize {
        self.tunnel.cut()
    }

    fn strike(&self, fault: Fault) -> BoxFuture<'_, ()> {
        match fault {
            Fault::Kill => self.process.kill(),
            Fault::Start => self.start(),
            Fault::Pause => self.process.freeze(),
            Fault::Resume => self.process.thaw(),
        }
        Box::pin(async {})
    }

    fn spared(&self) -> Option<&'static str> {
        Some("the fake makes the requests again that it has recorded")
    }

    fn is_alive(&self) -> bool {
        self.process.is_alive()
    }
}
