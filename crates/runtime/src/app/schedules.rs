//! Mounting what happens again and again.

use std::sync::Arc;

use ensue_core::{Code, Error, Event};

use super::{App, Mount};
use crate::reaction::Reaction;
use crate::schedule::{Schedule, Tick, TicksOf, subscription_name};

impl App {
    /// Mounts a reaction to time: it is given a [`Tick`] as often as the cron expression says, one whatever the number of
    /// processes. Under the name, which owns its checkpoints, the expression can change from one start to the next; a start
    /// without it ends the schedule. [`App::check`] refuses an expression that is none (`E0111`).
    ///
    /// ```
    /// # use ensue_core::{Event, EventInfo};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct ReportDue { shop: String, day: String }
    /// # impl Event for ReportDue {
    /// #     const INFO: EventInfo = EventInfo { event_type: "ReportDue", version: 1, topic: "Report", key_field: "shop" };
    /// #     fn key(&self) -> String { self.shop.clone() }
    /// # }
    /// use ensue_runtime::{App, Missed, Schedule, Tick};
    ///
    /// async fn report(tick: Tick) -> ReportDue {
    ///     ReportDue { shop: "Bern".to_owned(), day: tick.due.to_string() }
    /// }
    ///
    /// let every_night = Schedule::cron("30 3 * * *").zone("Europe/Zurich").missed(Missed::All);
    /// let app = App::new("shop").schedule("hourly", "0 * * * *", report).schedule("nightly", every_night, report);
    /// ```
    #[must_use]
    pub fn schedule<Args: 'static, R: Reaction<Args>>(
        mut self,
        name: &str,
        when: impl Into<Schedule>,
        reaction: R,
    ) -> Self {
        let when = when.into();
        self.note(when.check(name).and_then(|()| takes_ticks::<Args, R>(name)));
        self.catalogue.external.insert(Tick::INFO.event_type.to_owned());
        self.schedules.push((name.to_owned(), when));
        let mut app = self.react(&subscription_name(name), reaction);
        let schedule = name.to_owned();
        let mounted = app.mounts.pop().map(|mount| Mount {
            build: Box::new(move |parts| Ok(Arc::new(TicksOf { schedule, reaction: (mount.build)(parts)? }))),
            ..mount
        });
        app.mounts.extend(mounted);
        app
    }
}

fn takes_ticks<Args, R: Reaction<Args>>(name: &str) -> Result<(), Error> {
    let taken = R::consumes().event_type;
    if taken == Tick::INFO.event_type {
        return Ok(());
    }
    Err(Error::new(
        Code::INVALID_SCHEDULE,
        format!("schedule `{name}`: its reaction takes {taken}, not a tick"),
    )
    .with_fix("let the reaction take an `ensue::Tick`"))
}
