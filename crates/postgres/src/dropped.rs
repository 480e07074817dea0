//! Positions whose events are gone because their topic does not keep them for ever.

use std::ops::Range;
use std::sync::Arc;

use ensue_core::{Error, Position};
use tokio_postgres::types::Type;

use crate::attributes::{column, number, signed};
use crate::pool::{Parameter, Pool};

/// Ranges of positions, in order; no two of them touch.
#[derive(Default)]
pub(crate) struct Dropped(Vec<Range<u64>>);

impl Dropped {
    /// Those beyond `after` and up to `until`.
    pub(crate) async fn load(pool: &Arc<Pool>, after: Position, until: Position) -> Result<Self, Error> {
        let sql = "SELECT lower(positions), upper(positions) FROM ensue.dropped_ranges($1, $2) AS positions";
        let parameters: Vec<Parameter> =
            vec![(Box::new(signed(after.0)), Type::INT8), (Box::new(signed(until.0)), Type::INT8)];
        let rows = pool.rows("cannot read which events were dropped", sql, parameters).await?;
        let range = |row| Ok(number(column(row, 0)?)..number(column(row, 1)?));
        rows.iter().map(range).collect::<Result<_, _>>().map(Self)
    }

    /// Whether every position between these two was dropped. They themselves may have been dropped since they were read.
    pub(crate) fn covers(&self, low: u64, high: u64) -> bool {
        let (first, end) = (low.saturating_add(1), high);
        first >= end || self.0.iter().any(|range| range.start <= first && range.end >= end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_covered_where_nothing_in_it_is_left() {
        let dropped = Dropped(vec![1..4, 6..9]);
        for (low, high) in [(0, 1), (0, 4), (1, 3), (2, 4), (4, 5), (5, 9), (6, 8), (7, 9)] {
            assert!(dropped.covers(low, high), "{low} {high}");
        }
        for (low, high) in [(0, 5), (3, 6), (4, 9), (5, 10), (9, 11)] {
            assert!(!dropped.covers(low, high), "{low} {high}");
        }
        assert!(Dropped::default().covers(8, 9) && !Dropped::default().covers(8, 10));
    }
}
