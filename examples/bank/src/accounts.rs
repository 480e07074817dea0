//! The read model `accounts`: what every account holds, found by owner as well.

use ensue::Projection;
use ensue::runtime::Meta;
use serde::{Deserialize, Serialize};

use crate::account::AccountEvent;

/// The index of accounts by owner.
pub const BY_OWNER: &str = "owner";

/// The read model.
pub struct Accounts;

/// An account as its owner sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AccountRow {
    /// Whose.
    pub owner: String,
    /// In the smallest unit.
    pub balance: i64,
    /// How often an amount was moved, the opening included.
    pub movements: u64,
}

impl Projection for Accounts {
    const NAME: &'static str = "accounts";
    type Event = AccountEvent;
    type Document = AccountRow;

    fn key(&self, event: &AccountEvent) -> Option<String> {
        Some(event.account_id().to_owned())
    }

    fn apply(&self, document: &mut Option<AccountRow>, event: &AccountEvent, _: &Meta) {
        match (document, event) {
            (row, AccountEvent::Opened(opened)) => {
                *row = Some(AccountRow { owner: opened.owner.clone(), balance: opened.amount, movements: 1 });
            }
            (Some(row), AccountEvent::Deposited(deposited)) => row.move_by(deposited.amount),
            (Some(row), AccountEvent::Withdrawn(withdrawn)) => {
                row.move_by(withdrawn.amount.saturating_neg());
            }
            (None, _) => {}
        }
    }

    fn index(&self, row: &AccountRow) -> Vec<(&'static str, String)> {
        vec![(BY_OWNER, row.owner.clone())]
    }
}

impl AccountRow {
    fn move_by(&mut self, amount: i64) {
        self.balance = self.balance.saturating_add(amount);
        self.movements += 1;
    }
}
