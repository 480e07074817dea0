//! Blue/green with tables: new ones are filled beside the live ones and get their names in one commit, which also says where
//! they stand. Whatever ends it before that commit leaves the live tables as they are; what was built is dropped.

use std::sync::Arc;

use ensue_core::{
    Code, Commit, CommitError, Error, RecordScan, RecordWrite, Replacement, SqlSession, Store, StoreExt,
};

use super::TableProjection;
use super::build::Builder;
use super::guard::Guard;
use super::keeper::{Keeper, forget_tables, held_by_none, is_overtaken, put_tables, tables_of};
use crate::lane::STORE_PAUSE;
use crate::projection::audit;
use crate::projection::build::Progress;
use crate::projection::compare::positions;
use crate::projection::generation::{self, Generation, Live, Site};
use crate::projection::hold::Holder;
use crate::projection::pace::Load;
use crate::projection::rebuild::{Rebuilt, SWITCHES_MAX};
use crate::projection::subscription_name;
use crate::spaces::{self, DEAD, DISCARDED, HALTED, REDRIVE, VIEW};

/// Times that a switch waits for who reads the old tables, each about as long as its database lets it, before the build is given
/// up.
const WAITS_MAX: u32 = 20;

/// Builds, switches, drops. The lanes are stopped for the switch alone.
pub(super) async fn run<P: TableProjection>(
    keeper: &Arc<Keeper<P>>,
    load: Load,
    progress: &Arc<Progress>,
    lanes: Option<&Holder>,
) -> Result<Rebuilt, Error> {
    let began = keeper.host.clock.monotonic();
    clear(keeper).await?;
    let live = keeper.live().await?;
    let old = tables_of(&*keeper.target, P::NAME, None).await?.unwrap_or_default();
    check_free(keeper, &old).await?;
    let site = Site::open(&*keeper.target, P::NAME, P::VERSION).await?;
    let generation = site.generation;
    let result = build_and_switch(keeper, site, (live, &old), (load, progress), lanes).await;
    let (events, dropped) = match result {
        Ok(done) => done,
        Err((error, site)) => {
            let taken_over = site.check(&*keeper.target).await.err();
            let error = taken_over.filter(|error| error.code() == Code::STALE_RECORD).unwrap_or(error);
            // Fenced: if another build has taken over, this one is on record as left over already.
            let _abandoned = site.abandon(&*keeper.target).await.is_ok();
            let _cleared = clear(keeper).await.is_ok();
            return Err(error);
        }
    };
    let seconds = keeper.host.clock.monotonic().saturating_sub(began).as_secs_f64();
    Ok(Rebuilt { generation, events, dropped, seconds, difference: None })
}

/// What hangs on the live tables would be lost: that is said before the work, not after it.
async fn check_free<P: TableProjection>(keeper: &Keeper<P>, old: &[String]) -> Result<(), Error> {
    let (_transaction, session) = keeper.begin().await?;
    held_by_none::<P>(&session, old.to_vec()).await
}

/// How many events it took, and how many the log had dropped before it had read anything.
async fn build_and_switch<P: TableProjection>(
    keeper: &Arc<Keeper<P>>,
    site: Site,
    (live, old): (Live, &[String]),
    (load, progress): (Load, &Arc<Progress>),
    lanes: Option<&Holder>,
) -> Result<(u64, u64), (Error, Site)> {
    let mut builder = Builder::begin(Arc::clone(keeper), site, load, Arc::clone(progress)).await?;
    let worked: Result<(), Error> = async {
        builder.leave_out(&positions(&*keeper.log, P::NAME, &DISCARDED).await?);
        builder.catch_up().await?;
        let held = match lanes {
            Some(lanes) => Some(lanes.stop().await?),
            None => None,
        };
        switch(&mut builder, &live, old).await?;
        // Before the lanes go on: they would stop again for what was wrong with the old tables.
        builder.keeper.fit.mend();
        drop(held);
        Ok(())
    }
    .await;
    match worked {
        Ok(()) => Ok((builder.events, builder.kept.dropped())),
        Err(error) => Err((error, builder.site)),
    }
}

/// One commit: the new tables have the names, and the checkpoint, or the guard, stands where they stand.
async fn switch<P: TableProjection>(
    builder: &mut Builder<P>,
    live: &Live,
    old: &[String],
) -> Result<(), Error> {
    let keeper = Arc::clone(&builder.keeper);
    let (mut tries, mut waits) = (0, 0);
    loop {
        let checkpoints = keeper.checkpoints().await?;
        let guard = Guard::load(&*keeper.target, P::NAME).await?;
        // Not before where the old ones stand, so that nobody who has waited for a position sees an older state.
        builder.catch_up().await?;
        let mut records = builder.site.switch_places(live);
        records.push(put_tables::<P>(None, &keeper.live_names));
        records.push(forget_tables(P::NAME, builder.site.generation));
        if keeper.is_elsewhere {
            records.push(guard.built(&*keeper.log, builder.position).await?.write(P::NAME));
        } else {
            records.extend(checkpoints.moved(builder.position, &builder.lanes));
            records.extend(forgotten::<P>(&*keeper.log).await?);
        }
        match replace(builder, old, records).await {
            Ok(()) => break,
            // A lane has settled at this moment: what it had is taken too, and it is tried again.
            Err(CommitError::RecordConflict { write, .. })
                if !is_of_build(&write) && tries < SWITCHES_MAX =>
            {
                tries += 1;
            }
            // Somebody reads the old tables in a long transaction. Others may read them too before it is tried again.
            Err(CommitError::Other(error)) if is_locked(&error) && waits < WAITS_MAX => {
                waits += 1;
                keeper.host.clock.sleep(STORE_PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    if keeper.is_elsewhere { follow(builder).await } else { Ok(()) }
}

/// The tables change places in the transaction that takes these records.
async fn replace<P: TableProjection>(
    builder: &Builder<P>,
    old: &[String],
    records: Vec<RecordWrite>,
) -> Result<(), CommitError> {
    let (transaction, session) = builder.keeper.begin().await?;
    held_by_none::<P>(&session, old.to_vec()).await?;
    let replacement = Replacement {
        // Tables that refer to others are declared, and so made, after them.
        dropped: old.iter().rev().cloned().collect(),
        renamed: builder.names.to_declared(),
    };
    session.replace_tables(replacement).await?;
    drop(session);
    transaction.commit(Commit { records, ..Commit::default() }).await.map(|_| ())
}

fn is_locked(error: &Error) -> bool {
    matches!(error.code(), Code::DATABASE_TIMEOUT | Code::DATABASE_LOCKED)
}

/// Whether it is the build or the live generation that somebody else has changed, rather than a lane that has moved on.
fn is_of_build(write: &RecordWrite) -> bool {
    write.space == *VIEW && !write.key.ends_with(b"guard")
}

/// What was parked or had stopped is in the new tables.
async fn forgotten<P: TableProjection>(log: &dyn Store) -> Result<Vec<RecordWrite>, Error> {
    let subscription = subscription_name(P::NAME);
    let mut records = vec![RecordWrite::delete(VIEW.clone(), audit::alarm_key(P::NAME))];
    for space in [&*DEAD, &*HALTED, &*REDRIVE] {
        let scan = RecordScan::prefix(space.clone(), spaces::within(&[&subscription]));
        let old = log.records(scan).await?;
        records.extend(old.into_iter().map(|record| RecordWrite::delete(space.clone(), record.key)));
    }
    Ok(records)
}

/// Brings the log of tables elsewhere to where they are. Nothing depends on it but how soon: what is delivered or worked off
/// before is found to be in the tables.
async fn follow<P: TableProjection>(builder: &Builder<P>) -> Result<(), Error> {
    let (log, generation) = (&builder.keeper.log, builder.site.generation);
    for _ in 0..SWITCHES_MAX {
        let checkpoints = builder.keeper.checkpoints().await?;
        let at = checkpoints.floor().max(builder.position);
        // For who lists the read models of the log.
        let mut records = vec![generation::live_write(P::NAME, generation)];
        if at == builder.position {
            records.extend(checkpoints.moved(at, &builder.lanes));
            records.extend(forgotten::<P>(&**log).await?);
        }
        match log.commit(Commit { records, ..Commit::default() }).await {
            Ok(_) => return Ok(()),
            Err(error) if is_overtaken(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Drops what builds that were given up have left.
pub(super) async fn clear<P: TableProjection>(keeper: &Keeper<P>) -> Result<(), Error> {
    for generation in generation::retired(&*keeper.target, P::NAME).await? {
        drop_tables(keeper, generation).await?;
    }
    Ok(())
}

async fn drop_tables<P: TableProjection>(keeper: &Keeper<P>, generation: Generation) -> Result<(), Error> {
    let tables = tables_of(&*keeper.target, P::NAME, Some(generation)).await?.unwrap_or_default();
    let (transaction, session) = keeper.begin().await?;
    let dropped = tables.into_iter().rev().collect();
    session.replace_tables(Replacement { dropped, renamed: Vec::new() }).await?;
    drop(session);
    let records = vec![generation.forget_retired(P::NAME), forget_tables(P::NAME, generation)];
    transaction.commit(Commit { records, ..Commit::default() }).await?;
    Ok(())
}
