//! The notification service: writes to customers. The letter is the event: what was told to whom is on record.

use ensue::App;

use crate::commands::NotifyCustomer;
use crate::events::{CustomerNotified, NotificationFailed, ShipmentCreated};

/// The service as one that listens to events.
pub fn choreography(app: App) -> App {
    app.service("notification").react("notify-customer", notify_shipped)
}

/// The service as one that takes commands.
pub fn handlers(app: App) -> App {
    app.service("notification").handle(notify_customer)
}

async fn notify_shipped(shipment: ShipmentCreated) -> CustomerNotified {
    let NotifyCustomer { order_id, customer_id, text } = NotifyCustomer::of(&shipment);
    CustomerNotified { order_id, customer_id, text }
}

async fn notify_customer(command: NotifyCustomer) -> Result<CustomerNotified, NotificationFailed> {
    let NotifyCustomer { order_id, customer_id, text } = command;
    if text.trim().is_empty() {
        return Err(NotificationFailed { order_id, reason: "the letter is empty".to_owned() });
    }
    Ok(CustomerNotified { order_id, customer_id, text })
}
