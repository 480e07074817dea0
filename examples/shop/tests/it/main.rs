//! The shop, tested from outside: ledgers that are opened, killed, repeated and called by many at once, and orders served
//! in both styles.

mod demo;
mod folder;
mod ledgers;
mod served;
mod several;
mod shop;
