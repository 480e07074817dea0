//! Tables compared with a replay of the log: the same events are taken into new tables beside the live ones, and the database
//! compares the rows.

use std::collections::HashSet;
use std::sync::Arc;

use ensue_core::{Code, Error, Position, SqlSession};

use super::TableProjection;
use super::build::Builder;
use super::guard::Guard;
use super::keeper::Keeper;
use super::rebuild::clear;
use crate::projection::audit;
use crate::projection::build::Progress;
use crate::projection::compare::{Difference, LISTED_MAX, positions};
use crate::projection::generation::Site;
use crate::projection::hold::Holder;
use crate::projection::pace::Load;
use crate::spaces::{DEAD, DISCARDED};

/// Replays, compares, drops. The lanes are stopped while the rows are compared.
pub(super) async fn run<P: TableProjection>(
    keeper: &Arc<Keeper<P>>,
    progress: &Arc<Progress>,
    lanes: Option<&Holder>,
) -> Result<Difference, Error> {
    let live = keeper.live().await?.generation;
    if live.version != P::VERSION {
        let message =
            format!("{} is at version {}, this code is version {}", P::NAME, live.version, P::VERSION);
        return Err(Error::new(Code::VIEW_NOT_BUILT, message));
    }
    clear(keeper).await?;
    let site = Site::open(&*keeper.target, P::NAME, P::VERSION).await?;
    let (found, site) = match Builder::begin(Arc::clone(keeper), site, Load::Full, Arc::clone(progress)).await
    {
        Ok(mut builder) => (compare(&mut builder, lanes).await, builder.site),
        Err((error, site)) => (Err(error), site),
    };
    let abandoned = site.abandon(&*keeper.target).await;
    let found = found?;
    abandoned?;
    clear(keeper).await?;
    if !found.is_none() {
        audit::report(&*keeper.log, P::NAME, vec![found.in_words()], keeper.host.clock.now()).await?;
    }
    Ok(found)
}

async fn compare<P: TableProjection>(
    builder: &mut Builder<P>,
    lanes: Option<&Holder>,
) -> Result<Difference, Error> {
    let keeper = Arc::clone(&builder.keeper);
    let floor = bounds(&keeper).await?.into_iter().min().unwrap_or_default();
    let left_out = letters(&keeper).await?;
    builder.leave_out(&left_out);
    builder.take_until(floor, &[]).await?;
    let _held = match lanes {
        Some(lanes) => Some(lanes.stop().await?),
        None => None,
    };
    let until = resting(&keeper).await?;
    let now_left_out = letters(&keeper).await?;
    if left_out.symmetric_difference(&now_left_out).any(|position| *position <= floor) {
        return Err(moved(P::NAME));
    }
    builder.leave_out(&now_left_out);
    builder.take_until(until.iter().max().copied().unwrap_or_default(), &until).await?;
    let (_transaction, session) = keeper.begin().await?;
    let mut difference = Difference { events: builder.events, ..Difference::default() };
    for (beside, live) in builder.names.to_declared() {
        let rows = session.compare_tables(live, beside, LISTED_MAX).await?;
        difference.documents += rows.rows;
        difference.missing.extend(rows.missing);
        difference.added.extend(rows.added);
        difference.unlisted += rows.unlisted;
    }
    drop(session);
    // Another process may have moved on meanwhile, which no hold of ours stops.
    if bounds(&keeper).await? == until { Ok(difference) } else { Err(moved(P::NAME)) }
}

fn moved(name: &str) -> Error {
    Error::new(Code::BUSY, format!("{name} was moved on by another process while it was compared"))
        .with_fix("try again, or when less is going on")
}

/// How far the live tables are once the lanes are stopped. A commit that a lane had handed to the database when it was stopped may
/// still take hold: whoever begins a transaction then comes behind it.
async fn resting<P: TableProjection>(keeper: &Keeper<P>) -> Result<Vec<Position>, Error> {
    drop(keeper.begin().await?);
    bounds(keeper).await
}

/// How far the live tables are, lane by lane.
async fn bounds<P: TableProjection>(keeper: &Keeper<P>) -> Result<Vec<Position>, Error> {
    if keeper.is_elsewhere {
        return Ok(vec![Guard::load(&*keeper.target, P::NAME).await?.position]);
    }
    let settled = keeper.checkpoints().await?.settled();
    let has_run = !settled.is_empty();
    Ok(if has_run { settled } else { vec![keeper.beginning(); usize::from(keeper.setup.settings.lanes)] })
}

/// What the live tables have not taken.
async fn letters<P: TableProjection>(keeper: &Keeper<P>) -> Result<HashSet<Position>, Error> {
    let mut letters = positions(&*keeper.log, P::NAME, &DEAD).await?;
    letters.extend(positions(&*keeper.log, P::NAME, &DISCARDED).await?);
    Ok(letters)
}
