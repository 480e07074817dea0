//! The topology of the application as a file in its repository: a test that notices when it changes.

use std::fs;
use std::path::Path;

use ensue_runtime::App;

use super::Harness;
use crate::diff;

/// Set to `1`, files are written instead of compared.
const ACCEPT: &str = "ENSUE_ACCEPT";

/// What to do where a file and what it should hold differ.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Refuse,
    Accept,
}

impl Harness {
    /// The declared topology as a Mermaid flow chart.
    pub fn topology(&self) -> String {
        (self.build)(App::new("test")).catalogue().to_mermaid()
    }

    /// The declared topology is what the file says. The path is relative to the folder of the package. To accept a
    /// change, run the test once with `ENSUE_ACCEPT=1`, and look at the file before it is committed.
    ///
    /// # Panics
    /// With the difference, if it is something else; and if the file cannot be read or written.
    pub fn assert_topology(&self, file: impl AsRef<Path>) {
        let accepts = std::env::var(ACCEPT).is_ok_and(|value| value == "1");
        let change = if accepts { Change::Accept } else { Change::Refuse };
        check(file.as_ref(), &self.topology(), change);
    }
}

fn check(file: &Path, topology: &str, change: Change) {
    if change == Change::Accept {
        return fs::write(file, topology)
            .unwrap_or_else(|cause| panic!("cannot write {}: {cause}", file.display()));
    }
    let accepted = fs::read_to_string(file).unwrap_or_else(|cause| {
        panic!("cannot read {}: {cause}; run the test once with {ACCEPT}=1 to write it", file.display())
    });
    assert!(
        accepted == topology,
        "the topology is not what {} says (- accepted, + now); if that is meant, run the test once with {ACCEPT}=1:\n{}",
        file.display(),
        diff::lines(&accepted, topology)
    );
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn a_change_is_refused_with_the_difference_until_it_is_accepted() {
        let file = std::env::temp_dir().join(format!("ensue-topology-{}.mmd", std::process::id()));
        check(&file, "flowchart LR\n  a --> b\n", Change::Accept);
        check(&file, "flowchart LR\n  a --> b\n", Change::Refuse);
        let refused = catch_unwind(|| check(&file, "flowchart LR\n  a --> c\n", Change::Refuse));
        check(&file, "flowchart LR\n  a --> c\n", Change::Accept);
        check(&file, "flowchart LR\n  a --> c\n", Change::Refuse);
        fs::remove_file(&file).expect("it was written");
        let panic = refused.expect_err("it is another topology");
        let message = panic.downcast_ref::<String>().expect("it says what differs");
        assert!(message.contains("-   a --> b\n+   a --> c"), "{message}");
    }
}
