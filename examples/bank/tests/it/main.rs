//! The bank, tested from outside: through commands, on a store whose clock moves only when told to.

use std::sync::Arc;
use std::time::Duration;

use ensue::runtime::app::DispatchError;
use ensue::runtime::host::system;
use ensue::runtime::projection::{Load, rebuild, verify};
use ensue::{Aggregates, Running, Store, StoreExt, Version};
use ensue_bank::account::{AccountError, Deposit, OpenAccount, Withdraw};
use ensue_bank::accounts::{Accounts, BY_OWNER};
use ensue_bank::{Account, app, audit, demo};
use ensue_test::{MemoryStore, VirtualClock, host};

const ID: &str = "ACC-7";

struct Bank {
    store: Arc<dyn Store>,
    clock: Arc<VirtualClock>,
    running: Running,
}

impl Bank {
    async fn new() -> Self {
        let (host, clock) = host(1);
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(host.clone()));
        let running = app(Arc::clone(&store)).host(host).start().await.expect("it holds together");
        Self { store, clock, running }
    }

    /// The history of the article, with an hour between the events.
    async fn with_history() -> Self {
        let bank = Self::new().await;
        let open = OpenAccount { account_id: ID.to_owned(), owner: "Ada".to_owned(), amount: 1_000 };
        bank.running.dispatch(open).await.expect("a new account");
        bank.hour();
        bank.withdraw(200).await.expect("there is enough");
        bank.hour();
        let deposit = Deposit { account_id: ID.to_owned(), amount: 100 };
        bank.running.dispatch(deposit).await.expect("an open account");
        bank.hour();
        bank.withdraw(400).await.expect("there is enough");
        bank
    }

    async fn withdraw(&self, amount: i64) -> Result<(), DispatchError<AccountError>> {
        self.running.dispatch(Withdraw { account_id: ID.to_owned(), amount }).await.map(drop)
    }

    fn hour(&self) {
        self.clock.advance(Duration::from_hours(1));
    }

    fn accounts(&self) -> Aggregates<Account> {
        Aggregates::new(Arc::clone(&self.store))
    }
}

#[tokio::test]
async fn the_state_at_every_version_and_time_is_the_balance_of_then() {
    let bank = Bank::with_history().await;
    let entries = audit(&*bank.store, ID).await.expect("readable");
    let mut balances = Vec::new();
    for entry in &entries {
        let by_version = bank.accounts().at_version(ID, entry.version).await.expect("readable");
        let by_time = bank.accounts().at_time(ID, entry.recorded_at).await.expect("readable");
        assert_eq!(by_version.state, by_time.state);
        balances.push(by_version.state.balance());
    }
    assert_eq!(balances, [1_000, 800, 900, 500]);
    let before = entries.first().expect("four events").recorded_at - Duration::from_secs(1);
    let nothing = bank.accounts().at_time(ID, before).await.expect("readable");
    assert_eq!((nothing.version, nothing.state.is_open()), (Version::ZERO, false));
}

#[tokio::test]
async fn an_overdraft_is_refused_with_its_reason_and_leaves_no_trace() {
    let bank = Bank::with_history().await;
    let head = bank.store.head().await.expect("readable");
    match bank.withdraw(501).await {
        Err(DispatchError::Refused(refusal)) => {
            assert_eq!(refusal, AccountError::Overdraft { balance: 500, amount: 501 });
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
    assert_eq!(bank.store.head().await.expect("readable"), head);
    bank.withdraw(500).await.expect("exactly what is there");
}

#[tokio::test]
async fn a_snapshot_saves_reading_the_history_before_it() {
    let bank = Bank::with_history().await;
    let now = bank.accounts().load(ID).await.expect("readable");
    assert_eq!((now.state.balance(), now.version, now.replayed), (500, Version(4), 1));
}

#[tokio::test]
async fn the_audit_says_what_happened_when_and_by_which_command() {
    let bank = Bank::with_history().await;
    let entries = audit(&*bank.store, ID).await.expect("readable");
    let commands: Vec<&str> = entries.iter().map(|entry| entry.command.as_str()).collect();
    assert_eq!(commands, ["OpenAccount", "Withdraw", "Deposit", "Withdraw"]);
    let hours: Vec<i64> = entries
        .windows(2)
        .filter_map(|pair| match pair {
            [before, after] => Some(after.recorded_at.duration_since(before.recorded_at).as_hours()),
            _ => None,
        })
        .collect();
    assert_eq!(hours, [1, 1, 1]);
    let last = entries.last().expect("four events").to_string();
    assert!(last.contains("Withdrawn") && last.ends_with("by Withdraw") && last.contains("−400"), "{last}");
}

#[tokio::test]
async fn the_read_model_equals_a_replay_and_is_rebuilt_where_it_was_damaged() {
    let bank = Bank::with_history().await;
    let head = bank.store.head().await.expect("readable");
    bank.running.wait(head).await.expect("the read model runs");
    let found = bank.running.view::<Accounts>().expect("a valid name");
    let of_ada = found.find(BY_OWNER, "Ada", 10).await.expect("readable");
    assert_eq!(of_ada.iter().map(|(id, row)| (id.as_str(), row.balance)).collect::<Vec<_>>(), [(ID, 500)]);
    bank.running.stop(Duration::from_secs(1)).await.expect("nothing is under way");
    let store = bank.store;
    assert!(verify(Accounts, Arc::clone(&store)).await.expect("readable").is_none());

    damage(&*store).await;
    assert_eq!(verify(Accounts, Arc::clone(&store)).await.expect("readable").missing, [ID]);
    rebuild(Accounts, Arc::clone(&store), system(), Load::Full).await.expect("writable");
    assert!(verify(Accounts, store).await.expect("readable").is_none());
}

/// Loses the row, as a mistake by hand would.
async fn damage(store: &dyn Store) {
    use ensue::core::{Commit, RecordWrite, Space};
    let space = Space::new("view.accounts.1").expect("a valid name");
    let records = vec![RecordWrite::delete(space, ID)];
    store.commit(Commit { records, ..Commit::default() }).await.expect("writable");
}

#[tokio::test]
async fn the_demonstration_shows_the_same_however_often_it_is_run() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(ensue::runtime::host::system()));
    let first = demo(Arc::clone(&store)).await.expect("it runs");
    assert_eq!(serde_json::to_string(&first).expect("plain data"), r#"{"balances":[1000,800,900,500]}"#);
    assert_eq!(first.refusal, AccountError::Overdraft { balance: 500, amount: 501 });
    assert_eq!((first.at_second, first.replayed, first.row.balance), (800, 1, 500));
    let head = store.head().await.expect("readable");
    assert_eq!(demo(Arc::clone(&store)).await.expect("it runs"), first);
    assert_eq!(store.head().await.expect("readable"), head, "nothing happened twice");
    let text = ensue_bank::demo::render(&first);
    assert!(text.contains("1000, 800, 900, 500") && text.contains("refused: 501 is more"), "{text}");
}
