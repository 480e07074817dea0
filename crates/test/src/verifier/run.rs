//! A program on the runtime that ships, with misfortunes, and what it leaves behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ensue_core::{EventSet, Host};
use ensue_runtime::Aggregates;
use ensue_runtime::app::DispatchError;
use ensue_runtime::saga::head;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::application::{key_name, mount};
use super::model::REDRIVES;
use super::outcome::{Outcome, SagaEnd};
use super::program::{A_LITTLE, Act, KEYS, Program, UNIT};
use super::words::{Account, AnySignal, Move, Seen, Signal, instance, of_kind};
use super::world::World;
use crate::{Harness, Misfortune};

/// What a run came to.
pub(super) struct Ran {
    pub(super) outcome: Outcome,
    /// What contradicts itself, whatever the model says.
    pub(super) contradictions: Vec<String>,
    pub(super) commits: u64,
    pub(super) crashes: u32,
    pub(super) replies_lost: u32,
}

/// Runs a program to its end.
pub(super) async fn run(program: &Program, misfortunes: &[Misfortune]) -> Ran {
    let world = Arc::new(World::default());
    let mut runner = Runner { harness: harness(program, &world, misfortunes), world, moves: Vec::new() };
    for (index, act) in program.acts.iter().chain(&Program::ending()).enumerate() {
        runner.act(index, *act).await;
    }
    runner.finish(program).await
}

fn harness(program: &Program, world: &Arc<World>, misfortunes: &[Misfortune]) -> Harness {
    let (program, world) = (Arc::new(program.clone()), Arc::clone(world));
    let host: Arc<OnceLock<Host>> = Arc::default();
    let inside = Arc::clone(&host);
    let harness = Harness::new(move |app| {
        let host = inside.get().expect("it is set before the first start");
        mount(&program, &world, host, app)
    });
    host.set(harness.host().clone()).expect("it is set once");
    harness.suffer(misfortunes.iter().copied())
}

struct Runner {
    harness: Harness,
    world: Arc<World>,
    moves: Vec<bool>,
}

impl Runner {
    async fn act(&mut self, index: usize, act: Act) {
        if !matches!(act, Act::Publish { .. } | Act::Move { .. } | Act::Restart) {
            self.harness.settle().await;
        }
        if act.takes_a_little() {
            let units = if let Act::Advance { units } = act { units } else { 0 };
            self.harness.advance(Duration::from_secs(units * UNIT + A_LITTLE)).await;
            self.harness.settle().await;
        }
        match act {
            Act::Publish { kind, key } => {
                of_kind!(kind, publish(&mut self.harness, key, format!("p{index}"))).await;
            }
            Act::Answer { key } => publish::<5>(&mut self.harness, key, format!("a{index}")).await,
            Act::Move { key, cents } => self.move_cents(index, key, cents).await,
            Act::Mend => self.world.is_mended.store(true, Ordering::Relaxed),
            Act::Redrive => self.redrive().await,
            Act::Restart => {
                self.world.restarts.fetch_add(1, Ordering::Relaxed);
                self.harness.restart().await;
            }
            Act::Settle | Act::Advance { .. } => {}
        }
    }

    async fn move_cents(&mut self, index: usize, key: u64, cents: i64) {
        let command = Move { key: key_name(key), path: format!("m{index}"), cents };
        match self.harness.dispatch(command).await {
            Ok(_) => self.moves.push(true),
            Err(DispatchError::Refused(_)) => self.moves.push(false),
            Err(DispatchError::Failed(error)) => panic!("act {index} was not answered: {error}"),
        }
    }

    async fn redrive(&mut self) {
        let letters = self.harness.dead_letters().await;
        let places: BTreeSet<(String, String)> = letters
            .into_iter()
            .map(|letter| (letter.handler.to_string(), letter.parked.key.to_string()))
            .collect();
        for (handler, key) in places {
            for _ in 0..REDRIVES {
                self.harness.redrive(&handler, &key).await;
                self.harness.settle().await;
            }
        }
    }

    async fn finish(mut self, program: &Program) -> Ran {
        let mut contradictions = self.contradictions().await;
        let halted = self.harness.running().await.halted();
        contradictions.extend(halted.iter().map(|(name, error)| format!("{name} has stopped: {error}")));
        let timers = ensue_runtime::timer::list(&**self.harness.store()).await.expect("memory can be read");
        contradictions.extend(timers.iter().map(|timer| format!("left behind: {timer:?}")));
        let outcome = Outcome {
            signals: self.signals().await,
            effects: self.world.effects(),
            calls: self.world.calls(),
            balances: self.balances(program).await,
            moves: self.moves,
            sagas: sagas(&self.harness).await,
            parked: self.harness.dead_letters().await.len(),
        };
        Ran {
            outcome,
            contradictions,
            commits: self.harness.commits(),
            crashes: self.harness.crashes(),
            replies_lost: self.harness.replies_lost(),
        }
    }

    async fn signals(&self) -> BTreeMap<(usize, String), Vec<String>> {
        let mut signals = BTreeMap::<_, Vec<String>>::new();
        for signal in self.log().await {
            signals.entry((signal.kind, signal.key)).or_default().push(signal.path);
        }
        signals
    }

    /// All signals, in the order of the log.
    async fn log(&self) -> Vec<AnySignal> {
        let recorded = self.harness.recorded().await;
        recorded.iter().filter_map(|recorded| AnySignal::decode(&recorded.envelope).ok()).collect()
    }

    /// Where the order of the log was not kept: by the read model, or by a reaction, key by key.
    async fn contradictions(&self) -> Vec<String> {
        let log = self.log().await;
        let mut found = Vec::new();
        for key in (0..KEYS).map(key_name) {
            let in_order: Vec<&String> =
                log.iter().filter(|signal| signal.key == key).map(|signal| &signal.path).collect();
            let seen = self.harness.view::<Seen>().get(&key).await.expect("memory can be read");
            if !seen.iter().flatten().eq(in_order.iter().copied()) {
                found.push(format!("the read model of {key} shows {seen:?}, the log {in_order:?}"));
            }
            for ((handler, _), did) in self.world.effects().iter().filter(|((_, of), _)| *of == key) {
                let places: Vec<Option<usize>> =
                    did.iter().map(|path| in_order.iter().position(|known| *known == path)).collect();
                if !places.is_sorted() {
                    found.push(format!(
                        "reordered: {handler} did {did:?} of {key}, the log says {in_order:?}"
                    ));
                }
            }
        }
        found
    }

    async fn balances(&self, program: &Program) -> BTreeMap<String, i64> {
        let accounts = Aggregates::<Account>::new(self.harness.store().clone());
        let mut balances = BTreeMap::new();
        for act in &program.acts {
            if let Act::Move { key, .. } = act {
                let loaded = accounts.load(&key_name(*key)).await.expect("memory can be read");
                balances.insert(key_name(*key), loaded.state.balance);
            }
        }
        balances
    }
}

fn publish<const KIND: usize>(harness: &mut Harness, key: u64, path: String) -> LocalBoxFuture<'_, ()> {
    let signal = Signal::<KIND> { key: key_name(key), path, cents: 0 };
    harness.publish(signal).map(drop).boxed_local()
}

async fn sagas(harness: &Harness) -> BTreeMap<String, SagaEnd> {
    let heads = head::list(&**harness.store()).await.expect("heads can be read");
    let step = |name: &str| name.trim_start_matches("step").parse().expect("steps are numbered");
    heads
        .into_iter()
        .map(|head| {
            let number: usize = head.saga.trim_start_matches("saga").parse().expect("sagas are numbered");
            let end = SagaEnd {
                ending: head.status.into(),
                undone: head.undone.iter().map(|name| step(name)).collect(),
                has_late_success: false,
            };
            (instance(number, &head.key), end)
        })
        .collect()
}
