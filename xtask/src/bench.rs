//! `cargo xtask bench orders`: the benchmarks that need more than the binary `ensue` can do alone, because they stand beside
//! other systems. One benchmark is one file in `bench/`; its table goes to `bench/results/`.

mod contender;
mod figures;
mod machine;
mod orders;
mod report;

/// The benchmark of this name.
pub(crate) fn run(words: &[&str]) -> Result<(), String> {
    match words {
        ["orders", words @ ..] => orders::run(&orders::Options::parse(words)?),
        _ => Err("the benchmarks are: orders".to_owned()),
    }
}
