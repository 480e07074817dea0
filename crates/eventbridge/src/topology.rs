//! Event buses, rules and queues: what is there, what is missing, and what is otherwise than it must be.
//!
//! A queue that a rule feeds has a queue of dead letters beside it, and a policy that lets this rule in and nobody else's.

use std::collections::HashMap;

use aws_sdk_eventbridge::types::{DeadLetterConfig, RuleState, SqsParameters, Target};
use aws_sdk_sqs::types::QueueAttributeName as Attribute;
use ensue_core::bus::{Consume, Declare, Declared, Feed, Topology};
use ensue_core::{Code, Error};
use serde_json::{Value, json};

use crate::client::Link;
use crate::error;

/// What the name of a queue ends in that keeps its order, by Amazon's own rule.
const FIFO: &str = ".fifo";
/// What is put behind the name of a queue for its dead letters.
const DEAD: &str = "-dead";
/// How long queues that are made here keep a message: as long as there is, 14 days.
const KEPT_SECONDS: &str = "1209600";
/// What SQS takes for the name of a queue, and `EventBridge` for that of a rule.
const QUEUE_CHARS_MAX: usize = 80;
const RULE_CHARS_MAX: usize = 64;
/// Matches every event of a bus.
const EVERYTHING: &str = r#"{"source":[{"prefix":""}]}"#;
/// The key with which SQS encrypts by itself; `EventBridge` may not use it.
const AMAZONS_KEY: &str = "alias/aws/sqs";
const TARGET_ID: &str = "ensue";

/// A queue that is there.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    pub(crate) url: String,
    pub(crate) dead_letters: Option<String>,
    settings: HashMap<Attribute, String>,
}

impl Queue {
    fn setting(&self, name: &Attribute) -> &str {
        self.settings.get(name).map_or("", String::as_str)
    }

    fn arn(&self) -> &str {
        self.setting(&Attribute::QueueArn)
    }
}

/// Whether a queue of this name keeps its order.
pub(crate) fn is_ordered(queue: &str) -> bool {
    queue.ends_with(FIFO)
}

/// The queue of the dead letters of a queue.
fn dead_of(queue: &str) -> String {
    match queue.strip_suffix(FIFO) {
        Some(plain) => format!("{plain}{DEAD}{FIFO}"),
        None => format!("{queue}{DEAD}"),
    }
}

fn is_dead(queue: &str) -> bool {
    queue.strip_suffix(FIFO).unwrap_or(queue).ends_with(DEAD)
}

/// The rule that feeds a queue.
fn rule_of(queue: &str) -> String {
    queue.strip_suffix(FIFO).unwrap_or(queue).to_owned()
}

fn check_name(queue: &str) -> Result<(), Error> {
    let plain = queue.strip_suffix(FIFO).unwrap_or(queue);
    let is_good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let chars_max = RULE_CHARS_MAX.min(QUEUE_CHARS_MAX - DEAD.len() - FIFO.len());
    if !plain.is_empty() && plain.len() <= chars_max && plain.chars().all(is_good) {
        return Ok(());
    }
    let message = format!("`{queue}` cannot be the name of a queue of SQS and of the rule that feeds it");
    Err(Error::new(Code::INVALID_NAME, message).with_fix(format!(
        "use at most {chars_max} letters, digits, `-` and `_`; behind them may be `{FIFO}`"
    )))
}

fn otherwise(message: String) -> Error {
    Error::new(Code::BUS_TOPOLOGY, message).with_fix(
        "configure the bus as it is, change it with Amazon's own tools, or use another name for the queue",
    )
}

/// What is being declared.
struct Declaring<'a> {
    link: &'a Link,
    how: Declare,
    declared: Declared,
}

impl Link {
    pub(crate) async fn declare(&self, topology: &Topology, how: Declare) -> Result<Declared, Error> {
        let mut declaring = Declaring { link: self, how, declared: Declared::default() };
        for target in &topology.targets {
            declaring.bus(target.as_str()).await?;
        }
        for source in &topology.sources {
            declaring.source(source).await?;
        }
        Ok(declaring.declared)
    }

    /// The queue that a group consumes.
    pub(crate) async fn queue(&self, source: &Consume) -> Result<Queue, Error> {
        let name = source.from.as_str();
        let found = self.find_queue(name).await?;
        found.ok_or_else(|| {
            Error::new(
                Code::BUS_UNROUTABLE,
                format!("cannot consume `{name}`: there is no queue of this name"),
            )
        })
    }

    async fn find_queue(&self, name: &str) -> Result<Option<Queue>, Error> {
        let trying = format!("cannot look at the queue `{name}`");
        let url = match self.queues.get_queue_url().queue_name(name).send().await {
            Ok(found) => found.queue_url().unwrap_or_default().to_owned(),
            Err(cause) if error::is_missing(&cause) => return Ok(None),
            Err(cause) => return Err(error::failed(&trying, cause)),
        };
        let settings = self.queues.get_queue_attributes().queue_url(&url).attribute_names(Attribute::All);
        let settings = match settings.send().await {
            Ok(found) => found.attributes().cloned().unwrap_or_default(),
            Err(cause) if error::is_missing(&cause) => return Ok(None),
            Err(cause) => return Err(error::failed(&trying, cause)),
        };
        let mut queue = Queue { url, dead_letters: None, settings };
        queue.dead_letters = dead_letters(&queue).map(|(name, _)| name);
        Ok(Some(queue))
    }

    /// The address of the dead letters of a queue, which may be in another account.
    pub(crate) async fn url_of_dead_letters(&self, queue: &Queue) -> Result<Option<String>, Error> {
        let Some(name) = &queue.dead_letters else { return Ok(None) };
        let policy: Value =
            serde_json::from_str(queue.setting(&Attribute::RedrivePolicy)).unwrap_or(Value::Null);
        let arn = policy.get("deadLetterTargetArn").and_then(Value::as_str).unwrap_or_default();
        let account = arn.rsplit(':').nth(1).map(str::to_owned);
        let found = self.queues.get_queue_url().queue_name(name).set_queue_owner_aws_account_id(account);
        match found.send().await {
            Ok(found) => Ok(found.queue_url().map(str::to_owned)),
            Err(cause) => Err(error::failed(&format!("cannot look at the dead letters `{name}`"), cause)),
        }
    }
}

/// Where a queue moves what was delivered too often, and how often that is.
fn dead_letters(queue: &Queue) -> Option<(String, u64)> {
    let policy: Value = serde_json::from_str(queue.setting(&Attribute::RedrivePolicy)).ok()?;
    let (_, name) = policy.get("deadLetterTargetArn")?.as_str()?.rsplit_once(':')?;
    let limit = policy.get("maxReceiveCount")?;
    let limit = limit.as_u64().or_else(|| limit.as_str()?.parse().ok())?;
    Some((name.to_owned(), limit))
}

impl Declaring<'_> {
    /// Notes one thing; whether it is to be made.
    fn note(&mut self, line: String, is_there: bool) -> bool {
        let lines = if is_there { &mut self.declared.found } else { &mut self.declared.missing };
        if !lines.contains(&line) {
            lines.push(line);
        }
        !is_there && self.how == Declare::Make
    }

    /// An event bus, and its address where it has one by now.
    async fn bus(&mut self, name: &str) -> Result<Option<String>, Error> {
        let trying = format!("cannot look at the event bus `{name}`");
        let events = &self.link.events;
        let found = match events.describe_event_bus().name(name).send().await {
            Ok(found) => found.arn().map(str::to_owned),
            Err(cause) if error::is_missing(&cause) => None,
            Err(cause) => return Err(error::failed(&trying, cause)),
        };
        if !self.note(format!("event bus `{name}`"), found.is_some()) {
            return Ok(found);
        }
        match self.link.events.create_event_bus().name(name).send().await {
            Ok(_) => {}
            Err(cause) if error::is_there_already(&cause) => {}
            Err(cause) => return Err(error::failed(&format!("cannot make the event bus `{name}`"), cause)),
        }
        let made = self.link.events.describe_event_bus().name(name).send().await;
        made.map(|bus| bus.arn().map(str::to_owned)).map_err(|cause| error::failed(&trying, cause))
    }

    async fn source(&mut self, source: &Consume) -> Result<(), Error> {
        let name = source.from.as_str();
        check_name(name)?;
        let rule = match &source.fed_by {
            Some(feed) => Some(Rule::new(name, feed, self.bus(feed.from.as_str()).await?)?),
            None => None,
        };
        let queue = self.queue(name, rule.as_ref()).await?;
        match rule {
            Some(rule) => self.rule(&rule, name, queue.as_ref()).await,
            None => Ok(()),
        }
    }

    /// A queue with its dead letters, where it has been made by now.
    async fn queue(&mut self, name: &str, rule: Option<&Rule>) -> Result<Option<Queue>, Error> {
        // Dead letters that are consumed have none of their own.
        let has_dead = rule.is_some() || !is_dead(name);
        let dead = has_dead.then(|| dead_of(name));
        let found = self.link.find_queue(name).await?;
        if let (Some(queue), Some(rule)) = (&found, rule) {
            self.check_queue(name, queue, rule)?;
        }
        let found_dead = match (&found, &dead) {
            // A queue that is there has the dead letters that it has.
            (Some(_), _) | (None, None) => None,
            (None, Some(dead)) => {
                let found = self.link.find_queue(dead).await?;
                if self.note(format!("queue `{dead}`"), found.is_some()) {
                    Some(self.make_queue(dead, None, rule).await?)
                } else {
                    found
                }
            }
        };
        if let Some(dead) = found.as_ref().and_then(|queue| queue.dead_letters.clone()) {
            self.note(format!("queue `{dead}`"), true);
        }
        if self.note(format!("queue `{name}`"), found.is_some()) {
            return self.make_queue(name, found_dead.as_ref(), rule).await.map(Some);
        }
        Ok(found)
    }

    async fn make_queue(
        &self,
        name: &str,
        dead: Option<&Queue>,
        rule: Option<&Rule>,
    ) -> Result<Queue, Error> {
        let mut making = self
            .link
            .queues
            .create_queue()
            .queue_name(name)
            .attributes(Attribute::MessageRetentionPeriod, KEPT_SECONDS)
            .attributes(Attribute::VisibilityTimeout, self.link.config.hidden_for.as_secs().to_string());
        if is_ordered(name) {
            making = making
                .attributes(Attribute::FifoQueue, "true")
                .attributes(Attribute::ContentBasedDeduplication, "true");
        }
        if let Some(dead) = dead {
            let limit = self.link.config.delivery_limit;
            let policy = json!({ "deadLetterTargetArn": dead.arn(), "maxReceiveCount": limit });
            making = making.attributes(Attribute::RedrivePolicy, policy.to_string());
        }
        if let Some(policy) = rule.and_then(|rule| rule.policy(name)) {
            making = making.attributes(Attribute::Policy, policy);
        }
        let trying = format!("cannot make the queue `{name}`");
        making.send().await.map_err(|cause| error::failed(&trying, cause))?;
        let made = self.link.find_queue(name).await?;
        made.ok_or_else(|| Error::new(Code::BUS_UNREACHABLE, format!("{trying}: it is not there yet")))
    }

    /// A queue that somebody else made, or that we made with another configuration, must let the rule in and do what this one says.
    fn check_queue(&self, name: &str, queue: &Queue, rule: &Rule) -> Result<(), Error> {
        let wanted = u64::from(self.link.config.delivery_limit);
        let wrong = match dead_letters(queue) {
            None => "has no dead letters (`RedrivePolicy`), which are needed".to_owned(),
            Some((_, limit)) if limit != wanted => format!(
                "gives up after {limit} deliveries (`maxReceiveCount`), and the bus is configured for {wanted} (`delivery_limit`)"
            ),
            _ if !rule.is_let_in_by(queue.setting(&Attribute::Policy)) => {
                format!("does not let the rule `{}` send to it (`Policy`)", rule.name)
            }
            _ if queue.setting(&Attribute::KmsMasterKeyId) == AMAZONS_KEY => format!(
                "is encrypted with `{AMAZONS_KEY}`, which EventBridge may not use; a key of your own, or SQS-managed encryption, is needed"
            ),
            _ if is_ordered(name) && queue.setting(&Attribute::ContentBasedDeduplication) != "true" => {
                "knows no duplicates by their content (`ContentBasedDeduplication`), without which EventBridge sends nothing to it".to_owned()
            }
            _ => return Ok(()),
        };
        Err(otherwise(format!("the queue `{name}` {wrong}")))
    }

    /// The rule and its target.
    async fn rule(&mut self, rule: &Rule, queue_name: &str, queue: Option<&Queue>) -> Result<(), Error> {
        let is_there = match rule.arn {
            // The event bus is not there yet, so neither is its rule.
            None => false,
            Some(_) => self.check_rule(rule, queue_name).await?,
        };
        let line = format!("rule `{}` of `{}` for `{queue_name}`", rule.name, rule.bus);
        if !self.note(line, is_there) {
            return Ok(());
        }
        let Some(queue) = queue else { return Ok(()) };
        let trying = format!("cannot make the rule `{}` of `{}`", rule.name, rule.bus);
        let events = &self.link.events;
        let making =
            events.put_rule().name(&rule.name).event_bus_name(&rule.bus).event_pattern(&rule.pattern);
        making.send().await.map_err(|cause| error::failed(&trying, cause))?;
        let target = target(rule, queue_name, queue)?;
        let done = events.put_targets().rule(&rule.name).event_bus_name(&rule.bus).targets(target);
        let done = done.send().await.map_err(|cause| error::failed(&trying, cause))?;
        match done.failed_entries().first() {
            Some(failed) => Err(error::of_entry(
                &trying,
                failed.error_code().unwrap_or("InternalFailure"),
                failed.error_message().unwrap_or("EventBridge did not take its target"),
            )),
            None => Ok(()),
        }
    }

    /// Whether the rule is there with its target. One that is otherwise is refused.
    async fn check_rule(&self, rule: &Rule, queue_name: &str) -> Result<bool, Error> {
        let trying = format!("cannot look at the rule `{}` of `{}`", rule.name, rule.bus);
        let events = &self.link.events;
        let found = match events.describe_rule().name(&rule.name).event_bus_name(&rule.bus).send().await {
            Ok(found) => found,
            Err(cause) if error::is_missing(&cause) => return Ok(false),
            Err(cause) => return Err(error::failed(&trying, cause)),
        };
        let name = format!("the rule `{}` of `{}`", rule.name, rule.bus);
        if found.state() == Some(&RuleState::Disabled) {
            return Err(otherwise(format!("{name} is disabled")));
        }
        let pattern = found.event_pattern().unwrap_or_default();
        if read(pattern) != read(&rule.pattern) {
            let message = format!("{name} matches `{pattern}`, and the source asks for `{}`", rule.pattern);
            return Err(otherwise(message));
        }
        let targets = events.list_targets_by_rule().rule(&rule.name).event_bus_name(&rule.bus);
        let targets = targets.send().await.map_err(|cause| error::failed(&trying, cause))?;
        let is_ours = |target: &&Target| target.arn().ends_with(&format!(":{queue_name}"));
        let Some(target) = targets.targets().iter().find(is_ours) else {
            // Whoever made the rule did not come so far as to give it its target, or somebody took it away.
            return Ok(false);
        };
        if target.input().is_some() || target.input_path().is_some() || target.input_transformer().is_some() {
            return Err(otherwise(format!(
                "{name} sends something else than the event to `{queue_name}` (`Input`)"
            )));
        }
        Ok(true)
    }
}

/// What the rule sends to.
fn target(rule: &Rule, queue_name: &str, queue: &Queue) -> Result<Target, Error> {
    let target = Target::builder().id(TARGET_ID).arn(queue.arn());
    let target = if is_ordered(queue_name) {
        // All that a rule sends to a queue is in one group: EventBridge takes no key from the event.
        target.sqs_parameters(SqsParameters::builder().message_group_id(&rule.name).build())
    } else {
        let policy: Value =
            serde_json::from_str(queue.setting(&Attribute::RedrivePolicy)).unwrap_or(Value::Null);
        let dead = policy.get("deadLetterTargetArn").and_then(Value::as_str).map(str::to_owned);
        target.dead_letter_config(DeadLetterConfig::builder().set_arn(dead).build())
    };
    target.build().map_err(|cause| {
        Error::new(Code::BUS_TOPOLOGY, format!("the queue `{queue_name}` has no address")).with_source(cause)
    })
}

fn read(json: &str) -> Option<Value> {
    serde_json::from_str(json).ok()
}

/// The rule that feeds a queue.
struct Rule {
    name: String,
    bus: String,
    pattern: String,
    /// Where it is or will be, once its event bus is there.
    arn: Option<String>,
}

impl Rule {
    fn new(queue: &str, feed: &Feed, bus_arn: Option<String>) -> Result<Self, Error> {
        let (name, bus) = (rule_of(queue), feed.from.to_string());
        let pattern = feed.filter.as_deref().unwrap_or(EVERYTHING).to_owned();
        if !read(&pattern).is_some_and(|pattern| pattern.is_object()) {
            let message = format!("the filter of `{queue}` is no event pattern of EventBridge: `{pattern}`");
            return Err(Error::new(Code::BUS_TOPOLOGY, message)
                .with_fix(r#"write it as JSON, such as {"detail-type":["OrderPlaced"]}"#));
        }
        // arn:PARTITION:events:REGION:ACCOUNT:event-bus/BUS, and the rules of the default bus do not name it.
        let arn = bus_arn.and_then(|arn| {
            let (start, _) = arn.rsplit_once(":event-bus/")?;
            let bus = if bus == "default" { String::new() } else { format!("{bus}/") };
            Some(format!("{start}:rule/{bus}{name}"))
        });
        Ok(Self { name, bus, pattern, arn })
    }

    /// What lets this rule send to a queue of its own account.
    fn policy(&self, queue: &str) -> Option<String> {
        let arn = self.arn.as_ref()?;
        let mut parts = arn.split(':');
        let (partition, region, account) = (parts.nth(1)?, parts.nth(1)?, parts.next()?);
        let policy = json!({
            "Version": "2012-10-17",
            "Statement": [{
                "Sid": "EventBridge",
                "Effect": "Allow",
                "Principal": { "Service": "events.amazonaws.com" },
                "Action": "sqs:SendMessage",
                "Resource": format!("arn:{partition}:sqs:{region}:{account}:{queue}"),
                "Condition": { "ArnEquals": { "aws:SourceArn": arn } },
            }],
        });
        Some(policy.to_string())
    }

    /// Whether a policy lets this rule in, as far as can be told without being Amazon: a statement allows it to `EventBridge` or to all,
    /// and either has no condition or names the rule.
    fn is_let_in_by(&self, policy: &str) -> bool {
        let policy = read(policy).unwrap_or(Value::Null);
        let statements = policy.get("Statement").cloned().unwrap_or(Value::Null);
        let statements = match statements {
            Value::Array(all) => all,
            one => vec![one],
        };
        statements.iter().any(|statement| {
            let text = |name: &str| statement.get(name).map(Value::to_string).unwrap_or_default();
            let principal = text("Principal");
            let condition = text("Condition");
            text("Effect") == "\"Allow\""
                && (principal.contains("events.amazonaws.com") || principal.contains('*'))
                && (condition.is_empty()
                    || condition.contains('*')
                    || self.arn.as_ref().is_some_and(|arn| condition.contains(arn.as_str())))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ensue_core::name::Channel;

    fn rule(bus: &str) -> Rule {
        let feed = Feed { from: Channel::new(bus).expect("a valid name"), filter: None };
        let arn = format!("arn:aws:events:eu-central-1:123456789012:event-bus/{bus}");
        Rule::new("orders.fifo", &feed, Some(arn)).expect("a valid rule")
    }

    #[test]
    fn a_policy_lets_in_the_rule_it_was_made_for_and_no_other() {
        let (shop, default) = (rule("shop"), rule("default"));
        let policy = shop.policy("orders.fifo").expect("the bus is there");
        assert!(policy.contains("arn:aws:events:eu-central-1:123456789012:rule/shop/orders"), "{policy}");
        assert!(policy.contains("arn:aws:sqs:eu-central-1:123456789012:orders.fifo"), "{policy}");
        assert!(shop.is_let_in_by(&policy) && !default.is_let_in_by(&policy));
        assert!(!shop.is_let_in_by("") && !shop.is_let_in_by(&policy.replace("Allow", "Deny")));
    }

    #[test]
    fn names_that_amazon_does_not_take_are_refused_before_anything_is_made() {
        for name in ["", "a.b", "größe", ".fifo", &"x".repeat(65)] {
            let error = check_name(name).expect_err(name);
            assert_eq!(error.code(), Code::INVALID_NAME, "{name}");
        }
        for name in ["orders", "orders.fifo", "orders-dead", &"x".repeat(64)] {
            check_name(name).expect(name);
        }
        assert_eq!((dead_of("a"), dead_of("a.fifo")), ("a-dead".to_owned(), "a-dead.fifo".to_owned()));
        assert!(is_dead("a-dead") && is_dead("a-dead.fifo") && !is_dead("a.fifo"));
    }
}
