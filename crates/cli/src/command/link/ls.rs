//! `ensue link ls`: the links of a file, and how they stand in the store.

use clap::Args;
use ensue::runtime::link;

use super::Given;
use super::row::Shown;
use crate::command::Session;
use crate::failure::Failure;

/// List the links of a file, and how they stand
#[derive(Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    given: Given,
}

impl Ls {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let links = self.given.links()?;
        let store = session.place.open_if_there().await?;
        let mut rows = Vec::new();
        for (name, link) in &links {
            for part in link.parts(name)? {
                let asked = link::Asked {
                    name: part.name.into(),
                    link: name.as_str().into(),
                    backend: link.backend.as_str().into(),
                    channel: part.channel,
                    topic: part.topic,
                };
                let status = link::stored(store.as_deref(), asked, session.host.clock.now()).await?;
                rows.push(Shown(status));
            }
        }
        session.output.all(&rows)?;
        Ok(())
    }
}
