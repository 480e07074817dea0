//! A scenario under many combinations of misfortunes, and the smallest of them under which it fails, as a test.

use std::any::Any;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;

use crate::SeededEntropy;
use crate::harness::{Crash, Harness, Misfortune};
use crate::verifier::said;

/// Runs that shrinking may take.
const SHRINKING_RUNS_MAX: u32 = 300;
/// A slow store is at most this slow.
const SLOWNESS_MS_MAX: u64 = 40;

/// What an exploration went through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Explored {
    /// Runs of the scenario.
    pub runs: u64,
    /// Crashes over all runs.
    pub crashes: u64,
    /// Replies lost over all runs.
    pub replies_lost: u64,
}

/// Runs a scenario under so many combinations of misfortunes: deliveries that come twice, crashes and lost replies at
/// any commit, lanes that overtake each other, a slow store. If it fails under one of them, the misfortunes are taken
/// away one by one as long as it still fails, and what is left is printed as a test that can be pasted.
///
/// The scenario asserts what must hold in spite of everything. It is run once without misfortunes first.
///
/// ```
/// # use {ensue_macros::Event, ensue_runtime::App, serde::{Deserialize, Serialize}};
/// # #[derive(Event, Serialize, Deserialize)]
/// # #[event(crate = ensue_core, topic = "Order", key = order)]
/// # struct OrderPlaced { order: String }
/// # #[derive(Event, Serialize, Deserialize)]
/// # #[event(crate = ensue_core, topic = "Payment", key = order)]
/// # struct PaymentCompleted { order: String }
/// # async fn take_payment(placed: OrderPlaced) -> PaymentCompleted { PaymentCompleted { order: placed.order } }
/// use ensue_test::{Harness, explore};
///
/// fn shop() -> Harness {
///     Harness::new(|app: App| app.external::<OrderPlaced>().react("take-payment", take_payment))
/// }
///
/// async fn every_order_is_paid_once(shop: &mut Harness) {
///     shop.publish(OrderPlaced { order: "ORD-1".into() }).await;
///     shop.settle().await;
///     shop.assert_events(["OrderPlaced", "PaymentCompleted"]).await;
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let explored = explore(50, shop, every_order_is_paid_once).await;
/// assert!(explored.crashes > 0 && explored.replies_lost > 0, "{explored:?}");
/// # }
/// ```
///
/// # Panics
/// If the scenario fails; the message holds the test.
pub async fn explore<H, S>(seeds: u64, harness: H, scenario: S) -> Explored
where
    H: Fn() -> Harness,
    S: AsyncFn(&mut Harness),
{
    let explorer = Explorer { harness, scenario };
    let mut explored = Explored::default();
    let commits = match explorer.run(&[], &mut explored).await {
        Ok(commits) => commits,
        Err(panic) => panic!("the scenario fails without any misfortune: {}", said(&*panic)),
    };
    for seed in 0..seeds {
        let misfortunes = misfortunes_of(seed, commits);
        if let Err(panic) = explorer.run(&misfortunes, &mut explored).await {
            let found = explorer.shrink(Found { misfortunes, said: said(&*panic) }).await;
            panic!("{}", Report { seed, found, calls: (name_of::<H>("harness"), name_of::<S>("scenario")) });
        }
    }
    explored
}

/// What goes wrong under this seed.
fn misfortunes_of(seed: u64, commits: u64) -> Vec<Misfortune> {
    let dice = SeededEntropy::new(seed);
    let mut misfortunes = Vec::new();
    misfortunes.extend((dice.below(3) == 0).then_some(Misfortune::DeliverTwice));
    misfortunes.extend((dice.below(2) == 0).then(|| Misfortune::ReorderAcrossKeys(dice.below(1_000))));
    misfortunes.extend((dice.below(4) == 0).then(|| slow(1 + dice.below(SLOWNESS_MS_MAX))));
    misfortunes.extend((0..dice.below(3)).map(|_| {
        let number = 1 + dice.below(commits);
        Misfortune::Crash(if dice.below(2) == 0 { Crash::Before(number) } else { Crash::After(number) })
    }));
    misfortunes.extend((0..dice.below(3)).map(|_| Misfortune::LoseReply(1 + dice.below(commits))));
    misfortunes
}

fn slow(millis: u64) -> Misfortune {
    Misfortune::Slow(Duration::from_millis(millis))
}

struct Explorer<H, S> {
    harness: H,
    scenario: S,
}

/// Misfortunes under which the scenario fails, and what its failed assertion said.
struct Found {
    misfortunes: Vec<Misfortune>,
    said: String,
}

impl<H: Fn() -> Harness, S: AsyncFn(&mut Harness)> Explorer<H, S> {
    /// Runs the scenario; gives the number of commits, or the panic.
    async fn run(
        &self,
        misfortunes: &[Misfortune],
        explored: &mut Explored,
    ) -> Result<u64, Box<dyn Any + Send>> {
        let mut harness = (self.harness)().suffer(misfortunes.iter().copied());
        let result = AssertUnwindSafe((self.scenario)(&mut harness)).catch_unwind().await;
        explored.runs += 1;
        explored.crashes += u64::from(harness.crashes());
        explored.replies_lost += u64::from(harness.replies_lost());
        result.map(|()| harness.commits())
    }

    /// Takes away and makes smaller as long as it still fails.
    async fn shrink(&self, mut found: Found) -> Found {
        let mut runs = 0;
        'smaller: loop {
            for misfortunes in smaller(&found.misfortunes) {
                runs += 1;
                if runs > SHRINKING_RUNS_MAX {
                    return found;
                }
                if let Err(panic) = self.run(&misfortunes, &mut Explored::default()).await {
                    found = Found { misfortunes, said: said(&*panic) };
                    continue 'smaller;
                }
            }
            return found;
        }
    }
}

/// First without each misfortune, then with each a little less bad.
fn smaller(misfortunes: &[Misfortune]) -> Vec<Vec<Misfortune>> {
    let without = (0..misfortunes.len()).map(|at| {
        let mut fewer = misfortunes.to_vec();
        fewer.remove(at);
        fewer
    });
    let milder = misfortunes.iter().enumerate().flat_map(|(at, misfortune)| {
        milder(*misfortune).into_iter().map(move |milder| {
            let mut changed = misfortunes.to_vec();
            changed.splice(at..=at, [milder]);
            changed
        })
    });
    without.chain(milder).collect()
}

/// The same misfortune, smaller: an earlier commit, a smaller seed, a shorter wait.
fn milder(misfortune: Misfortune) -> Vec<Misfortune> {
    let below =
        |number: u64| [number / 2, number.saturating_sub(1)].into_iter().filter(move |less| *less < number);
    match misfortune {
        Misfortune::DeliverTwice => Vec::new(),
        Misfortune::ReorderAcrossKeys(seed) => {
            (0..seed.min(4)).chain(below(seed)).map(Misfortune::ReorderAcrossKeys).collect()
        }
        Misfortune::Crash(_) | Misfortune::LoseReply(_) => below(misfortune.commit().unwrap_or_default())
            .filter(|commit| *commit > 0)
            .map(|commit| misfortune.at_commit(commit))
            .collect(),
        Misfortune::Slow(by) => {
            let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
            below(millis).filter(|millis| *millis > 0).map(slow).collect()
        }
    }
}

/// How a function that was handed in is called, if it has a name.
fn name_of<T>(otherwise: &str) -> String {
    let name = std::any::type_name::<T>().rsplit("::").next().unwrap_or_default();
    let is_name = !name.is_empty() && name.chars().all(|letter| letter.is_alphanumeric() || letter == '_');
    if is_name { name.to_owned() } else { otherwise.to_owned() }
}

/// What is printed.
struct Report {
    seed: u64,
    found: Found,
    /// What gives the harness, and the scenario.
    calls: (String, String),
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { misfortunes, said } = &self.found;
        let (harness, scenario) = &self.calls;
        writeln!(f, "the scenario fails under the misfortunes of seed {}: {said}\n", self.seed)?;
        writeln!(f, "The least that it takes, as a test:\n")?;
        writeln!(f, "#[tokio::test]\nasync fn {scenario}_in_spite_of_misfortune() {{")?;
        write!(f, "    let mut harness = {harness}()")?;
        for misfortune in misfortunes {
            write!(f, "{misfortune}")?;
        }
        writeln!(f, ";\n    {scenario}(&mut harness).await;\n}}")
    }
}
