//! The bus: one connection of HTTP/2 that many calls share, and what is known of where it goes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ensue_core::bus::{Bus, Consume, Consumer, Declare, Declared, Outgoing, Receipt, Topology};
use ensue_core::{BusCapabilities, Code, Error};
use futures_util::future::BoxFuture;
use futures_util::stream;
use futures_util::{Stream, StreamExt};
use http::uri::PathAndQuery;
use prost::Message;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::capability;
use crate::config::{Config, Target};
use crate::consume::Member;
use crate::error::Failure;
use crate::login::Tokens;
use crate::publish;
use crate::wire::Call;

/// A connection that says nothing is asked this often whether it is there. The pings of HTTP/2 are for the service to ask.
const ALIVE_EVERY: Duration = Duration::from_secs(10);
/// The service sends at most 10 MB of messages at once, and some words around them.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A connection to Pub/Sub.
pub struct PubsubBus {
    link: Arc<Link>,
    capabilities: BusCapabilities,
}

/// What the parts of the adapter share.
pub(crate) struct Link {
    pub(crate) config: Config,
    pub(crate) target: Target,
    channel: Channel,
    tokens: Tokens,
}

impl PubsubBus {
    pub(crate) fn open(config: Config) -> Result<Self, Error> {
        let target = config.target()?;
        let tokens = Tokens::new(&config.login, &target)?;
        let channel = channel(&config, &target)?;
        let capabilities = capability::of(&config);
        Ok(Self { link: Arc::new(Link { config, target, channel, tokens }), capabilities })
    }
}

/// Connects when it is first used, and again where that is lost.
fn channel(config: &Config, target: &Target) -> Result<Channel, Error> {
    let scheme = if target.is_emulator { "http" } else { "https" };
    let unusable = |cause: tonic::transport::Error| {
        let message = format!("cannot connect to `{}`: {cause}", target.endpoint);
        Error::new(Code::BUS_ADDRESS, message).with_source(cause)
    };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{}", target.endpoint)).map_err(unusable)?;
    let mut endpoint = endpoint
        .connect_timeout(config.answer_within)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(ALIVE_EVERY))
        .tcp_keepalive_interval(Some(ALIVE_EVERY / 2))
        .tcp_keepalive_retries(Some(3));
    if target.is_emulator && config.authorities.is_some() {
        let message = "there are authorities for TLS, and an emulator has none";
        return Err(Error::new(Code::BUS_ADDRESS, message).with_fix("leave them out"));
    }
    if !target.is_emulator {
        endpoint = endpoint.tls_config(tls(config.authorities.as_deref())?).map_err(unusable)?;
    }
    Ok(endpoint.connect_lazy())
}

fn tls(authorities: Option<&Path>) -> Result<ClientTlsConfig, Error> {
    let Some(file) = authorities else { return Ok(ClientTlsConfig::new().with_native_roots()) };
    let text = std::fs::read(file).map_err(|cause| {
        let message = format!("cannot read the authorities {}: {cause}", file.display());
        Error::new(Code::BUS_ADDRESS, message).with_source(cause)
    })?;
    Ok(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(text)))
}

impl Link {
    /// The name by which the service knows a topic or a subscription; a whole one, of another project maybe, is taken as it is.
    pub(crate) fn name(&self, sort: &str, name: &str) -> String {
        if name.starts_with("projects/") {
            return name.to_owned();
        }
        format!("projects/{}/{sort}/{name}", self.target.project)
    }

    /// Asks, and waits for the answer no longer than is configured.
    pub(crate) async fn call<Asked, Answer>(
        &self,
        call: &Call,
        name: &str,
        asked: Asked,
    ) -> Result<Answer, Failure>
    where
        Asked: Message + 'static,
        Answer: Message + Default + 'static,
    {
        let limit = self.config.answer_within;
        let asking = async {
            let mut grpc = self.ready().await?;
            let request = self.request(call, name, asked)?;
            let path = PathAndQuery::from_static(call.path);
            Ok(grpc.unary(request, path, ProstCodec::default()).await?.into_inner())
        };
        timeout(limit, asking).await.unwrap_or(Err(Failure::Late(limit)))
    }

    /// Asks once for messages without an end, or until `ended`. The future may wait until the first one comes.
    pub(crate) async fn pull<Asked, Answer>(
        self: Arc<Self>,
        call: &'static Call,
        name: String,
        asked: Asked,
        ended: oneshot::Receiver<()>,
    ) -> Result<Streaming<Answer>, Failure>
    where
        Asked: Message + 'static,
        Answer: Message + Default + 'static,
    {
        let mut grpc = self.ready().await?;
        let request = self.request(call, &name, once_and_stay(asked, ended))?;
        let path = PathAndQuery::from_static(call.path);
        Ok(grpc.streaming(request, path, ProstCodec::default()).await?.into_inner())
    }

    async fn ready(&self) -> Result<Grpc<Channel>, Failure> {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
        grpc.ready().await.map_err(|cause| Failure::from(Status::from_error(Box::new(cause))))?;
        Ok(grpc)
    }

    fn request<Asked>(&self, call: &Call, name: &str, asked: Asked) -> Result<Request<Asked>, Failure> {
        let mut request = Request::new(asked);
        let headers = request.metadata_mut();
        if let Some(token) = self.tokens.header().map_err(Failure::Login)? {
            headers.insert("authorization", token);
        }
        let route = format!("{}={}", call.routed_by, name.replace('/', "%2F"));
        if let Ok(route) = MetadataValue::try_from(route) {
            headers.insert("x-goog-request-params", route);
        }
        Ok(request)
    }
}

/// One request, and no end behind it until we want one: the service takes that for the end of the whole.
fn once_and_stay<Asked: Send + 'static>(
    asked: Asked,
    ended: oneshot::Receiver<()>,
) -> impl Stream<Item = Asked> + Send + 'static {
    let stay = stream::once(ended).filter_map(async |_| None);
    stream::once(async { asked }).chain(stay)
}

impl Bus for PubsubBus {
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
