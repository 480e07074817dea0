//! Mounting read models.

use std::sync::Arc;

use ensue_core::{Code, Error, EventSet, StoreCapabilities};

use super::{App, Build, BuildModel, Parts};
use crate::catalogue::HandlerKind;
use crate::projection::{
    self, Fit, Keeper, ModelOf, Projection, ProjectionHandler, TableHandler, TableModel, TableProjection,
    subscription_name,
};
use crate::subscription::Shared;

impl App {
    /// Mounts a read model.
    #[must_use]
    pub fn project<P: Projection>(mut self, projection: P) -> Self {
        self.know(P::Event::types());
        let setup = projection::setup_of(&projection);
        let settings = setup.settings;
        let is_inline = setup.is_inline;
        let projection = Arc::new(projection);
        if is_inline {
            self.mount_inline(&projection);
        }
        let mounted = Arc::clone(&projection);
        let build: Build = Box::new(move |parts| {
            Ok(Arc::new(ProjectionHandler {
                projection,
                store: Arc::clone(&parts.shared.store),
                caches: parts.caches.clone(),
                host: parts.shared.press.host.clone(),
            }))
        });
        let name = subscription_name(P::NAME);
        self.mount(&name, HandlerKind::Projection, &settings, &ProjectionHandler::<P>::types(), &[], build);
        let model: BuildModel = Box::new(move |parts| {
            let Shared { store, press, inline, .. } = &*parts.shared;
            let model = ModelOf::new(mounted, Arc::clone(store), press.host.clone());
            Arc::new(model.behind(inline.gate()))
        });
        if let Some(mount) = self.mounts.last_mut() {
            mount.model = Some(model);
        }
        self
    }

    /// Mounts a read model in tables of the application's own. Page by page, its rows and its checkpoint are one transaction of
    /// the database, which is that of the store, or another one
    /// ([`on`](crate::TableProjectionExt::on)).
    #[must_use]
    pub fn project_tables<P: TableProjection>(mut self, projection: P) -> Self {
        self.know(P::Event::types());
        let setup = projection::table_setup_of(&projection);
        let named = projection.tables().check(P::NAME);
        self.note(named);
        let name = subscription_name(P::NAME);
        match &setup.target {
            None => self.joining.push(name.clone()),
            Some(target) => {
                let fits = check_elsewhere::<P>(target.capabilities(), setup.settings.lanes);
                self.note(fits);
            }
        }
        let (projection, fit) = (Arc::new(projection), Arc::<Fit>::default());
        let keeper = move |parts: &Parts| {
            let Shared { store, press, .. } = &*parts.shared;
            Keeper::new(Arc::clone(&projection), Arc::clone(store), press.host.clone(), Arc::clone(&fit))
        };
        let (handles, models) = (Arc::new(keeper.clone()), keeper);
        let build: Build = Box::new(move |parts| Ok(Arc::new(TableHandler(Arc::new(handles(parts))))));
        self.mount(&name, HandlerKind::Projection, &setup.settings, &TableHandler::<P>::types(), &[], build);
        if let Some(mount) = self.mounts.last_mut() {
            mount.model = Some(Box::new(move |parts| Arc::new(TableModel::new(models(parts)))));
        }
        self
    }
}

/// Whether tables can be kept in the database of another store.
fn check_elsewhere<P: TableProjection>(target: &StoreCapabilities, lanes: u16) -> Result<(), Error> {
    if !target.can_transact {
        let message =
            format!("{} keeps its tables on the {}, which has no transactions", P::NAME, target.name);
        return Err(Error::new(Code::UNSUPPORTED, message).with_fix("keep them in a database"));
    }
    if lanes > 1 {
        let message =
            format!("{} has {lanes} lanes, but its tables are in another database than the log", P::NAME);
        return Err(Error::new(Code::UNSUPPORTED, message)
            .with_fix("mount it without `.lanes(..)`, or keep the tables in the database of the log"));
    }
    Ok(())
}
