//! Mounting read models.

use std::sync::Arc;

use ensue_core::EventSet;

use super::{App, Build, BuildModel};
use crate::catalogue::HandlerKind;
use crate::projection::{self, ModelOf, Projection, ProjectionHandler, subscription_name};
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
}
