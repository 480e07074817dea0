//! The audit: what happened to an account, when, and which command brought it about. Read from the log and nowhere else.

use std::fmt;

use ensue::core::StreamName;
use ensue::{Aggregate, Error, Position, Read, Store, StoreExt, Timestamp, Version};

use crate::account::{Account, AccountEvent};

/// Extension attribute: which handler caused the event.
const HANDLER: &str = "handler";
/// Handlers of commands are named so, with the command behind it.
const COMMAND_HANDLER: &str = "handle.";

/// One line of the audit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Place in the whole log.
    pub position: Position,
    /// Place in the history of the account.
    pub version: Version,
    /// When the store recorded it.
    pub recorded_at: Timestamp,
    /// What happened.
    pub event: AccountEvent,
    /// The type of the command behind it; empty for an event that came in from outside.
    pub command: String,
    /// What is in the account after it.
    pub balance: i64,
}

/// Everything that ever happened to the account, oldest first.
pub async fn audit(store: &dyn Store, account_id: &str) -> Result<Vec<Entry>, Error> {
    let stream = StreamName::new(Account::TOPIC, account_id)?;
    let mut account = Account::default();
    let mut entries = Vec::new();
    for recorded in store.collect(Read::stream(stream)).await? {
        let event: AccountEvent = recorded.decode()?;
        account.evolve(&event);
        let handler = recorded.envelope.extensions.iter().find(|(name, _)| name == HANDLER);
        let command = handler.and_then(|(_, handler)| handler.strip_prefix(COMMAND_HANDLER));
        entries.push(Entry {
            position: recorded.position,
            version: recorded.version,
            recorded_at: recorded.recorded_at,
            event,
            command: command.unwrap_or_default().to_owned(),
            balance: account.balance(),
        });
    }
    Ok(entries)
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, recorded_at, event, command, balance, .. } = self;
        let (what, sign, amount) = match event {
            AccountEvent::Opened(opened) => ("AccountOpened", "+", opened.amount),
            AccountEvent::Deposited(deposited) => ("Deposited", "+", deposited.amount),
            AccountEvent::Withdrawn(withdrawn) => ("Withdrawn", "−", withdrawn.amount),
        };
        let moved = format!("{sign}{amount}");
        write!(f, "{version:>3}  {recorded_at:.3}  {what:<14}{moved:>7}  {balance:>7}  by {command}")
    }
}
