//! Commands: imperative, one handler, answered with a reply or a typed failure.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::event::{Draft, EventInfo};

/// What is known of a command type without having one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommandInfo {
    /// The name, such as `ProcessPayment`.
    pub command_type: &'static str,
    /// The field in `data` that holds the key; empty where it is computed.
    pub key_field: &'static str,
    /// Events that the answer publishes.
    pub publishes: Vec<EventInfo>,
}

/// An order to do something. Usually derived:
/// `#[derive(Command)]` with `#[command(key = order_id, reply = PaymentCompleted, failure = PaymentFailed, publish)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a command",
    note = "put `#[derive(Command, Serialize, Deserialize)]` on the struct"
)]
pub trait Command: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name, such as `ProcessPayment`.
    const TYPE: &'static str;
    /// The field in `data` that holds the key; empty where it is computed.
    const KEY_FIELD: &'static str = "";
    /// The answer when it was done.
    type Reply: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// The answer when it was refused.
    type Failure: Serialize + DeserializeOwned + Send + Sync + 'static;

    /// The business id; commands of one key are handled in order.
    fn key(&self) -> String;

    /// Events that the answer itself is (`publish` in the derive): recorded in the commit that settles the command.
    fn publishes() -> Vec<EventInfo> {
        Vec::new()
    }

    /// The events of this answer.
    fn published(_answer: &Result<Self::Reply, Self::Failure>) -> Result<Vec<Draft>, Error> {
        Ok(Vec::new())
    }

    /// What is known of the type.
    fn info() -> CommandInfo {
        CommandInfo { command_type: Self::TYPE, key_field: Self::KEY_FIELD, publishes: Self::publishes() }
    }
}

/// The commands that one aggregate takes. Derived on an enum whose variants each hold a command; a single command is
/// a set too.
pub trait CommandSet: Sized + Send + 'static {
    /// The types in the set.
    fn types() -> Vec<CommandInfo>;

    /// Decodes the body of a command of that type. A type outside the set is `E0104`, a bad body `E0105`.
    fn decode(command_type: &str, data: &[u8]) -> Result<Self, Error>;

    /// The key of the command.
    fn key(&self) -> String;
}

impl<C: Command> CommandSet for C {
    fn types() -> Vec<CommandInfo> {
        vec![C::info()]
    }

    fn decode(command_type: &str, data: &[u8]) -> Result<Self, Error> {
        if command_type == C::TYPE {
            decode_command(command_type, data)
        } else {
            Err(unknown_command(command_type))
        }
    }

    fn key(&self) -> String {
        Command::key(self)
    }
}

/// Decodes the body of a command; the error names type and place.
pub fn decode_command<C: DeserializeOwned>(command_type: &str, data: &[u8]) -> Result<C, Error> {
    serde_json::from_slice(data).map_err(|cause| {
        Error::new(crate::Code::INVALID_BODY, format!("command {command_type} does not decode: {cause}"))
    })
}

/// The error of a [`CommandSet`] that is handed a type outside of it.
pub fn unknown_command(command_type: &str) -> Error {
    Error::new(crate::Code::UNKNOWN_TYPE, format!("command {command_type} is not taken here"))
}
