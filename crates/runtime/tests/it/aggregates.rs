//! Aggregates: decisions under contention, snapshots, and how things stood before.

use std::fmt;
use std::time::Duration;

use ensue_core::{Aggregate, Clock, Code, Kind, Position, Version};
use ensue_macros::{Command, Event};
use ensue_runtime::app::DispatchError;
use ensue_runtime::{Aggregates, App};
use ensue_test::Harness;
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize, Clone, Debug)]
#[event(crate = ensue_core, topic = "Account", key = account)]
struct Deposited {
    account: String,
    cents: u64,
}

#[derive(Event, Serialize, Deserialize, Clone, Debug)]
#[event(crate = ensue_core, topic = "Account", key = account)]
struct Withdrawn {
    account: String,
    cents: u64,
}

#[derive(Event)]
#[event(crate = ensue_core)]
enum AccountEvent {
    Deposited(Deposited),
    Withdrawn(Withdrawn),
}

#[derive(Command, Serialize, Deserialize, Clone)]
#[command(crate = ensue_core, key = account, failure = Overdrawn)]
struct Deposit {
    account: String,
    cents: u64,
}

#[derive(Command, Serialize, Deserialize, Clone)]
#[command(crate = ensue_core, key = account, failure = Overdrawn)]
struct Withdraw {
    account: String,
    cents: u64,
}

#[derive(Command)]
#[command(crate = ensue_core)]
enum AccountCommand {
    Deposit(Deposit),
    Withdraw(Withdraw),
}

#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
struct Overdrawn {
    balance: u64,
}

impl fmt::Display for Overdrawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "only {} cents are left", self.balance)
    }
}

macro_rules! account {
    ($account:ident, $shape:literal) => {
        /// An account, whose state is kept every third event.
        #[derive(Default, Clone, Serialize, Deserialize, Debug)]
        struct $account {
            balance: u64,
        }

        impl Aggregate for $account {
            type Event = AccountEvent;
            type Command = AccountCommand;
            type Error = Overdrawn;
            const TOPIC: &'static str = "Account";
            const SNAPSHOT_EVERY: u64 = 3;
            const SNAPSHOT_VERSION: u32 = $shape;

            fn decide(&self, command: AccountCommand) -> Result<Vec<AccountEvent>, Overdrawn> {
                match command {
                    AccountCommand::Deposit(Deposit { account, cents }) => {
                        Ok(vec![Deposited { account, cents }.into()])
                    }
                    AccountCommand::Withdraw(Withdraw { account, cents }) if cents <= self.balance => {
                        Ok(vec![Withdrawn { account, cents }.into()])
                    }
                    AccountCommand::Withdraw(_) => Err(Overdrawn { balance: self.balance }),
                }
            }

            fn evolve(&mut self, event: &AccountEvent) {
                match event {
                    AccountEvent::Deposited(deposited) => self.balance += deposited.cents,
                    AccountEvent::Withdrawn(withdrawn) => self.balance -= withdrawn.cents,
                }
            }
        }
    };
}

account!(Account, 1);
account!(Reshaped, 2);

fn bank() -> Harness {
    Harness::new(|app: App| app.aggregate::<Account>())
}

fn deposit(cents: u64) -> Deposit {
    Deposit { account: "ACC-1".into(), cents }
}

fn withdraw(cents: u64) -> Withdraw {
    Withdraw { account: "ACC-1".into(), cents }
}

fn accounts<A: Aggregate>(bank: &Harness) -> Aggregates<A> {
    Aggregates::new(bank.store().clone())
}

#[tokio::test]
async fn a_refusal_is_typed_and_leaves_nothing() {
    let mut bank = bank();
    bank.dispatch(deposit(100)).await.expect("always taken");
    let refused = bank.dispatch(withdraw(101)).await;
    let Err(DispatchError::Refused(failure)) = refused else { panic!("{refused:?}") };
    assert_eq!(failure, Overdrawn { balance: 100 });
    assert_eq!(bank.events().await, ["Deposited"]);
}

#[tokio::test]
async fn racing_commands_are_decided_again_on_what_the_others_did() {
    for seed in 0..10 {
        let mut bank = bank().reorder_across_keys(seed);
        bank.dispatch(deposit(100)).await.expect("always taken");
        let running = bank.running().await;
        let race = (0..6).map(|_| running.dispatch(withdraw(30)).into_future());
        let answers = futures_util::future::join_all(race).await;
        let taken = answers.iter().filter(|answer| answer.is_ok()).count();
        let refused =
            answers.iter().filter(|answer| matches!(answer, Err(DispatchError::Refused(_)))).count();
        assert_eq!((taken, refused), (3, 3), "seed {seed}: {answers:?}");
        assert_eq!(accounts::<Account>(&bank).load("ACC-1").await.expect("it loads").state.balance, 10);
    }
}

#[tokio::test]
async fn a_snapshot_saves_reading_and_one_of_another_shape_is_ignored() {
    let mut bank = bank();
    for _ in 0..7 {
        bank.dispatch(deposit(10)).await.expect("always taken");
    }
    let loaded = accounts::<Account>(&bank).load("ACC-1").await.expect("it loads");
    assert_eq!((loaded.state.balance, loaded.version, loaded.replayed), (70, Version(7), 1));
    let reshaped = accounts::<Reshaped>(&bank).load("ACC-1").await.expect("it loads");
    assert_eq!((reshaped.state.balance, reshaped.replayed), (70, 7));
}

#[tokio::test]
async fn an_aggregate_can_be_seen_as_it_was() {
    let mut bank = bank();
    let mut times = Vec::new();
    let mut positions = Vec::new();
    for cents in [1_000, 200, 30] {
        let receipt = bank.dispatch(deposit(cents)).await.expect("always taken");
        times.push(bank.clock().now());
        positions.push(receipt.position);
        bank.advance(Duration::from_mins(1)).await;
    }
    let accounts = accounts::<Account>(&bank);
    let balances = [1_000, 1_200, 1_230];
    for (index, balance) in balances.into_iter().enumerate() {
        let version = Version(index as u64 + 1);
        let at_version = accounts.at_version("ACC-1", version).await.expect("it loads");
        let position = positions.get(index).copied().expect("three positions");
        let at_position = accounts.at_position("ACC-1", position).await.expect("it loads");
        let time = times.get(index).copied().expect("three times");
        let at_time = accounts.at_time("ACC-1", time).await.expect("it loads");
        let seen = [at_version, at_position, at_time].map(|loaded| (loaded.state.balance, loaded.version));
        assert_eq!(seen, [(balance, version); 3]);
    }
    let before = accounts.at_position("ACC-1", Position::ZERO).await.expect("it loads");
    assert_eq!((before.state.balance, before.version), (0, Version::ZERO));
}

#[tokio::test]
async fn a_key_that_breaks_the_rule_of_names_is_an_error_and_not_a_panic() {
    let mut bank = bank();
    let bad = Deposit { account: "no/slash".into(), cents: 1 };
    let Err(DispatchError::Failed(error)) = bank.dispatch(bad).await else { panic!("it must not be taken") };
    assert_eq!((error.code(), error.kind()), (Code::INVALID_NAME, Kind::Invalid));
}
