//! Development tasks: `cargo xtask tidy`, `test`, `ci`, `conformance`, `docs`, `services`,
//! `bench`. One command is one file beside this one.
//!
//! Never published and never part of the product. It depends on little, because every check waits for it to build.

use std::env;
use std::process::ExitCode;

mod bench;
mod cargo;
mod ci;
mod conformance;
mod docs;
mod finding;
mod lexer;
mod services;
mod source;
mod test;
mod tidy;
mod tree;
mod workspace;

const HELP: &str = "\
usage: cargo xtask COMMAND

  tidy [--fix]       what a program can check of the style; --fix rewrites generated files
  test [--embedded] [--beside N]
                     every suite of the workspace; fails and names a suite that was left out; --beside keeps N processors
                     busy meanwhile, as on a machine that others use
  ci [STEP]          format, clippy, tidy, test, documentation, no-c-code, licences; or one of them
  conformance        runs the suite of buses on every broker, writes docs/conformance.md
  docs               writes docs/errors from the table of error codes
  services up|down|status|env [NAME...] [--durable]
                     real servers on loopback: aws, kafka, nats, postgres, pubsub, rabbitmq, restate; --durable as
                     benchmarks want them
  services chaos NAME kill|pause|resume|restart
                     a fault for a server that runs
  bench buses [--seconds S] [--rate R] [--runs N] [--runner PROGRAM]
                     writes bench/results/buses.md
  bench orders [--peers] [--seconds S] [--rate R] [--runs N] [--runner PROGRAM]
                     writes bench/results/orders.md; --runner stands before what is measured, such as `nice -n -10`
  bench postgres [--seconds S] [--runs N] [--runner PROGRAM]
                     writes bench/results/postgres.md
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["tidy"] => tidy::run(tidy::Mode::Check),
        ["tidy", "--fix"] => tidy::run(tidy::Mode::Fix),
        ["test", words @ ..] => test::run_as(words),
        ["ci"] => ci::run(None),
        ["ci", step] => ci::run(Some(step)),
        ["conformance"] => conformance::run(),
        ["docs"] => docs::run(),
        ["bench", words @ ..] => bench::run(words),
        ["services", words @ ..] => services::run(words),
        ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}
