//! The payment service: charges for an order, and gives the money back when the order cannot be served.

use std::sync::Arc;

use ensue::core::Delayed;
use ensue::runtime::Meta;
use ensue::{App, Cause, Emits, Reaction, State, Version};

use crate::commands::{ProcessPayment, RefundPayment};
use crate::events::{
    InventoryFailed, Item, OrderPlaced, PaymentCompleted, PaymentDue, PaymentFailed, PaymentRefunded,
    RefundFailed, StockReleased,
};
use crate::outside::{Payment, Provider, Trouble, answer};
use crate::{CustomerId, OrderId};

/// Calls to the provider that may be under way at the same time.
const LANES: u16 = 32;

/// The service as one that listens to events.
pub fn choreography(app: App) -> App {
    app.service("payment")
        .react("take-payment", take_payment.lanes(LANES))
        .react("collect-payment", collect_payment.lanes(LANES))
        .react("refund-unavailable", refund_unavailable.lanes(LANES))
        .react("refund-unshipped", refund_unshipped.lanes(LANES))
}

/// The service as one that takes commands.
pub fn handlers(app: App) -> App {
    app.service("payment").handle(process_payment).handle(refund_payment)
}

/// What becomes of a charge.
#[derive(Emits)]
pub enum Charge {
    /// See [`PaymentCompleted`].
    Completed(PaymentCompleted),
    /// See [`PaymentFailed`].
    Failed(PaymentFailed),
}

/// What becomes of an order to pay.
#[derive(Emits)]
pub enum Taken {
    /// The provider has answered.
    Answered(Charge),
    /// The provider is to be asked again on a day.
    Due(Delayed<PaymentDue>),
}

/// What becomes of a refund.
#[derive(Emits)]
pub enum Refund {
    /// See [`PaymentRefunded`].
    Refunded(PaymentRefunded),
    /// See [`RefundFailed`].
    Failed(RefundFailed),
}

/// The provider may take its time: then the order waits for an answer that comes from outside, or for the day on which it
/// is asked again.
///
/// An order is placed once: a second `OrderPlaced` in its stream, whoever sent it, is not charged.
async fn take_payment(
    State(provider): State<Arc<Provider>>,
    meta: Meta,
    cause: Cause,
    order: OrderPlaced,
) -> Result<Option<Taken>, Trouble> {
    if meta.version > Version(1) {
        return Ok(None);
    }
    let OrderPlaced { order_id, customer_id, items, total: amount, .. } = order;
    match provider.charge(&cause.idempotency_key(), &order_id, amount).await {
        Err(Trouble::Later { .. }) => Ok(None),
        Err(Trouble::NotYet { wait, .. }) => {
            let due = PaymentDue { order_id, amount, customer_id, items };
            Ok(Some(Taken::Due(Delayed::after(wait, due))))
        }
        charged => Ok(Some(Taken::Answered(charge(answer(charged)?, order_id, customer_id, items)))),
    }
}

async fn collect_payment(
    State(provider): State<Arc<Provider>>,
    cause: Cause,
    due: PaymentDue,
) -> Result<Charge, Trouble> {
    let PaymentDue { order_id, amount, customer_id, items } = due;
    let charged = provider.collect(&cause.idempotency_key(), &order_id, amount).await;
    Ok(charge(answer(charged)?, order_id, customer_id, items))
}

fn charge(
    answer: Result<Payment, String>,
    order_id: OrderId,
    customer_id: CustomerId,
    items: Vec<Item>,
) -> Charge {
    match answer {
        Ok(Payment { payment_id, amount }) => {
            let customer_id = Some(customer_id);
            Charge::Completed(PaymentCompleted { order_id, payment_id, amount, customer_id, items })
        }
        Err(reason) => Charge::Failed(PaymentFailed { order_id, reason }),
    }
}

async fn refund_unavailable(
    State(provider): State<Arc<Provider>>,
    cause: Cause,
    failed: InventoryFailed,
) -> Result<Refund, Trouble> {
    Ok(match refund(&provider, &cause, failed.order_id).await? {
        Ok(refunded) => Refund::Refunded(refunded),
        Err(failed) => Refund::Failed(failed),
    })
}

/// Stock is released when the order could not be shipped; the money follows the goods.
async fn refund_unshipped(
    State(provider): State<Arc<Provider>>,
    cause: Cause,
    released: StockReleased,
) -> Result<Refund, Trouble> {
    Ok(match refund(&provider, &cause, released.order_id).await? {
        Ok(refunded) => Refund::Refunded(refunded),
        Err(failed) => Refund::Failed(failed),
    })
}

async fn process_payment(
    State(provider): State<Arc<Provider>>,
    cause: Cause,
    command: ProcessPayment,
) -> Result<Result<PaymentCompleted, PaymentFailed>, Trouble> {
    let order_id = command.order_id;
    let charged = provider.charge(&cause.idempotency_key(), &order_id, command.amount).await;
    Ok(match answer(charged)? {
        Ok(payment) => Ok(PaymentCompleted {
            order_id,
            payment_id: payment.payment_id,
            amount: payment.amount,
            customer_id: None,
            items: Vec::new(),
        }),
        Err(reason) => Err(PaymentFailed { order_id, reason }),
    })
}

async fn refund_payment(
    State(provider): State<Arc<Provider>>,
    cause: Cause,
    command: RefundPayment,
) -> Result<Result<PaymentRefunded, RefundFailed>, Trouble> {
    refund(&provider, &cause, command.order_id).await
}

async fn refund(
    provider: &Provider,
    cause: &Cause,
    order_id: OrderId,
) -> Result<Result<PaymentRefunded, RefundFailed>, Trouble> {
    let refunded = provider.refund(&cause.idempotency_key(), &order_id).await;
    Ok(match answer(refunded)? {
        Ok(payment) => {
            Ok(PaymentRefunded { order_id, payment_id: payment.payment_id, amount: payment.amount })
        }
        Err(reason) => Err(RefundFailed { order_id, reason }),
    })
}
