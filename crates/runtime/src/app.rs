//! An application: handlers and read models mounted on a store, checked before it starts, drained when it stops.

use std::any::TypeId;
use std::sync::Arc;
use std::time::Duration;

use ensue_core::{Code, Error, Event, EventInfo, EventType, Host, Position, Source, Store};
use smol_str::SmolStr;

use crate::cache::{Cache, Invalidate};
use crate::catalogue::{Catalogue, FlowEntry, HandlerEntry, HandlerKind};
use crate::command::Route;
use crate::context::States;
use crate::door::Registry;
use crate::flow;
use crate::fork::FlowRecord;
use crate::link::{self, MountedIntake};
use crate::mounting::Mounting;
use crate::policy::{Settings, StartFrom};
use crate::pressure;
use crate::projection::Model;
use crate::reaction::{Reaction, ReactionHandler};
use crate::saga::{SagaFn, SagaHandler};
use crate::schedule::Schedule;
use crate::sharing::Sharing;
use crate::subscription::{Handler, Shared};
use crate::transaction;

mod commands;
mod flow_of;
mod inline;
mod links;
mod project;
mod running;
mod schedules;
mod start;
pub use crate::command::{DispatchError, Receipt};
pub use crate::subscription::InHand;
pub use flow_of::FlowOf;
pub use running::{Quiescence, Running};

/// An application while it is being put together.
pub struct App {
    name: String,
    service: String,
    owner: Option<&'static str>,
    store: Option<Arc<dyn Store>>,
    host: Host,
    states: States,
    caches: Vec<Arc<dyn Invalidate>>,
    mounts: Vec<Mount>,
    routes: Vec<Route>,
    /// The read models that are inline.
    inline: Vec<inline::Mounted>,
    registry: Registry,
    catalogue: Catalogue,
    sharing: Option<Sharing>,
    /// Events between two saves of the flow index; `None` where it is not kept.
    flow_index_every: Option<u64>,
    /// The first thing that could not be mounted; reported by `check`.
    broken: Option<Error>,
    /// The code of each saga, by name.
    sagas: Vec<(SmolStr, crate::saga::Run)>,
    /// When what is due again and again, by name.
    schedules: Vec<(String, Schedule)>,
    /// Handlers that work in the transaction of the store.
    joining: Vec<String>,
    /// In a fork: what handlers answer from.
    replay: Option<Arc<FlowRecord>>,
    intakes: Vec<Arc<MountedIntake>>,
    relays: Vec<link::request::End>,
}

type BuildModel = Box<dyn FnOnce(&Parts) -> Arc<dyn Model> + Send>;
type Build = Box<dyn FnOnce(&Parts) -> Result<Arc<dyn Handler>, Error> + Send>;

/// A subscription before the application starts.
struct Mount {
    name: String,
    settings: Settings,
    kind: HandlerKind,
    build: Build,
    /// Of a read model: what else can be done with it.
    model: Option<BuildModel>,
}

/// What a handler is built from.
struct Parts {
    shared: Arc<Shared>,
    states: Arc<States>,
    caches: Vec<Arc<dyn Invalidate>>,
}

impl App {
    /// The name is the `source` of every event the application emits.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            service: name.to_owned(),
            owner: None,
            store: None,
            host: crate::host::system(),
            states: States::new(),
            caches: Vec::new(),
            mounts: Vec::new(),
            routes: Vec::new(),
            inline: Vec::new(),
            registry: Registry::default(),
            catalogue: Catalogue { application: name.to_owned(), ..Catalogue::default() },
            sharing: None,
            flow_index_every: Some(flow::follow::SAVE_EVERY),
            broken: None,
            sagas: Vec::new(),
            schedules: Vec::new(),
            joining: Vec::new(),
            replay: None,
            intakes: Vec::new(),
            relays: Vec::new(),
        }
    }

    /// The version of the code, such as `1.4.2` or a commit: kept in the catalogue, and in every dead letter so that
    /// one sees which code failed.
    ///
    /// ```
    /// let app = ensue_runtime::App::new("shop").version(env!("CARGO_PKG_VERSION"));
    /// assert!(app.catalogue().version.is_some());
    /// ```
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        self.catalogue.version = Some(version.to_owned());
        self
    }

    /// How long the ids of events and commands that come in are remembered, in whole seconds; seven days unless told
    /// otherwise. What is repeated later is taken for new. The id of an event that is parked does not lapse.
    #[must_use]
    pub fn window(mut self, window: Duration) -> Self {
        self.catalogue.window_seconds = Some(window.as_secs().max(1));
        self
    }

    /// The log that everything reads and writes.
    #[must_use]
    pub fn store(mut self, store: impl Store + 'static) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// Shares the work with other processes, or other applications of this process, that run on the same store: lanes,
    /// timers and sagas are spread over all that mount them, and move when one of them goes. All of them have to share, with the
    /// same settings.
    /// Without this an application shares where its store can be shared
    /// ([`can_share`](ensue_core::StoreCapabilities::can_share)), with the defaults of [`Sharing`].
    #[must_use]
    pub fn share(mut self, sharing: Sharing) -> Self {
        self.sharing = Some(sharing);
        self
    }

    /// Where time and randomness come from; the operating system unless told otherwise.
    #[must_use]
    pub fn host(mut self, host: Host) -> Self {
        self.host = host;
        self
    }

    /// A value that handlers take as [`State<T>`](crate::State), looked up by its type.
    #[must_use]
    pub fn state<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.states.insert(TypeId::of::<T>(), Box::new(value));
        self
    }

    /// A cache that projections invalidate; handlers and callers get it as state.
    #[must_use]
    pub fn cache<V: Clone + Send + Sync + 'static>(mut self, cache: Cache<V>) -> Self {
        self.caches.push(Arc::new(cache.clone()));
        self.state(cache)
    }

    /// What is mounted from here on belongs to this service; it names the columns of a flow.
    #[must_use]
    pub fn service(mut self, name: &str) -> Self {
        name.clone_into(&mut self.service);
        self
    }

    /// Who looks after what is mounted from here on, and so whom its dead letters are for.
    #[must_use]
    pub fn owner(mut self, owner: &'static str) -> Self {
        self.owner = Some(owner);
        self
    }

    /// Mounts a part that a module defines: `app.with(payment::mount)`.
    #[must_use]
    pub fn with(self, mount: impl FnOnce(Self) -> Self) -> Self {
        mount(self)
    }

    /// This event comes from outside: by `publish`, the command line, or a link.
    #[must_use]
    pub fn external<E: Event>(mut self) -> Self {
        self.catalogue.external.insert(E::INFO.event_type.to_owned());
        self.know([E::INFO]);
        self.registry = std::mem::take(&mut self.registry).event::<E>();
        self
    }

    /// Declares a kind of flow.
    #[must_use]
    pub fn flow(mut self, name: &str, declare: impl FnOnce(FlowOf) -> FlowOf) -> Self {
        let entry = FlowEntry { name: name.to_owned(), ..FlowEntry::default() };
        self.catalogue.flows.push(declare(FlowOf::new(entry)).entry());
        self
    }

    /// Saves the flow index after so many events (16,384 unless told otherwise): whoever asks for flows reads the rest of the
    /// log, so fewer make asking quicker and serving dearer.
    #[must_use]
    pub fn flow_index_every(mut self, events: u64) -> Self {
        self.flow_index_every = Some(events.max(1));
        self
    }

    /// Keeps no flow index: whoever asks for stuck flows or figures then reads the whole log.
    #[must_use]
    pub fn without_flow_index(mut self) -> Self {
        self.flow_index_every = None;
        self
    }

    /// Mounts a reaction: event in, events out. The name owns its checkpoints.
    #[must_use]
    pub fn react<Args: 'static, R: Reaction<Args>>(mut self, name: &str, reaction: R) -> Self {
        let Mounting(settings) = reaction.adjust(Mounting(Settings::HANDLER));
        self.know([R::consumes()]);
        self.registry = R::register(std::mem::take(&mut self.registry));
        self.know(R::causes());
        let event_type = EventType::new(R::consumes().event_type);
        let handler = name.to_owned();
        self.joining.extend(R::joins().then(|| handler.clone()));
        let call = Arc::new(move |context| reaction.call(context));
        let build: Build = Box::new(move |parts| {
            Ok(Arc::new(ReactionHandler {
                gate: parts.shared.gate(&handler, &settings),
                name: handler,
                event_type: event_type?,
                call,
                joins: R::joins(),
                states: Arc::clone(&parts.states),
                settings,
                shared: Arc::clone(&parts.shared),
            }))
        });
        self.mount(name, HandlerKind::Reaction, &settings, &[R::consumes()], &R::causes(), build);
        self
    }

    /// Mounts a saga. One instance runs for each event that starts it, under the event's key.
    #[must_use]
    pub fn saga<Args: 'static, S: SagaFn<Args>>(mut self, name: &str, saga: S) -> Self {
        self.know([S::starts()]);
        self.know(S::causes());
        let settings = Settings::HANDLER;
        let (saga_name, run) = (SmolStr::from(name), crate::saga::erase(saga));
        self.sagas.push((saga_name.clone(), Arc::clone(&run)));
        let build: Build = Box::new(move |parts| {
            let handler = Arc::new(SagaHandler::new(
                saga_name,
                S::starts(),
                run,
                Arc::clone(&parts.shared),
                Arc::clone(&parts.states),
                settings.timeout,
            )?);
            parts.shared.sagas.enter(&handler);
            Ok(handler)
        });
        self.mount(
            &format!("saga.{name}"),
            HandlerKind::Saga,
            &settings,
            &[S::starts()],
            &S::causes(),
            build,
        );
        self
    }

    /// Handlers answer from the record of a flow that begins after this position; nothing is projected and no timer fires.
    pub(crate) fn replaying(mut self, record: Arc<FlowRecord>, after: Position) -> Self {
        self.mounts.retain(|mount| mount.kind != HandlerKind::Projection && !mount.kind.is_link());
        self.intakes.clear();
        self.relays.clear();
        self.catalogue.handlers.retain(|handler| !handler.kind.is_link());
        self.inline.clear();
        self.mounts.iter_mut().for_each(|mount| mount.settings.start = StartFrom::After(after));
        self.replay = Some(record);
        self
    }

    fn know(&mut self, events: impl IntoIterator<Item = EventInfo>) {
        for info in events {
            let known = self.catalogue.add_event(&info);
            self.note(known);
        }
    }

    fn note(&mut self, result: Result<(), Error>) {
        if let Err(error) = result {
            self.broken.get_or_insert(error);
        }
    }

    fn mount(
        &mut self,
        name: &str,
        kind: HandlerKind,
        settings: &Settings,
        consumes: &[EventInfo],
        causes: &[EventInfo],
        build: Build,
    ) {
        let consumes = consumes.iter().map(|info| info.event_type.to_owned()).collect();
        self.mount_named(name.to_owned(), kind, settings, consumes, causes, build);
    }

    fn mount_named(
        &mut self,
        name: String,
        kind: HandlerKind,
        settings: &Settings,
        consumes: Vec<String>,
        causes: &[EventInfo],
        build: Build,
    ) {
        let valid = ensue_core::SubscriptionName::new(&name).map(|_| ());
        self.note(valid);
        let mounted = self.mounts.iter().map(|mount| (mount.name.as_str(), &mount.settings));
        let agreed = pressure::check_shared(mounted, &name, settings);
        self.note(agreed);
        self.catalogue.handlers.push(HandlerEntry {
            name: name.clone(),
            service: self.service.clone(),
            kind,
            consumes,
            causes: causes.iter().map(|info| info.event_type.to_owned()).collect(),
            lanes: settings.lanes,
            retry_ms_max: u64::try_from(settings.retry.longest(settings.timeout).as_millis()).ok(),
            owner: settings.owner.or(self.owner).map(str::to_owned),
        });
        self.mounts.push(Mount { name, settings: *settings, kind, build, model: None });
    }

    /// The declared topology.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Whether the application holds together: no handler name twice, each command one handler, nothing consumed that is
    /// never produced, no event type declared twice. Also run by [`App::start`].
    pub fn check(&self) -> Result<(), Error> {
        // What could not be mounted comes first: what follows from it explains nothing.
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let Some(store) = &self.store else {
            return Err(Error::new(Code::UNSUPPORTED, "the application has no store")
                .with_fix("add `.store(ensue::open(\"./ensue-data\").await?)`"));
        };
        transaction::check(&**store, &self.joining)?;
        self.check_declared()?;
        self.check_inline()
    }

    /// What [`App::check`] looks at besides the store, for tools that have none.
    pub fn check_declared(&self) -> Result<(), Error> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        Source::new(&self.name)?;
        self.catalogue.lint()?;
        self.check_links()
    }

    /// Replays the recorded histories of saga instances in `store` against the sagas that are mounted, without effects: run it in
    /// a test or before a deployment, on the store or a copy of it. Needs no store of its own, and starts nothing.
    pub async fn check_sagas(
        self,
        store: &dyn Store,
        histories: crate::saga::Histories,
    ) -> Result<crate::saga::SagaCheck, Error> {
        let (sagas, states, host) = (self.sagas, Arc::new(self.states), self.host);
        crate::saga::Replayer { sagas, states, host }.check(store, histories).await
    }
}
