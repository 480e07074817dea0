//! Outcomes that are structs, have parameters, or hold several values.
use ensue_macros::Emits;

#[derive(Emits)]
#[emits(crate = ensue_core)]
struct Struct;

#[derive(Emits)]
#[emits(crate = ensue_core)]
enum Generic<E> {
    Some(E),
}

#[derive(Emits)]
#[emits(crate = ensue_core)]
enum Several {
    Both(String, String),
}

fn main() {}
