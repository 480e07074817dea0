//! The shop: one order lifecycle, written as services that know only events, and again as a saga over the same services.
//!
//! [`events`] and [`commands`] are all that services know of each other. What an order costs, moves and ships happens
//! [`outside`] of the store, as in life: a provider, a warehouse and a carrier with ledgers of their own.

pub mod commands;
mod dice;
pub mod events;
mod generator;
pub mod id;
pub mod money;
pub mod outside;

pub use generator::orders;
pub use id::{CustomerId, OrderId, PaymentId, ReservationId, ShipmentId, Sku};
pub use money::Money;
