//! Exchanges, queues and what binds them: looked at, compared, and made where they are missing.
//!
//! AMQP can say whether a thing is there, and refuses to declare it otherwise than it is; it cannot list. So bindings cannot be looked at:
//! they are made again, which changes nothing where they exist, and a dry run takes for granted that a queue that exists is bound.
//!
//! Invariant: nothing that exists is changed or deleted.

use ensue_core::bus::{Consume, Declare, Declared, Feed, Topology};
use ensue_core::{Code, Error};
use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::client::Link;
use crate::config::Exchange;
use crate::error;

const DURABLE: QueueDeclareOptions = QueueDeclareOptions {
    passive: false,
    durable: true,
    exclusive: false,
    auto_delete: false,
    nowait: false,
};

/// The routing key and the arguments of a binding.
type Binding = (String, FieldTable);

/// The queue of those that were refused for good.
pub(crate) fn dead_letters(queue: &str) -> String {
    format!("{queue}.dead")
}

impl Link {
    pub(crate) async fn declare(&self, topology: &Topology, how: Declare) -> Result<Declared, Error> {
        let mut declared = Declared::default();
        let feeds = topology.sources.iter().filter_map(|source| Some(&source.fed_by.as_ref()?.from));
        for exchange in topology.targets.iter().chain(feeds) {
            self.declare_exchange(exchange.as_str(), how, &mut declared).await?;
        }
        for source in &topology.sources {
            self.declare_source(source, how, &mut declared).await?;
        }
        Ok(declared)
    }

    async fn declare_exchange(&self, name: &str, how: Declare, declared: &mut Declared) -> Result<(), Error> {
        let line = format!("exchange `{name}`");
        if self.exchange_exists(name).await? {
            self.kind_of(name).await?;
            note(&mut declared.found, line);
            return Ok(());
        }
        note(&mut declared.missing, line);
        if how == Declare::Make {
            let kind = kind(self.config.exchange);
            let made = self.try_exchange(name, kind).await?;
            made.map_err(|cause| error::failed(&format!("cannot make the exchange `{name}`"), cause))?;
            self.remember(name);
        }
        Ok(())
    }

    async fn declare_source(
        &self,
        source: &Consume,
        how: Declare,
        declared: &mut Declared,
    ) -> Result<(), Error> {
        let queue = source.from.as_str();
        let dead = dead_letters(queue);
        let binding = match &source.fed_by {
            Some(feed) => Some(self.binding(queue, feed).await?),
            None => None,
        };
        let fed_by =
            source.fed_by.as_ref().map(|feed| format!(" fed by `{}`", feed.from)).unwrap_or_default();
        let wanted =
            [(dead.as_str(), format!("dead letters `{dead}`")), (queue, format!("queue `{queue}`{fed_by}"))];
        for (name, line) in wanted {
            if self.queue_exists(name).await? {
                if name == queue {
                    self.check_queue(source).await?;
                }
                note(&mut declared.found, line);
            } else {
                note(&mut declared.missing, line);
                if how == Declare::Make {
                    let arguments =
                        if name == queue { self.queue_settings(queue) } else { self.plain_settings() };
                    self.make_queue(name, arguments).await?;
                }
            }
        }
        match (&source.fed_by, binding) {
            (Some(feed), Some(binding)) if how == Declare::Make => self.bind(queue, feed, binding).await,
            _ => Ok(()),
        }
    }

    /// Fails with `E0444` unless the exchange is there.
    pub(crate) async fn need_exchange(&self, name: &str) -> Result<(), Error> {
        if self.knows(name) {
            return Ok(());
        }
        if !self.exchange_exists(name).await? {
            let message = format!("cannot publish to `{name}`: there is no such exchange");
            return Err(Error::new(Code::BUS_UNROUTABLE, message));
        }
        self.remember(name);
        Ok(())
    }

    async fn exchange_exists(&self, name: &str) -> Result<bool, Error> {
        let trying = format!("cannot look at the exchange `{name}`");
        let short = error::short("name of the exchange", name)?;
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let channel = self.publishing.channel(&trying).await?;
        let looking = channel.exchange_declare(short, ExchangeKind::Topic, options, FieldTable::default());
        self.publishing.answer(&trying, presence(looking)).await
    }

    pub(crate) async fn queue_exists(&self, name: &str) -> Result<bool, Error> {
        let trying = format!("cannot look at the queue `{name}`");
        let short = error::short("name of the queue", name)?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let channel = self.publishing.channel(&trying).await?;
        let looking = channel.queue_declare(short, options, FieldTable::default());
        self.publishing.answer(&trying, presence(looking)).await
    }

    /// Declares an exchange that survives a restart. The inner error is the broker's.
    async fn try_exchange(&self, name: &str, kind: ExchangeKind) -> Result<lapin::Result<()>, Error> {
        let trying = format!("cannot declare the exchange `{name}`");
        let short = error::short("name of the exchange", name)?;
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let channel = self.publishing.channel(&trying).await?;
        let declaring = channel.exchange_declare(short, kind, options, FieldTable::default());
        self.publishing.answer(&trying, async { Ok(declaring.await) }).await
    }

    /// The sort of an exchange that is there, learnt by declaring it as one sort and, if it is another one, as that. Nothing where the
    /// broker does not let us. Fails where it would not survive a restart.
    async fn kind_of(&self, name: &str) -> Result<Option<ExchangeKind>, Error> {
        let mut kind = kind(self.config.exchange);
        loop {
            let Err(cause) = self.try_exchange(name, kind.clone()).await? else { return Ok(Some(kind)) };
            match error::difference(&cause) {
                Some((setting, current)) if setting == "type" => kind = named(current),
                Some((setting, current)) if setting == "durable" => {
                    let message = format!(
                        "the exchange `{name}` does not survive a restart: `durable` is {current}, true is needed"
                    );
                    return Err(Error::new(Code::BUS_TOPOLOGY, message).with_source(cause));
                }
                // Whether it is internal, deletes itself, or has arguments is its owner's business.
                Some(_) => return Ok(Some(kind)),
                None if error::is_denied(&cause) => return Ok(None),
                None => return Err(error::failed(&format!("cannot look at the exchange `{name}`"), cause)),
            }
        }
    }

    /// What binds a queue to its exchange, which need not be there yet.
    async fn binding(&self, queue: &str, feed: &Feed) -> Result<Binding, Error> {
        let exchange = feed.from.as_str();
        let kind = if self.exchange_exists(exchange).await? {
            self.kind_of(exchange).await?
        } else {
            Some(kind(self.config.exchange))
        };
        binding(kind.as_ref(), feed).map_err(|reason| {
            let message = format!("cannot feed the queue `{queue}` by the exchange `{exchange}`: {reason}");
            Error::new(Code::BUS_TOPOLOGY, message)
        })
    }

    async fn bind(&self, queue: &str, feed: &Feed, (key, arguments): Binding) -> Result<(), Error> {
        let exchange = feed.from.as_str();
        let trying = format!("cannot bind the queue `{queue}` to the exchange `{exchange}`");
        let (key, queue) = (error::short("filter", &key)?, error::short("name of the queue", queue)?);
        let exchange = error::short("name of the exchange", exchange)?;
        let channel = self.publishing.channel(&trying).await?;
        let binding = channel.queue_bind(queue, exchange, key, QueueBindOptions::default(), arguments);
        self.publishing.answer(&trying, binding).await
    }

    /// Makes a queue that survives a restart; one of the same settings that is there already will do.
    pub(crate) async fn make_queue(&self, name: &str, arguments: FieldTable) -> Result<(), Error> {
        let trying = format!("cannot make the queue `{name}`");
        let short = error::short("name of the queue", name)?;
        let channel = self.publishing.channel(&trying).await?;
        self.publishing.answer(&trying, channel.queue_declare(short, DURABLE, arguments)).await.map(drop)
    }

    /// A queue that exists must be what this topology would have made. One that nothing of ours feeds is somebody else's: it must survive
    /// a restart, and be ours in full only where its settings keep the order that is declared.
    pub(crate) async fn check_queue(&self, source: &Consume) -> Result<(), Error> {
        let queue = source.from.as_str();
        let trying = format!("cannot consume `{queue}`");
        let short = error::short("name of the queue", queue)?;
        let channel = self.publishing.channel(&trying).await?;
        let declaring = channel.queue_declare(short, DURABLE, self.queue_settings(queue));
        let declaring = async { Ok(declaring.await) };
        let Err(cause) = self.publishing.answer(&trying, declaring).await? else { return Ok(()) };
        let is_foreign = source.fed_by.is_none() && self.config.in_flight_max > 1;
        match error::difference(&cause) {
            Some((setting, _)) if is_foreign && setting != "durable" => Ok(()),
            Some((setting, current)) => {
                let wanted = self.wanted(queue, &setting);
                let message = format!("{trying}: `{setting}` of the queue is {current}, {wanted} is needed");
                Err(Error::new(Code::BUS_TOPOLOGY, message).with_source(cause).with_fix(
                    "use another name; or delete the queue with the broker's own tools once it is empty, and declare it again",
                ))
            }
            None if is_foreign && error::is_denied(&cause) => Ok(()),
            None => Err(error::failed(&trying, cause)),
        }
    }

    /// What a setting is on a queue of ours.
    fn wanted(&self, queue: &str, setting: &str) -> String {
        match self.queue_settings(queue).inner().get(setting) {
            Some(AMQPValue::LongString(text)) => text.to_string(),
            Some(AMQPValue::LongLongInt(number)) => number.to_string(),
            Some(AMQPValue::Boolean(value)) => value.to_string(),
            _ if setting == "durable" => "true".to_owned(),
            _ => "none".to_owned(),
        }
    }

    /// The settings of a queue that a group consumes. What is taken back too often goes to the dead letters, by way of the broker, and
    /// is not lost on the way.
    fn queue_settings(&self, queue: &str) -> FieldTable {
        let mut settings = self.plain_settings();
        let mut set = |name: &str, value| {
            settings.insert(name.into(), value);
        };
        set("x-delivery-limit", AMQPValue::LongLongInt(i64::from(self.config.delivery_limit)));
        set("x-overflow", text("reject-publish"));
        set("x-dead-letter-exchange", text(""));
        set("x-dead-letter-routing-key", text(&dead_letters(queue)));
        set("x-dead-letter-strategy", text("at-least-once"));
        if self.config.in_flight_max == 1 {
            set("x-single-active-consumer", AMQPValue::Boolean(true));
        }
        settings
    }

    /// The settings of any queue of ours.
    pub(crate) fn plain_settings(&self) -> FieldTable {
        let mut settings = FieldTable::default();
        settings.insert("x-queue-type".into(), text("quorum"));
        if let Some(brokers) = self.config.replicas {
            settings.insert("x-quorum-initial-group-size".into(), AMQPValue::LongLongInt(i64::from(brokers)));
        }
        settings
    }
}

/// Whether it is there, from the answer to a passive declaration.
async fn presence<T>(looking: impl Future<Output = lapin::Result<T>>) -> lapin::Result<bool> {
    match looking.await {
        Ok(_) => Ok(true),
        Err(cause) if error::is_missing(&cause) => Ok(false),
        Err(cause) => Err(cause),
    }
}

pub(crate) fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn note(lines: &mut Vec<String>, line: String) {
    if !lines.contains(&line) {
        lines.push(line);
    }
}

fn kind(exchange: Exchange) -> ExchangeKind {
    match exchange {
        Exchange::Topic => ExchangeKind::Topic,
        Exchange::Direct => ExchangeKind::Direct,
        Exchange::FanOut => ExchangeKind::Fanout,
        Exchange::Headers => ExchangeKind::Headers,
    }
}

fn named(name: String) -> ExchangeKind {
    match name.as_str() {
        "topic" => ExchangeKind::Topic,
        "direct" => ExchangeKind::Direct,
        "fanout" => ExchangeKind::Fanout,
        "headers" => ExchangeKind::Headers,
        _ => ExchangeKind::Custom(name),
    }
}

/// A binding, as the sort of exchange reads it.
fn binding(kind: Option<&ExchangeKind>, feed: &Feed) -> Result<Binding, String> {
    let filter = feed.filter.as_deref();
    let none = FieldTable::default();
    match (kind, filter) {
        (Some(ExchangeKind::Headers), filter) => Ok((String::new(), header_filter(filter.unwrap_or(""))?)),
        (Some(ExchangeKind::Fanout), Some(_)) => {
            Err("a fan-out exchange sends everything to everyone, so there can be no filter".to_owned())
        }
        (Some(ExchangeKind::Direct), None) => {
            Err("a direct exchange routes by the whole routing key, so the filter must name one".to_owned())
        }
        (_, Some(filter)) => Ok((filter.to_owned(), none)),
        (Some(ExchangeKind::Topic), None) => Ok(("#".to_owned(), none)),
        (_, None) => Ok((String::new(), none)),
    }
}

/// `name=value,name=value` for all of them, `any:name=value,…` for one of them, nothing for every message.
fn header_filter(filter: &str) -> Result<FieldTable, String> {
    let (how, pairs) = filter.strip_prefix("any:").map_or(("all", filter), |pairs| ("any", pairs));
    let mut arguments = FieldTable::default();
    arguments.insert("x-match".into(), text(how));
    for pair in pairs.split(',').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or_else(|| {
            format!("`{pair}` is no filter of a headers exchange, write `name=value,name=value`")
        })?;
        let name = ShortString::try_new(name).map_err(|_| format!("the name `{name}` is too long"))?;
        arguments.insert(name, text(value));
    }
    Ok(arguments)
}
