//! Random programs, under random misfortunes, end as a plain model says. `ENSUE_PROGRAMS=100000` runs so many of them.

use ensue_test::verifier::{Passed, Trial};

/// Programs of one test.
const PROGRAMS: u64 = 1_500;

/// Runs programs from this seed on.
async fn verify(first: u64) -> Passed {
    let asked = std::env::var("ENSUE_PROGRAMS").ok();
    let programs: u64 = asked.map_or(PROGRAMS, |text| text.parse().expect("ENSUE_PROGRAMS is a number"));
    let mut all = Passed::default();
    for seed in first..first + programs {
        match Trial::generated(seed).verify().await {
            Ok(passed) => all += passed,
            Err(disagreement) => panic!("the program of seed {seed} does not agree:\n{disagreement}"),
        }
    }
    all
}

fn assert_misfortunes_struck(passed: Passed) {
    assert!(passed.crashes > 1_000, "{passed:?}");
    assert!(passed.replies_lost > 1_000, "{passed:?}");
    assert!(passed.commits > 40_000, "{passed:?}");
}

#[tokio::test]
async fn random_programs_end_as_a_plain_model_says() {
    assert_misfortunes_struck(verify(0).await);
}

#[tokio::test]
async fn other_random_programs_end_as_a_plain_model_says() {
    assert_misfortunes_struck(verify(1 << 32).await);
}
