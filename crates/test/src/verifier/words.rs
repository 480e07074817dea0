//! What programs are made of as the runtime sees it: signals, the account, commands. Written by hand, because the kit
//! does not use the derives.

use ensue_core::event::not_in_set;
use ensue_core::{Aggregate, Command, Draft, Emits, Envelope, Error, Event, EventInfo, EventSet};
use ensue_runtime::Projection;
use ensue_runtime::context::Meta;
use serde::{Deserialize, Serialize};

use super::program::KINDS;

/// Something happened; there is a type of them for each kind.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Signal<const KIND: usize> {
    pub(super) key: String,
    /// Where it comes from: the act, and the reactions on the way.
    pub(super) path: String,
    /// What it moves, if it is of the account.
    pub(super) cents: i64,
}

const NAMES: [&str; KINDS] = ["Signal0", "Signal1", "Signal2", "Signal3", "Signal4", "Signal5"];
const TOPICS: [&str; KINDS] = ["S0", "S1", "S2", "S3", "S4", "S5"];

impl<const KIND: usize> Event for Signal<KIND> {
    #[expect(clippy::indexing_slicing, reason = "checked when it is compiled")]
    const INFO: EventInfo =
        EventInfo { event_type: NAMES[KIND], version: 1, topic: TOPICS[KIND], key_field: "key" };

    fn key(&self) -> String {
        self.key.clone()
    }
}

/// Calls a function with the kind as a constant.
macro_rules! of_kind {
    ($kind:expr, $($function:tt)::+ ($($argument:expr),*)) => {
        match $kind {
            0 => $($function)::+::<0>($($argument),*),
            1 => $($function)::+::<1>($($argument),*),
            2 => $($function)::+::<2>($($argument),*),
            3 => $($function)::+::<3>($($argument),*),
            4 => $($function)::+::<4>($($argument),*),
            _ => $($function)::+::<5>($($argument),*),
        }
    };
}
pub(super) use of_kind;

/// A signal of any kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct AnySignal {
    pub(super) kind: usize,
    pub(super) key: String,
    pub(super) path: String,
}

impl AnySignal {
    pub(super) fn of_draft(&self) -> Result<Draft, Error> {
        fn draft<const KIND: usize>(signal: &AnySignal) -> Result<Draft, Error> {
            Draft::of(&Signal::<KIND> { key: signal.key.clone(), path: signal.path.clone(), cents: 0 })
        }
        of_kind!(self.kind, draft(self))
    }
}

fn infos() -> Vec<EventInfo> {
    fn info<const KIND: usize>() -> EventInfo {
        Signal::<KIND>::INFO
    }
    (0..KINDS).map(|kind| of_kind!(kind, info())).collect()
}

impl EventSet for AnySignal {
    fn types() -> Vec<EventInfo> {
        infos()
    }

    fn decode(envelope: &Envelope) -> Result<Self, Error> {
        let kind = NAMES.iter().position(|name| *name == envelope.event_type.as_str());
        let kind = kind.ok_or_else(|| not_in_set(envelope, &infos()))?;
        let signal: Signal<0> = ensue_core::event::decode_body(envelope)?;
        Ok(Self { kind, key: signal.key, path: signal.path })
    }

    fn draft(&self) -> Result<Draft, Error> {
        self.of_draft()
    }
}

/// Signals that a handler causes.
pub(super) struct Signals(pub(super) Vec<AnySignal>);

impl Emits for Signals {
    fn types() -> Vec<EventInfo> {
        infos()
    }

    fn emit(self, out: &mut Vec<Draft>) -> Result<(), Error> {
        self.0.iter().try_for_each(|signal| {
            out.push(signal.of_draft()?);
            Ok(())
        })
    }
}

/// The aggregate: a balance that never falls below zero. Its events are signals of kind 0; those that others send
/// into its stream move nothing.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub(super) struct Account {
    pub(super) balance: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Move {
    pub(super) key: String,
    pub(super) path: String,
    pub(super) cents: i64,
}

/// There is not enough left.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Overdrawn;

impl std::fmt::Display for Overdrawn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("there is not enough left")
    }
}

impl Command for Move {
    const TYPE: &'static str = "Move";
    type Reply = ();
    type Failure = Overdrawn;

    fn key(&self) -> String {
        self.key.clone()
    }
}

impl Aggregate for Account {
    type Event = Signal<0>;
    type Command = Move;
    type Error = Overdrawn;
    const TOPIC: &'static str = TOPICS[0];
    const SNAPSHOT_EVERY: u64 = 2;

    fn decide(&self, command: Move) -> Result<Vec<Signal<0>>, Overdrawn> {
        let Move { key, path, cents } = command;
        if self.balance + cents < 0 { Err(Overdrawn) } else { Ok(vec![Signal { key, path, cents }]) }
    }

    fn evolve(&mut self, event: &Signal<0>) {
        self.balance += event.cents;
    }
}

/// A command of a saga: `UNDO` tells those that do from those that undo.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Order<const UNDO: bool> {
    pub(super) saga: usize,
    pub(super) key: String,
    pub(super) step: usize,
}

pub(super) type Do = Order<false>;
pub(super) type Undo = Order<true>;

/// A command was refused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct No;

impl<const UNDO: bool> Command for Order<UNDO> {
    const TYPE: &'static str = if UNDO { "Undo" } else { "Do" };
    type Reply = ();
    type Failure = No;

    /// One instance, one key: its commands are handled in order.
    fn key(&self) -> String {
        instance(self.saga, &self.key)
    }
}

/// How an instance of a saga is called, in keys and in the ledger.
pub(super) fn instance(saga: usize, key: &str) -> String {
    format!("saga{saga}.{key}")
}

/// The read model: what happened under a key, in order.
pub(super) struct Seen;

impl Projection for Seen {
    const NAME: &'static str = "seen";
    type Event = AnySignal;
    type Document = Vec<String>;

    fn key(&self, event: &AnySignal) -> Option<String> {
        Some(event.key.clone())
    }

    fn apply(&self, document: &mut Option<Vec<String>>, event: &AnySignal, _: &Meta) {
        document.get_or_insert_default().push(event.path.clone());
    }
}
