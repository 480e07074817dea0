//! `ensue stream read TOPIC/KEY [--from V] [--to V] [--backward]`: the events of one stream.

use clap::Args;
use ensue::core::{Code, Error, Read as StoreRead, Store, StreamName, Version};
use futures_util::TryStreamExt;

use crate::command::Session;
use crate::failure::Failure;
use crate::shape::Shown;
use crate::state;

/// Print the events of a stream
#[derive(Args)]
pub(crate) struct Read {
    /// The stream
    #[arg(value_name = "TOPIC/KEY")]
    stream: String,
    /// First version
    #[arg(long, value_name = "VERSION", default_value_t = 1)]
    from: u64,
    /// Last version
    #[arg(long, value_name = "VERSION", default_value_t = u64::MAX, hide_default_value = true)]
    to: u64,
    /// Newest first
    #[arg(long)]
    backward: bool,
}

impl Read {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let stream: StreamName = self.stream.parse()?;
        if self.from > self.to {
            let message = format!("`--from {}` is behind `--to {}`", self.from, self.to);
            return Err(Error::new(Code::USAGE, message)
                .with_fix("`--from` is the lower version, also with `--backward`")
                .into());
        }
        let store = session.place.open().await?;
        let read =
            StoreRead::stream(stream.clone()).from_version(Version(self.from)).to_version(Version(self.to));
        let read = if self.backward { read.backward() } else { read };
        let mut list = session.output.list::<Shown<'_>>();
        let mut events = store.read(read);
        while let Some(recorded) = events.try_next().await? {
            list.push(&Shown(&recorded))?;
        }
        if list.printed() == 0 {
            let last = state::last(&store, &stream).await?;
            return Err(state::no_version(&stream, last, Version(self.from)).into());
        }
        list.finish()?;
        Ok(())
    }
}
