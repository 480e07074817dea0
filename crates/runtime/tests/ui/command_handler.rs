//! A command handler that does not answer with the command's reply.

use ensue_core::Command;
use ensue_runtime::App;

#[derive(serde::Serialize, serde::Deserialize)]
struct Charge;

impl Command for Charge {
    const TYPE: &'static str = "Charge";
    type Reply = u64;
    type Failure = String;
    fn key(&self) -> String {
        String::new()
    }
}

async fn charge(_: Charge) -> Result<bool, String> {
    Ok(true)
}

fn main() {
    let _ = App::new("shop").handle(charge);
}
