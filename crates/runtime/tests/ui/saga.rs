//! A saga that is none.

use ensue_runtime::{App, Saga};

async fn fulfil(_: Saga<String>) -> Option<()> {
    None
}

fn main() {
    let _ = App::new("shop").saga("fulfil", fulfil);
}
