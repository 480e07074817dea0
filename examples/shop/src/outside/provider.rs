//! The payment provider: charges and gives back. It does not know what an order is worth or whether it was charged before;
//! only the idempotency key protects a customer from paying twice, which is why [`Provider::audit`] looks.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ensue::Error;
use serde::{Deserialize, Serialize};

use super::ledger::{AnsweredBy, Calls, Ledger, Trade, doubled_keys};
use super::{Broken, Config, Defect, Trouble};
use crate::{Money, OrderId, PaymentId};

const NAME: &str = "the payment provider";
/// Charges that are not taken at once are taken after so long.
const TAKEN_AFTER: Duration = Duration::from_hours(24 * 30);

/// A charge, or the return of one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Payment {
    /// The provider's id of the charge.
    pub payment_id: PaymentId,
    /// How much.
    pub amount: Money,
}

/// What the provider's books say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct ProviderTotals {
    /// All that was ever charged.
    pub charged: Money,
    /// All that was given back.
    pub refunded: Money,
    /// The difference.
    pub kept: Money,
    /// The calls behind it.
    #[serde(flatten)]
    pub calls: Calls,
}

/// The provider with its ledger.
pub struct Provider {
    ledger: Ledger<Payments>,
    broken: Broken,
}

impl Provider {
    /// Opens the ledger in `dir`, making it where it does not exist.
    pub fn open(dir: &Path, config: Config) -> Result<Self, Error> {
        Ledger::open(dir, Payments::new(config), config).map(|ledger| Self { ledger, broken: config.broken })
    }

    /// Charges for an order.
    pub async fn charge(&self, key: &str, order_id: &OrderId, amount: Money) -> Result<Payment, Trouble> {
        match self.broken.defect(order_id.as_str()) {
            Some(Defect::Parked) => return Err(Trouble::NoAnswer { who: NAME }),
            Some(Defect::NoReply) => return Err(Trouble::Later { who: NAME }),
            Some(Defect::Timer) => return Err(Trouble::NotYet { who: NAME, wait: TAKEN_AFTER }),
            _ => {}
        }
        self.collect(key, order_id, amount).await
    }

    /// Charges for an order whose day has come.
    pub async fn collect(&self, key: &str, order_id: &OrderId, amount: Money) -> Result<Payment, Trouble> {
        self.ledger.call(key, Request::Charge { order_id: order_id.clone(), amount }).await
    }

    /// Gives back what the order was charged.
    pub async fn refund(&self, key: &str, order_id: &OrderId) -> Result<Payment, Trouble> {
        self.ledger.call(key, Request::Refund { order_id: order_id.clone() }).await
    }

    /// What the books say: all that this process did, and what others did up to its last call or audit.
    pub fn totals(&self) -> ProviderTotals {
        self.ledger.inspect(Payments::totals)
    }

    /// Reads the ledger again and says what should not be: a key or an order charged twice, a refund without a charge, books
    /// that differ from their ledger.
    pub fn audit(&self) -> Result<Vec<String>, Error> {
        let history = self.ledger.history()?;
        let mut findings = doubled_keys(NAME, &history);
        let sums = audit_orders(&history, &mut findings);
        let totals = self.totals();
        if (totals.charged, totals.refunded) != sums {
            findings.push(format!(
                "{NAME}: the books say {} charged and {} refunded, the ledger {} and {}",
                totals.charged, totals.refunded, sums.0, sums.1
            ));
        }
        Ok(findings)
    }
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Request {
    Charge { order_id: OrderId, amount: Money },
    Refund { order_id: OrderId },
}

/// The books.
struct Payments {
    config: Config,
    charges: BTreeMap<OrderId, Payment>,
    count: u64,
    charged: Money,
    refunded: Money,
}

impl Payments {
    fn new(config: Config) -> Self {
        Self { config, charges: BTreeMap::new(), count: 0, charged: Money::ZERO, refunded: Money::ZERO }
    }

    fn totals(&self, calls: Calls) -> ProviderTotals {
        let kept = self.charged.checked_sub(self.refunded).unwrap_or_default();
        ProviderTotals { charged: self.charged, refunded: self.refunded, kept, calls }
    }
}

impl Trade for Payments {
    const NAME: &'static str = NAME;
    type Request = Request;
    type Effect = Payment;

    fn decide(&self, request: &Request) -> Result<Payment, String> {
        match request {
            Request::Charge { amount, .. } if *amount < Money::ZERO => {
                Err(format!("{amount} is not an amount to charge"))
            }
            Request::Charge { amount, .. } if self.charged.checked_add(*amount).is_none() => {
                Err(format!("{amount} is more than the provider can take"))
            }
            Request::Charge { order_id, .. }
                if self.config.refuses(NAME, order_id, self.config.payments_refused_percent) =>
            {
                Err("card declined".to_owned())
            }
            Request::Charge { amount, .. } => {
                Ok(Payment { payment_id: PaymentId::numbered("PAY", self.count + 1), amount: *amount })
            }
            Request::Refund { order_id } if self.config.broken.has(order_id, Defect::UndoFailed) => {
                Err("the account is closed".to_owned())
            }
            Request::Refund { order_id } => {
                self.charges.get(order_id).cloned().ok_or_else(|| format!("no charge of {order_id} is open"))
            }
        }
    }

    fn apply(&mut self, request: &Request, payment: &Payment) {
        match request {
            Request::Charge { order_id, .. } => {
                self.count += 1;
                self.charged = self.charged.saturating_add(payment.amount);
                self.charges.insert(order_id.clone(), payment.clone());
            }
            Request::Refund { order_id } => {
                self.refunded = self.refunded.saturating_add(payment.amount);
                self.charges.remove(order_id);
            }
        }
    }
}

/// Follows each order through the ledger; returns the sums of charges and refunds.
fn audit_orders(history: &[AnsweredBy<Payments>], findings: &mut Vec<String>) -> (Money, Money) {
    let mut charges: BTreeMap<&OrderId, Vec<Money>> = BTreeMap::new();
    let (mut charged, mut refunded) = (Money::ZERO, Money::ZERO);
    for answered in history {
        let Ok(payment) = &answered.outcome else { continue };
        match &answered.request {
            Request::Charge { order_id, .. } => {
                charged = charged.saturating_add(payment.amount);
                charges.entry(order_id).or_default().push(payment.amount);
            }
            Request::Refund { order_id } => {
                refunded = refunded.saturating_add(payment.amount);
                let charge = charges.get_mut(order_id).and_then(Vec::pop);
                if charge != Some(payment.amount) {
                    findings.push(format!(
                        "{NAME}: {order_id} was refunded {} without a charge of it",
                        payment.amount
                    ));
                }
            }
        }
    }
    for (order_id, open) in charges.iter().filter(|(_, open)| open.len() > 1) {
        findings.push(format!("{NAME}: {order_id} was charged {} times", open.len()));
    }
    (charged, refunded)
}
