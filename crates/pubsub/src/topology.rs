//! Topics and subscriptions: compared with what is needed, and made where they are missing.
//!
//! Invariants: nothing that exists is changed or deleted; what is not found is known to be missing only if the service says so.

use ensue_core::bus::{Consume, Declare, Declared, Topology};
use ensue_core::{Code, Error};

use crate::client::Link;
use crate::config::{Guarantee, Order};
use crate::error;
use crate::wire::{
    CREATE_SUBSCRIPTION, CREATE_TOPIC, DeadLetterPolicy, Expiration, GET_SUBSCRIPTION, GET_TOPIC,
    GetSubscription, GetTopic, Subscription, Topic,
};

const NAME_BYTES: std::ops::RangeInclusive<usize> = 3..=255;

/// Where a group gets its messages from.
pub(crate) enum Source {
    /// A subscription that somebody else has made, as it is.
    Foreign(Box<Subscription>),
    /// One of ours, fed by a topic.
    Ours { subscription: String, topic: String, filter: String },
}

/// What was refused for good is published to this topic, and kept by the subscription of the same name.
pub(crate) fn dead_letters(subscription: &str) -> String {
    format!("{subscription}.dead")
}

impl Link {
    pub(crate) async fn declare(&self, topology: &Topology, how: Declare) -> Result<Declared, Error> {
        let mut declared = Declared::default();
        for topic in &topology.targets {
            self.declare_topic(topic.as_str(), how, &mut declared).await?;
        }
        for source in &topology.sources {
            self.declare_source(source, how, &mut declared).await?;
        }
        Ok(declared)
    }

    async fn declare_topic(&self, topic: &str, how: Declare, declared: &mut Declared) -> Result<(), Error> {
        check_name("topic", topic)?;
        let line = format!("topic `{topic}`");
        if self.has_topic(topic).await? {
            note(&mut declared.found, line);
            return Ok(());
        }
        note(&mut declared.missing, line);
        if how == Declare::DryRun {
            return Ok(());
        }
        let name = self.name("topics", topic);
        let made: Result<Topic, _> = self.call(&CREATE_TOPIC, &name, Topic { name: name.clone() }).await;
        match made {
            Err(failure) if !failure.is_there_already() => {
                Err(error::failed(&format!("cannot make the topic `{topic}`"), failure))
            }
            _ => Ok(()),
        }
    }

    async fn declare_source(
        &self,
        source: &Consume,
        how: Declare,
        declared: &mut Declared,
    ) -> Result<(), Error> {
        let (subscription, topic, filter) = match self.source(source).await? {
            Source::Foreign(found) => {
                check_foreign(source.from.as_str(), &found)?;
                note(&mut declared.found, format!("subscription `{}`", source.from));
                return Ok(());
            }
            Source::Ours { subscription, topic, filter } => (subscription, topic, filter),
        };
        self.declare_topic(&topic, how, declared).await?;
        let mut wanted = self.wanted(&subscription, &topic, &filter);
        if self.config.delivery_limit.is_some() {
            let dead = dead_letters(&subscription);
            self.declare_topic(&dead, how, declared).await?;
            let mut keeping = self.wanted(&dead, &dead, "");
            keeping.dead_letter = None;
            self.declare_subscription(keeping, how, declared).await?;
        } else {
            wanted.dead_letter = None;
        }
        self.declare_subscription(wanted, how, declared).await
    }

    async fn declare_subscription(
        &self,
        wanted: Subscription,
        how: Declare,
        declared: &mut Declared,
    ) -> Result<(), Error> {
        let (id, topic) = (id(&wanted.name), id(&wanted.topic));
        check_name("subscription", id)?;
        let line = format!("subscription `{id}` of `{topic}`");
        if let Some(found) = self.find_subscription(id).await? {
            check(&found, &wanted)?;
            note(&mut declared.found, line);
            return Ok(());
        }
        note(&mut declared.missing, line);
        if how == Declare::DryRun {
            return Ok(());
        }
        let made: Result<Subscription, _> =
            self.call(&CREATE_SUBSCRIPTION, &wanted.name, wanted.clone()).await;
        match made {
            Err(failure) if failure.is_there_already() => match self.find_subscription(id).await? {
                Some(found) => check(&found, &wanted),
                None => Ok(()),
            },
            Err(failure) => Err(error::failed(&format!("cannot make the subscription `{id}`"), failure)),
            Ok(_) => Ok(()),
        }
    }

    /// What is meant by what is to be consumed: a subscription that is fed by a topic, or one that is there already; and where there is
    /// none of that name, it is the name of a topic, of which each group has a subscription of its own.
    pub(crate) async fn source(&self, source: &Consume) -> Result<Source, Error> {
        let from = source.from.as_str();
        if let Some(feed) = &source.fed_by {
            let filter = feed.filter.as_deref().unwrap_or_default().to_owned();
            return Ok(Source::Ours { subscription: from.to_owned(), topic: feed.from.to_string(), filter });
        }
        if let Some(found) = self.find_subscription(from).await? {
            return Ok(Source::Foreign(Box::new(found)));
        }
        let subscription = format!("{}.{}", id(from), source.group);
        Ok(Source::Ours { subscription, topic: from.to_owned(), filter: String::new() })
    }

    /// The subscription of a group, which must be there.
    pub(crate) async fn subscription(&self, source: &Consume) -> Result<Subscription, Error> {
        let (subscription, topic, filter) = match self.source(source).await? {
            Source::Foreign(found) => {
                check_foreign(source.from.as_str(), &found)?;
                return Ok(*found);
            }
            Source::Ours { subscription, topic, filter } => (subscription, topic, filter),
        };
        let found = self.find_subscription(&subscription).await?.ok_or_else(|| {
            let message =
                format!("cannot consume `{}`: there is no subscription `{subscription}`", source.from);
            Error::new(Code::BUS_UNROUTABLE, message)
        })?;
        check(&found, &self.wanted(&subscription, &topic, &filter))?;
        Ok(found)
    }

    async fn has_topic(&self, topic: &str) -> Result<bool, Error> {
        let name = self.name("topics", topic);
        let found: Result<Topic, _> = self.call(&GET_TOPIC, &name, GetTopic { topic: name.clone() }).await;
        match found {
            Ok(_) => Ok(true),
            Err(failure) if failure.is_missing() => Ok(false),
            Err(failure) => Err(error::failed(&format!("cannot look at the topic `{topic}`"), failure)),
        }
    }

    async fn find_subscription(&self, subscription: &str) -> Result<Option<Subscription>, Error> {
        let name = self.name("subscriptions", subscription);
        let asked = GetSubscription { subscription: name.clone() };
        match self.call(&GET_SUBSCRIPTION, &name, asked).await {
            Ok(found) => Ok(Some(found)),
            Err(failure) if failure.is_missing() => Ok(None),
            Err(failure) => {
                Err(error::failed(&format!("cannot look at the subscription `{subscription}`"), failure))
            }
        }
    }

    /// A subscription as it is made here. It stays for as long as nobody deletes it: by itself the service would remove one that nobody
    /// has used for 31 days, with what it keeps.
    fn wanted(&self, subscription: &str, topic: &str, filter: &str) -> Subscription {
        let config = &self.config;
        let dead_letter = config.delivery_limit.map(|attempts| DeadLetterPolicy {
            topic: self.name("topics", &dead_letters(subscription)),
            max_delivery_attempts: i32::try_from(attempts).unwrap_or(i32::MAX),
        });
        Subscription {
            name: self.name("subscriptions", subscription),
            topic: self.name("topics", topic),
            ack_deadline_seconds: config.lease_seconds(),
            enable_message_ordering: config.order == Order::ByKey,
            expiration: Some(Expiration { after: None }),
            filter: filter.to_owned(),
            dead_letter,
            enable_exactly_once_delivery: config.guarantee == Guarantee::ExactlyOnce,
            ..Subscription::default()
        }
    }
}

/// One of ours that exists must be what we would have made. How long its leases are does not count, because each member says so itself.
fn check(found: &Subscription, wanted: &Subscription) -> Result<(), Error> {
    let yes = |is: bool| if is { "true" } else { "false" }.to_owned();
    let dead = |policy: &Option<DeadLetterPolicy>| match policy {
        Some(policy) => format!("`{}` after {} deliveries", id(&policy.topic), policy.max_delivery_attempts),
        None => "none".to_owned(),
    };
    let settings = [
        ("topic", found.topic.clone(), wanted.topic.clone()),
        ("enable_message_ordering", yes(found.enable_message_ordering), yes(wanted.enable_message_ordering)),
        ("filter", shown(&found.filter), shown(&wanted.filter)),
        ("dead_letter_policy", dead(&found.dead_letter), dead(&wanted.dead_letter)),
        (
            "enable_exactly_once_delivery",
            yes(found.enable_exactly_once_delivery),
            yes(wanted.enable_exactly_once_delivery),
        ),
    ];
    let name = id(&found.name);
    check_foreign(name, found)?;
    match settings.into_iter().find(|(_, found, wanted)| found != wanted) {
        None => Ok(()),
        Some((setting, found, wanted)) => {
            let message = format!(
                "the subscription `{name}` is otherwise: `{setting}` is {found}, and {wanted} is needed"
            );
            Err(Error::new(Code::BUS_TOPOLOGY, message).with_fix(
                "configure the bus as the subscription is; or use another name, or change the subscription with Google's own tools",
            ))
        }
    }
}

/// One of somebody else's must be there to be pulled from.
fn check_foreign(name: &str, found: &Subscription) -> Result<(), Error> {
    let is_pushed = found.push.as_ref().is_some_and(|push| !push.endpoint.is_empty());
    let why = if found.detached {
        "is detached from its topic, so nothing comes any more"
    } else if is_pushed {
        "pushes its messages to somebody else, so nobody can pull them"
    } else {
        return Ok(());
    };
    let message = format!("the subscription `{name}` {why}");
    Err(Error::new(Code::BUS_TOPOLOGY, message).with_fix("consume another subscription of its topic"))
}

fn shown(filter: &str) -> String {
    if filter.is_empty() { "none".to_owned() } else { format!("`{filter}`") }
}

/// The last part of a whole name.
pub(crate) fn id(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// Asked before the service is, which says less about it.
fn check_name(sort: &str, name: &str) -> Result<(), Error> {
    let id = id(name);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~' | '+' | '%');
    let is_name = NAME_BYTES.contains(&id.len())
        && id.starts_with(|first: char| first.is_ascii_alphabetic())
        && !id.starts_with("goog")
        && id.chars().all(is_plain);
    if is_name {
        return Ok(());
    }
    let message = format!("`{id}` cannot be the name of a {sort} of Pub/Sub");
    Err(Error::new(Code::INVALID_NAME, message)
        .with_fix("use 3 to 255 letters, digits and `-_.~+%`, a letter in front, and not `goog`"))
}

fn note(lines: &mut Vec<String>, line: String) {
    if !lines.contains(&line) {
        lines.push(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_service_would_refuse_are_refused_here() {
        for good in ["orders", "conformance.equal", "projects/p/topics/orders", "a-1"] {
            check_name("topic", good).expect(good);
        }
        for bad in ["", "ab", "1orders", "google-orders", "größe", "a b c", &"x".repeat(256)] {
            let refused = check_name("topic", bad).map_err(|error| error.code());
            assert_eq!(refused, Err(Code::INVALID_NAME), "{bad}");
        }
    }
}
