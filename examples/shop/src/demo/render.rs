//! A report for people: two orders to look at, the totals, and what to type next.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use super::report::Report;
use super::sample::{Sample, millis};
use crate::Style;
use crate::money::grouped;

/// Columns at least so wide, so that reports of different orders look alike.
const NAME_WIDTH_MIN: usize = 24;
const SERVICE_WIDTH: usize = 12;

/// Where it was shown.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// The folder of the store, or of the world outside where the store is a database.
    pub folder: &'a Path,
    /// The address of the database.
    pub database: Option<&'a str>,
    /// Whether commands use that folder when none is named.
    pub is_default: bool,
    /// How durable the store is, in words.
    pub durability: &'a str,
}

/// The report as text.
pub fn render(report: &Report, setting: Setting<'_>) -> String {
    let mut text = String::new();
    headline(report, setting, &mut text);
    report.samples.iter().for_each(|sample| order(sample, &mut text));
    totals(report, &mut text);
    next(report, setting, &mut text);
    text
}

/// Writing to a `String` cannot fail.
macro_rules! line {
    ($text:expr, $($arguments:tt)*) => {
        writeln!($text, $($arguments)*).expect("a String takes everything")
    };
}

fn headline(report: &Report, setting: Setting<'_>, text: &mut String) {
    let (orders, style) = (grouped(report.orders), report.style);
    let folder = setting.folder.display().to_string();
    let place = setting.database.unwrap_or(&folder);
    line!(text, "shop · {orders} orders, {style} · {place} ({})\n", setting.durability);
}

fn order(sample: &Sample, text: &mut String) {
    line!(text, "{}  {}", sample.order, sample.title);
    let widest = sample.lines.iter().map(|line| line.name.chars().count() + 1).max().unwrap_or_default();
    let width = widest.max(NAME_WIDTH_MIN);
    for (index, row) in sample.lines.iter().enumerate() {
        let sign = if index == 0 { "" } else { "+" };
        let time = format!("{sign}{}", millis(row.micros));
        let position = format!("#{}", row.position);
        let drawn = format!(
            "  {:<width$}{:<SERVICE_WIDTH$} {time:>9}  {position:<5} {}",
            row.name, row.service, row.detail
        );
        line!(text, "{}", drawn.trim_end());
    }
    line!(text, "");
}

fn totals(report: &Report, text: &mut String) {
    let outcomes = report.outcomes;
    line!(
        text,
        "{} orders   {} completed   {} payment failed   {} inventory failed   {} shipping failed",
        grouped(report.orders),
        grouped(outcomes.completed),
        grouped(outcomes.payment_failed),
        grouped(outcomes.inventory_failed),
        grouped(outcomes.shipping_failed)
    );
    broken(report, text);
    let money = report.money;
    let sum = format!("{} charged − {} refunded = {} kept", money.charged, money.refunded, money.kept);
    let is_right = money.charged.checked_sub(money.refunded) == Some(money.kept);
    line!(text, "money       {sum:<56} {}", verdict(is_right && report.findings.is_empty()));
    let stock = report.stock;
    let sum = format!(
        "{} − {} reserved + {} released = {} left",
        grouped(stock.initial),
        grouped(stock.reserved),
        grouped(stock.released),
        grouped(stock.left)
    );
    let is_right = stock.initial + stock.released == stock.left + stock.reserved;
    line!(text, "stock       {sum:<56} {}", verdict(is_right && report.findings.is_empty()));
    line!(text, "effects     {}", effects(report));
    line!(
        text,
        "speed       {} orders/s   {} p50   {} p99   {} events in the log",
        report.orders_per_s,
        millis(report.latency_us.p50),
        millis(report.latency_us.p99),
        grouped(report.events)
    );
    report.findings.iter().for_each(|finding| line!(text, "WRONG       {finding}"));
}

/// How many orders are broken, and in what ways.
fn broken(report: &Report, text: &mut String) {
    let mut ways: BTreeMap<&str, u64> = BTreeMap::new();
    let broken = report.broken.iter().filter(|order| !order.ended);
    broken.for_each(|order| *ways.entry(order.kind.as_str()).or_default() += 1);
    if ways.is_empty() {
        return;
    }
    let ways: Vec<String> = ways.into_iter().map(|(way, times)| format!("{times} {way}")).collect();
    line!(text, "broken      {}: `ensue flow stuck` finds them", ways.join(", "));
}

fn verdict(is_right: bool) -> &'static str {
    if is_right { "adds up" } else { "DOES NOT ADD UP" }
}

fn effects(report: &Report) -> String {
    match report.effects.repeats {
        0 => "every provider call counted once (crash-safe: kill it, then run it again with --resume)"
            .to_owned(),
        repeats => format!(
            "{} calls, {} repeated after a crash or a lost answer: none took effect twice",
            grouped(report.effects.calls),
            grouped(repeats)
        ),
    }
}

fn next(report: &Report, setting: Setting<'_>, text: &mut String) {
    let folder = setting.folder.display();
    let option = match setting.database {
        Some(database) => format!(" --store {database}"),
        None if setting.is_default => String::new(),
        None => format!(" --data {folder}"),
    };
    let mut commands = Vec::new();
    if let Some(failed) = report.samples.last() {
        commands.push((format!("ensue flow show {}{option}", failed.order), "what happened, and why"));
    }
    commands.push((format!("ensue tail --from begin -e{option}"), "every event"));
    let (other, meaning) = match report.style {
        Style::Choreography => (Style::Saga, "the same services, one conductor"),
        Style::Saga => (Style::Choreography, "the same services, nobody conducts"),
    };
    commands.push((format!("ensue demo --style {other} --data {folder}-{other}"), meaning));
    let width = commands.iter().map(|(command, _)| command.chars().count()).max().unwrap_or_default();
    line!(text, "");
    for (index, (command, meaning)) in commands.iter().enumerate() {
        let label = if index == 0 { "next" } else { "" };
        line!(text, "{label:<6} {command:<width$}   {meaning}");
    }
}
