//! What a run found, for whoever makes a table of it: one line for each case in a file for each broker, in the folder that the
//! environment names. Nothing is written where it names none.

use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use super::{CASES, Case};
use crate::conformance::store::Finding;

const FOLDER: &str = "ENSUE_CONFORMANCE_FOLDER";

/// Notes what a case found: its place in the table, its name, and what came of it, with what is to be known of a broker that has
/// passed. One that is broken is not noted: its test is red.
///
/// # Panics
/// If the folder cannot be written.
pub(super) fn write(broker: &str, case: &Case, finding: &Finding, caveat: Option<&str>) {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let outcome = match finding {
        Finding::Kept => caveat.map_or("passed".to_owned(), |caveat| format!("passed {caveat}")),
        Finding::Refused => format!("refused {}", case.need.capability),
        Finding::Broken(_) => return,
    };
    let place = CASES.iter().position(|other| other.name == case.name).expect("the case is in the table");
    let path = Path::new(&folder).join(format!("{broker}.txt"));
    let file = OpenOptions::new().create(true).append(true).open(&path);
    let line = format!("{place:02} {} {outcome}\n", case.name);
    let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
    written.unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}
