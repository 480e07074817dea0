//! The shop, tested from outside: ledgers that are opened, killed, repeated and called by many at once.

mod folder;
mod ledgers;
