//! Cron expressions: five fields, names, ranges, steps and the usual nicknames, and when they are due in a time zone.
//!
//! As in Vixie's cron, days match if either the day of the month or the day of the week does, where both are restricted.
//! A time that the change to summer time skips is due when the clocks have moved; one that the change back brings twice
//! is due the first time. Where every hour is meant, each hour that passes counts, whatever the clock calls it.

use std::str::FromStr;

use ensue_core::{Code, Error, Timestamp};
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, ToSpan};

/// Any weekday falls on a 29th of February within forty years, across 2100.
const DAYS_AHEAD_MAX: usize = 366 * 41;

/// When something is due, again and again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Cron {
    minutes: Field,
    hours: Field,
    days: Field,
    months: Field,
    /// Sunday is 0.
    weekdays: Field,
}

/// The values of one field that match.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Field {
    bits: u64,
    /// Whether it begins with `*`, so that it restricts nothing by itself.
    is_star: bool,
}

impl Field {
    fn admits(self, value: i8) -> bool {
        u32::try_from(value).is_ok_and(|value| self.bits >> value & 1 == 1)
    }
}

/// What a field may hold.
struct Rule {
    name: &'static str,
    from: u32,
    to: u32,
    /// Names of the values from the first one on.
    names: &'static [&'static str],
}

const MINUTE: Rule = Rule { name: "minute", from: 0, to: 59, names: &[] };
const HOUR: Rule = Rule { name: "hour", from: 0, to: 23, names: &[] };
const DAY: Rule = Rule { name: "day of the month", from: 1, to: 31, names: &[] };
const MONTH: Rule = Rule {
    name: "month",
    from: 1,
    to: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAY: Rule = Rule {
    name: "day of the week",
    from: 0,
    to: 7,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

/// What is wrong about a part of an expression.
struct Wrong<'a> {
    part: &'a str,
    reason: String,
}

impl<'a> Wrong<'a> {
    fn new(part: &'a str, reason: impl Into<String>) -> Self {
        Self { part, reason: reason.into() }
    }

    /// The error, which shows where the part stands in the text that it is a slice of.
    fn in_text(self, text: &'a str) -> Error {
        let offset = self.part.as_ptr().addr().saturating_sub(text.as_ptr().addr());
        let before = text.get(..offset).unwrap_or_default().chars().count();
        let (indent, mark) = (" ".repeat(before), "^".repeat(self.part.chars().count().max(1)));
        let message = format!("{}\n  {text}\n  {indent}{mark}", self.reason);
        Error::new(Code::INVALID_SCHEDULE, message).with_fix(
            "five fields: minute, hour, day of the month, month, day of the week; or `@daily` and the like",
        )
    }
}

impl FromStr for Cron {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.len() > 200 || text.chars().any(char::is_control) {
            return Err(Error::new(Code::INVALID_SCHEDULE, "an expression is one line of at most 200 bytes"));
        }
        Self::parse(text).map_err(|wrong| wrong.in_text(text))
    }
}

impl Cron {
    fn parse(text: &str) -> Result<Self, Wrong<'_>> {
        let fields: Vec<&str> = nickname(text.trim()).unwrap_or(text).split_ascii_whitespace().collect();
        let Ok([minutes, hours, days, months, weekdays]) = <[&str; 5]>::try_from(fields) else {
            return Err(Wrong::new(text, "these are not five fields"));
        };
        let mut cron = Self {
            minutes: MINUTE.parse(minutes)?,
            hours: HOUR.parse(hours)?,
            days: DAY.parse(days)?,
            months: MONTH.parse(months)?,
            weekdays: WEEKDAY.parse(weekdays)?,
        };
        // Sunday has two numbers.
        cron.weekdays.bits |= cron.weekdays.bits >> 7 & 1;
        // A date that no year has is found by looking, in UTC, where every day has all its hours.
        let is_ever_due = cron.next_after(Timestamp::UNIX_EPOCH, &TimeZone::UTC).is_some();
        if is_ever_due { Ok(cron) } else { Err(Wrong::new(days, "there is no such day")) }
    }
}

fn nickname(text: &str) -> Option<&'static str> {
    let nicknames = [
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@monthly", "0 0 1 * *"),
        ("@weekly", "0 0 * * 0"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@hourly", "0 * * * *"),
    ];
    nicknames.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, cron)| *cron)
}

impl Rule {
    /// A list of values, ranges and steps.
    fn parse<'a>(&self, text: &'a str) -> Result<Field, Wrong<'a>> {
        let mut field = Field { bits: 0, is_star: text.starts_with('*') };
        for item in text.split(',') {
            field.bits |= self.item(item)?;
        }
        Ok(field)
    }

    fn item<'a>(&self, item: &'a str) -> Result<u64, Wrong<'a>> {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(self.step(step)?)),
            None => (item, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.from, self.to),
            Some((first, last)) => (self.value(first)?, self.value(last)?),
            // A step from a value goes to the end.
            None if step.is_some() => (self.value(range)?, self.to),
            None => (self.value(range)?, self.value(range)?),
        };
        if first > last {
            return Err(Wrong::new(range, format!("this {} ends before it begins", self.name)));
        }
        Ok((first..=last).step_by(step.unwrap_or(1)).fold(0, |bits, value| bits | 1 << value))
    }

    fn step<'a>(&self, text: &'a str) -> Result<usize, Wrong<'a>> {
        let step = number(text).filter(|step| (1..=self.to).contains(step));
        step.and_then(|step| usize::try_from(step).ok())
            .ok_or_else(|| Wrong::new(text, format!("no step of the {}: use 1 to {}", self.name, self.to)))
    }

    fn value<'a>(&self, text: &'a str) -> Result<u32, Wrong<'a>> {
        let named = self.names.iter().zip(self.from..).find(|(name, _)| name.eq_ignore_ascii_case(text));
        let value = named.map(|(_, value)| value).or_else(|| number(text));
        value
            .filter(|value| (self.from..=self.to).contains(value))
            .ok_or_else(|| Wrong::new(text, format!("no {}: use {} to {}", self.name, self.from, self.to)))
    }
}

/// Digits alone, so that a sign is no number.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl Cron {
    /// The first time after `after` at which it is due; none if there is none in the years that follow.
    pub(crate) fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let days = zone.to_datetime(after).date().series(1.day()).take(DAYS_AHEAD_MAX);
        days.filter(|date| self.admits(*date))
            .find_map(|date| self.on(date, zone).into_iter().find(|due| *due > after))
    }

    /// The last times after `after` and until `until` at which it is due, in order, at most `count`.
    pub(crate) fn latest(
        &self,
        after: Timestamp,
        until: Timestamp,
        zone: &TimeZone,
        count: usize,
    ) -> Vec<Timestamp> {
        let first = zone.to_datetime(after).date();
        let days = zone.to_datetime(until).date().series(-1.day()).take_while(|date| *date >= first);
        let due = days
            .filter(|date| self.admits(*date))
            .flat_map(|date| self.on(date, zone).into_iter().rev())
            .filter(|due| *due <= until)
            .take_while(|due| *due > after);
        let mut latest: Vec<Timestamp> = due.take(count).collect();
        latest.reverse();
        latest
    }

    fn admits(&self, date: Date) -> bool {
        let day = self.days.admits(date.day());
        let weekday = self.weekdays.admits(date.weekday().to_sunday_zero_offset());
        let is_by_either = !self.days.is_star && !self.weekdays.is_star;
        let by_day = if is_by_either { day || weekday } else { day && weekday };
        by_day && self.months.admits(date.month())
    }

    /// When it is due on a day that it admits, in order.
    fn on(&self, date: Date, zone: &TimeZone) -> Vec<Timestamp> {
        let is_every_hour = (0..24).all(|hour| self.hours.admits(hour));
        let mut due =
            if is_every_hour { self.as_time_passes(date, zone) } else { self.by_the_clock(date, zone) };
        due.sort_unstable();
        due.dedup();
        due
    }

    /// Minute for minute, so that an hour that comes twice counts twice, and one that is skipped not at all.
    fn as_time_passes(&self, date: Date, zone: &TimeZone) -> Vec<Timestamp> {
        let midnight = |date: Date| zone.to_timestamp(date.to_datetime(Time::midnight())).ok();
        let (Some(begin), Some(end)) = (midnight(date), date.tomorrow().ok().and_then(midnight)) else {
            return Vec::new();
        };
        let minutes = (0..).map_while(|minute| begin.checked_add(SignedDuration::from_mins(minute)).ok());
        let is_due = |at: &Timestamp| self.minutes.admits(zone.to_datetime(*at).minute());
        minutes.take_while(|at| *at < end).filter(is_due).collect()
    }

    /// What the clock on the wall shows. Times that are skipped move on by what is skipped; of two it is the first.
    fn by_the_clock(&self, date: Date, zone: &TimeZone) -> Vec<Timestamp> {
        let hours = (0..24).filter(|hour| self.hours.admits(*hour));
        let minutes = || (0..60).filter(|minute| self.minutes.admits(*minute));
        let times = hours.flat_map(|hour| minutes().map(move |minute| (hour, minute)));
        times.filter_map(|(hour, minute)| zone.to_timestamp(date.at(hour, minute, 0, 0)).ok()).collect()
    }
}

#[cfg(test)]
mod tests;
