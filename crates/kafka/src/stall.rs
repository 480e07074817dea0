//! Whether partitions of a member stand still although there is more in them. The driver can lose sight of a partition when brokers
//! that led it fail one after the other; a membership made anew finds it again.
//!
//! Not here: the driver, the clock and the network.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// For how long a partition may stand still. It is doubled each time that a new membership has not helped.
const PATIENCE: Duration = Duration::from_secs(20);
const PATIENCE_MAX: Duration = Duration::from_mins(10);

/// Where a partition is.
pub(crate) struct Place {
    pub(crate) partition: i32,
    /// What is fetched next; nothing where the driver does not know.
    pub(crate) next: Option<i64>,
    /// What will be written next.
    pub(crate) end: i64,
}

/// What was seen of partitions in which there is more.
pub(crate) struct Stalls {
    seen: HashMap<i32, (Option<i64>, Instant)>,
    patience: Duration,
}

impl Default for Stalls {
    fn default() -> Self {
        Self { seen: HashMap::new(), patience: PATIENCE }
    }
}

impl Stalls {
    /// Whether one of them has stood still for too long. Those that are not named are forgotten.
    pub(crate) fn look(&mut self, places: Vec<Place>, now: Instant) -> bool {
        let before = std::mem::take(&mut self.seen);
        let mut is_over = false;
        for Place { partition, next, end } in places {
            let since = before.get(&partition).filter(|(seen, _)| *seen == next).map(|(_, since)| *since);
            if before.contains_key(&partition) && since.is_none() {
                self.patience = PATIENCE;
            }
            if next.is_some_and(|next| next >= end) {
                continue;
            }
            let since = since.unwrap_or(now);
            is_over |= now.duration_since(since) >= self.patience;
            self.seen.insert(partition, (next, since));
        }
        if is_over {
            self.seen.clear();
            self.patience = (self.patience * 2).min(PATIENCE_MAX);
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(next: Option<i64>, end: i64) -> Vec<Place> {
        vec![Place { partition: 0, next, end }]
    }

    #[test]
    fn a_partition_with_more_in_it_that_stands_still_is_found_out_and_one_at_its_end_is_not() {
        let (mut stalls, start) = (Stalls::default(), Instant::now());
        for next in [Some(7), None] {
            let mut stalls = Stalls::default();
            assert!(!stalls.look(place(next, 9), start));
            assert!(!stalls.look(place(next, 9), start + PATIENCE / 2));
            assert!(stalls.look(place(next, 12), start + PATIENCE));
        }
        for step in 0..9 {
            assert!(!stalls.look(place(Some(9), 9), start + PATIENCE * step));
        }
    }

    #[test]
    fn a_partition_that_moves_is_left_alone() {
        let (mut stalls, start) = (Stalls::default(), Instant::now());
        for step in 0..9 {
            assert!(!stalls.look(place(Some(i64::from(step)), 100), start + PATIENCE * step));
        }
    }

    #[test]
    fn what_a_new_membership_does_not_help_is_tried_ever_more_seldom() {
        let (mut stalls, start) = (Stalls::default(), Instant::now());
        let mut found = Vec::new();
        for second in 0..200 {
            if stalls.look(place(None, 1), start + Duration::from_secs(second)) {
                found.push(second);
            }
        }
        assert_eq!(found, [20, 61, 142]);
    }
}
