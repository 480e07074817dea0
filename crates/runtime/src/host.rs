//! The real host: the operating system's clocks and tokio's timer. The only file of this crate that touches them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ensue_core::{BoxFuture, Clock, Entropy, Host, Timestamp};

struct SystemClock {
    started: Instant,
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system hands out randomness");
    }
}

/// Time and randomness of the machine this runs on. Sleeping needs a tokio runtime.
pub fn system() -> Host {
    Host { clock: Arc::new(SystemClock { started: Instant::now() }), entropy: Arc::new(SystemEntropy) }
}
