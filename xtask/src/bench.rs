//! `cargo xtask bench buses|orders|postgres`: the benchmarks that need more than the binary `ensue` can do alone, because they stand beside
//! other systems. One benchmark is one file in `bench/`; its table goes to `bench/results/`.

mod buses;
mod contender;
mod figures;
mod machine;
mod orders;
mod postgres;
mod report;

/// The benchmark of this name.
pub(crate) fn run(words: &[&str]) -> Result<(), String> {
    match words {
        ["buses", words @ ..] => buses::run(&orders::Options::of("buses", words)?),
        ["orders", words @ ..] => orders::run(&orders::Options::of("orders", words)?),
        ["postgres", words @ ..] => postgres::run(&orders::Options::of("postgres", words)?),
        _ => Err("the benchmarks are: buses, orders, postgres".to_owned()),
    }
}
