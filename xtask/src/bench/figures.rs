//! What one run measured, and the median of several.

use serde_json::Value;

/// One run, as `ensue bench orders` and the peers report it.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Figures {
    pub(super) orders: f64,
    pub(super) orders_per_s: f64,
    /// Microseconds.
    pub(super) p50: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
    pub(super) cpu_s: f64,
    pub(super) rss_mb: f64,
    /// The device: microseconds for one synced write, and how it was made. Only we measure it.
    pub(super) floor: Option<(f64, String)>,
}

impl Figures {
    /// From the last line that is JSON.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let line = text.lines().rev().find(|line| line.starts_with('{'));
        let line = line.ok_or_else(|| format!("no figures in `{text}`"))?;
        let value: Value = serde_json::from_str(line).map_err(|error| format!("`{line}`: {error}"))?;
        let number = |value: &Value, name: &str| {
            value.get(name).and_then(Value::as_f64).ok_or_else(|| format!("no `{name}` in `{line}`"))
        };
        let latency = value.get("latency_us").unwrap_or(&Value::Null);
        let floor = value.get("floor").and_then(|floor| floor.get("sync_write_4k_us_p50")?.as_f64());
        let mode = value.get("mode").and_then(Value::as_str).map(str::to_owned);
        Ok(Self {
            orders: number(&value, "orders")?,
            orders_per_s: number(&value, "orders_per_s")?,
            p50: number(latency, "p50")?,
            p95: number(latency, "p95")?,
            p99: number(latency, "p99")?,
            max: number(latency, "max")?,
            cpu_s: number(&value, "cpu_s")?,
            rss_mb: number(&value, "rss_mb")?,
            floor: floor.zip(mode),
        })
    }
}

/// The run in the middle, by this figure; all of its other figures belong together.
pub(super) fn median(runs: &[Figures], by: impl Fn(&Figures) -> f64) -> Result<&Figures, String> {
    let mut sorted: Vec<&Figures> = runs.iter().collect();
    sorted.sort_by(|a, b| by(a).total_cmp(&by(b)));
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().ok_or_else(|| "nothing was measured".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(orders_per_s: f64) -> Figures {
        let line = format!(
            "{{\"orders\":3,\"orders_per_s\":{orders_per_s},\"latency_us\":{{\"p50\":1,\"p95\":2,\"p99\":3,\"max\":4}},\
             \"cpu_s\":0.5,\"rss_mb\":6.0,\"floor\":{{\"sync_write_4k_us_p50\":9}},\"mode\":\"m\"}}"
        );
        Figures::parse(&format!("talk\n{line}\n")).expect("figures")
    }

    #[test]
    fn a_report_is_read_whole_or_refused() {
        let figures = run(2.0);
        assert_eq!(figures.floor, Some((9.0, "m".to_owned())));
        assert_eq!((figures.p50, figures.max), (1.0, 4.0));
        let refusal = Figures::parse("{\"orders\":1}").expect_err("most is missing");
        assert!(refusal.contains("orders_per_s"), "{refusal}");
    }

    #[test]
    fn the_median_is_a_run_that_was_made() {
        let runs = [run(3.0), run(1.0), run(2.0)];
        assert_eq!(median(&runs, |run| run.orders_per_s).map(|run| run.orders_per_s), Ok(2.0));
        assert!(median(&[], |run| run.p50).is_err());
    }
}
