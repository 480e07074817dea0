//! One order as a tree: what caused what, by whom, and when.

use std::collections::HashMap;

use ensue::core::Recorded;
use ensue::runtime::Catalogue;
use ensue::{Error, Read, Running, StoreExt};

use super::watch::{Ended, Watch};
use crate::events::{OrderState, ShopEvent};

/// Extension attribute: which handler caused the event.
const HANDLER: &str = "handler";
/// Where orders come in.
const FIRST_SERVICE: &str = "order";

/// One order, to look at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sample {
    /// Which.
    pub order: String,
    /// How it went, in words.
    pub title: String,
    /// Its events, as a tree from top to bottom.
    pub lines: Vec<Line>,
}

/// One event of the tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// The branch it hangs on, drawn, and its type.
    pub name: String,
    /// Who caused it.
    pub service: String,
    /// Microseconds since the order came in.
    pub micros: u64,
    /// Its place in the log.
    pub position: u64,
    /// What is worth knowing.
    pub detail: String,
}

/// The orders that the watch kept to be shown.
pub(super) async fn collect(running: &Running, watch: &Watch) -> Result<Vec<Sample>, Error> {
    let mut samples = Vec::new();
    for ended in watch.shown.iter().flatten() {
        let events = running.store().collect(Read::flow(ended.flow.clone())).await?;
        let lines = tree(&events, running.catalogue());
        samples.push(Sample { order: ended.key.to_string(), title: title(ended), lines });
    }
    Ok(samples)
}

fn title(ended: &Ended) -> String {
    let time = millis(ended.micros);
    match ended.state {
        OrderState::Completed => format!("completed in {time}"),
        OrderState::PaymentFailed => format!("payment failed in {time}, nothing to undo"),
        OrderState::InventoryFailed => format!("inventory failed, undone in {time}"),
        _ => format!("shipping failed, undone in {time}"),
    }
}

/// As people read it: `2.9 ms`.
pub(super) fn millis(micros: u64) -> String {
    let tenths = micros.saturating_add(50) / 100;
    format!("{}.{} ms", tenths / 10, tenths % 10)
}

/// The flow as a tree. Of the journal of a saga only its commands are shown: what the other entries caused hangs on the
/// order itself.
fn tree(events: &[Recorded], catalogue: &Catalogue) -> Vec<Line> {
    let is_shown = |recorded: &&Recorded| !recorded.envelope.event_type.as_str().starts_with("saga.");
    let shown: Vec<&Recorded> = events.iter().filter(is_shown).collect();
    let places: HashMap<&str, usize> =
        shown.iter().enumerate().map(|(place, recorded)| (recorded.envelope.id.as_str(), place)).collect();
    let mut children: HashMap<usize, Vec<usize>> = HashMap::new();
    for (place, recorded) in shown.iter().enumerate().skip(1) {
        let cause = recorded.envelope.causation.as_ref().and_then(|id| places.get(id.as_str()));
        children.entry(cause.copied().unwrap_or_default()).or_default().push(place);
    }
    let mut lines = Vec::new();
    let draw = Draw { shown: &shown, children: &children, catalogue };
    draw.branch(0, "", "", &mut lines);
    lines
}

struct Draw<'a> {
    shown: &'a [&'a Recorded],
    children: &'a HashMap<usize, Vec<usize>>,
    catalogue: &'a Catalogue,
}

impl Draw<'_> {
    /// Draws an event and what it caused. `own` leads to the event, `below` to what hangs on it.
    fn branch(&self, place: usize, own: &str, below: &str, lines: &mut Vec<Line>) {
        let (Some(recorded), Some(first)) = (self.shown.get(place), self.shown.first()) else { return };
        let since = recorded.recorded_at.duration_since(first.recorded_at);
        lines.push(Line {
            name: format!("{own}{}", recorded.envelope.event_type),
            service: self.service(recorded),
            micros: u64::try_from(since.as_micros()).unwrap_or_default(),
            position: recorded.position.0,
            detail: detail(recorded),
        });
        let caused = self.children.get(&place).map(Vec::as_slice).unwrap_or_default();
        for (index, child) in caused.iter().enumerate() {
            let is_last = index + 1 == caused.len();
            let (branch, trunk) = if is_last { ("└ ", "  ") } else { ("├ ", "│ ") };
            self.branch(*child, &format!("{below}{branch}"), &format!("{below}{trunk}"), lines);
        }
    }

    /// The service behind an event; for a command, the saga that sent it.
    fn service(&self, recorded: &Recorded) -> String {
        let handler = recorded.envelope.extensions.iter().find(|(name, _)| name == HANDLER);
        let Some((_, handler)) = handler else { return FIRST_SERVICE.to_owned() };
        let is_command = recorded.stream.topic.is_reserved();
        match handler.strip_prefix("saga.") {
            Some(saga) if is_command => saga.to_owned(),
            _ => self.catalogue.service_of(handler).to_owned(),
        }
    }
}

fn detail(recorded: &Recorded) -> String {
    // Commands and the like are no events of the shop; their names say enough.
    let Ok(event) = recorded.decode::<ShopEvent>() else { return String::new() };
    match event {
        ShopEvent::OrderPlaced(order) => {
            let items: Vec<String> =
                order.items.iter().map(|item| format!("{} × {}", item.qty, item.sku)).collect();
            format!("{}  {}  {}", order.customer_id, items.join(", "), order.total)
        }
        ShopEvent::PaymentCompleted(paid) => paid.payment_id.to_string(),
        ShopEvent::PaymentRefunded(back) => back.payment_id.to_string(),
        ShopEvent::StockReserved(held) => held.reservation_id.to_string(),
        ShopEvent::StockReleased(back) => back.reservation_id.to_string(),
        ShopEvent::ShipmentCreated(shipment) => shipment.shipment_id.to_string(),
        ShopEvent::PaymentFailed(failed) => failed.reason,
        ShopEvent::InventoryFailed(failed) => failed.reason,
        ShopEvent::ShipmentFailed(failed) => failed.reason,
        ShopEvent::RefundFailed(failed) => failed.reason,
        ShopEvent::ReleaseFailed(failed) => failed.reason,
        ShopEvent::NotificationFailed(failed) => failed.reason,
        ShopEvent::StockBackordered(ordered) => ordered.reason,
        ShopEvent::FraudSuspected(suspected) => suspected.reason,
        ShopEvent::CustomerNotified(_) | ShopEvent::PaymentDue(_) | ShopEvent::OrderCompleted(_) => {
            String::new()
        }
    }
}
