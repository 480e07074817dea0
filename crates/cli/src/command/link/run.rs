//! `ensue link run`: the links of a file, until the process is told to end.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use clap::Args;
use ensue::core::Error;
use ensue::runtime::LinkStatus;
use ensue::runtime::link::LinkState;
use ensue::{App, Running};

use super::Given;
use super::row::Shown;
use crate::command::Session;
use crate::ending::Ending;
use crate::failure::Failure;
use crate::link::Link;

/// How long what is in hand may take to finish.
const DRAIN: Duration = Duration::from_secs(30);
/// The name under which links are members of a shared store.
const APPLICATION: &str = "ensue-link";

/// Run the links until SIGTERM or Ctrl-C, then finish what is in hand
#[derive(Args)]
pub(crate) struct Run {
    #[command(flatten)]
    given: Given,
}

impl Run {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let links = self.given.links()?;
        // Before anything moves, so that no signal is missed.
        let mut ending = Ending::new()?;
        let connected = tokio::select! {
            biased;
            () = ending.wait() => None,
            app = connect(&links) => Some(app?),
        };
        let Some(app) = connected else {
            session.output.say("stopped before the links were connected: nothing was moved");
            return Ok(());
        };
        app.check_declared()?;
        let store = session.place.open_or_make().await?;
        let running = app.store(store).start().await?;
        let told = tell(&running, session, &mut ending).await;
        session.output.say("stopping: what is in hand is finished");
        running.stop(DRAIN).await?;
        told
    }
}

/// The links, each with a connection. A driver may wait for a broker for seconds.
async fn connect(links: &BTreeMap<String, Link>) -> Result<App, Error> {
    let mut app = App::new(APPLICATION).without_flow_index();
    for (name, link) in links {
        let bus = link.open(name).await?;
        app = link.mount(name, &bus, app);
    }
    Ok(app)
}

/// Prints how each link stands whenever that changes, until the process is told to end.
async fn tell(running: &Running, session: &mut Session, ending: &mut Ending) -> Result<(), Failure> {
    let mut changes = running.link_changes();
    let mut known: HashMap<String, (LinkState, Option<String>)> = HashMap::new();
    let mut list = session.output.list::<Shown>();
    loop {
        for status in running.links().await? {
            let stands = (status.state, code_of(&status));
            if known.insert(status.name.to_string(), stands.clone()).as_ref() != Some(&stands) {
                list.push(&Shown(status))?;
            }
        }
        list.flush()?;
        tokio::select! {
            biased;
            () = ending.wait() => break,
            () = changes.next() => {}
        }
    }
    list.finish()?;
    Ok(())
}

fn code_of(status: &LinkStatus) -> Option<String> {
    status.trouble.as_ref().map(|trouble| trouble.code.clone())
}
