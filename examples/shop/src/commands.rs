//! What the saga asks of the services. Each answer is published as an event, so that everybody else sees it as well.

use ensue::Command;
use serde::{Deserialize, Serialize};

use crate::events::{
    CustomerNotified, InventoryFailed, Item, NotificationFailed, OrderPlaced, PaymentCompleted,
    PaymentFailed, PaymentRefunded, RefundFailed, ReleaseFailed, ShipmentCreated, ShipmentFailed,
    StockReleased, StockReserved,
};
use crate::{CustomerId, Money, OrderId};

/// How a customer pays.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentMethod {
    /// By credit card.
    #[default]
    CreditCard,
    /// By debit card.
    DebitCard,
    /// By bank transfer.
    BankTransfer,
    /// From a wallet such as that of a phone.
    Wallet,
}

/// Charge the customer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Command)]
#[command(key = order_id, reply = PaymentCompleted, failure = PaymentFailed, publish)]
pub struct ProcessPayment {
    /// Which order.
    pub order_id: OrderId,
    /// How much; not negative.
    pub amount: Money,
    /// From where.
    pub payment_method: PaymentMethod,
}

/// Give back what the order was charged.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Command)]
#[command(key = order_id, reply = PaymentRefunded, failure = RefundFailed, publish)]
pub struct RefundPayment {
    /// Which order.
    pub order_id: OrderId,
}

/// Set the items of the order aside.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Command)]
#[command(key = order_id, reply = StockReserved, failure = InventoryFailed, publish)]
pub struct ReserveStock {
    /// Which order.
    pub order_id: OrderId,
    /// What to set aside: all of it or nothing.
    pub items: Vec<Item>,
}

/// Put back what was set aside for the order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Command)]
#[command(key = order_id, reply = StockReleased, failure = ReleaseFailed, publish)]
pub struct ReleaseStock {
    /// Which order.
    pub order_id: OrderId,
}

/// Hand the parcel to the carrier.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Command)]
#[command(key = order_id, reply = ShipmentCreated, failure = ShipmentFailed, publish)]
pub struct CreateShipment {
    /// Which order.
    pub order_id: OrderId,
    /// Who receives it.
    pub customer_id: CustomerId,
}

/// Tell the customer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Command)]
#[command(key = order_id, reply = CustomerNotified, failure = NotificationFailed, publish)]
pub struct NotifyCustomer {
    /// Which order.
    pub order_id: OrderId,
    /// Whom.
    pub customer_id: CustomerId,
    /// What.
    pub text: String,
}

impl ProcessPayment {
    /// The charge for an order.
    pub fn of(order: &OrderPlaced) -> Self {
        Self {
            order_id: order.order_id.clone(),
            amount: order.total,
            payment_method: PaymentMethod::default(),
        }
    }
}

impl ReserveStock {
    /// The reservation for an order.
    pub fn of(order: &OrderPlaced) -> Self {
        Self { order_id: order.order_id.clone(), items: order.items.clone() }
    }
}

impl CreateShipment {
    /// The parcel of an order.
    pub fn of(order: &OrderPlaced) -> Self {
        Self { order_id: order.order_id.clone(), customer_id: order.customer_id.clone() }
    }
}

impl NotifyCustomer {
    /// The news that the parcel of an order is on its way.
    pub fn of(shipment: &ShipmentCreated) -> Self {
        Self {
            order_id: shipment.order_id.clone(),
            customer_id: shipment.customer_id.clone(),
            text: format!("Your order {} is on its way: {}", shipment.order_id, shipment.shipment_id),
        }
    }
}

#[cfg(test)]
mod tests {
    use ensue::Command;

    use super::*;

    #[test]
    fn the_document_of_the_article_parses_as_it_stands() {
        let text = r#"{"order_id":"ORD-5001","amount":59.98,"payment_method":"credit_card"}"#;
        let command: ProcessPayment = serde_json::from_str(text).expect("the article's command");
        assert_eq!(command.amount, Money::from_cents(5_998));
        assert_eq!(Command::key(&command), "ORD-5001");
        assert_eq!(serde_json::to_string(&command).expect("plain data"), text);
    }

    #[test]
    fn both_answers_to_a_command_are_published() {
        let reason = "card declined".to_owned();
        let refused = PaymentFailed { order_id: OrderId::new("ORD-1").expect("an id"), reason };
        let drafts = ProcessPayment::published(&Err(refused)).expect("a valid key");
        let named: Vec<String> =
            drafts.iter().map(|draft| format!("{} {}", draft.event_type, draft.stream)).collect();
        assert_eq!(named, ["PaymentFailed Payment/ORD-1"]);
        let types: Vec<&str> = ProcessPayment::publishes().iter().map(|info| info.event_type).collect();
        assert_eq!(types, ["PaymentCompleted", "PaymentFailed"]);
    }
}
