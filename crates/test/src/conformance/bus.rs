//! The contract of [`Bus`], as cases that any broker runs.
//!
//! ```text
//! mod contract {
//!     ensue_test::bus_conformance!(super::fresh, ignore = "needs a broker");
//! }
//! ```
//!
//! `fresh` is an `async fn() -> Arc<dyn Broker>`: a broker of the case's own, or one where the channels of the case are new. Where a
//! broker takes long to start, `struck = own` gives the cases that kill or freeze it one of their own, and the others may share one.
//!
//! Invariants: what a broker does not declare, the case asserts the absence of; a case of a fault asserts that the fault happened; no
//! case waits for time to pass but where the time is what it is about.

use std::sync::Arc;
use std::time::Duration;

use ensue_core::bus::{Bus, Consume};
use ensue_core::name::{Channel, SubscriptionName};
use ensue_core::{BoxFuture, BusCapabilities, Error};

use super::store::{Finding, message_of};

mod deliver;
mod fault;
mod note;
mod process;
mod publish;
mod settle;
mod tunnel;
mod words;

pub use process::{Line, Process, await_serving};
pub use tunnel::Tunnel;

/// A case that has not ended by then hangs.
const CASE_MAX: Duration = Duration::from_mins(3);
const SHUTDOWN_MAX: Duration = Duration::from_secs(10);

/// Kills a broker with SIGKILL, sees that it is gone, and starts it again.
///
/// # Panics
/// If it outlives that, or does not come back.
pub async fn kill_and_start(broker: &dyn Broker) {
    broker.keep_topology().await;
    broker.strike(Fault::Kill).await;
    assert!(!broker.is_alive(), "the broker was not killed");
    broker.strike(Fault::Start).await;
    assert!(broker.is_alive(), "the broker is back");
}

/// What the suite needs to know of a broker besides the port, and what it does to it.
pub trait Broker: Send + Sync {
    /// A connection of its own.
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Bus>, Error>>;

    /// A connection with credentials that are wrong. It may fail at once, or its calls do.
    fn open_denied(&self) -> BoxFuture<'_, Result<Arc<dyn Bus>, Error>>;

    /// How a group consumes what is published to a channel.
    fn source(&self, group: SubscriptionName, target: &Channel) -> Consume {
        Consume { group, from: target.clone(), fed_by: None }
    }

    /// Where this broker keeps what a group has refused for good; nothing where it has no dead letters.
    fn dead_letters(&self, _source: &Consume) -> Option<Consume> {
        None
    }

    /// Strikes. When it ends, the fault is there: a killed process is gone, a started one answers.
    fn strike(&self, fault: Fault) -> BoxFuture<'_, ()>;

    /// In words, what of this broker a kill leaves alone; nothing where the whole of it is killed. The table of what each broker does
    /// says it beside the cases that kill.
    fn spared(&self) -> Option<&'static str> {
        None
    }

    /// Called before a case kills a broker that it has just given its topology. A broker may write topology later than it says so, and
    /// a case that loses that has seen nothing of the messages; here such a broker is made to write.
    fn keep_topology(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    /// A connection of its own that goes through a [`Tunnel`].
    fn open_tunnelled(&self) -> BoxFuture<'_, Result<Arc<dyn Bus>, Error>>;

    /// Cuts what goes through the tunnel, and says how many connections there were. New ones are let through.
    fn cut(&self) -> usize;

    /// Whether the process of the broker lives, asked of the operating system.
    fn is_alive(&self) -> bool;
}

/// What can happen to a broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It is killed, as by SIGKILL. Its disk is kept.
    Kill,
    /// It is started again, on the same port and disk.
    Start,
    /// It is frozen, as by SIGSTOP.
    Pause,
    /// It goes on, as by SIGCONT.
    Resume,
}

/// Calls the macro `$with` with the whole table of cases.
#[doc(hidden)]
#[macro_export]
macro_rules! bus_conformance_cases {
    ($with:path $(, $($argument:tt)*)?) => {
        $with! {
            [$($($argument)*)?]
            publish::what_is_published_arrives_equal needs NOTHING,
            publish::text_of_any_language_survives_in_headers needs NOTHING,
            publish::a_message_too_large_is_refused_and_delays_nobody needs NOTHING,
            publish::publishing_to_nowhere_is_refused needs ROUTING,
            publish::of_a_batch_only_what_goes_nowhere_fails needs ROUTING,
            publish::a_message_published_twice_is_kept_once needs DEDUPLICATION,
            publish::many_publishers_at_once_lose_nothing needs NOTHING,
            publish::a_publisher_that_is_dropped_loses_nothing_confirmed needs NOTHING,
            publish::a_dry_run_says_what_is_missing_and_makes_nothing needs NOTHING,
            deliver::each_group_gets_everything needs NOTHING,
            deliver::members_of_a_group_share needs NOTHING,
            deliver::channels_are_apart needs NOTHING,
            deliver::a_late_group_gets_the_history needs REPLAY,
            deliver::one_member_sees_each_key_in_order needs ORDER_ALONE,
            deliver::a_key_keeps_its_order_while_members_come_and_go needs ORDER,
            deliver::a_group_goes_on_from_elsewhere needs SEEK,
            deliver::what_waits_is_counted needs LAG,
            deliver::a_wait_that_is_given_up_loses_nothing needs NOTHING,
            settle::what_is_handed_back_comes_again needs NOTHING,
            settle::what_is_refused_for_good_does_not_come_again needs REJECTION,
            settle::what_a_lost_member_had_in_hand_comes_again needs NOTHING,
            settle::what_is_refused_for_good_is_in_the_dead_letters needs DEAD_LETTERS,
            settle::a_delivery_is_settled_once needs NOTHING,
            settle::what_is_not_settled_in_time_comes_again needs TIME_LIMIT,
            settle::settling_too_late_is_refused needs LATE_REFUSAL,
            fault::a_broker_killed_twice_in_mid_stream_loses_nothing needs KILL,
            fault::connections_cut_in_mid_stream_lose_nothing needs NOTHING,
            fault::a_broker_paused_for_30_seconds_confirms_nothing_and_goes_on needs NOTHING,
            fault::a_broker_that_is_absent_at_the_start_is_found_later needs KILL,
            fault::wrong_credentials_are_refused needs NOTHING,
        }
    };
}

/// Makes one `#[test]` of each case. Takes an `async fn() -> Arc<dyn Broker>`, and the reason why the tests run only where they
/// are asked for. Another factory may be named for the cases that strike the broker.
#[macro_export]
macro_rules! bus_conformance {
    ($factory:expr) => {
        $crate::bus_conformance_cases!($crate::bus_conformance_tests, $factory);
    };
    ($factory:expr, ignore = $reason:literal) => {
        $crate::bus_conformance!($factory, struck = $factory, ignore = $reason);
    };
    ($factory:expr, struck = $struck:expr, ignore = $reason:literal) => {
        $crate::bus_conformance_cases!(
            $crate::bus_conformance_tests,
            $factory,
            struck = $struck,
            ignore = $reason
        );
    };
}

/// The factory for a case of this group.
#[doc(hidden)]
#[macro_export]
macro_rules! bus_conformance_factory {
    (fault, $factory:expr, $struck:expr) => {
        $struck
    };
    ($group:ident, $factory:expr, $struck:expr) => {
        $factory
    };
}

/// The tests of [`bus_conformance!`].
#[doc(hidden)]
#[macro_export]
macro_rules! bus_conformance_tests {
    ([$factory:expr] $($group:ident :: $name:ident needs $need:ident,)*) => {
        $(
            #[test]
            fn $name() {
                $crate::conformance::bus::run_case(stringify!($name), $factory);
            }
        )*
    };
    ([$factory:expr, struck = $struck:expr, ignore = $reason:literal] $($group:ident :: $name:ident needs $need:ident,)*) => {
        $(
            #[test]
            #[ignore = $reason]
            fn $name() {
                $crate::conformance::bus::run_case(
                    stringify!($name),
                    $crate::bus_conformance_factory!($group, $factory, $struck),
                );
            }
        )*
    };
}

macro_rules! table {
    ([] $($group:ident :: $name:ident needs $need:ident,)*) => {
        /// Every case, in the order in which they run.
        pub const CASES: &[Case] = &[
            $(Case {
                name: stringify!($name),
                need: &Need::$need,
                run: |broker| Box::pin($group::$name(broker)),
            },)*
        ];
    };
}
bus_conformance_cases!(table);

/// One clause of the contract.
pub struct Case {
    /// The claim, unique in the table.
    pub name: &'static str,
    need: &'static Need,
    run: fn(Arc<dyn Broker>) -> BoxFuture<'static, ()>,
}

/// What a case takes for granted, and what is to be seen where it is not declared.
struct Need {
    /// The field of the capabilities.
    capability: &'static str,
    is_met: fn(&BusCapabilities) -> bool,
    assert_absent: fn(Arc<dyn Broker>) -> BoxFuture<'static, ()>,
    /// What is to be known of a broker that has passed.
    caveat: fn(&dyn Broker) -> Option<&'static str>,
}

impl Need {
    const NOTHING: Self =
        Self { capability: "", is_met: |_| true, assert_absent: |_| Box::pin(async {}), caveat: |_| None };
    const KILL: Self = Self { caveat: |broker| broker.spared(), ..Self::NOTHING };
    const ROUTING: Self = Self {
        capability: "can_detect_unroutable",
        is_met: |capabilities| capabilities.can_detect_unroutable,
        assert_absent: |broker| Box::pin(publish::nowhere_swallows(broker)),
        ..Self::NOTHING
    };
    const DEDUPLICATION: Self = Self {
        capability: "can_deduplicate",
        is_met: |capabilities| capabilities.can_deduplicate,
        assert_absent: |broker| Box::pin(publish::twice_is_two(broker)),
        ..Self::NOTHING
    };
    const REPLAY: Self = Self {
        capability: "can_replay",
        is_met: |capabilities| capabilities.can_replay,
        assert_absent: |broker| Box::pin(deliver::a_late_group_gets_what_comes_later(broker)),
        ..Self::NOTHING
    };
    const REJECTION: Self = Self {
        capability: "can_reject",
        is_met: |capabilities| capabilities.can_reject,
        assert_absent: |broker| Box::pin(settle::rejection_is_refused(broker)),
        ..Self::NOTHING
    };
    const ORDER: Self = Self {
        capability: "can_order_by_key",
        is_met: |capabilities| capabilities.can_order_by_key,
        assert_absent: |broker| Box::pin(deliver::everything_comes_while_members_come_and_go(broker)),
        ..Self::NOTHING
    };
    const ORDER_ALONE: Self = Self {
        capability: "can_order_alone",
        is_met: |capabilities| capabilities.can_order_alone,
        assert_absent: |broker| Box::pin(deliver::one_member_sees_everything(broker)),
        ..Self::NOTHING
    };
    const SEEK: Self = Self {
        capability: "can_seek",
        is_met: |capabilities| capabilities.can_seek,
        assert_absent: |broker| Box::pin(deliver::seeking_is_refused(broker)),
        ..Self::NOTHING
    };
    const LAG: Self = Self {
        capability: "can_count_waiting",
        is_met: |capabilities| capabilities.can_count_waiting,
        assert_absent: |broker| Box::pin(deliver::what_waits_is_unknown(broker)),
        ..Self::NOTHING
    };
    const DEAD_LETTERS: Self = Self {
        capability: "has_dead_letters",
        is_met: |capabilities| capabilities.has_dead_letters,
        assert_absent: |broker| Box::pin(settle::there_are_no_dead_letters(broker)),
        ..Self::NOTHING
    };
    const TIME_LIMIT: Self = Self {
        capability: "redelivers_after",
        is_met: |capabilities| capabilities.redelivers_after.is_some(),
        assert_absent: |broker| Box::pin(settle::what_is_in_hand_stays_there(broker)),
        ..Self::NOTHING
    };
    const LATE_REFUSAL: Self = Self {
        capability: "can_refuse_late",
        is_met: |capabilities| capabilities.can_refuse_late,
        assert_absent: |broker| Box::pin(settle::settling_late_harms_nobody(broker)),
        ..Self::NOTHING
    };
}

/// Runs one case on a runtime of its own.
///
/// # Panics
/// If the broker breaks the contract, or the table has no such case.
pub fn run_case<Making>(name: &str, factory: impl FnOnce() -> Making)
where
    Making: Future<Output = Arc<dyn Broker>>,
{
    let case = CASES.iter().find(|case| case.name == name).expect("the case is in the table");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    let runtime = runtime.expect("the system starts four threads");
    let finding = runtime.block_on(async {
        let finding = async { case.find(factory().await).await };
        let in_time = tokio::time::timeout(CASE_MAX, finding).await;
        in_time.unwrap_or_else(|_| Finding::Broken(format!("still waiting after {CASE_MAX:?}")))
    });
    // A case that hangs may hold a thread of the runtime for ever, and is to be told of all the same.
    runtime.shutdown_timeout(SHUTDOWN_MAX);
    if let Finding::Broken(message) = finding {
        panic!("{name}: {message}");
    }
}

impl Case {
    async fn find(&self, broker: Arc<dyn Broker>) -> Finding {
        let bus = match broker.open().await {
            Ok(bus) => bus,
            Err(error) => return Finding::Broken(format!("it cannot be opened: {error:?}")),
        };
        let (name, is_met) = (bus.capabilities().name, (self.need.is_met)(bus.capabilities()));
        drop(bus);
        let caveat = (self.need.caveat)(&*broker);
        let body = if is_met { (self.run)(broker) } else { (self.need.assert_absent)(broker) };
        // A task of its own: an assertion that fails ends the case, not the run.
        let finding = match tokio::spawn(body).await {
            Ok(()) if is_met => Finding::Kept,
            Ok(()) => Finding::Refused,
            Err(failure) => Finding::Broken(message_of(failure)),
        };
        note::write(name, self, &finding, caveat);
        finding
    }
}
