//! Random programs agree with the model.

use ensue_test::verifier::{Passed, Trial};

/// Runs the programs of these seeds; the environment may ask for more of them.
async fn verify(first: u64, programs: u64) -> Passed {
    let times: u64 =
        std::env::var("ENSUE_PROGRAMS_TIMES").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut all = Passed::default();
    for seed in (first..).take(usize::try_from(programs * times).expect("a number of programs")) {
        match Trial::generated(seed).verify().await {
            Ok(passed) => {
                all.commits += passed.commits;
                all.crashes += passed.crashes;
                all.replies_lost += passed.replies_lost;
            }
            Err(disagreement) => panic!("the program of seed {seed} does not agree: {disagreement}"),
        }
    }
    all
}

#[tokio::test]
async fn random_programs_end_as_a_plain_model_says() {
    let passed = verify(0, 300).await;
    assert!(passed.commits > 0, "{passed:?}");
}

#[tokio::test]
async fn temporary() {
    let mut failed = 0;
    for seed in 0..400 {
        if let Err(found) = Trial::generated(seed).run().await {
            failed += 1;
            println!("{seed}: {}", found.join("\n    "));
            if failed < 4 {
                let d = Trial::generated(seed).verify().await.unwrap_err();
                println!("{d}");
            }
        }
    }
    panic!("{failed}");
}
