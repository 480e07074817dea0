//! Which dead letters a command is about: a handler, with or without a key; a group; all.

use clap::Args;
use ensue::core::{Code, Error};
use ensue::runtime::dead::Which;

/// Which dead letters are meant.
#[derive(Args)]
pub(super) struct Meant {
    /// The handler that parked them
    pub(super) handler: Option<String>,
    /// Only those of this key
    pub(super) key: Option<String>,
    /// Those of this group, as `dead groups` names it
    #[arg(long, conflicts_with = "handler")]
    group: Option<String>,
    /// Every one
    #[arg(long, conflicts_with_all = ["handler", "group"])]
    all: bool,
}

impl Meant {
    /// What was said; `E0701` if nothing was.
    pub(super) fn which(&self) -> Result<Which, Error> {
        match (&self.handler, &self.key, &self.group, self.all) {
            (Some(handler), Some(key), ..) => Ok(Which::key(handler, key)),
            (Some(handler), None, ..) => Ok(Which::Handler(handler.as_str().into())),
            (None, _, Some(group), _) => Ok(Which::Group(group.parse()?)),
            (None, _, None, true) => Ok(Which::All),
            (None, _, None, false) => {
                Err(Error::new(Code::USAGE, "nothing says which dead letters are meant")
                    .with_fix("name a handler and a key, a handler, `--group GROUP` or `--all`"))
            }
        }
    }
}
