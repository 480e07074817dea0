//! The two services, and the bus on top of them.

use std::collections::HashMap;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_sdk_eventbridge::types::RuleState;
use aws_sdk_sqs::config::{Credentials, StalledStreamProtectionConfig};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use ensue_core::bus::{Bus, Consume, Consumer, Declare, Declared, Outgoing, Receipt, Topology};
use ensue_core::{BusCapabilities, Code, Error};
use futures_util::future::BoxFuture;
use smol_str::SmolStr;

use crate::capability;
use crate::config::{Config, Login};
use crate::consume::Member;
use crate::{error, publish};

/// For how long it is taken for granted that an event bus is there and has a rule.
const ROUTE_KNOWN_FOR: Duration = Duration::from_mins(1);

/// `EventBridge`, with the queues of SQS behind it.
pub struct EventbridgeBus {
    link: Arc<Link>,
    capabilities: BusCapabilities,
}

/// What the parts of the adapter share.
pub(crate) struct Link {
    pub(crate) events: aws_sdk_eventbridge::Client,
    pub(crate) queues: aws_sdk_sqs::Client,
    pub(crate) config: Config,
    /// Event buses that lead somewhere, and when that was seen.
    routes: Mutex<HashMap<SmolStr, Instant>>,
}

impl EventbridgeBus {
    pub(crate) async fn open(config: Config) -> Result<Self, Error> {
        let shared = load(&config).await?;
        if shared.region().is_none() {
            let message = "no region of AWS is known";
            return Err(Error::new(Code::BUS_ADDRESS, message)
                .with_fix("write it into the address, as aws://eu-central-1, or set AWS_REGION"));
        }
        let capabilities = capability::of(&config);
        let link = Link {
            events: aws_sdk_eventbridge::Client::new(&shared),
            queues: aws_sdk_sqs::Client::new(&shared),
            config,
            routes: Mutex::default(),
        };
        Ok(Self { link: Arc::new(link), capabilities })
    }
}

/// Nothing is tried again in here: whoever calls does that, and knows what must not be overtaken.
async fn load(config: &Config) -> Result<SdkConfig, Error> {
    let place = config.place()?;
    let loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(
            aws_smithy_http_client::Builder::new()
                .tls_provider(Provider::rustls(CryptoMode::Ring))
                .tls_context(trust(config)?)
                .build_https(),
        )
        .retry_config(RetryConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .timeout_config(patience(config.answer_within));
    let loader = place.region.into_iter().fold(loader, |loader, region| loader.region(Region::new(region)));
    let loader = place.endpoint.into_iter().fold(loader, ConfigLoader::endpoint_url);
    let loader = match &config.login {
        Login::Environment => loader,
        Login::Profile(name) => loader.profile_name(name),
        Login::Keys { id, secret, session } => {
            loader.credentials_provider(Credentials::new(id, secret, session.clone(), None, "ensue"))
        }
    };
    Ok(loader.load().await)
}

/// How long one call may take.
pub(crate) fn patience(time: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(time).operation_timeout(time).build()
}

fn trust(config: &Config) -> Result<TlsContext, Error> {
    let wrong = |message: String| Error::new(Code::BUS_ADDRESS, message);
    let store = match &config.authorities {
        None => TrustStore::default(),
        Some(file) => {
            let pem = fs::read(file).map_err(|cause| {
                wrong(format!("no certificate can be read from {}", file.display())).with_source(cause)
            })?;
            // The library would take what holds none for an empty store, at the first call.
            if !pem.windows(PEM.len()).any(|window| window == PEM) {
                return Err(wrong(format!("there is no certificate in {}", file.display())));
            }
            TrustStore::empty().with_pem_certificate(pem)
        }
    };
    TlsContext::builder()
        .with_trust_store(store)
        .build()
        .map_err(|cause| wrong("TLS cannot be set up".to_owned()).with_source(cause))
}

const PEM: &[u8] = b"-----BEGIN CERTIFICATE-----";

impl Link {
    fn routes(&self) -> MutexGuard<'_, HashMap<SmolStr, Instant>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses an event bus that is not there or has no rule: `EventBridge` confirms what is sent to it and throws it away.
    pub(crate) async fn check_route(&self, bus: &str) -> Result<(), Error> {
        let known = self.routes().get(bus).is_some_and(|seen| seen.elapsed() < ROUTE_KNOWN_FOR);
        if known {
            return Ok(());
        }
        let trying = format!("cannot publish to `{bus}`");
        let mut page = None;
        loop {
            let rules = self.events.list_rules().event_bus_name(bus).set_next_token(page);
            let rules = match rules.send().await {
                Ok(rules) => rules,
                Err(cause) if error::is_missing(&cause) => {
                    let message = format!("{trying}: there is no event bus of this name");
                    return Err(Error::new(Code::BUS_UNROUTABLE, message));
                }
                Err(cause) => return Err(error::failed(&trying, cause)),
            };
            if rules.rules().iter().any(|rule| rule.state() != Some(&RuleState::Disabled)) {
                self.routes().insert(bus.into(), Instant::now());
                return Ok(());
            }
            page = rules.next_token().map(str::to_owned);
            if page.is_none() {
                let message = format!("{trying}: the event bus has no rule, so the event would be lost");
                return Err(Error::new(Code::BUS_UNROUTABLE, message)
                    .with_fix("declare a source that is fed by it, or make a rule with Amazon's own tools"));
            }
        }
    }

    /// Looks again the next time.
    pub(crate) fn forget_route(&self, bus: &str) {
        self.routes().remove(bus);
    }
}

impl Bus for EventbridgeBus {
    fn capabilities(&self) -> &BusCapabilities {
        &self.capabilities
    }

    fn declare(&self, topology: &Topology, declare: Declare) -> BoxFuture<'_, Result<Declared, Error>> {
        let topology = topology.clone();
        Box::pin(async move { self.link.declare(&topology, declare).await })
    }

    fn publish(&self, batch: Vec<Outgoing>) -> BoxFuture<'_, Vec<Result<Receipt, Error>>> {
        Box::pin(publish::publish(&self.link, batch))
    }

    fn consume(&self, consume: Consume) -> BoxFuture<'_, Result<Box<dyn Consumer>, Error>> {
        Box::pin(async move {
            let member = Member::join(Arc::clone(&self.link), consume).await?;
            Ok(Box::new(member) as Box<dyn Consumer>)
        })
    }
}
