//! Sweeping: records that have lapsed leave the index with a flush, a bounded number at a time.
//!
//! A lapsed record counts as absent long before; this only gives its room back.

use bytes::Bytes;
use ensue_core::{Error, Timestamp};

use super::flush::Run;
use super::{EXPIRY, Index, RECORD, prefixed};
use crate::errors;

/// So many per flush, so that a flush stays short.
const SWEPT_MAX: usize = 20_000;
/// Bytes of an expiry in a key.
const AT_BYTES: usize = 12;

/// Sorted by time: the sign bit is flipped so that bytes sort as numbers do.
pub(super) fn expiry_key(at: Timestamp, record: &[u8]) -> Vec<u8> {
    [&[EXPIRY], &sortable(at)[..], record].concat()
}

fn sortable(at: Timestamp) -> [u8; AT_BYTES] {
    // A time before the epoch has a negative fraction as well; as one number they sort together.
    let nanoseconds = at.as_nanosecond() + (1i128 << 94);
    let bytes = nanoseconds.to_be_bytes();
    *bytes.last_chunk().expect("sixteen bytes end in twelve")
}

impl Index {
    pub(super) fn sweep(&self, run: &mut Run, now: Timestamp) -> Result<(), Error> {
        let range = vec![EXPIRY]..=prefixed(EXPIRY, &sortable(now));
        for item in self.keyspace.range(range).take(SWEPT_MAX) {
            let key = Bytes::copy_from_slice(&item.key().map_err(errors::index)?);
            let record = key.get(1 + AT_BYTES..).unwrap_or_default();
            let has_lapsed =
                self.record(record)?.is_some_and(|stored| stored.lapse.is_some_and(|at| at <= now));
            if has_lapsed {
                // A newer write in the same run stands.
                run.rest.entry(prefixed(RECORD, record)).or_insert(None);
            }
            run.rest.insert(key.to_vec(), None);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiries_sort_as_times_do() {
        let times = [-5_000_000_000i128, -1, 0, 1, 2_000_000_000, 253_402_207_200_000_000_000];
        let keys: Vec<_> = times
            .iter()
            .map(|at| sortable(Timestamp::from_nanosecond(*at).expect("a time in range")))
            .collect();
        assert!(keys.is_sorted(), "{keys:?}");
    }
}
