//! The shop as two services, each with a log of its own, that know each other only by what a broker carries: one takes orders,
//! sets stock aside and ships, the other takes the money. They listen to each other's events, or a saga beside the orders sends
//! commands to the other and gets answers.

use std::sync::Arc;

use ensue::core::Bus;
use ensue::runtime::link::{Direction, LinkState};
use ensue::{App, Error, Intake, Relay, Running, Store};

use crate::Style;
use crate::commands::{ProcessPayment, RefundPayment};
use crate::events::{
    InventoryFailed, OrderPlaced, PaymentCompleted, PaymentFailed, PaymentRefunded, RefundFailed,
    StockReleased,
};
use crate::outside::{Outside, Provider};
use crate::{analytics, fraud, fulfilment, inventory, notification, order, payment, shipping};

/// What the services call the places of the broker.
const ORDERS: &str = "shop.orders";
const STOCK: &str = "shop.stock";
const PAYMENTS: &str = "shop.payments";
const COMMANDS: &str = "shop.commands";
const ANSWERS: &str = "shop.answers";

/// How what is published to a place comes to who takes it in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Places {
    /// It is taken in where it is published to: topics and subjects.
    Shared,
    /// Each service has a queue of its own, which the place feeds: exchanges, event buses.
    Fed,
}

/// The service that serves orders, without its links.
pub fn orders(style: Style, store: Arc<dyn Store>, outside: &Outside) -> App {
    let app = outside
        .connect(App::new("orders").store(store))
        .external::<PaymentCompleted>()
        .external::<PaymentFailed>()
        .external::<PaymentRefunded>()
        .external::<RefundFailed>()
        .with(order::choreography)
        .with(fraud::choreography)
        .with(analytics::choreography);
    match style {
        Style::Choreography => {
            app.with(inventory::choreography).with(shipping::choreography).with(notification::choreography)
        }
        Style::Saga => app
            .with(inventory::handlers)
            .with(shipping::handlers)
            .with(notification::handlers)
            .with(fulfilment::mount),
    }
}

/// Links it over this broker.
pub fn link_orders(style: Style, app: App, bus: &Arc<dyn Bus>, places: Places) -> App {
    let app = app.intake(places.intake("payments", bus, PAYMENTS));
    match style {
        Style::Choreography => app
            .relay(Relay::new("orders", Arc::clone(bus)).topic("Order").to(ORDERS))
            .relay(Relay::new("stock", Arc::clone(bus)).topic("Stock").to(STOCK)),
        Style::Saga => {
            let commands = Relay::new("payment", Arc::clone(bus));
            app.relay(commands.commands::<ProcessPayment>().commands::<RefundPayment>().to(COMMANDS))
                .intake(places.intake("payment", bus, ANSWERS).answers())
        }
    }
}

/// The service that takes the money, and gives it back, without its links.
pub fn payments(style: Style, store: Arc<dyn Store>, provider: &Arc<Provider>) -> App {
    let app = App::new("payments").store(store).state(Arc::clone(provider));
    match style {
        Style::Choreography => app
            .external::<OrderPlaced>()
            .external::<InventoryFailed>()
            .external::<StockReleased>()
            .with(payment::choreography),
        Style::Saga => app.with(payment::handlers),
    }
}

/// Links it over this broker.
pub fn link_payments(style: Style, app: App, bus: &Arc<dyn Bus>, places: Places) -> App {
    let app = app.relay(Relay::new("payments", Arc::clone(bus)).topic("Payment").to(PAYMENTS));
    match style {
        Style::Choreography => {
            app.intake(places.intake("orders", bus, ORDERS)).intake(places.intake("stock", bus, STOCK))
        }
        Style::Saga => {
            let commands = places.intake("orders", bus, COMMANDS);
            app.intake(commands.commands::<ProcessPayment>().commands::<RefundPayment>())
                .relay(Relay::new("orders", Arc::clone(bus)).answers().to(ANSWERS))
        }
    }
}

impl Places {
    fn intake(self, name: &str, bus: &Arc<dyn Bus>, place: &str) -> Intake {
        let intake = Intake::new(name, Arc::clone(bus));
        match self {
            Self::Shared => intake.from(place),
            // Not every broker takes a dot in the name of a queue.
            Self::Fed => intake.from(&format!("{}-in", place.replace('.', "-"))).fed_by(place, None),
        }
    }
}

/// Waits until all that a service takes in can come: a broker with queues refuses what has none yet.
pub async fn open(running: &Running) -> Result<(), Error> {
    let mut changes = running.link_changes();
    loop {
        let links = running.links().await?;
        let mut intakes = links.iter().filter(|link| link.direction == Direction::Intake);
        if intakes.all(|link| link.state == LinkState::Up) {
            return Ok(());
        }
        changes.next().await;
    }
}

/// What is wrong with the links of a service when all is done: an outage parks nothing and makes nothing unreadable.
pub async fn findings(running: &Running) -> Result<Vec<String>, Error> {
    let links = running.links().await?.into_iter();
    let wrong = links.filter(|link| (link.parked, link.unreadable, link.looped) != (0, 0, 0));
    let finding = |link: ensue::runtime::LinkStatus| {
        let counts = (link.parked, link.unreadable, link.looped);
        format!("{} has parked, not understood and turned back {counts:?}", link.name)
    };
    Ok(wrong.map(finding).collect())
}
