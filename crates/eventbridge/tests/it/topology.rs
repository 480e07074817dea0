//! Event buses, rules and queues that are otherwise than they must be.

use aws_sdk_eventbridge::types::{RuleState, Target};
use aws_sdk_sqs::types::QueueAttributeName as Attribute;
use ensue_core::bus::{Bus, Declare, Topology};
use ensue_core::{Code, Error};
use ensue_eventbridge::EventbridgeBus;

use crate::given::{self, Server};

async fn declare(bus: &EventbridgeBus, filter: Option<&str>, how: Declare) -> Result<Vec<String>, Error> {
    let sources = vec![given::source("orders", "shop", filter)];
    let declared = bus.declare(&Topology { targets: Vec::new(), sources }, how).await?;
    Ok(declared.missing)
}

async fn made() -> (std::sync::Arc<Server>, EventbridgeBus) {
    let server = given::server().await;
    let bus = server.config().open().await.expect("the address is understood");
    declare(&bus, None, Declare::Make).await.expect("the topology can be made");
    (server, bus)
}

async fn refused(bus: &EventbridgeBus, filter: Option<&str>, said: &[&str]) {
    let error = declare(bus, filter, Declare::Make).await.expect_err("it is otherwise");
    assert_eq!(error.code(), Code::BUS_TOPOLOGY, "{error:?}");
    for said in said {
        assert!(error.message().contains(said), "`{said}` is missing: {error:?}");
    }
}

async fn set(server: &Server, name: Attribute, value: &str) -> String {
    let queues = server.queues();
    let url = queues.get_queue_url().queue_name("orders").send().await.expect("it was made");
    let url = url.queue_url().expect("an address").to_owned();
    let before = queues.get_queue_attributes().queue_url(&url).attribute_names(name.clone()).send().await;
    let before = before.expect("the fake runs").attributes().and_then(|all| all.get(&name).cloned());
    let setting = queues.set_queue_attributes().queue_url(&url).attributes(name, value);
    setting.send().await.expect("the fake takes it");
    before.unwrap_or_default()
}

#[tokio::test]
#[ignore = "needs moto: cargo xtask test"]
async fn a_queue_of_other_settings_is_refused_and_left_alone() {
    let (server, bus) = made().await;
    let other = server.config().delivery_limit(5).open().await.expect("the address is understood");
    refused(&other, None, &["1000 deliveries", "for 5"]).await;
    let policy = set(&server, Attribute::Policy, "").await;
    refused(&bus, None, &["does not let the rule `orders`"]).await;
    set(&server, Attribute::Policy, &policy.replace("rule/shop/orders", "rule/shop/others")).await;
    refused(&bus, None, &["does not let the rule `orders`"]).await;
    set(&server, Attribute::Policy, &policy).await;
    let redrive = set(&server, Attribute::RedrivePolicy, "").await;
    refused(&bus, None, &["has no dead letters"]).await;
    assert_eq!(set(&server, Attribute::RedrivePolicy, &redrive).await, "", "it was left alone");
    set(&server, Attribute::Policy, &policy).await; // which the fake forgets whenever something else is set
    assert!(declare(&bus, None, Declare::Make).await.expect("it is as it was").is_empty());
}

#[tokio::test]
#[ignore = "needs moto: cargo xtask test"]
async fn a_rule_that_does_something_else_is_refused_and_left_alone() {
    let (server, bus) = made().await;
    let events = server.events();
    let ours = r#"{"detail-type":["OrderPlaced"]}"#;
    refused(&bus, Some(ours), &["prefix", "OrderPlaced"]).await;
    refused(&bus, Some("order.*"), &["no event pattern"]).await;
    events.disable_rule().name("orders").event_bus_name("shop").send().await.expect("the fake runs");
    refused(&bus, None, &["disabled"]).await;
    let found = events.describe_rule().name("orders").event_bus_name("shop").send().await;
    assert_eq!(found.expect("it is there").state(), Some(&RuleState::Disabled), "it was left alone");
    events.enable_rule().name("orders").event_bus_name("shop").send().await.expect("the fake runs");
    let arn = "arn:aws:sqs:us-east-1:123456789012:orders";
    let partly =
        Target::builder().id("ensue").arn(arn).input_path("$.detail").build().expect("a whole target");
    let putting = events.put_targets().rule("orders").event_bus_name("shop").targets(partly);
    putting.send().await.expect("the fake runs");
    refused(&bus, None, &["something else than the event"]).await;
}

#[tokio::test]
#[ignore = "needs moto: cargo xtask test"]
async fn what_somebody_was_killed_while_making_is_made_whole() {
    let (server, bus) = made().await;
    let removing = server.events().remove_targets().rule("orders").event_bus_name("shop").ids("ensue");
    removing.send().await.expect("the fake runs");
    let missing = declare(&bus, None, Declare::DryRun).await.expect("it can be compared");
    assert_eq!(missing, ["rule `orders` of `shop` for `orders`"]);
    declare(&bus, None, Declare::Make).await.expect("it can be made whole");
    assert!(declare(&bus, None, Declare::DryRun).await.expect("it can be compared").is_empty());
    bus.publish(vec![given::event("shop", "ORD-1", "one", "{\"total\":7}")])
        .await
        .remove(0)
        .expect("confirmed");
    let mut consumer = bus.consume(given::source("orders", "shop", None)).await.expect("it can be joined");
    assert_eq!(given::id(&consumer.next(1).await.expect("the fake runs").remove(0)), "one");
}

#[tokio::test]
#[ignore = "needs moto: cargo xtask test"]
async fn an_event_bus_that_leads_nowhere_is_published_to_by_nobody() {
    let (server, _bus) = made().await;
    let event = || vec![given::event("shop", "ORD-1", "one", "{\"total\":7}")];
    server.events().disable_rule().name("orders").event_bus_name("shop").send().await.expect("the fake runs");
    // One that has not looked yet: a look counts for a minute.
    let bus = server.config().open().await.expect("the address is understood");
    let error = bus.publish(event()).await.remove(0).expect_err("no rule is on");
    assert_eq!(error.code(), Code::BUS_UNROUTABLE, "{error:?}");
    server.events().enable_rule().name("orders").event_bus_name("shop").send().await.expect("the fake runs");
    bus.publish(event()).await.remove(0).expect("a refusal is not remembered");
}
