//! A mounted read model in tables with its type erased: what operators and the application do with it by name.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use ensue_core::{BoxFuture, Code, Error, Revision};

use super::guard::Guard;
use super::keeper::{Keeper, tables_of};
use super::{TableProjection, rebuild, verify};
use crate::policy::OnFailure;
use crate::progress::lock;
use crate::projection::audit::Audit;
use crate::projection::build::Progress;
use crate::projection::compare::{Difference, positions};
use crate::projection::generation;
use crate::projection::hold::Holder;
use crate::projection::model::{self, Model, ModelStatus, Over};
use crate::projection::pace::Load;
use crate::projection::rebuild::Rebuilt;
use crate::spaces::{DEAD, DISCARDED};

/// Looks at the build of another process that does not move on, before it is taken for dead: some seconds, at the pace at
/// which a start is tried again.
const LOOKS_MAX: u32 = 50;

pub(crate) struct TableModel<P> {
    keeper: Arc<Keeper<P>>,
    progress: Arc<Progress>,
    is_building: AtomicBool,
    /// The build of another process, as it was seen last, and how often it was seen so.
    other: Mutex<(Revision, u32)>,
}

impl<P: TableProjection> TableModel<P> {
    pub(crate) fn new(keeper: Keeper<P>) -> Self {
        Self {
            keeper: Arc::new(keeper),
            progress: Arc::default(),
            is_building: AtomicBool::new(false),
            other: Mutex::default(),
        }
    }

    async fn build(&self, load: Load, lanes: Option<&Holder>) -> Result<Rebuilt, Error> {
        let _over = Over::begin(&self.is_building, P::NAME)?;
        rebuild::run(&self.keeper, load, &self.progress, lanes).await
    }

    /// The live tables are made if there are none, and built if they are of another version.
    async fn make_ready(&self) -> Result<(), Error> {
        let live = self.keeper.live().await?;
        let has_run = self.keeper.checkpoints().await?.has_run();
        if live.revision == Revision::ZERO && !has_run {
            return self.make().await;
        }
        if live.revision > Revision::ZERO && tables_of(&*self.keeper.target, P::NAME, None).await?.is_none() {
            let message = format!("another read model keeps documents under the name {}", P::NAME);
            return Err(Error::new(Code::DUPLICATE_HANDLER, message).with_fix("give the tables another name"));
        }
        if live.revision == Revision::ZERO || live.generation.version != P::VERSION {
            return self.build_in_turn().await;
        }
        self.check_fit().await.inspect_err(|error| {
            if !error.is_retryable() {
                self.keeper.fit.refuse(error);
            }
        })
    }

    async fn make(&self) -> Result<(), Error> {
        let made = self.keeper.make().await;
        // Another process may have made them at the same moment.
        let is_made = made.is_err() && self.keeper.live().await?.revision > Revision::ZERO;
        if is_made { Ok(()) } else { made }
    }

    /// Builds, unless another process is at it: then it is waited for, and taken over where it does not move on.
    async fn build_in_turn(&self) -> Result<(), Error> {
        let busy = || Error::new(Code::BUSY, format!("another process builds {}", P::NAME));
        let target = &*self.keeper.target;
        let under_way = generation::building(target, P::NAME).await?;
        if let Some(revision) = under_way.filter(|_| target.capabilities().can_share) {
            let mut other = lock(&self.other);
            *other = if other.0 == revision { (revision, other.1 + 1) } else { (revision, 0) };
            if other.1 < LOOKS_MAX {
                return Err(busy());
            }
        }
        match self.build(self.keeper.setup.load, None).await {
            Ok(_) => Ok(()),
            // Taken over.
            Err(error) if error.code() == Code::STALE_RECORD => Err(busy()),
            Err(error) => Err(error),
        }
    }

    /// `E0323` unless tables elsewhere are where the log can have left them.
    async fn check_fit(&self) -> Result<(), Error> {
        let keeper = &self.keeper;
        if !keeper.is_elsewhere {
            return Ok(());
        }
        let guard = Guard::load(&*keeper.target, P::NAME).await?;
        guard.check(&*keeper.log, P::NAME).await?;
        let checkpoints = keeper.checkpoints().await?;
        let settled = checkpoints.settled().into_iter().min().unwrap_or_default();
        if !checkpoints.has_run() || settled <= guard.position {
            return Ok(());
        }
        let mut left_out = positions(&*keeper.log, P::NAME, &DEAD).await?;
        left_out.extend(positions(&*keeper.log, P::NAME, &DISCARDED).await?);
        let missing =
            keeper.settled_after(guard.position.max(keeper.beginning()), settled, &left_out).await?;
        let skipped = match keeper.setup.settings.on_failure {
            OnFailure::Skip => checkpoints.lane(0).0.tally.map_or(0, |tally| tally.skipped),
            _ => 0,
        };
        if missing <= skipped {
            return Ok(());
        }
        let (at, name) = (guard.position, P::NAME);
        let message = format!(
            "the tables of {name} are behind the log: they stand at position {at}, and {missing} events up to {settled} were settled"
        );
        Err(Error::new(Code::TABLES_APART, message))
    }
}

impl<P: TableProjection> Model for TableModel<P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn rebuild<'a>(&'a self, load: Load, lanes: Option<&'a Holder>) -> BoxFuture<'a, Result<Rebuilt, Error>> {
        Box::pin(self.build(load, lanes))
    }

    fn verify<'a>(&'a self, lanes: Option<&'a Holder>) -> BoxFuture<'a, Result<Difference, Error>> {
        Box::pin(async move {
            let _over = Over::begin(&self.is_building, P::NAME)?;
            verify::run(&self.keeper, &self.progress, lanes).await
        })
    }

    fn audit<'a>(&'a self, _lanes: Option<&'a Holder>) -> BoxFuture<'a, Result<Audit, Error>> {
        Box::pin(async {
            let message = format!("{} keeps tables, whose rows the lanes do not count", P::NAME);
            Err(Error::new(Code::UNSUPPORTED, message)
                .with_fix("verify it, which compares every row with a replay"))
        })
    }

    fn status(&self) -> BoxFuture<'_, Result<ModelStatus, Error>> {
        Box::pin(async {
            let status = model::status(&*self.keeper.log, P::NAME, P::VERSION).await?;
            let is_building = self.is_building.load(Ordering::Acquire);
            let live = self.keeper.live().await?.generation;
            Ok(ModelStatus { live, building: is_building.then(|| self.progress.snapshot()), ..status })
        })
    }

    fn prepare(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.make_ready())
    }

    fn activate(&self) -> BoxFuture<'_, Result<bool, Error>> {
        Box::pin(async { Ok(true) })
    }

    fn clear(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(rebuild::clear(&self.keeper))
    }
}
