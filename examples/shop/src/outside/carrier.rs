//! The carrier: takes parcels. A parcel that is on its way is not called back, so shipping is the point of no return.

use std::collections::BTreeMap;
use std::path::Path;

use ensue::Error;
use serde::{Deserialize, Serialize};

use super::ledger::{Calls, Ledger, Trade, doubled_keys};
use super::{Config, Trouble};
use crate::{CustomerId, OrderId, ShipmentId};

const NAME: &str = "the carrier";

/// A parcel on its way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Shipment {
    /// The carrier's id.
    pub shipment_id: ShipmentId,
}

/// What the carrier's books say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct CarrierTotals {
    /// Parcels taken.
    pub shipments: u64,
    /// The calls behind it.
    #[serde(flatten)]
    pub calls: Calls,
}

/// The carrier with its ledger.
pub struct Carrier {
    ledger: Ledger<Shipments>,
}

impl Carrier {
    /// Opens the ledger in `dir`, making it where it does not exist.
    pub fn open(dir: &Path, config: Config) -> Result<Self, Error> {
        Ledger::open(dir, Shipments { config, count: 0 }, config).map(|ledger| Self { ledger })
    }

    /// Hands over the parcel of an order.
    pub async fn ship(
        &self,
        key: &str,
        order_id: &OrderId,
        customer_id: &CustomerId,
    ) -> Result<Shipment, Trouble> {
        let request = Parcel { order_id: order_id.clone(), customer_id: customer_id.clone() };
        self.ledger.call(key, request).await
    }

    /// What the books say: all that this process did, and what others did up to its last call or audit.
    pub fn totals(&self) -> CarrierTotals {
        self.ledger.inspect(|books, calls| CarrierTotals { shipments: books.count, calls })
    }

    /// Reads the ledger again and says what should not be: a key or an order shipped twice, books that differ from their
    /// ledger.
    pub fn audit(&self) -> Result<Vec<String>, Error> {
        let history = self.ledger.history()?;
        let mut findings = doubled_keys(NAME, &history);
        let mut times: BTreeMap<&OrderId, u64> = BTreeMap::new();
        for answered in history.iter().filter(|answered| answered.outcome.is_ok()) {
            *times.entry(&answered.request.order_id).or_default() += 1;
        }
        for (order_id, times) in times.iter().filter(|(_, times)| **times > 1) {
            findings.push(format!("{NAME}: {order_id} was shipped {times} times"));
        }
        let (books, ledger) = (self.totals().shipments, times.values().sum::<u64>());
        if books != ledger {
            findings.push(format!("{NAME}: the books say {books} shipments, the ledger {ledger}"));
        }
        Ok(findings)
    }
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Parcel {
    order_id: OrderId,
    customer_id: CustomerId,
}

/// The books.
struct Shipments {
    config: Config,
    count: u64,
}

impl Trade for Shipments {
    const NAME: &'static str = NAME;
    type Request = Parcel;
    type Effect = Shipment;

    fn decide(&self, parcel: &Parcel) -> Result<Shipment, String> {
        if self.config.refuses(NAME, &parcel.order_id, self.config.shipments_refused_percent) {
            return Err("carrier refuses the address".to_owned());
        }
        Ok(Shipment { shipment_id: ShipmentId::numbered("SHP", self.count + 1) })
    }

    fn apply(&mut self, _: &Parcel, _: &Shipment) {
        self.count += 1;
    }
}
