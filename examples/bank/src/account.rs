//! The account: what can be asked of it, what happens to it, and why it refuses.
//!
//! Invariants: only an open account takes amounts, every amount is positive, the balance is never negative.

use std::fmt;

use ensue::{Aggregate, Command, Event};
use serde::{Deserialize, Serialize};

/// The state of one account, folded from its stream.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Account {
    open: bool,
    balance: i64,
}

impl Account {
    /// Whether it was opened.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// What is in it, in the smallest unit; never negative.
    pub fn balance(&self) -> i64 {
        self.balance
    }
}

/// Open an account with a first amount, which may be zero.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Command)]
#[command(key = account_id, failure = AccountError)]
pub struct OpenAccount {
    /// Which account.
    pub account_id: String,
    /// Whose.
    pub owner: String,
    /// In the smallest unit, at least zero.
    pub amount: i64,
}

/// Put an amount in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Command)]
#[command(key = account_id, failure = AccountError)]
pub struct Deposit {
    /// Which account.
    pub account_id: String,
    /// In the smallest unit, more than zero.
    pub amount: i64,
}

/// Take an amount out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Command)]
#[command(key = account_id, failure = AccountError)]
pub struct Withdraw {
    /// Which account.
    pub account_id: String,
    /// In the smallest unit, more than zero and at most the balance.
    pub amount: i64,
}

/// All that can be asked of an account.
#[derive(Clone, PartialEq, Eq, Debug, Command)]
pub enum AccountCommand {
    /// See [`OpenAccount`].
    Open(OpenAccount),
    /// See [`Deposit`].
    Deposit(Deposit),
    /// See [`Withdraw`].
    Withdraw(Withdraw),
}

/// The account was opened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Event)]
#[event(topic = "Account", key = account_id, tags(owner))]
pub struct AccountOpened {
    /// Which account.
    pub account_id: String,
    /// Whose.
    pub owner: String,
    /// The first balance, in the smallest unit.
    pub amount: i64,
}

/// An amount came in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Event)]
#[event(topic = "Account", key = account_id)]
pub struct Deposited {
    /// Which account.
    pub account_id: String,
    /// In the smallest unit.
    pub amount: i64,
}

/// An amount went out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Event)]
#[event(topic = "Account", key = account_id)]
pub struct Withdrawn {
    /// Which account.
    pub account_id: String,
    /// In the smallest unit.
    pub amount: i64,
}

/// All that can happen to an account.
#[derive(Clone, PartialEq, Eq, Debug, Event)]
pub enum AccountEvent {
    /// See [`AccountOpened`].
    Opened(AccountOpened),
    /// See [`Deposited`].
    Deposited(Deposited),
    /// See [`Withdrawn`].
    Withdrawn(Withdrawn),
}

impl AccountEvent {
    /// Which account it is about.
    pub fn account_id(&self) -> &str {
        match self {
            Self::Opened(event) => &event.account_id,
            Self::Deposited(event) => &event.account_id,
            Self::Withdrawn(event) => &event.account_id,
        }
    }
}

/// Why an account refuses.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "refused", rename_all = "snake_case")]
pub enum AccountError {
    /// Nobody has opened it.
    NotOpen,
    /// Somebody has opened it before.
    AlreadyOpen,
    /// The amount is zero or negative; an account may be opened with zero.
    NotAnAmount {
        /// What was asked for.
        amount: i64,
    },
    /// There is less in it than was asked for.
    Overdraft {
        /// What is in it.
        balance: i64,
        /// What was asked for.
        amount: i64,
    },
    /// The balance would no longer be a number that fits.
    TooMuch {
        /// What is in it.
        balance: i64,
        /// What was to come in.
        amount: i64,
    },
}

impl fmt::Display for AccountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOpen => f.write_str("the account is not open"),
            Self::AlreadyOpen => f.write_str("the account is open already"),
            Self::NotAnAmount { amount } => write!(f, "{amount} is not an amount that can be moved"),
            Self::Overdraft { balance, amount } => {
                write!(f, "{amount} is more than the {balance} in the account")
            }
            Self::TooMuch { balance, amount } => {
                write!(f, "{amount} on top of {balance} is more than an account holds")
            }
        }
    }
}

impl std::error::Error for AccountError {}

impl Aggregate for Account {
    type Event = AccountEvent;
    type Command = AccountCommand;
    type Error = AccountError;

    const TOPIC: &'static str = "Account";
    /// Small, so that a short history already shows a snapshot at work; a real account would keep one every hundred events.
    const SNAPSHOT_EVERY: u64 = 3;

    fn decide(&self, command: AccountCommand) -> Result<Vec<AccountEvent>, AccountError> {
        let event: AccountEvent = match command {
            AccountCommand::Open(command) => self.open(command)?.into(),
            AccountCommand::Deposit(command) => self.deposit(command)?.into(),
            AccountCommand::Withdraw(command) => self.withdraw(command)?.into(),
        };
        Ok(vec![event])
    }

    fn evolve(&mut self, event: &AccountEvent) {
        match event {
            AccountEvent::Opened(opened) => {
                self.open = true;
                self.balance = opened.amount;
            }
            // What happened cannot be refused, so a sum that `decide` would not have allowed stops at the limit.
            AccountEvent::Deposited(deposited) => {
                self.balance = self.balance.saturating_add(deposited.amount);
            }
            AccountEvent::Withdrawn(withdrawn) => {
                self.balance = self.balance.saturating_sub(withdrawn.amount);
            }
        }
    }
}

impl Account {
    fn open(&self, command: OpenAccount) -> Result<AccountOpened, AccountError> {
        let OpenAccount { account_id, owner, amount } = command;
        if self.open {
            return Err(AccountError::AlreadyOpen);
        }
        if amount < 0 {
            return Err(AccountError::NotAnAmount { amount });
        }
        Ok(AccountOpened { account_id, owner, amount })
    }

    fn deposit(&self, command: Deposit) -> Result<Deposited, AccountError> {
        let Deposit { account_id, amount } = command;
        self.check(amount)?;
        if self.balance.checked_add(amount).is_none() {
            return Err(AccountError::TooMuch { balance: self.balance, amount });
        }
        Ok(Deposited { account_id, amount })
    }

    fn withdraw(&self, command: Withdraw) -> Result<Withdrawn, AccountError> {
        let Withdraw { account_id, amount } = command;
        self.check(amount)?;
        if amount > self.balance {
            return Err(AccountError::Overdraft { balance: self.balance, amount });
        }
        Ok(Withdrawn { account_id, amount })
    }

    fn check(&self, amount: i64) -> Result<(), AccountError> {
        if !self.open {
            return Err(AccountError::NotOpen);
        }
        if amount <= 0 {
            return Err(AccountError::NotAnAmount { amount });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "ACC-1";

    fn opened(amount: i64) -> AccountEvent {
        AccountOpened { account_id: ID.to_owned(), owner: "Ada".to_owned(), amount }.into()
    }

    fn deposited(amount: i64) -> AccountEvent {
        Deposited { account_id: ID.to_owned(), amount }.into()
    }

    fn withdrawn(amount: i64) -> AccountEvent {
        Withdrawn { account_id: ID.to_owned(), amount }.into()
    }

    fn open(amount: i64) -> AccountCommand {
        OpenAccount { account_id: ID.to_owned(), owner: "Ada".to_owned(), amount }.into()
    }

    fn deposit(amount: i64) -> AccountCommand {
        Deposit { account_id: ID.to_owned(), amount }.into()
    }

    fn withdraw(amount: i64) -> AccountCommand {
        Withdraw { account_id: ID.to_owned(), amount }.into()
    }

    fn given(history: &[AccountEvent]) -> Account {
        let mut account = Account::default();
        for event in history {
            account.evolve(event);
        }
        account
    }

    #[test]
    fn the_balance_follows_the_history() {
        let history = [opened(1_000), withdrawn(200), deposited(100), withdrawn(400)];
        let balances: Vec<i64> =
            (1..=history.len()).map(|events| given(history.split_at(events).0).balance()).collect();
        assert_eq!(balances, [1_000, 800, 900, 500]);
    }

    #[test]
    fn what_is_asked_for_is_what_happens() {
        for (history, command, event) in [
            (vec![], open(1_000), opened(1_000)),
            (vec![], open(0), opened(0)),
            (vec![opened(1_000)], withdraw(200), withdrawn(200)),
            (vec![opened(1_000), withdrawn(200)], deposit(100), deposited(100)),
            (vec![opened(1_000), withdrawn(200)], withdraw(800), withdrawn(800)),
            (vec![opened(i64::MAX - 1)], deposit(1), deposited(1)),
        ] {
            assert_eq!(given(&history).decide(command), Ok(vec![event]));
        }
    }

    #[test]
    fn a_command_that_breaks_a_rule_is_refused_with_its_reason() {
        use AccountError::{AlreadyOpen, NotAnAmount, NotOpen, Overdraft, TooMuch};
        let rich = i64::MAX;
        for (history, command, reason) in [
            (vec![], deposit(1), NotOpen),
            (vec![], withdraw(1), NotOpen),
            (vec![], withdraw(-1), NotOpen),
            (vec![], open(-1), NotAnAmount { amount: -1 }),
            (vec![opened(0)], open(5), AlreadyOpen),
            (vec![opened(100)], deposit(0), NotAnAmount { amount: 0 }),
            (vec![opened(100)], deposit(-5), NotAnAmount { amount: -5 }),
            (vec![opened(100)], withdraw(0), NotAnAmount { amount: 0 }),
            (vec![opened(100)], withdraw(i64::MIN), NotAnAmount { amount: i64::MIN }),
            (vec![opened(100)], withdraw(101), Overdraft { balance: 100, amount: 101 }),
            (vec![opened(100), withdrawn(100)], withdraw(1), Overdraft { balance: 0, amount: 1 }),
            (vec![opened(rich)], deposit(1), TooMuch { balance: rich, amount: 1 }),
        ] {
            assert_eq!(given(&history).decide(command), Err(reason));
        }
    }

    #[test]
    fn a_snapshot_stands_for_the_history_before_it() {
        let history = [opened(1_000), withdrawn(200), deposited(100), withdrawn(400)];
        let (before, after) = history.split_at(3);
        let snapshot = serde_json::to_string(&given(before)).expect("plain data");
        let mut account: Account = serde_json::from_str(&snapshot).expect("what was written");
        for event in after {
            account.evolve(event);
        }
        assert_eq!(account, given(&history));
    }

    #[test]
    fn a_refusal_travels_as_a_document_and_reads_as_a_sentence() {
        let refusal = AccountError::Overdraft { balance: 100, amount: 101 };
        let text = serde_json::to_string(&refusal).expect("plain data");
        assert_eq!(text, r#"{"refused":"overdraft","balance":100,"amount":101}"#);
        assert_eq!(serde_json::from_str::<AccountError>(&text).expect("what was written"), refusal);
        assert_eq!(refusal.to_string(), "101 is more than the 100 in the account");
    }

    #[test]
    fn a_history_that_no_decision_made_does_not_panic() {
        assert_eq!(given(&[opened(i64::MAX), deposited(i64::MAX)]).balance(), i64::MAX);
        assert_eq!(given(&[withdrawn(5)]).balance(), -5);
        assert!(!given(&[withdrawn(5)]).is_open());
    }
}
