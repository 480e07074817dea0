//! The derives of Ensue: `Event`, `Command` and `Emits`.
//!
//! A derive adds trait impls and never rewrites what it stands on; everything it writes can be written by hand. Names
//! are checked here, so that a wrong one is a compiler error and not a failed append.
//!
//! Invariants: no dependency on the other crates of Ensue. Generated code names them by path: `::ensue::core` unless
//! `crate = path` says otherwise.

use proc_macro::TokenStream;
use syn::{Data, DeriveInput, Error, parse_macro_input};

mod attribute;
mod command;
mod emits;
mod event;
mod field;
mod name;
mod upcast;
mod variant;

/// Implements `Event` for a struct, or `EventSet` for an enum of events.
///
/// On a struct with named fields:
///
/// ```
/// # use {ensue_core::Event as _, ensue_macros::Event, serde::{Deserialize, Serialize}};
/// # mod ensue { pub use ensue_core as core; }
/// #[derive(Event, Serialize, Deserialize)]
/// # #[event(crate = ensue::core)]
/// #[event(name = "OrderPlaced", version = 2, topic = "Order", key = order_id, tags(customer_id))]
/// struct OrderPlaced { order_id: String, customer_id: u64, total_cents: u64 }
///
/// let placed = OrderPlaced { order_id: "ORD-1".into(), customer_id: 7, total_cents: 5998 };
/// assert_eq!(placed.key(), "ORD-1");
/// assert_eq!(placed.tags(), [("customer_id", "7".to_owned())]);
/// ```
///
/// | setting | meaning | default |
/// |---|---|---|
/// | `topic = "Order"` | the category of its streams | required |
/// | `key = field` | the field that holds the business id, turned into text with `ToString` | required |
/// | `name = "…"` | the event type; it outlives renamed Rust types | the name of the struct |
/// | `version = 2` | the schema version of the body, from 1 upward | 1 |
/// | `upcast(1 = path, …)` | `fn(&mut event::Body)` for each older version: makes of its body one of the next version | older bodies fit as they are |
/// | `tags(a, b)` | fields by which it can be found; the tag is named as the field is in JSON, `tags(name = field)` names it otherwise | none |
/// | `validate = path` | `fn(&Self) -> Result<(), String>` with the rules between fields | no rules |
/// | `crate = path` | where `ensue-core` is | `::ensue::core` |
///
/// On an enum each variant holds one event. The enum becomes an `EventSet`, with `From` for each event. A variant
/// marked `#[event(unknown)]` that holds an `Unknown` takes every other type; without it another type is an error.
///
/// ```
/// # use {ensue_core::{EventSet as _, Unknown}, ensue_macros::Event, serde::{Deserialize, Serialize}};
/// # #[derive(Event, Serialize, Deserialize)]
/// # #[event(crate = ensue_core, topic = "Order", key = order_id)]
/// # struct OrderPlaced { order_id: String }
/// #[derive(Event)]
/// # #[event(crate = ensue_core)]
/// enum OrderEvent { Placed(OrderPlaced), #[event(unknown)] Other(Unknown) }
///
/// let event: OrderEvent = OrderPlaced { order_id: "ORD-1".into() }.into();
/// assert_eq!(event.draft()?.stream.to_string(), "Order/ORD-1");
/// # Ok::<(), ensue_core::Error>(())
/// ```
#[proc_macro_derive(Event, attributes(event))]
pub fn derive_event(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    let expanded = match &input.data {
        Data::Struct(_) => event::derive(&input),
        Data::Enum(_) => event::derive_set(&input),
        Data::Union(_) => Err(Error::new_spanned(&input.ident, "a union cannot be an event: use a struct")),
    };
    expanded.unwrap_or_else(Error::into_compile_error).into()
}

/// Implements `Command` for a struct, or `CommandSet` for an enum of commands.
///
/// ```
/// # use {ensue_core::Command as _, ensue_macros::{Command, Event}, serde::{Deserialize, Serialize}};
/// # #[derive(Event, Serialize, Deserialize)]
/// # #[event(crate = ensue_core, topic = "Payment", key = order_id)]
/// # struct PaymentCompleted { order_id: String }
/// # #[derive(Event, Serialize, Deserialize)]
/// # #[event(crate = ensue_core, topic = "Payment", key = order_id)]
/// # struct PaymentFailed { order_id: String }
/// #[derive(Command, Serialize, Deserialize)]
/// # #[command(crate = ensue_core)]
/// #[command(key = order_id, reply = PaymentCompleted, failure = PaymentFailed, publish)]
/// struct ProcessPayment { order_id: String, amount_cents: u64 }
///
/// let answer = Ok(PaymentCompleted { order_id: "ORD-1".into() });
/// let events = ProcessPayment::published(&answer)?;
/// assert_eq!(events[0].event_type.as_str(), "PaymentCompleted");
/// # Ok::<(), ensue_core::Error>(())
/// ```
///
/// | setting | meaning | default |
/// |---|---|---|
/// | `key = field` | the field that holds the business id, turned into text with `ToString` | required |
/// | `name = "…"` | the command type | the name of the struct |
/// | `reply = Type` | the answer when it was done | `()` |
/// | `failure = Type` | the answer when it was refused; a refusal with nothing to say is `()`, which serialises | `()` |
/// | `publish` | the answer is an event, recorded in the commit that settles the command; reply and failure are events | not published |
/// | `crate = path` | where `ensue-core` is | `::ensue::core` |
///
/// On an enum each variant holds one command. The enum becomes a `CommandSet`, with `From` for each command.
#[proc_macro_derive(Command, attributes(command))]
pub fn derive_command(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    let expanded = match &input.data {
        Data::Struct(_) => command::derive(&input),
        Data::Enum(_) => command::derive_set(&input),
        Data::Union(_) => Err(Error::new_spanned(&input.ident, "a union cannot be a command: use a struct")),
    };
    expanded.unwrap_or_else(Error::into_compile_error).into()
}

/// Implements `Emits` for an enum: each variant holds one value that emits (an event, `Option`, `Vec`, a tuple), or
/// nothing and then emits nothing.
///
/// ```
/// # use {ensue_core::Emits as _, ensue_macros::{Emits, Event}, serde::{Deserialize, Serialize}};
/// # #[derive(Event, Serialize, Deserialize)]
/// # #[event(crate = ensue_core, topic = "Payment", key = order_id)]
/// # struct PaymentCompleted { order_id: String }
/// #[derive(Emits)]
/// # #[emits(crate = ensue_core)]
/// enum PaymentOutcome { Completed(PaymentCompleted), AlreadyPaid }
///
/// let mut drafts = Vec::new();
/// PaymentOutcome::AlreadyPaid.emit(&mut drafts)?;
/// assert!(drafts.is_empty());
/// # Ok::<(), ensue_core::Error>(())
/// ```
#[proc_macro_derive(Emits, attributes(emits))]
pub fn derive_emits(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    emits::derive(&input).unwrap_or_else(Error::into_compile_error).into()
}
