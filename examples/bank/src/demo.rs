//! The demonstration: an account through its whole history, and then backwards through time.
//!
//! Commands carry ids of their own, so the demonstration can be run again on the same store: nothing happens twice.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use ensue::core::EventId;
use ensue::runtime::app::DispatchError;
use ensue::runtime::door::Registry;
use ensue::runtime::host::system;
use ensue::runtime::projection::{Difference, Load, rebuild};
use ensue::{Aggregates, App, Code, Command, Error, Running, Store, StoreExt, Version};
use serde::Serialize;

use crate::account::{
    Account, AccountError, AccountOpened, Deposit, Deposited, OpenAccount, Withdraw, Withdrawn,
};
use crate::accounts::{AccountRow, Accounts};
use crate::audit::{Entry, audit};

/// The account that is shown.
pub const ACCOUNT_ID: &str = "ACC-1";
const OWNER: &str = "Ada";
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// What the demonstration found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Report {
    /// After each event.
    pub balances: Vec<i64>,
    /// What was said to the overdraft.
    #[serde(skip)]
    pub refusal: AccountError,
    /// Events that had to be read to decide about the overdraft; the rest came from a snapshot.
    #[serde(skip)]
    pub replayed: u64,
    /// The balance at the moment of the second event, read by time.
    #[serde(skip)]
    pub at_second: i64,
    /// What happened, when, and by which command.
    #[serde(skip)]
    pub audit: Vec<Entry>,
    /// The row of the account, after the read model was built anew.
    #[serde(skip)]
    pub row: AccountRow,
}

/// The bank on this store.
pub fn app(store: Arc<dyn Store>) -> App {
    App::new("bank").store(store).service("accounts").aggregate::<Account>().project(Accounts)
}

/// Every event of the bank, with the rules that are checked at the door.
pub fn registry() -> Registry {
    Registry::default().event::<AccountOpened>().event::<Deposited>().event::<Withdrawn>()
}

/// Opens with 1000, takes 200, puts in 100, takes 400; is refused an overdraft; looks back; builds the read model anew.
///
/// An error with `E0702` means that one of these did not come out as it must.
pub async fn demo(store: Arc<dyn Store>) -> Result<Report, Error> {
    let running = app(Arc::clone(&store)).start().await?;
    let account_id = || ACCOUNT_ID.to_owned();
    send(&running, 1, OpenAccount { account_id: account_id(), owner: OWNER.to_owned(), amount: 1_000 })
        .await?;
    send(&running, 2, Withdraw { account_id: account_id(), amount: 200 }).await?;
    send(&running, 3, Deposit { account_id: account_id(), amount: 100 }).await?;
    send(&running, 4, Withdraw { account_id: account_id(), amount: 400 }).await?;
    let too_much = running.dispatch(Withdraw { account_id: account_id(), amount: 501 }).await;
    let refusal = match too_much {
        Err(DispatchError::Refused(refusal)) => refusal,
        Err(DispatchError::Failed(error)) => return Err(error),
        Ok(_) => return Err(wrong("an overdraft was granted")),
    };
    running.wait(store.head().await?).await?;
    running.stop(STOP_WITHIN).await?;
    look_back(store, refusal).await
}

/// Sends a command under an id that belongs to it.
async fn send<C>(running: &Running, number: u32, command: C) -> Result<(), Error>
where
    C: Command<Failure = AccountError>,
{
    let id = EventId::new(format!("bank-demo-{number}"))?;
    match running.dispatch(command).id(id).await {
        Ok(_) => Ok(()),
        Err(DispatchError::Failed(error)) => Err(error),
        Err(DispatchError::Refused(refusal)) => Err(wrong(&format!("{} was refused: {refusal}", C::TYPE))),
    }
}

async fn look_back(store: Arc<dyn Store>, refusal: AccountError) -> Result<Report, Error> {
    let accounts = Aggregates::<Account>::new(Arc::clone(&store));
    let audit = audit(&*store, ACCOUNT_ID).await?;
    let mut balances = Vec::new();
    for entry in &audit {
        let then = accounts.at_version(ACCOUNT_ID, entry.version).await?;
        balances.push(then.state.balance());
    }
    let second = audit.iter().find(|entry| entry.version == Version(2));
    let second = second.ok_or_else(|| wrong("the history has no second event"))?;
    let at_second = accounts.at_time(ACCOUNT_ID, second.recorded_at).await?.state.balance();
    let replayed = accounts.load(ACCOUNT_ID).await?.replayed;
    let difference = rebuild(Accounts, Arc::clone(&store), system(), Load::Full).await?.difference;
    if !difference.as_ref().is_some_and(Difference::is_none) {
        return Err(wrong(&format!("the read model differs from the log: {difference:?}")));
    }
    let rows = ensue::runtime::projection::collection::<Accounts>(store)?;
    let row = rows.get(ACCOUNT_ID).await?.ok_or_else(|| wrong("the read model lacks the account"))?;
    Ok(Report { balances, refusal, replayed, at_second, audit, row })
}

fn wrong(what: &str) -> Error {
    Error::new(Code::CHECK_FAILED, format!("account {ACCOUNT_ID}: {what}"))
        .with_fix("use an empty folder: `ensue demo --app bank --data DIR`")
}

/// The report for people.
pub fn render(report: &Report) -> String {
    let mut text = format!("bank · account {ACCOUNT_ID} of {}\n\n", report.row.owner);
    for entry in &report.audit {
        writeln!(text, "{entry}").expect("a String takes everything");
    }
    let balances: Vec<String> = report.balances.iter().map(ToString::to_string).collect();
    let lines = [
        ("balances", balances.join(", ")),
        ("overdraft", format!("refused: {}", report.refusal)),
        ("back then", format!("{} at the moment of the second event", report.at_second)),
        ("snapshot", format!("the state now needs {} of {} events", report.replayed, report.audit.len())),
        ("read model", format!("rebuilt from the log, no difference: {}", report.row.balance)),
    ];
    text.push('\n');
    for (label, line) in lines {
        writeln!(text, "{label:<11} {line}").expect("a String takes everything");
    }
    text
}
