//! Mounting what answers commands: handlers and aggregates.

use std::sync::Arc;

use ensue_core::{Aggregate, CommandSet, EventSet};

use super::{App, Build};
use crate::catalogue::HandlerKind;
use crate::command::{CommandHandler, Route, RouteHandler, aggregate_routes};
use crate::mounting::Mounting;
use crate::policy::Settings;

impl App {
    /// Mounts the handler of a command: command in, answer out.
    #[must_use]
    pub fn handle<Args, H: CommandHandler<Args>>(self, handler: H) -> Self {
        self.handle_with(handler, |mounting| mounting)
    }

    /// Mounts the handler of a command with settings:
    /// `app.handle_with(charge_card, |handler| handler.breaker(Breaker::new("payments-api")))`.
    #[must_use]
    pub fn handle_with<Args, H: CommandHandler<Args>>(
        mut self,
        handler: H,
        set: impl FnOnce(Mounting) -> Mounting,
    ) -> Self {
        let Mounting(settings) = set(Mounting(Settings::HANDLER));
        self.route(Route { settings, ..handler.route().0 });
        self
    }

    /// Mounts an aggregate as the handler of all its commands.
    #[must_use]
    pub fn aggregate<A: Aggregate>(mut self) -> Self {
        self.know(A::Event::types());
        for route in aggregate_routes::<A>() {
            self.route(route);
        }
        debug_assert!(!A::Command::types().is_empty(), "an aggregate takes commands");
        self
    }

    fn route(&mut self, route: Route) {
        self.know(route.causes.iter().copied());
        let name = route.subscription();
        self.joining.extend(route.joins.then(|| name.clone()));
        let settings = route.settings;
        let mounted = route.clone();
        let build: Build = Box::new(move |parts| {
            Ok(Arc::new(RouteHandler {
                gate: parts.shared.gate(&mounted.subscription(), &settings),
                route: mounted,
                shared: Arc::clone(&parts.shared),
                states: Arc::clone(&parts.states),
            }))
        });
        let consumes = route.info.command_type;
        let causes = route.causes.clone();
        self.routes.push(route);
        self.mount_named(name, HandlerKind::Command, &settings, vec![consumes.to_owned()], &causes, build);
    }
}
