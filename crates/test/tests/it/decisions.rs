//! Given, when, then: on an account, and on a decision that is no aggregate.

use ensue_core::{Aggregate, Command, Draft, Envelope, Error, Event, EventInfo, EventSet, event};
use ensue_test::{given, given_folded};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Opened {
    account: String,
    balance: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Withdrawn {
    account: String,
    amount: u64,
    /// Not stored when it is `Some(0)`, which is the fault that one test looks for.
    #[serde(default, skip_serializing_if = "is_zero")]
    fee: Option<u64>,
}

#[expect(clippy::ref_option, reason = "serde hands over a reference to the field")]
fn is_zero(fee: &Option<u64>) -> bool {
    *fee == Some(0)
}

const fn info(event_type: &'static str) -> EventInfo {
    EventInfo { event_type, version: 1, topic: "Account", key_field: "account" }
}

impl Event for Opened {
    const INFO: EventInfo = info("Opened");

    fn key(&self) -> String {
        self.account.clone()
    }
}

impl Event for Withdrawn {
    const INFO: EventInfo = info("Withdrawn");

    fn key(&self) -> String {
        self.account.clone()
    }

    fn tags(&self) -> Vec<(&'static str, String)> {
        vec![("amount", self.amount.to_string())]
    }
}

enum AccountEvent {
    Opened(Opened),
    Withdrawn(Withdrawn),
}

impl EventSet for AccountEvent {
    fn types() -> Vec<EventInfo> {
        vec![Opened::INFO, Withdrawn::INFO]
    }

    fn decode(envelope: &Envelope) -> Result<Self, Error> {
        match envelope.event_type.as_str() {
            "Opened" => event::decode_event(envelope).map(Self::Opened),
            "Withdrawn" => event::decode_event(envelope).map(Self::Withdrawn),
            _ => Err(event::not_in_set(envelope, &Self::types())),
        }
    }

    fn draft(&self) -> Result<Draft, Error> {
        match self {
            Self::Opened(event) => Draft::of(event),
            Self::Withdrawn(event) => Draft::of(event),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Withdraw {
    amount: u64,
}

impl Command for Withdraw {
    const TYPE: &'static str = "Withdraw";
    type Reply = ();
    type Failure = String;

    fn key(&self) -> String {
        "A-1".to_owned()
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Account {
    balance: u64,
}

impl Aggregate for Account {
    type Event = AccountEvent;
    type Command = Withdraw;
    type Error = String;
    const TOPIC: &'static str = "Account";

    fn decide(&self, command: Withdraw) -> Result<Vec<AccountEvent>, String> {
        match command.amount {
            0 => Ok(vec![]),
            amount if amount > self.balance => Err(format!("{} is all there is", self.balance)),
            amount => Ok(vec![withdrawn(amount)]),
        }
    }

    fn evolve(&mut self, event: &AccountEvent) {
        match event {
            AccountEvent::Opened(event) => self.balance = event.balance,
            AccountEvent::Withdrawn(event) => self.balance -= event.amount,
        }
    }
}

fn opened(balance: u64) -> AccountEvent {
    AccountEvent::Opened(Opened { account: "A-1".to_owned(), balance })
}

fn withdrawn(amount: u64) -> AccountEvent {
    AccountEvent::Withdrawn(Withdrawn { account: "A-1".to_owned(), amount, fee: None })
}

/// The message of the assertion that fails.
fn failure_of(assertion: impl FnOnce() + std::panic::UnwindSafe) -> String {
    let panic = std::panic::catch_unwind(assertion).expect_err("the assertion must fail");
    panic.downcast_ref::<String>().cloned().expect("the message is text")
}

#[test]
fn what_follows_a_decision_is_asked_of_the_state_after_it() {
    let given = given::<Account>([opened(1_000)])
        .when(Withdraw { amount: 200 })
        .then([withdrawn(200)])
        .when(Withdraw { amount: 801 })
        .then_error("800 is all there is")
        .when(Withdraw { amount: 0 })
        .then([])
        .expect_state(|account| assert_eq!(account.balance, 800));
    assert_eq!(given.and([withdrawn(100)]).into_state().balance, 700);
}

#[test]
fn a_wrong_event_is_shown_line_by_line() {
    let message = failure_of(|| {
        drop(given::<Account>([opened(1_000)]).when(Withdraw { amount: 200 }).then([withdrawn(300)]));
    });
    let expected = "\
given Opened in Account/A-1, it was decided otherwise (- expected, + decided):
- Withdrawn in Account/A-1 v1 [amount:300]
+ Withdrawn in Account/A-1 v1 [amount:200]
  {
    \"account\": \"A-1\",
-   \"amount\": 300,
+   \"amount\": 200,
    \"fee\": null
  }
";
    assert_eq!(message, expected);
}

#[test]
fn a_refusal_where_events_were_expected_and_the_reverse_both_fail() {
    let refused = failure_of(|| {
        drop(given::<Account>([]).when(Withdraw { amount: 5 }).then([]));
    });
    assert_eq!(
        refused,
        "given nothing, it was decided otherwise (- expected, + decided):\n\
         - no events\n+ refused: 0 is all there is\n+ \"0 is all there is\"\n"
    );
    let taken = failure_of(|| {
        drop(given::<Account>([opened(9)]).when(Withdraw { amount: 5 }).then_error("no"));
    });
    assert!(taken.contains("- refused: no\n") && taken.contains("+ Withdrawn in Account/A-1"), "{taken}");
}

#[test]
fn an_event_that_storage_would_change_is_found() {
    let message = failure_of(|| {
        let lossy = Withdrawn { account: "A-1".to_owned(), amount: 1, fee: Some(0) };
        drop(given::<Account>([opened(9), AccountEvent::Withdrawn(lossy)]));
    });
    assert!(message.contains("changes when it is stored and read"), "{message}");
    assert!(message.contains("+   \"fee\": null"), "{message}");
}

#[test]
fn a_plain_decision_is_folded_by_a_function() {
    let count = |seats: &mut u64, _: &Opened| *seats += 1;
    let open = |number: u64| Opened { account: format!("A-{number}"), balance: 0 };
    let at_most_two = |seats: &u64| {
        if *seats < 2 { Ok(vec![open(*seats)]) } else { Err("full".to_owned()) }
    };
    given_folded(count, [open(0)]).decide(at_most_two).then([open(1)]).decide(at_most_two).then_error("full");
}
