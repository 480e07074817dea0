//! Everything that can happen to an order. All events are keyed by the order, so its history is in order per service.
//!
//! Events carry what the next service needs: nobody looks into another service to understand one. Where a saga conducts,
//! it knows the order itself, and the parts that are only carried along are absent.

use std::fmt;

use ensue::Event;
use serde::{Deserialize, Serialize};

use crate::{CustomerId, Money, OrderId, PaymentId, ReservationId, ShipmentId, Sku};

/// One line of an order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Item {
    /// Which article.
    pub sku: Sku,
    /// How many, at least one.
    pub qty: u32,
    /// Of one piece; not negative.
    pub price: Money,
}

/// A customer ordered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Event)]
#[event(topic = "Order", key = order_id, tags(customer_id), validate = OrderPlaced::check)]
pub struct OrderPlaced {
    /// Which order.
    pub order_id: OrderId,
    /// Who ordered.
    pub customer_id: CustomerId,
    /// Their name for people to read, where the sender knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_name: Option<String>,
    /// What was ordered, at least one line.
    pub items: Vec<Item>,
    /// The sum of quantity × price.
    pub total: Money,
}

/// The provider charged the customer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Event)]
#[event(topic = "Payment", key = order_id)]
pub struct PaymentCompleted {
    /// Which order.
    pub order_id: OrderId,
    /// The provider's id of the charge.
    pub payment_id: PaymentId,
    /// What was charged.
    pub amount: Money,
    /// Carried along for the services after this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<CustomerId>,
    /// Carried along for the services after this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<Item>,
}

/// The day has come on which the provider takes the charge for an order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Event)]
#[event(topic = "Payment", key = order_id)]
pub struct PaymentDue {
    /// Which order.
    pub order_id: OrderId,
    /// How much; not negative.
    pub amount: Money,
    /// Who ordered.
    pub customer_id: CustomerId,
    /// What was ordered, for whoever serves the order next.
    pub items: Vec<Item>,
}

/// The provider declined; nothing was charged.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Event)]
#[event(topic = "Payment", key = order_id)]
pub struct PaymentFailed {
    /// Which order.
    pub order_id: OrderId,
    /// In the provider's words.
    pub reason: String,
}

/// The provider gave the money back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Event)]
#[event(topic = "Payment", key = order_id)]
pub struct PaymentRefunded {
    /// Which order.
    pub order_id: OrderId,
    /// The charge that was undone.
    pub payment_id: PaymentId,
    /// What was given back.
    pub amount: Money,
}

/// The provider would not give the money back; somebody has to look into it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Event)]
#[event(topic = "Payment", key = order_id)]
pub struct RefundFailed {
    /// Which order.
    pub order_id: OrderId,
    /// In the provider's words.
    pub reason: String,
}

/// The warehouse set the items aside.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Event)]
#[event(topic = "Stock", key = order_id)]
pub struct StockReserved {
    /// Which order.
    pub order_id: OrderId,
    /// The warehouse's id of the reservation.
    pub reservation_id: ReservationId,
    /// What was set aside.
    pub items: Vec<Item>,
    /// Carried along for the services after this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<CustomerId>,
}

/// The warehouse cannot set the items aside; nothing was reserved.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Event)]
#[event(topic = "Stock", key = order_id)]
pub struct InventoryFailed {
    /// Which order.
    pub order_id: OrderId,
    /// In the warehouse's words.
    pub reason: String,
}

/// The warehouse has not got the items, and has ordered them from elsewhere; nothing was set aside. Nobody in the shop
/// listens to this yet: `ensue flow lint` says so.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Event)]
#[event(topic = "Stock", key = order_id)]
pub struct StockBackordered {
    /// Which order.
    pub order_id: OrderId,
    /// In the warehouse's words.
    pub reason: String,
}

/// The warehouse put the items back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Event)]
#[event(topic = "Stock", key = order_id)]
pub struct StockReleased {
    /// Which order.
    pub order_id: OrderId,
    /// The reservation that was undone.
    pub reservation_id: ReservationId,
}

/// The warehouse would not put the items back; somebody has to look into it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Event)]
#[event(topic = "Stock", key = order_id)]
pub struct ReleaseFailed {
    /// Which order.
    pub order_id: OrderId,
    /// In the warehouse's words.
    pub reason: String,
}

/// The carrier took the parcel.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Event)]
#[event(topic = "Shipment", key = order_id, tags(customer_id))]
pub struct ShipmentCreated {
    /// Which order.
    pub order_id: OrderId,
    /// The carrier's id of the shipment.
    pub shipment_id: ShipmentId,
    /// Who receives it.
    pub customer_id: CustomerId,
}

/// The carrier refused the parcel; nothing was shipped.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Event)]
#[event(topic = "Shipment", key = order_id)]
pub struct ShipmentFailed {
    /// Which order.
    pub order_id: OrderId,
    /// In the carrier's words.
    pub reason: String,
}

/// The customer was told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Event)]
#[event(topic = "Notification", key = order_id, tags(customer_id))]
pub struct CustomerNotified {
    /// Which order.
    pub order_id: OrderId,
    /// Who was told.
    pub customer_id: CustomerId,
    /// What they were told.
    pub text: String,
}

/// The customer could not be told; the order stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Event)]
#[event(topic = "Notification", key = order_id)]
pub struct NotificationFailed {
    /// Which order.
    pub order_id: OrderId,
    /// Why not.
    pub reason: String,
}

/// The saga's good end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Event)]
#[event(topic = "Order", key = order_id)]
pub struct OrderCompleted {
    /// Which order.
    pub order_id: OrderId,
    /// The carrier's id of the shipment.
    pub shipment_id: ShipmentId,
}

/// An order looks as if somebody else's money paid for it. The order goes on; people look into it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Event)]
#[event(topic = "Fraud", key = order_id, tags(customer_id))]
pub struct FraudSuspected {
    /// Which order.
    pub order_id: OrderId,
    /// Who ordered.
    pub customer_id: CustomerId,
    /// What is odd about it.
    pub reason: String,
}

/// Where an order stands; the last four are ends.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OrderState {
    /// Ordered.
    Placed,
    /// Charged.
    PaymentCompleted,
    /// Set aside.
    StockReserved,
    /// On its way.
    ShipmentCreated,
    /// On its way, and the customer knows.
    Completed,
    /// Declined; nothing to undo.
    PaymentFailed,
    /// Not in stock; the payment is refunded.
    InventoryFailed,
    /// Not shipped; the stock is released, then the payment refunded.
    ShippingFailed,
}

/// All events of the shop.
#[derive(Clone, PartialEq, Eq, Debug, Event)]
pub enum ShopEvent {
    /// See [`OrderPlaced`].
    OrderPlaced(OrderPlaced),
    /// See [`PaymentCompleted`].
    PaymentCompleted(PaymentCompleted),
    /// See [`PaymentFailed`].
    PaymentFailed(PaymentFailed),
    /// See [`PaymentDue`].
    PaymentDue(PaymentDue),
    /// See [`PaymentRefunded`].
    PaymentRefunded(PaymentRefunded),
    /// See [`RefundFailed`].
    RefundFailed(RefundFailed),
    /// See [`StockReserved`].
    StockReserved(StockReserved),
    /// See [`InventoryFailed`].
    InventoryFailed(InventoryFailed),
    /// See [`StockBackordered`].
    StockBackordered(StockBackordered),
    /// See [`StockReleased`].
    StockReleased(StockReleased),
    /// See [`ReleaseFailed`].
    ReleaseFailed(ReleaseFailed),
    /// See [`ShipmentCreated`].
    ShipmentCreated(ShipmentCreated),
    /// See [`ShipmentFailed`].
    ShipmentFailed(ShipmentFailed),
    /// See [`CustomerNotified`].
    CustomerNotified(CustomerNotified),
    /// See [`NotificationFailed`].
    NotificationFailed(NotificationFailed),
    /// See [`OrderCompleted`].
    OrderCompleted(OrderCompleted),
    /// See [`FraudSuspected`].
    FraudSuspected(FraudSuspected),
}

impl OrderPlaced {
    /// The sum of quantity × price, or `None` where it does not fit.
    pub fn sum(items: &[Item]) -> Option<Money> {
        items.iter().try_fold(Money::ZERO, |sum, item| sum.checked_add(item.price.checked_mul(item.qty)?))
    }

    fn check(&self) -> Result<(), String> {
        if self.items.is_empty() {
            return Err("items is empty, expected at least one".to_owned());
        }
        for (index, item) in self.items.iter().enumerate() {
            if item.qty == 0 {
                return Err(format!("items[{index}].qty is 0, expected at least 1"));
            }
            if item.price < Money::ZERO {
                return Err(format!("items[{index}].price is {}, expected at least 0.00", item.price));
            }
        }
        let Some(sum) = Self::sum(&self.items) else {
            return Err("the sum of qty × price does not fit into an amount of money".to_owned());
        };
        if self.total != sum {
            return Err(format!("total is {}, expected {sum}, the sum of qty × price", self.total));
        }
        Ok(())
    }
}

impl OrderState {
    /// As documents and screens write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Placed => "PLACED",
            Self::PaymentCompleted => "PAYMENT_COMPLETED",
            Self::StockReserved => "STOCK_RESERVED",
            Self::ShipmentCreated => "SHIPMENT_CREATED",
            Self::Completed => "COMPLETED",
            Self::PaymentFailed => "PAYMENT_FAILED",
            Self::InventoryFailed => "INVENTORY_FAILED",
            Self::ShippingFailed => "SHIPPING_FAILED",
        }
    }

    /// Whether nothing more will happen to the order.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Completed | Self::PaymentFailed | Self::InventoryFailed | Self::ShippingFailed)
    }
}

impl fmt::Display for OrderState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use ensue::{Event, EventSet};
    use serde_json::json;

    use super::*;

    fn placed(document: &serde_json::Value) -> OrderPlaced {
        serde_json::from_str(&document.to_string()).expect("the right shape")
    }

    #[test]
    fn the_document_of_the_article_parses_as_it_stands() {
        let text = r#"{"order_id":"ORD-5001","customer_id":"CUST-1001",
            "items":[{"sku":"WIDGET-1","qty":2,"price":29.99}],"total":59.98}"#;
        let order: OrderPlaced = serde_json::from_str(text).expect("the article's order");
        assert_eq!(order.validate(), Ok(()));
        assert_eq!(order.total, Money::from_cents(5_998));
        assert_eq!(order.customer_name, None);
        assert_eq!(Event::key(&order), "ORD-5001");
        assert_eq!(order.tags(), [("customer_id", "CUST-1001".to_owned())]);
        let written = serde_json::to_string(&order).expect("plain data");
        assert_eq!(written, text.replace("\n            ", ""), "nothing is added or lost");
    }

    #[test]
    fn an_order_that_contradicts_itself_is_refused_by_field_and_expectation() {
        let item = json!({"sku":"W-1","qty":2,"price":29.99});
        for (items, total, message) in [
            (json!([item]), json!(60.00), "total is 60.00, expected 59.98, the sum of qty × price"),
            (json!([]), json!(0), "items is empty, expected at least one"),
            (
                json!([item, {"sku":"W-1","qty":0,"price":1}]),
                json!(59.98),
                "items[1].qty is 0, expected at least 1",
            ),
            (
                json!([{"sku":"W-1","qty":1,"price":-1}]),
                json!(-1),
                "items[0].price is -1.00, expected at least 0.00",
            ),
            (
                json!([{"sku":"W-1","qty":4_000_000_000_u32,"price":92_233_720_368_547_u64}]),
                json!(1),
                "the sum of qty × price does not fit into an amount of money",
            ),
        ] {
            let order = placed(&json!({"order_id":"ORD-1","customer_id":"C-1","items":items,"total":total}));
            assert_eq!(order.validate(), Err(message.to_owned()));
        }
    }

    #[test]
    fn a_document_of_the_wrong_shape_is_refused_by_its_value() {
        for (field, value, message) in [
            ("order_id", json!(""), "order_id: it is empty"),
            ("customer_id", json!("a/b"), "`a/b` is not a valid customer_id"),
            ("total", json!(59.985), "`59.985` is not an amount of money: it has more than two decimals"),
            ("items", json!([{"sku":"W","qty":-1,"price":1}]), "`-1`"),
        ] {
            let mut order = json!({"order_id":"ORD-1","customer_id":"C-1",
                "items":[{"sku":"W-1","qty":2,"price":29.99}],"total":59.98});
            order.as_object_mut().expect("an object").insert(field.to_owned(), value);
            let error = serde_json::from_str::<OrderPlaced>(&order.to_string()).expect_err(field).to_string();
            assert!(error.contains(message), "{field}: {error}");
        }
    }

    #[test]
    fn a_state_is_written_in_documents_as_on_screens() {
        for state in [
            OrderState::Placed,
            OrderState::PaymentCompleted,
            OrderState::StockReserved,
            OrderState::ShipmentCreated,
            OrderState::Completed,
            OrderState::PaymentFailed,
            OrderState::InventoryFailed,
            OrderState::ShippingFailed,
        ] {
            assert_eq!(serde_json::to_value(state).expect("a name"), json!(state.as_str()));
        }
    }

    #[test]
    fn every_event_of_the_shop_is_keyed_by_its_order() {
        let types = ShopEvent::types();
        assert_eq!(types.len(), 17);
        for info in types {
            assert_eq!(info.key_field, "order_id", "{}", info.event_type);
            assert!(["Order", "Payment", "Stock", "Shipment", "Notification", "Fraud"].contains(&info.topic));
        }
    }
}
