//! The clock of a load that comes at a fixed rate, whatever the response.

use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

/// The moments at which something is due within this time, each sent when it has come.
///
/// A thread of its own keeps them: a timer of the executor is a millisecond coarse, which is much beside what is measured
/// from these moments. One that passes while the thread is held up is sent late and says when it was due, so that waiting
/// counts.
pub(super) fn pace(per_second: u32, within: Range<Instant>) -> mpsc::UnboundedReceiver<Instant> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let mut due = within.start;
    thread::spawn(move || {
        while due < within.end {
            thread::park_timeout(due.saturating_duration_since(Instant::now()));
            // It may wake before its time.
            if Instant::now() < due {
                continue;
            }
            if sender.send(due).is_err() {
                return;
            }
            due += Duration::from_secs(1) / per_second;
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moment_comes_once_and_none_before_its_time() {
        let began = Instant::now();
        let mut moments = pace(1_000, began..began + Duration::from_millis(20));
        let mut before = None;
        let mut count = 0;
        while let Some(due) = moments.blocking_recv() {
            assert!(due <= Instant::now(), "a moment came before its time");
            if let Some(before) = before {
                assert_eq!(due.duration_since(before), Duration::from_millis(1));
            }
            before = Some(due);
            count += 1;
        }
        assert_eq!(count, 20);
    }
}
