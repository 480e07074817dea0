//! `--store`: one argument names the store for every command.

use crate::{Ensue, ORDER, answer, on};

#[test]
fn a_store_is_named_by_its_address_and_wins_over_the_folder() {
    let ensue = Ensue::new();
    let address = format!("file:{}", ensue.data().display());
    let elsewhere = ensue.around.path().join("elsewhere");
    answer(on(&elsewhere, &["emit", "-d", "-", "--store", &address]), ORDER).ok();
    assert!(!elsewhere.exists(), "nothing is made in the folder that was not meant");
    let read = answer(on(&elsewhere, &["tail", "-e", "-o", "jsonl", "--store", &address]), "");
    assert_eq!(read.ok().objects()[0]["id"], "evt-a1b2c3");
}

#[test]
fn an_address_of_no_known_store_is_refused_with_those_that_are() {
    for address in ["mysql://localhost", "file:", "data"] {
        let refused = Ensue::new().run(&["stat", "--store", address]);
        refused.refused(2, "E0701").says("file:DIR");
    }
}
