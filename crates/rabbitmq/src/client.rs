//! The bus: two lines to the broker, and what is known of it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ensue_core::bus::{Bus, Consume, Consumer, Declare, Declared, Outgoing, Receipt, Topology};
use ensue_core::{BusCapabilities, Code, Error};
use futures_util::future::BoxFuture;
use smol_str::SmolStr;

use crate::capability;
use crate::config::Config;
use crate::consume::Member;
use crate::line::Line;
use crate::post::Post;
use crate::publish;
use crate::tls;

/// A connection to RabbitMQ.
pub struct RabbitmqBus {
    link: Arc<Link>,
    capabilities: BusCapabilities,
}

/// What the parts of the adapter share.
pub(crate) struct Link {
    pub(crate) config: Config,
    pub(crate) publishing: Line,
    pub(crate) consuming: Line,
    pub(crate) post: Post,
    /// Exchanges and queues that were there when they were last looked at.
    known: Mutex<HashSet<SmolStr>>,
}

impl RabbitmqBus {
    /// Looks whether the broker is there and lets us in. One that is not there may come later, which is no error here.
    pub(crate) async fn open(config: Config) -> Result<Self, Error> {
        let uri = config.uri()?;
        let tls = tls::connector(&uri, &config.trust)?;
        let line = |purpose| Line::new(uri.clone(), tls.clone(), purpose, config.answer_within);
        let (publishing, consuming) = (line("publishing"), line("consuming"));
        let capabilities = capability::of(&config);
        let link = Link { config, publishing, consuming, post: Post::new(), known: Mutex::default() };
        match link.publishing.ready("cannot connect").await {
            // A login that is wrong today may be right when its secret has been changed there too: that is waited for.
            Err(error) if !error.is_retryable() && error.code() != Code::BUS_DENIED => Err(error),
            _ => Ok(Self { link: Arc::new(link), capabilities }),
        }
    }
}

impl Link {
    fn known(&self) -> MutexGuard<'_, HashSet<SmolStr>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this was there when it was last looked at.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.known().contains(name)
    }

    /// Remembers that it is there.
    pub(crate) fn remember(&self, name: &str) {
        self.known().insert(name.into());
    }

    /// Looks again the next time.
    pub(crate) fn forget(&self, name: &str) {
        self.known().remove(name);
    }
}

impl Bus for RabbitmqBus {
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
