//! What every command is told: which folder, and how to print.

use std::path::PathBuf;

use clap::{Args, Parser};

use crate::command::Command;
use crate::output::Format;
use crate::place::Address;

/// The event store, event bus and saga engine in one folder.
#[derive(Parser)]
#[command(
    name = "ensue",
    version,
    after_help = "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 check failed, 5 timed out, 6 conflict."
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) everywhere: Everywhere,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Arguments that every command takes.
#[derive(Args)]
pub(crate) struct Everywhere {
    /// The folder of the store
    #[arg(long, global = true, env = "ENSUE_DATA", default_value = "./ensue-data", value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// The store, where it is another than the folder of `--data`
    // The help would print the value, and with it a password.
    #[arg(
        long,
        global = true,
        env = "ENSUE_STORE",
        hide_env_values = true,
        value_name = "file:DIR|postgres://…|sqlite:FILE"
    )]
    pub(crate) store: Option<Address>,
    /// How to print: for people, as one JSON document, or as one JSON object per line
    #[arg(short = 'o', long = "output", global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// Print data and errors only
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}
