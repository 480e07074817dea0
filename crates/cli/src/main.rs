//! The binary `ensue`. One command is one file under `command/`.
//!
//! Invariants: data goes to standard output, talk to standard error; the JSON shapes are those of `docs/cli.md`; the exit
//! code is derived from the error in one place, [`failure`].

mod arguments;
mod command;
mod document;
mod ending;
mod failure;
mod find;

mod history;
mod known;
mod link;
mod output;
mod pattern;
mod place;
mod placement;
mod scratch;
mod shape;
mod state;
mod usage;
mod words;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::Arguments;
use crate::failure::Failure;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(refused) => return usage::report(&refused, &given()),
    };
    let format = arguments.everywhere.format;
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(format),
    }
}

/// The arguments as text; what is no text cannot ask for a format.
fn given() -> Vec<String> {
    std::env::args_os().filter_map(|argument| argument.into_string().ok()).collect()
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|cause| {
        ensue::core::Error::new(
            ensue::core::Code::IO,
            format!("cannot start the threads of a runtime: {cause}"),
        )
    })?;
    runtime.block_on(command::run(arguments))
}
