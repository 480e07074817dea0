//! Mounting links, and what operators ask of them.

use std::sync::Arc;

use ensue_core::bus::Seek;
use ensue_core::{Code, Error};

use super::{App, Build, Running};
use crate::catalogue::HandlerKind;
use crate::link::{Gauge, Intake, LinkChanges, LinkStatus, MountedIntake, Pause, Relay, completed, request};
use crate::subscription::Shared;

impl App {
    /// Mounts a relay: the events of a topic go to a broker. See [`link`](crate::link).
    #[must_use]
    pub fn relay(mut self, relay: Relay) -> Self {
        match relay.mounted() {
            Err(error) => self.note(Err(error)),
            Ok(mounted) => {
                let (name, settings) = (mounted.name.to_string(), mounted.settings);
                let takes = mounted.end.commands.iter().map(|command| (*command).to_owned()).collect();
                self.relays.push(mounted.end.clone());
                let build: Build = Box::new(move |parts| Ok(mounted.handler(&parts.shared)));
                self.mount_named(name, HandlerKind::Relay, &settings, takes, &[], build);
            }
        }
        self
    }

    /// Mounts an intake: the messages of a broker come into the log. What it brings is declared by
    /// [`external`](App::external). See [`link`](crate::link).
    #[must_use]
    pub fn intake(mut self, intake: Intake) -> Self {
        match intake.mounted() {
            Err(error) => self.note(Err(error)),
            Ok(mounted) => {
                let mounted = Arc::new(mounted);
                let (name, settings) = (mounted.name.to_string(), MountedIntake::SETTINGS);
                self.intakes.push(Arc::clone(&mounted));
                let build: Build = Box::new(move |parts| Ok(mounted.handler(&parts.shared)));
                self.mount_named(name, HandlerKind::Intake, &settings, Vec::new(), &[], build);
            }
        }
        self
    }

    /// Whether each intake remembers ids for longer than they can come again, and each command finds its way there and back.
    pub(super) fn check_links(&self) -> Result<(), Error> {
        self.intakes.iter().try_for_each(|intake| intake.check(self.catalogue.window()))?;
        let (relays, intakes): (Vec<_>, Vec<_>) =
            (self.relays.iter().collect(), self.intakes.iter().map(|intake| &intake.end).collect());
        let is_handled = |command: &str| self.routes.iter().any(|route| route.info.command_type == command);
        request::check(&relays, &intakes, is_handled)
    }
}

impl Running {
    /// Begins to take in, to look for what relays publish to, and to keep the store informed of how the links stand.
    pub(super) fn spawn_links(&mut self, intakes: &[Arc<MountedIntake>], shared: &Arc<Shared>) {
        for target in shared.links.targets() {
            self.spawn_link(target.watch(Arc::clone(shared)));
        }
        intakes.iter().for_each(|intake| self.spawn_link(intake.session(shared).run()));
        if !shared.links.all().is_empty() {
            self.spawn_link(crate::link::keep(Arc::clone(shared)));
            self.spawn_link(crate::link::follow(Arc::clone(shared)));
        }
    }

    /// How the links stand in this process, relays and intakes, in the order in which they were mounted.
    pub async fn links(&self) -> Result<Vec<LinkStatus>, Error> {
        let (store, now) = (self.store().as_ref(), self.shared.press.host.clock.now());
        let letters = crate::dead::list(store).await?;
        let mut all = Vec::new();
        for gauge in self.shared.links.all() {
            all.push(completed(store, gauge.status(now), gauge.takes.as_ref(), &letters).await?);
        }
        Ok(all)
    }

    /// Tells when a link stands otherwise than before.
    pub fn link_changes(&self) -> LinkChanges {
        self.shared.links.changes()
    }

    /// Pauses what belongs to a link, in this process and until it ends. `E0414` if there is no such link. For all processes, and
    /// whatever restarts, there is [`link::ask`](crate::link::ask).
    pub fn pause_link(&self, link: &str) -> Result<(), Error> {
        let now = self.shared.press.host.clock.now();
        self.links_named(link)?.iter().for_each(|gauge| gauge.pause(Pause::Pause, now));
        Ok(())
    }

    /// Lets a link go on. `E0414` if there is no such link.
    pub fn resume_link(&self, link: &str) -> Result<(), Error> {
        let now = self.shared.press.host.clock.now();
        self.links_named(link)?.iter().for_each(|gauge| gauge.pause(Pause::Resume, now));
        Ok(())
    }

    /// Has the intakes of a link go on from elsewhere, for their whole group; what comes again is dropped as long as its id is
    /// remembered. `E0506` where the broker keeps no history.
    pub async fn seek_link(&self, link: &str, to: Seek) -> Result<(), Error> {
        for gauge in self.links_named(link)? {
            gauge.seek(to).await?;
        }
        Ok(())
    }

    /// Those of a link, by its name or by that of one relay or intake of it.
    fn links_named(&self, link: &str) -> Result<Vec<Arc<Gauge>>, Error> {
        let mut all = self.shared.links.all();
        all.retain(|gauge| gauge.link == link || gauge.name == link);
        if all.is_empty() {
            return Err(Error::new(Code::NOT_FOUND, format!("no link is named {link}")));
        }
        Ok(all)
    }
}
