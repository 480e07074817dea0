//! Customers order, a bounded number at a time, until every order has ended.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ensue::core::EventId;
use ensue::runtime::app::Quiescence;
use ensue::runtime::dead;
use ensue::{Code, Error, Host, Position, Running, Store, StoreExt};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::Progress;
use super::plan::Plan;
use super::watch::Watch;
use crate::events::OrderPlaced;
use crate::{Style, orders};

/// Orders that are under way at the same time, at most.
const UNDER_WAY_MAX: u64 = 512;
/// One in so many orders is under way in a small demonstration, so that it shows orders and not a queue.
const UNDER_WAY_SHARE: u64 = 16;
/// When nothing has happened for so long, somebody looks why.
const QUIET: Duration = Duration::from_secs(1);
/// What is still in hand when everything else is done is looked at again after so long.
const BRIEF: Duration = Duration::from_millis(10);

/// Places what is missing and waits until every order has ended.
pub(super) async fn serve(
    running: &Running,
    host: &Host,
    plan: Plan,
    style: Style,
    progress: &mut impl FnMut(Progress),
) -> Result<Watch, Error> {
    let store = Arc::clone(running.store());
    let mut watch = Watch::new(style, plan.orders, plan.broken(style));
    watch.read(&*store, store.head().await?).await?;
    watch.ended_before = watch.outcomes.ended();
    let mut wanted = orders(plan.seed, plan.orders);
    let under_way_max = (plan.orders / UNDER_WAY_SHARE).clamp(2, UNDER_WAY_MAX);
    let mut under_way = watch.open();
    let mut placing = FuturesUnordered::new();
    loop {
        while under_way < under_way_max {
            let Some(order) = wanted.next() else { break };
            if watch.is_placed(&order) {
                continue;
            }
            // Broken orders do not end, so nobody waits for them here.
            under_way += u64::from(!watch.is_broken(order.order_id.as_str()));
            placing.push(place(running, host, order));
        }
        if under_way == 0 && placing.is_empty() {
            return Ok(watch);
        }
        tokio::select! {
            Some(placed) = placing.next() => placed?,
            head = store.advanced(watch.position) => {
                let ended = watch.outcomes.ended();
                meanwhile(&mut placing, catch_up(&mut watch, &*store, head)).await??;
                under_way = under_way.saturating_sub(watch.outcomes.ended() - ended);
                progress(Progress { style, ended: watch.outcomes.ended(), orders: plan.orders.max(watch.placed) });
            }
            () = host.clock.sleep(QUIET) => meanwhile(&mut placing, look_why(running, &*store, &watch)).await??,
        }
    }
}

/// Goes on placing while something else is waited for. A call that has been given a connection of the store and is not asked again keeps
/// it, and with enough of those there is none left for what is waited for.
async fn meanwhile<T>(
    placing: &mut FuturesUnordered<impl Future<Output = Result<(), Error>>>,
    what: impl Future<Output = T>,
) -> Result<T, Error> {
    let mut what = pin!(what);
    loop {
        tokio::select! {
            done = &mut what => return Ok(done),
            Some(placed) = placing.next() => placed?,
        }
    }
}

/// Waits until every order of the plan has ended that is not broken. Others place them.
pub(super) async fn follow(
    running: &Running,
    host: &Host,
    plan: Plan,
    style: Style,
    progress: &mut impl FnMut(Progress),
) -> Result<(), Error> {
    let store = Arc::clone(running.store());
    let mut watch = Watch::new(style, plan.orders, plan.broken(style));
    watch.read(&*store, store.head().await?).await?;
    while watch.open() > 0 || !watch.are_placed(plan.orders) {
        tokio::select! {
            head = store.advanced(watch.position) => {
                catch_up(&mut watch, &*store, head).await?;
                progress(Progress { style, ended: watch.outcomes.ended(), orders: plan.orders.max(watch.placed) });
            }
            () = host.clock.sleep(QUIET) => look_why(running, &*store, &watch).await?,
        }
    }
    Ok(())
}

/// Waits until the broken orders are as far as they come: every handler has done with them what it can, and what operators
/// asked for is done.
pub(super) async fn wait_for_broken(running: &Running, host: &Host, watch: &mut Watch) -> Result<(), Error> {
    let store = Arc::clone(running.store());
    loop {
        let head = store.head().await?;
        running.settled(head).await;
        watch.read(&*store, head).await?;
        // What an operator asked for while nobody ran goes on now: redrives, timers that are due.
        let is_idle = running.quiescence().await? == Quiescence::Idle;
        let is_given_up = watch.undo_is_given_up();
        if is_idle && is_given_up && store.head().await? == head {
            return Ok(());
        }
        let pause = if is_given_up { BRIEF } else { QUIET };
        tokio::select! {
            head = store.advanced(head) => drop(head?),
            () = host.clock.sleep(pause) => look_why(running, &*store, watch).await?,
        }
    }
}

/// Reads up to the head, as far as the store is there.
async fn catch_up(watch: &mut Watch, store: &dyn Store, head: Result<Position, Error>) -> Result<(), Error> {
    if let Some(head) = unless_away(head)? {
        unless_away(watch.read(store, head).await)?;
    }
    Ok(())
}

/// What came of a call; nothing where the store is away for a while, which a demonstration outlasts.
fn unless_away<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Err(error) if error.is_retryable() && error.code() != Code::CLOSED => Ok(None),
        answer => answer.map(Some),
    }
}

/// The id belongs to the order, so that an order is placed once however often it is tried.
async fn place(running: &Running, host: &Host, order: OrderPlaced) -> Result<(), Error> {
    let id = EventId::new(format!("place-{}", order.order_id))?;
    while unless_away(running.publish_as(id.clone(), order.clone()).await)?.is_none() {
        host.clock.sleep(QUIET).await;
    }
    Ok(())
}

/// A service that has stopped, or an order that waits for a person, would be waited for in vain.
async fn look_why(running: &Running, store: &dyn Store, watch: &Watch) -> Result<(), Error> {
    if let Some((handler, error)) = running.halted().into_iter().next() {
        return Err(Error::new(error.code(), format!("{handler} has stopped: {}", error.message()))
            .with_fix(error.fix().to_owned()));
    }
    let Some(letters) = unless_away(dead::list(store).await)? else { return Ok(()) };
    let Some(letter) = letters.iter().find(|letter| !watch.is_broken(&letter.parked.key)) else {
        return Ok(());
    };
    Err(Error::new(Code::KEY_PARKED, format!("{} has parked {}", letter.handler, letter.parked.key))
        .with_fix("`ensue dead ls` shows why; redrive it, then `ensue demo --resume`"))
}
