//! Latencies in fixed buckets: bounded in memory, exact in count, within an eighth of the true value.

use serde::{Deserialize, Serialize};

/// Buckets to each doubling.
const PARTS: u64 = 8;
/// Enough for 2^41 microseconds, which are 25 days.
const BUCKETS: usize = 8 * 39;

/// How long something took, in microseconds.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Vec<(usize, u64)>", into = "Vec<(usize, u64)>")]
pub(crate) struct Latencies {
    /// Grows up to the largest bucket in use.
    counts: Vec<u64>,
}

impl Latencies {
    pub(crate) fn record(&mut self, micros: i64) {
        let bucket = bucket(u64::try_from(micros).unwrap_or_default());
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts.get_mut(bucket).into_iter().for_each(|count| *count += 1);
    }

    /// How many were recorded.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// So many of a hundred took no longer, in microseconds: the upper bound of a bucket. Zero where nothing was recorded.
    pub(crate) fn percentile(&self, percent: u64) -> u64 {
        let rank = (self.count() * percent).div_ceil(100);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank && *count > 0 {
                return upper_bound(bucket);
            }
        }
        0
    }
}

/// The first eight buckets are single microseconds; then each doubling has eight.
fn bucket(micros: u64) -> usize {
    let bucket = if micros < PARTS {
        micros
    } else {
        let doubling = u64::from(micros.ilog2()) - 3;
        (doubling + 1) * PARTS + (micros >> doubling) - PARTS
    };
    usize::try_from(bucket).unwrap_or(usize::MAX).min(BUCKETS - 1)
}

fn upper_bound(bucket: usize) -> u64 {
    let bucket = u64::try_from(bucket).unwrap_or(u64::MAX);
    if bucket < PARTS {
        return bucket;
    }
    let (doubling, part) = (bucket / PARTS - 1, bucket % PARTS);
    ((PARTS + part + 1) << doubling) - 1
}

/// Only buckets that are not empty are written down.
impl From<Latencies> for Vec<(usize, u64)> {
    fn from(latencies: Latencies) -> Self {
        latencies.counts.into_iter().enumerate().filter(|(_, count)| *count > 0).collect()
    }
}

impl From<Vec<(usize, u64)>> for Latencies {
    fn from(written: Vec<(usize, u64)>) -> Self {
        let mut counts = Vec::new();
        for (bucket, count) in written.into_iter().filter(|(bucket, _)| *bucket < BUCKETS) {
            counts.resize(counts.len().max(bucket + 1), 0);
            counts.get_mut(bucket).into_iter().for_each(|known| *known = count);
        }
        Self { counts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_falls_into_a_bucket_that_bounds_it_within_an_eighth() {
        for micros in (0..70_000).chain((0..40).map(|power| 1 << power)) {
            let bound = upper_bound(bucket(micros));
            assert!(bound >= micros && bound <= micros + micros / 8, "{micros} in a bucket up to {bound}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_those_of_what_was_recorded_and_survive_storage() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentile(50), 0);
        (1..=1_000).for_each(|micros| latencies.record(micros));
        latencies.record(-5);
        let text = serde_json::to_string(&latencies).expect("plain data");
        let latencies: Latencies = serde_json::from_str(&text).expect("what was written");
        assert_eq!(latencies.count(), 1_001);
        for (percent, micros) in [(50, 500), (95, 950), (99, 990)] {
            let found = latencies.percentile(percent);
            assert!(found >= micros && found <= micros + micros / 8, "p{percent}: {found}");
        }
    }
}
