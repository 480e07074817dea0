//! The bank: an account whose balance is nothing but the sum of what happened to it.
//!
//! All amounts are whole numbers of the currency's smallest unit (cents, pence, yen), signed, so that a wrong sign arrives as
//! a refusal and not as a huge number.

pub mod account;
pub mod accounts;
pub mod audit;
pub mod demo;

pub use account::{
    Account, AccountCommand, AccountError, AccountEvent, AccountOpened, Deposit, Deposited, OpenAccount,
    Withdraw, Withdrawn,
};
pub use accounts::Accounts;
pub use audit::audit;
pub use demo::{app, demo, registry};
