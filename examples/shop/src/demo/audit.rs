//! Compares what everybody believes: the log, the read model, and the ledgers outside.

use ensue::runtime::projection::verify;
use ensue::{Error, Running};

use super::Outcomes;
use super::watch::Watch;
use crate::Money;
use crate::analytics::Sales;
use crate::order::OrdersView;
use crate::outside::Outside;

/// Rows of the read model that are read at a time.
const PAGE: usize = 1_000;

/// What the comparison found.
pub(super) struct Books {
    pub(super) findings: Vec<String>,
}

/// What the rows of the read model add up to.
#[derive(Default)]
struct Rows {
    count: u64,
    unfinished: u64,
    outcomes: Outcomes,
    paid: Money,
    pieces: u64,
}

/// Only meaningful while nothing is under way.
pub(super) async fn compare(running: &Running, outside: &Outside, watch: &Watch) -> Result<Books, Error> {
    let rows = add_up(running, watch).await?;
    let mut findings = watch.findings.clone();
    findings.extend(outside.audit()?);
    // Only now the totals count what other processes did.
    let (provider, warehouse) = (outside.provider.totals(), outside.warehouse.totals());
    let mut expect = |what: &str, one: String, other: String| {
        if one != other {
            findings.push(format!("{what}: {one}, but {other}"));
        }
    };
    expect("orders in the view and in the log", rows.count.to_string(), watch.placed.to_string());
    expect("orders that have not ended", rows.unfinished.to_string(), watch.left_broken().to_string());
    expect(
        "ends in the view and in the log",
        format!("{:?}", rows.outcomes),
        format!("{:?}", watch.outcomes),
    );
    expect("paid in the view and kept by the provider", rows.paid.to_string(), provider.kept.to_string());
    expect(
        "pieces out in the view and missing in the warehouse",
        rows.pieces.to_string(),
        warehouse.initial.saturating_sub(warehouse.left).to_string(),
    );
    let replayed = verify(OrdersView, running.store().clone()).await?;
    expect("rows that differ from a replay of the log", differing(&replayed), "0".to_owned());
    let replayed = verify(Sales, running.store().clone()).await?;
    expect("sales that differ from a replay of the log", differing(&replayed), "0".to_owned());
    Ok(Books { findings })
}

fn differing(difference: &ensue::runtime::projection::Difference) -> String {
    (difference.missing.len() + difference.added.len() + difference.different.len()).to_string()
}

async fn add_up(running: &Running, watch: &Watch) -> Result<Rows, Error> {
    let view = running.view::<OrdersView>()?;
    let mut rows = Rows::default();
    let mut after = String::new();
    loop {
        let page = view.page(&after, PAGE).await?;
        let Some((last, _)) = page.last() else { return Ok(rows) };
        after.clone_from(last);
        for (key, row) in page {
            rows.count += 1;
            // What an operator makes of a broken order need not be an end that the view knows.
            rows.unfinished += u64::from(!row.is_over() && !watch.is_repaired(&key));
            // A broken order may have failed; but it has not ended.
            if !watch.is_broken(&key) {
                rows.outcomes.count(row.status);
            }
            rows.paid = rows.paid.saturating_add(row.paid);
            rows.pieces += row.pieces;
        }
    }
}
