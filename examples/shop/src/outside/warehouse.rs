//! The warehouse: sets articles aside for an order and puts them back. All pieces of an order or none.

use std::collections::BTreeMap;
use std::path::Path;

use ensue::Error;
use serde::{Deserialize, Serialize};

use super::ledger::{AnsweredBy, Calls, Ledger, Trade, doubled_keys};
use super::{Broken, Config, Defect, Trouble};
use crate::events::Item;
use crate::generator::skus;
use crate::{OrderId, ReservationId, Sku};

const NAME: &str = "the warehouse";
/// The key of the delivery that a new warehouse begins with.
const FIRST_DELIVERY: &str = "first-delivery";

/// So many of an article.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Piece {
    /// Which article.
    pub sku: Sku,
    /// How many.
    pub qty: u64,
}

/// What was moved, and under which number.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Slip {
    /// Counts reservations; a release carries the number of what it releases.
    pub number: u64,
    /// What was moved.
    pub pieces: Vec<Piece>,
}

impl Slip {
    /// The number as other services know it, such as `RES-7`.
    pub fn reservation_id(&self) -> ReservationId {
        ReservationId::numbered("RES", self.number)
    }

    fn pieces(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.qty).sum()
    }
}

/// What the books of the warehouse say, in pieces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct WarehouseTotals {
    /// All that was ever delivered to it.
    pub initial: u64,
    /// All that was ever set aside.
    pub reserved: u64,
    /// All that was put back.
    pub released: u64,
    /// What is on the shelves, counted and not computed: initial − reserved + released must give the same.
    pub left: u64,
    /// The calls behind it, without the first delivery.
    #[serde(flatten)]
    pub calls: Calls,
}

/// The warehouse with its ledger.
pub struct Warehouse {
    ledger: Ledger<Stock>,
    broken: Broken,
}

impl Warehouse {
    /// Opens the ledger in `dir`. A new warehouse gets its first delivery: so many of each article as `config` says.
    pub async fn open(dir: &Path, config: Config) -> Result<Self, Error> {
        let ledger = Ledger::open(dir, Stock::new(config), config)?;
        let pieces = skus().map(|sku| Piece { sku, qty: config.pieces_per_sku }).collect();
        // A delivery is never refused, and the books show whether it came.
        ledger.once(FIRST_DELIVERY, Request::Deliver { pieces }).await?.ok();
        Ok(Self { ledger, broken: config.broken })
    }

    /// Sets the items of an order aside: all of them or none.
    pub async fn reserve(&self, key: &str, order_id: &OrderId, items: &[Item]) -> Result<Slip, Trouble> {
        if self.broken.has(order_id, Defect::NoConsumer) {
            return Err(Trouble::Later { who: NAME });
        }
        let pieces = pieces(items);
        self.ledger.call(key, Request::Reserve { order_id: order_id.clone(), pieces }).await
    }

    /// Puts back what is set aside for the order.
    pub async fn release(&self, key: &str, order_id: &OrderId) -> Result<Slip, Trouble> {
        self.ledger.call(key, Request::Release { order_id: order_id.clone() }).await
    }

    /// What the books say: all that this process did, and what others did up to its last call or audit.
    pub fn totals(&self) -> WarehouseTotals {
        self.ledger.inspect(Stock::totals)
    }

    /// Reads the ledger again and says what should not be: a key or an order served twice, a release without a reservation,
    /// shelves that do not hold what the ledger says.
    pub fn audit(&self) -> Result<Vec<String>, Error> {
        let history = self.ledger.history()?;
        let mut findings = doubled_keys(NAME, &history);
        let (reserved, released) = audit_orders(&history, &mut findings);
        let totals = self.totals();
        if (totals.reserved, totals.released) != (reserved, released) {
            findings.push(format!(
                "{NAME}: the books say {} reserved and {} released, the ledger {reserved} and {released}",
                totals.reserved, totals.released
            ));
        }
        if totals.initial + totals.released != totals.left + totals.reserved {
            findings.push(format!(
                "{NAME}: {} initial − {} reserved + {} released is not {} left",
                totals.initial, totals.reserved, totals.released, totals.left
            ));
        }
        Ok(findings)
    }
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Request {
    Deliver { pieces: Vec<Piece> },
    Reserve { order_id: OrderId, pieces: Vec<Piece> },
    Release { order_id: OrderId },
}

/// The books.
struct Stock {
    config: Config,
    shelves: BTreeMap<Sku, u64>,
    reservations: BTreeMap<OrderId, Slip>,
    count: u64,
    initial: u64,
    reserved: u64,
    released: u64,
}

impl Stock {
    fn new(config: Config) -> Self {
        Self {
            config,
            shelves: BTreeMap::new(),
            reservations: BTreeMap::new(),
            count: 0,
            initial: 0,
            reserved: 0,
            released: 0,
        }
    }

    fn totals(&self, calls: Calls) -> WarehouseTotals {
        let delivered = u64::from(!self.shelves.is_empty());
        let calls = Calls { calls: calls.calls - delivered, effects: calls.effects - delivered, ..calls };
        let left = self.shelves.values().sum();
        let Self { initial, reserved, released, .. } = *self;
        WarehouseTotals { initial, reserved, released, left, calls }
    }

    fn check(&self, order_id: &OrderId, pieces: &[Piece]) -> Result<(), String> {
        if pieces.is_empty() {
            return Err("nothing to set aside".to_owned());
        }
        let is_broken = self.config.broken.has(order_id, Defect::UndoFailed);
        if is_broken || self.config.refuses(NAME, order_id, self.config.reservations_refused_percent) {
            return Err("damaged on the shelf".to_owned());
        }
        for Piece { sku, qty } in pieces {
            let left = self.shelves.get(sku).copied().unwrap_or_default();
            if left < *qty {
                return Err(format!("{sku}: {left} left, {qty} wanted"));
            }
        }
        Ok(())
    }

    fn put(&mut self, pieces: &[Piece]) {
        for piece in pieces {
            let shelf = self.shelves.entry(piece.sku.clone()).or_default();
            *shelf = shelf.saturating_add(piece.qty);
        }
    }

    fn take(&mut self, pieces: &[Piece]) {
        for piece in pieces {
            let shelf = self.shelves.entry(piece.sku.clone()).or_default();
            *shelf = shelf.saturating_sub(piece.qty);
        }
    }
}

impl Trade for Stock {
    const NAME: &'static str = NAME;
    type Request = Request;
    type Effect = Slip;

    fn decide(&self, request: &Request) -> Result<Slip, String> {
        match request {
            Request::Deliver { pieces } => Ok(Slip { number: 0, pieces: pieces.clone() }),
            Request::Reserve { order_id, pieces } => {
                self.check(order_id, pieces)?;
                Ok(Slip { number: self.count + 1, pieces: pieces.clone() })
            }
            Request::Release { order_id } => {
                let slip = self.reservations.get(order_id).cloned();
                slip.ok_or_else(|| format!("nothing is set aside for {order_id}"))
            }
        }
    }

    fn apply(&mut self, request: &Request, slip: &Slip) {
        match request {
            Request::Deliver { .. } => {
                self.initial += slip.pieces();
                self.put(&slip.pieces);
            }
            Request::Reserve { order_id, .. } => {
                self.count += 1;
                self.reserved += slip.pieces();
                self.take(&slip.pieces);
                self.reservations.insert(order_id.clone(), slip.clone());
            }
            Request::Release { order_id } => {
                self.released += slip.pieces();
                self.put(&slip.pieces);
                self.reservations.remove(order_id);
            }
        }
    }
}

/// Adds up the lines of one article, so that two lines cannot both be served from its last piece.
fn pieces(items: &[Item]) -> Vec<Piece> {
    let mut pieces: BTreeMap<&Sku, u64> = BTreeMap::new();
    for item in items {
        *pieces.entry(&item.sku).or_default() += u64::from(item.qty);
    }
    pieces.into_iter().map(|(sku, qty)| Piece { sku: sku.clone(), qty }).collect()
}

/// Follows each order through the ledger; returns how many pieces were reserved and released.
fn audit_orders(history: &[AnsweredBy<Stock>], findings: &mut Vec<String>) -> (u64, u64) {
    let mut open: BTreeMap<&OrderId, Vec<&Slip>> = BTreeMap::new();
    let (mut reserved, mut released) = (0, 0);
    for answered in history {
        let Ok(slip) = &answered.outcome else { continue };
        match &answered.request {
            Request::Deliver { .. } => {}
            Request::Reserve { order_id, .. } => {
                reserved += slip.pieces();
                open.entry(order_id).or_default().push(slip);
            }
            Request::Release { order_id } => {
                released += slip.pieces();
                let reservation = open.get_mut(order_id).and_then(Vec::pop);
                if reservation != Some(slip) {
                    findings.push(format!("{NAME}: {order_id} was released without a reservation of it"));
                }
            }
        }
    }
    for (order_id, slips) in open.iter().filter(|(_, slips)| slips.len() > 1) {
        findings.push(format!("{NAME}: {order_id} was reserved {} times", slips.len()));
    }
    (reserved, released)
}
