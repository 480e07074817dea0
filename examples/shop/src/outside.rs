//! What stands outside of the store: a payment provider, a warehouse and a carrier.
//!
//! As in life, their effects cannot share a transaction of ours, and a call can fail in four ways: it is refused for good,
//! it gets lost before it arrives, its answer gets lost after it took effect, or the ledger itself breaks. Callers send an
//! idempotency key and repeat a call without an answer; the ledgers prove that no repetition took effect twice.
//!
//! Processes that share a store share their ledgers, too.
//!
//! Invariants: whether an order is refused depends on the seed and the order alone, so every run and style agrees. A key is
//! answered once; the same answer, success or refusal, is given again, also after a crash.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ensue::{App, Error};

use crate::OrderId;
use crate::dice::Dice;

mod carrier;
mod defect;
mod ledger;
mod lines;
mod provider;
mod warehouse;

pub use carrier::{Carrier, CarrierTotals, Shipment};
pub use defect::{Broken, Defect};
pub use ledger::Calls;
pub use provider::{Payment, Provider, ProviderTotals};
pub use warehouse::{Piece, Slip, Warehouse, WarehouseTotals};

/// How the outside behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Decides, together with an order's id, who is refused.
    pub seed: u64,
    /// Of a hundred payments, so many are declined.
    pub payments_refused_percent: u8,
    /// Of a hundred reservations, so many are refused.
    pub reservations_refused_percent: u8,
    /// Of a hundred shipments, so many are refused.
    pub shipments_refused_percent: u8,
    /// Of a hundred calls, so many get no answer at first: half of them took effect, half never arrived.
    pub unanswered_percent: u8,
    /// What a new warehouse holds of each article. A warehouse that exists keeps what its ledger says.
    pub pieces_per_sku: u64,
    /// Orders that are not let through.
    pub broken: Broken,
}

impl Config {
    /// Whether a business refuses an order, of which so many of a hundred are refused: the same in every run and style.
    /// An order that is broken is refused by nobody but where that is how it is broken.
    fn refuses(&self, who: &str, order_id: &OrderId, percent: u8) -> bool {
        self.broken.defect(order_id.as_str()).is_none()
            && Dice::new(self.seed, &["refusal", who, order_id.as_str()]).happens(percent)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 1,
            payments_refused_percent: 10,
            reservations_refused_percent: 5,
            shipments_refused_percent: 8,
            unanswered_percent: 0,
            pieces_per_sku: 250,
            broken: Broken::NONE,
        }
    }
}

/// Why a call did not do what it was asked to.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// A business answer, final: asking again gives the same.
    Refused(String),
    /// No answer. The call may have taken effect: repeat it with the same key.
    NoAnswer {
        /// Who did not answer.
        who: &'static str,
    },
    /// Taken, with the promise to answer later. It has not taken effect yet.
    Later {
        /// Who will answer.
        who: &'static str,
    },
    /// Not before a day. Asking again on that day is what brings it about.
    NotYet {
        /// Who will do it then.
        who: &'static str,
        /// How long it is until then.
        wait: Duration,
    },
    /// The other side is broken, or was called wrongly.
    Broken(Error),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => write!(f, "refused: {reason}"),
            Self::NoAnswer { who } => write!(f, "{who} did not answer; the call may have taken effect"),
            Self::Later { who } => write!(f, "{who} will answer later"),
            Self::NotYet { who, wait } => write!(f, "{who} does it in {} days", wait.as_secs() / 86_400),
            Self::Broken(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl std::error::Error for Trouble {}

/// Tells an answer, which may be a refusal with its reason, from the trouble of not having one.
pub fn answer<T>(called: Result<T, Trouble>) -> Result<Result<T, String>, Trouble> {
    match called {
        Ok(done) => Ok(Ok(done)),
        Err(Trouble::Refused(reason)) => Ok(Err(reason)),
        Err(trouble) => Err(trouble),
    }
}

/// The three that stand outside. Cheap to clone.
#[derive(Clone)]
pub struct Outside {
    /// Takes and gives back money.
    pub provider: Arc<Provider>,
    /// Sets articles aside and puts them back.
    pub warehouse: Arc<Warehouse>,
    /// Takes parcels.
    pub carrier: Arc<Carrier>,
}

impl Outside {
    /// Opens the three ledgers in `payments`, `warehouse` and `carrier` below `dir`, making what does not exist. Reads
    /// them from the disk in the calling thread. Any number of processes, of one machine, may have them open.
    pub async fn open(dir: &Path, config: Config) -> Result<Self, Error> {
        Ok(Self {
            provider: Arc::new(Provider::open(&dir.join("payments"), config)?),
            warehouse: Arc::new(Warehouse::open(&dir.join("warehouse"), config).await?),
            carrier: Arc::new(Carrier::open(&dir.join("carrier"), config)?),
        })
    }

    /// Lets the services of an application reach them, each by its own type.
    #[must_use]
    pub fn connect(&self, app: App) -> App {
        app.state(Arc::clone(&self.provider))
            .state(Arc::clone(&self.warehouse))
            .state(Arc::clone(&self.carrier))
    }

    /// Reads all three ledgers again from the disk and says what does not add up; nothing where all is well. From then on
    /// totals count what other processes have done until then.
    pub fn audit(&self) -> Result<Vec<String>, Error> {
        let mut findings = self.provider.audit()?;
        findings.extend(self.warehouse.audit()?);
        findings.extend(self.carrier.audit()?);
        Ok(findings)
    }
}
