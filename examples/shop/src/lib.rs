//! The shop: one order lifecycle, written as services that know only events, and again as a saga over the same services.
//!
//! [`events`] and [`commands`] are all that services know of each other. What an order costs, moves and ships happens
//! [`outside`] of the store, as in life: a provider, a warehouse and a carrier with ledgers of their own.
//!
//! Invariant: no service names another one; [`style`] puts them together.

pub mod analytics;
pub mod commands;
pub mod demo;
mod dice;
pub mod events;
pub mod fraud;
pub mod fulfilment;
mod generator;
pub mod id;
pub mod inventory;
pub mod linked;
pub mod money;
pub mod notification;
pub mod order;
pub mod outside;
pub mod payment;
pub mod shipping;
pub mod style;

pub use generator::orders;
pub use id::{CustomerId, OrderId, PaymentId, ReservationId, ShipmentId, Sku};
pub use money::Money;
pub use order::{OrdersView, orders_of_customer};
pub use style::{Style, choreography, registry, saga};
