//! The start of an application: everything that was mounted is built and begins to work; and its life until a signal ends it.

use std::any::TypeId;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ensue_core::{Code, Error, Source};
use smol_str::SmolStr;
use tokio::sync::{mpsc, watch};

use super::{App, Parts, Running};
use crate::aggregate::SnapshotLog;
use crate::catalogue::HandlerKind;
use crate::flow;
use crate::message::Press;
use crate::pressure::{self, Pressure};
use crate::progress::Board;
use crate::projection::Inline;
use crate::saga::Sagas;
use crate::sharing::{MemberId, View};
use crate::subscription::{Shared, Subscription};
use crate::timer::Timers;

impl App {
    /// Starts every handler. The result drives nothing: handlers run on tokio tasks until it is stopped or dropped.
    pub async fn start(mut self) -> Result<Running, Error> {
        self.check()?;
        let store =
            self.store.ok_or_else(|| Error::new(Code::UNSUPPORTED, "the application has no store"))?;
        let me = MemberId::draw(&self.host);
        let inline = self.inline.into_iter().map(|model| (model.build)(&store, &self.caches)).collect();
        let shared = Arc::new(Shared {
            store: Arc::clone(&store),
            press: Press { host: self.host, source: Source::new(&self.name)? },
            version: self.catalogue.version.as_deref().map(SmolStr::from),
            registry: self.registry,
            window: self.catalogue.window(),
            turns: crate::door::Turns::default(),
            pressure: Pressure::default(),
            board: Board::default(),
            timers: Arc::default(),
            timers_wait: AtomicBool::new(false),
            sagas: Sagas::default(),
            snapshots: SnapshotLog::default(),
            inline: Arc::new(Inline::new(inline)),
            closing: watch::Sender::new(false),
            view: Arc::new(watch::Sender::new(View::alone(me))),
            sharing: self.sharing.unwrap_or_default(),
            links: crate::link::Gauges::default(),
            replay: self.replay.clone(),
        });
        self.states.insert(TypeId::of::<Timers>(), Box::new(shared.timers()));
        self.catalogue.save(&*store).await?;
        let parts = Parts { shared: Arc::clone(&shared), states: Arc::new(self.states), caches: self.caches };
        let mut running =
            Running::new(Arc::clone(&shared), Arc::clone(&parts.states), self.routes, self.catalogue);
        if self.replay.is_none() && (self.sharing.is_some() || store.capabilities().can_share) {
            let subscriptions =
                self.mounts.iter().map(|mount| (mount.name.as_str().into(), mount.settings.lanes)).collect();
            running.join(subscriptions).await?;
        }
        pressure::clear(&*store, self.mounts.iter().filter_map(|mount| mount.settings.breaker)).await?;
        for mount in self.mounts {
            let handler = (mount.build)(&parts)?;
            let handler = match &self.replay {
                Some(record) => record.stand_in(&mount.name, mount.kind, handler),
                None => handler,
            };
            handler.prepare().await?;
            if !shared.is_shared() {
                crate::dead::clear_halts(&*store, &mount.name).await?;
            }
            let (ask, requests) = mpsc::channel(16);
            let standing = shared.board.enter(&mount.name, mount.kind == HandlerKind::Projection);
            let subscription = Arc::new(Subscription {
                name: mount.name.as_str().into(),
                settings: mount.settings,
                handler,
                shared: Arc::clone(&shared),
                standing,
                requests: tokio::sync::Mutex::new(requests),
            });
            let model = mount.model.filter(|_| self.replay.is_none()).map(|build| build(&parts));
            running.spawn(subscription, ask, model);
        }
        running.spawn_links(&self.intakes, &shared);
        if self.replay.is_none() {
            if let Some(every) = self.flow_index_every {
                running.spawn_flow_index(flow::follow::run(Arc::clone(&shared), every));
            }
            crate::schedule::declare(&shared, &self.schedules).await?;
            running.spawn_timers(crate::timer::run(shared));
        }
        Ok(running)
    }

    /// Starts, waits for SIGTERM or Ctrl-C, and drains: what is in hand is finished, checkpoints are stored.
    pub async fn run(self) -> Result<(), Error> {
        let running = self.start().await?;
        let refused =
            |cause: std::io::Error| Error::new(Code::IO, "cannot wait for signals").with_source(cause);
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(refused)?;
        tokio::select! {
            _ = terminate.recv() => {}
            result = tokio::signal::ctrl_c() => result.map_err(refused)?,
        }
        running.stop(Duration::from_secs(30)).await
    }
}
