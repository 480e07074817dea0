//! What operators do with dead letters: groups, redrive, edit, discard; in order, whatever happens meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ensue_core::{
    Clock, Code, ContentType, Envelope, EventId, EventType, Host, Source, StreamName, Timestamp,
};
use ensue_runtime::dead::{DeadLetters, RedriveState, Which};
use ensue_runtime::{App, Reaction, State, dead};
use ensue_test::{Harness, MemoryStore, crash_everywhere};

use crate::words::{Broken, Diary, Tick, tick};

/// Whether a handler fails, and what it did; outlasts crashes.
#[derive(Clone, Default)]
struct Ward {
    diary: Diary,
    is_mended: Arc<AtomicBool>,
}

impl Ward {
    fn mend(&self) {
        self.is_mended.store(true, Ordering::Relaxed);
    }

    /// What the handler took of one key, in order.
    fn took(&self, key: &str) -> Vec<String> {
        self.diary.lines().into_iter().filter(|line| line.starts_with(key)).collect()
    }
}

/// Fails for every number that is a multiple of ten, until it is mended.
async fn tens(State(ward): State<Ward>, tick: Tick) -> Result<(), Broken> {
    ward.diary.note(format!("{}{}", tick.key, tick.number));
    if tick.number.is_multiple_of(10) && !ward.is_mended.load(Ordering::Relaxed) {
        return Err(Broken("no round numbers"));
    }
    Ok(())
}

fn harness(ward: &Ward, version: &'static str) -> Harness {
    let ward = ward.clone();
    Harness::new(move |app: App| {
        app.version(version).state(ward.clone()).external::<Tick>().react("tens", tens.retry(2).lanes(2))
    })
}

async fn publish(harness: &mut Harness, ticks: &[(&str, u32)]) {
    for (key, number) in ticks {
        harness.publish(tick(key, *number)).await;
    }
}

#[tokio::test]
async fn a_letter_says_which_code_failed_when_and_how_often() {
    let ward = Ward::default();
    let mut harness = harness(&ward, "1.4.2");
    publish(&mut harness, &[("a", 10), ("a", 11)]).await;
    harness.settle().await;
    let failed_at = harness.clock().now();
    harness.advance(Duration::from_mins(1)).await;
    harness.running().await.dead().redrive(&Which::key("tens", "a")).await.expect("it is parked");
    harness.settle().await;
    let [failed, waiting] = harness.dead_letters().await.try_into().expect("two letters");
    let versions = [&failed, &waiting].map(|letter| letter.parked.code_version.as_deref());
    assert_eq!(versions, [Some("1.4.2"); 2]);
    let failed = failed.parked;
    assert_eq!((failed.attempts, failed.first_failed_at), (3, Some(failed_at)));
    assert_eq!(failed.last_failed_at, Some(harness.clock().now()));
    assert_eq!((waiting.parked.attempts, waiting.parked.first_failed_at), (0, None));
    let catalogue = harness.running().await.catalogue().clone();
    assert_eq!(catalogue.version.as_deref(), Some("1.4.2"));
}

#[tokio::test]
async fn letters_of_one_cause_are_one_group() {
    let ward = Ward::default();
    let mut harness = harness(&ward, "1.4.2");
    publish(&mut harness, &[("a", 10), ("b", 20), ("a", 11), ("c", 1)]).await;
    harness.settle().await;
    let groups = dead::groups(&**harness.store()).await.expect("letters can be read");
    let [group] = groups.as_slice() else { panic!("{groups:?}") };
    assert_eq!((group.handler.as_str(), group.code.as_str()), ("tens", "E0301"));
    assert_eq!((group.cause.as_str(), group.letters, group.keys), ("no round numbers", 3, 2));
    assert_eq!(group.code_versions.iter().collect::<Vec<_>>(), ["1.4.2"]);
    assert_eq!(group.example.parked.key, "a");
}

/// How redrives stand, as key, letters done and state.
async fn redrives(harness: &Harness) -> Vec<(String, usize, &'static str)> {
    let redrives = dead::redrives(&**harness.store()).await.expect("redrives can be read");
    let state = |redrive: &dead::Redrive| match redrive.state {
        RedriveState::Waiting => "waiting",
        RedriveState::Done { .. } => "done",
        RedriveState::FailedAgain { .. } => "failed again",
    };
    redrives.iter().map(|redrive| (redrive.key.to_string(), redrive.done, state(redrive))).collect()
}

#[tokio::test]
async fn a_plan_names_handler_key_and_letters_in_order_and_changes_nothing() {
    let ward = Ward::default();
    let mut harness = harness(&ward, "1");
    publish(&mut harness, &[("b", 10), ("a", 20), ("b", 11), ("c", 1)]).await;
    harness.settle().await;
    let before = harness.dead_letters().await;
    let calls = ward.diary.lines().len();
    let dead = harness.running().await.dead();
    let planned = dead.plan(&Which::All).await.expect("two keys are parked");
    let positions = |key: &dead::Planned| key.letters.iter().map(|at| at.0).collect::<Vec<_>>();
    let planned: Vec<_> =
        planned.iter().map(|key| (key.handler.as_str(), key.key.as_str(), positions(key))).collect();
    assert_eq!(planned, [("tens", "a", vec![2]), ("tens", "b", vec![1, 3])]);
    let nothing = dead.plan(&Which::Handler("others".into())).await.expect_err("nothing of theirs is parked");
    assert_eq!(nothing.code(), Code::NOT_FOUND);
    harness.settle().await;
    assert_eq!((harness.dead_letters().await, ward.diary.lines().len()), (before, calls));
    assert_eq!(redrives(&harness).await, []);
}

#[tokio::test]
async fn a_group_is_redriven_key_by_key_and_the_rest_stays() {
    let ward = Ward::default();
    let mut harness = harness(&ward, "1");
    publish(&mut harness, &[("a", 10), ("b", 20), ("b", 21)]).await;
    harness
        .running()
        .await
        .door()
        .admit(no_tick("c").0, no_tick("c").1)
        .await
        .expect("the door reads no bodies");
    harness.settle().await;
    let groups = harness.running().await.dead().groups().await.expect("letters can be read");
    let group = groups.iter().find(|group| group.code == "E0301").expect("a group of failures").group;
    ward.mend();
    let asked = harness.running().await.dead().redrive(&Which::Group(group)).await.expect("two keys");
    assert_eq!((asked.keys, asked.letters), (2, 3));
    harness.settle().await;
    let left: Vec<_> = harness.dead_letters().await.into_iter().map(|letter| letter.parked.code).collect();
    assert_eq!(left, ["E0105"]);
    assert_eq!(redrives(&harness).await, [("a".into(), 1, "done"), ("b".into(), 2, "done")]);
}

/// An event that no handler can read.
fn no_tick(key: &str) -> (StreamName, Envelope) {
    let envelope = Envelope {
        id: EventId::new("evt-1").expect("valid"),
        source: Source::new("elsewhere").expect("valid"),
        event_type: EventType::new("Tick").expect("valid"),
        schema_version: 1,
        time: Timestamp::UNIX_EPOCH,
        correlation: None,
        causation: None,
        trace: None,
        tags: Vec::new(),
        extensions: Vec::new(),
        content_type: ContentType::json(),
        data: "{}".into(),
    };
    (StreamName::new("Tick", key).expect("valid"), envelope)
}

#[tokio::test]
async fn a_letter_that_fails_again_holds_its_place_whatever_comes_meanwhile() {
    let ward = Ward::default();
    let mut harness = harness(&ward, "1");
    publish(&mut harness, &[("a", 10), ("a", 11), ("a", 20), ("a", 21)]).await;
    harness.settle().await;
    harness.running().await.dead().redrive(&Which::key("tens", "a")).await.expect("it is parked");
    publish(&mut harness, &[("a", 22)]).await;
    harness.settle().await;
    assert_eq!(redrives(&harness).await, [("a".into(), 0, "failed again")]);
    harness.restart().await;
    publish(&mut harness, &[("a", 23)]).await;
    harness.settle().await;
    ward.mend();
    harness.running().await.dead().redrive(&Which::All).await.expect("it is parked");
    publish(&mut harness, &[("a", 24)]).await;
    harness.settle().await;
    let took = ward.took("a");
    let tried_in_vain = took.iter().take_while(|line| *line == "a10").count();
    assert_eq!(tried_in_vain, 4, "twice at first, once more in vain, and mended: {took:?}");
    let behind = took.get(tried_in_vain..).unwrap_or_default();
    assert_eq!(behind, ["a11", "a20", "a21", "a22", "a23", "a24"]);
    assert_eq!(
        (harness.dead_letters().await, redrives(&harness).await),
        (vec![], vec![("a".into(), 6, "done")])
    );
}

#[tokio::test]
async fn a_crash_at_any_commit_of_a_redrive_keeps_the_order_and_loses_nothing() {
    let wards: std::rc::Rc<std::cell::RefCell<Ward>> = std::rc::Rc::default();
    let of_harness = wards.clone();
    let crashes = crash_everywhere(
        move || {
            *of_harness.borrow_mut() = Ward::default();
            harness(&of_harness.borrow(), "1")
        },
        async |harness: &mut Harness| {
            let ward = wards.borrow().clone();
            publish(harness, &[("a", 10), ("a", 11), ("a", 20), ("b", 1)]).await;
            harness.settle().await;
            ward.mend();
            operator(harness).redrive(&Which::All).await.expect("it is parked");
            harness.restart().await;
            publish(harness, &[("a", 21)]).await;
            harness.settle().await;
            assert_eq!(harness.dead_letters().await, []);
            let mut took = ward.took("a");
            took.dedup();
            assert_eq!(took, ["a10", "a11", "a20", "a21"], "in order, each repeated only at once");
        },
    )
    .await;
    assert!(crashes > 20, "{crashes}");
}

/// The dead letters as somebody sees them who does not run the application.
fn operator(harness: &Harness) -> DeadLetters<'static> {
    DeadLetters::new(harness.store().clone(), harness.host().clone(), "ada")
}

#[tokio::test]
async fn a_redrive_goes_on_with_another_number_of_lanes() {
    let ward = Ward::default();
    let lanes = Arc::new(AtomicU16::new(3));
    let (given, wanted) = (ward.clone(), lanes.clone());
    let mut harness = Harness::new(move |app: App| {
        let mounted = tens.retry(1).lanes(wanted.load(Ordering::Relaxed));
        app.state(given.clone()).external::<Tick>().react("tens", mounted)
    });
    let keys = ["a", "b", "c", "d", "e"];
    for key in keys {
        publish(&mut harness, &[(key, 10), (key, 11)]).await;
    }
    harness.settle().await;
    ward.mend();
    operator(&harness).redrive(&Which::All).await.expect("five keys are parked");
    lanes.store(7, Ordering::Relaxed);
    harness.restart().await;
    for key in keys {
        publish(&mut harness, &[(key, 12)]).await;
    }
    harness.settle().await;
    for key in keys {
        assert_eq!(ward.took(key), ["10", "10", "11", "12"].map(|number| format!("{key}{number}")));
    }
    assert_eq!(harness.dead_letters().await, []);
}

#[tokio::test]
async fn two_handlers_of_one_event_are_independent() {
    async fn other(State(ward): State<Ward>, tick: Tick) {
        ward.diary.note(format!("other{}", tick.number));
    }
    let ward = Ward::default();
    let given = ward.clone();
    let mut harness = Harness::new(move |app: App| {
        let app = app.state(given.clone()).external::<Tick>();
        app.react("tens", tens.retry(1)).react("other", other)
    });
    publish(&mut harness, &[("a", 10), ("a", 11)]).await;
    harness.settle().await;
    assert_eq!((ward.took("other").len(), harness.dead_letters().await.len()), (2, 2));
    ward.mend();
    harness.running().await.dead().redrive(&Which::All).await.expect("it is parked");
    harness.settle().await;
    assert_eq!(ward.took("other"), ["other10", "other11"], "the redrive of one does not run the other");
    assert_eq!(ward.took("a"), ["a10", "a10", "a11"]);
}

#[tokio::test]
async fn a_redrive_whose_settlement_was_out_of_date_looks_again_and_goes_on() {
    // Once mended, the handler takes so long over the first letter that somebody asks for the redrive again.
    async fn slow(State(ward): State<Ward>, State(again): State<Again>, tick: Tick) -> Result<(), Broken> {
        let result = tens(State(ward.clone()), tick).await;
        if result.is_ok() && ward.took("a").len() == 2 {
            let (store, host) = again.get().expect("set before the start").clone();
            let dead = DeadLetters::new(store, host, "bob");
            dead.redrive(&Which::key("slow", "a")).await.expect("it is parked");
        }
        result
    }
    let (ward, again) = (Ward::default(), Again::default());
    let (given, later) = (ward.clone(), again.clone());
    let mut harness = Harness::new(move |app: App| {
        let app = app.state(given.clone()).state(later.clone()).external::<Tick>();
        app.react("slow", slow.retry(1))
    });
    again.set((harness.store().clone(), harness.host().clone())).expect("set once");
    publish(&mut harness, &[("a", 10), ("a", 11), ("a", 12)]).await;
    harness.settle().await;
    ward.mend();
    harness.running().await.dead().redrive(&Which::key("slow", "a")).await.expect("it is parked");
    harness.settle().await;
    assert_eq!(ward.took("a"), ["a10", "a10", "a10", "a11", "a12"], "the first is worked out again");
    assert_eq!(redrives(&harness).await, [("a".into(), 3, "done")]);
}

/// What a handler needs to ask for a redrive.
type Again = Arc<OnceLock<(Arc<MemoryStore>, Host)>>;

#[tokio::test]
async fn a_letter_and_its_group_name_the_owner_of_their_handler() {
    async fn other(_: Tick) -> Result<(), Broken> {
        Err(Broken("never"))
    }
    let ward = Ward::default();
    let mut harness = Harness::new(move |app: App| {
        let app = app.state(ward.clone()).external::<Tick>().react("nobodys", other.retry(1));
        let app = app.react("mine", other.retry(1).owner("team-labels"));
        app.owner("team-payments").react("tens", tens.retry(1)).react("too", other.retry(1).owner("team-a"))
    });
    publish(&mut harness, &[("a", 10)]).await;
    harness.settle().await;
    let owners = |letter: &dead::DeadLetter| (letter.handler.to_string(), letter.owner.clone());
    let letters: Vec<_> = harness.dead_letters().await.iter().map(owners).collect();
    let expected = [
        ("mine", Some("team-labels")),
        ("nobodys", None),
        ("tens", Some("team-payments")),
        ("too", Some("team-a")),
    ];
    assert_eq!(letters, expected.map(|(handler, owner)| (handler.to_owned(), owner.map(Into::into))));
    let groups = harness.running().await.dead().groups().await.expect("letters can be read");
    let group = groups.iter().find(|group| group.handler == "tens").expect("one of tens");
    assert_eq!(group.owner.as_deref(), Some("team-payments"));
    let warnings = harness.running().await.catalogue().warnings();
    assert_eq!(warnings, ["nobodys has no owner, so nobody is named for its dead letters"]);
}

#[tokio::test]
async fn an_application_that_names_no_owner_is_not_warned_of_it() {
    let ward = Ward::default();
    let mut harness = harness(&ward, "1");
    assert_eq!(harness.running().await.catalogue().warnings(), Vec::<String>::new());
}
