//! The commands, one file each.

use clap::Subcommand;
use ensue::core::{Code, Error, Host};

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::place::{Place, Talk};

mod bench;
mod dead;
mod demo;
mod emit;
mod event;
mod explain;
mod flow;
mod link;
mod projection;
mod saga;
mod schedule;
mod stat;
mod store;
mod stream;
mod subscription;
mod tail;
mod timer;
mod verify;

/// What the binary can do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run the shop or the bank on a folder, and say what happened
    Demo(demo::Demo),
    /// Append an event, once however often it is repeated
    Emit(emit::Emit),
    /// Print events, and follow the log
    Tail(tail::Tail),
    /// Look at streams
    #[command(subcommand)]
    Stream(stream::Stream),
    /// Look at one event, what caused it, and what it caused
    #[command(subcommand)]
    Event(event::Event),
    /// Look at flows: where an order is, and why it stopped
    #[command(subcommand)]
    Flow(flow::Flow),
    /// Look at sagas, and decide what they cannot decide by themselves
    #[command(subcommand)]
    Saga(saga::Saga),
    /// Look at subscriptions: how far each lane is, and who has it
    #[command(subcommand)]
    Subscription(subscription::Subscription),
    /// Links to brokers, as a file says them
    #[command(subcommand)]
    Link(link::Link),
    /// Look at what handlers could not process, try it again, or give it up
    #[command(subcommand)]
    Dead(dead::Dead),
    /// Look at what is set for later, and change it
    #[command(subcommand)]
    Timer(timer::Timer),
    /// Look at what comes again and again
    #[command(subcommand)]
    Schedule(schedule::Schedule),
    /// Compare read models with the log, or build them anew
    #[command(subcommand)]
    Projection(projection::Projection),
    /// Check everything the store holds
    Verify,
    /// Copy a store, make its tables, or see who holds it up
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Numbers of the store: size, mode, limits
    Stat,
    /// Measure this machine
    #[command(subcommand)]
    Bench(bench::Bench),
    /// The page of an error code, or all codes
    Explain(explain::Explain),
}

impl Command {
    /// Refuses a drawing where there is nothing to draw: `E0701`.
    fn can_print(&self, format: Format) -> Result<(), Error> {
        let drawings = if let Self::Flow(flow) = self { flow.drawings() } else { &[] };
        if !format.is_drawing() || drawings.contains(&format) {
            return Ok(());
        }
        Err(Error::new(Code::USAGE, "this command cannot draw what `-o` asks for")
            .with_fix("`-o` takes table, json or jsonl here; `flow show` draws tree, sequence and mermaid, `flow map` mermaid"))
    }
}

/// What a command works with.
pub(crate) struct Session {
    pub(crate) place: Place,
    pub(crate) output: Output,
    pub(crate) host: Host,
}

/// Runs the command that was asked for.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { everywhere, command } = arguments;
    command.can_print(everywhere.format)?;
    let host = ensue::runtime::host::system();
    let talk = if everywhere.quiet { Talk::Quiet } else { Talk::Aloud };
    let mut session = Session {
        place: Place::new(everywhere.store, everywhere.data, host.clone(), talk),
        output: Output::new(everywhere.format, everywhere.quiet),
        host,
    };
    match command {
        Command::Demo(demo) => demo.run(&mut session).await,
        Command::Emit(emit) => emit.run(&mut session).await,
        Command::Tail(tail) => tail.run(&mut session).await,
        Command::Stream(stream) => stream.run(&mut session).await,
        Command::Event(event) => event.run(&mut session).await,
        Command::Flow(flow) => flow.run(&mut session).await,
        Command::Saga(saga) => saga.run(&mut session).await,
        Command::Subscription(subscription) => subscription.run(&mut session).await,
        Command::Link(link) => link.run(&mut session).await,
        Command::Dead(dead) => dead.run(&mut session).await,
        Command::Timer(timer) => timer.run(&mut session).await,
        Command::Schedule(schedule) => schedule.run(&mut session).await,
        Command::Projection(projection) => projection.run(&mut session).await,
        Command::Store(store) => store.run(&mut session).await,
        Command::Verify => verify::run(&mut session).await,
        Command::Stat => stat::run(&mut session).await,
        Command::Bench(bench) => bench.run(&mut session).await,
        Command::Explain(explain) => explain.run(&mut session),
    }
}
