//! When cron expressions are due, and what is refused.

use super::*;

/// The next times at which it is due, as the clock on the wall shows them there.
fn next(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let cron: Cron = cron.parse().expect(cron);
    let zone = TimeZone::get(zone).expect("a zone of the bundled database");
    let mut at: Timestamp = after.parse().expect("a time");
    let mut due = Vec::new();
    for _ in 0..count {
        let before = at;
        at = cron.next_after(at, &zone).expect("it is due again");
        assert!(at > before);
        let local = zone.to_datetime(at);
        due.push(format!(
            "{} {:02}:{:02} {}",
            local.date(),
            local.hour(),
            local.minute(),
            zone.to_offset(at)
        ));
    }
    due
}

fn utc(cron: &str, after: &str, count: usize) -> Vec<String> {
    next(cron, "UTC", after, count).into_iter().map(|due| due.trim_end_matches(" +00").to_owned()).collect()
}

#[test]
fn fields_are_values_lists_ranges_steps_and_names() {
    let begin = "2024-01-15T10:30:00Z"; // a Monday
    assert_eq!(utc("0 3 * * *", begin, 2), ["2024-01-16 03:00", "2024-01-17 03:00"]);
    assert_eq!(utc("*/20 10 * * *", begin, 2), ["2024-01-15 10:40", "2024-01-16 10:00"]);
    assert_eq!(utc("5-7,50 * * * *", begin, 3), ["2024-01-15 10:50", "2024-01-15 11:05", "2024-01-15 11:06"]);
    assert_eq!(utc("0 9 * JUN-aug Fri", begin, 2), ["2024-06-07 09:00", "2024-06-14 09:00"]);
    assert_eq!(utc("0 0 * * 7", begin, 1), ["2024-01-21 00:00"]);
    assert_eq!(utc("0 0 * * sat-7", begin, 2), ["2024-01-20 00:00", "2024-01-21 00:00"]);
    assert_eq!(utc("0 5/6 * * *", begin, 3), ["2024-01-15 11:00", "2024-01-15 17:00", "2024-01-15 23:00"]);
    assert_eq!(utc("@hourly", begin, 2), ["2024-01-15 11:00", "2024-01-15 12:00"]);
    assert_eq!(utc("@weekly", begin, 1), ["2024-01-21 00:00"]);
}

#[test]
fn a_day_matches_by_month_or_by_week_where_both_are_restricted() {
    let due = utc("0 0 13 * fri", "2024-09-01T00:00:00Z", 3);
    assert_eq!(due, ["2024-09-06 00:00", "2024-09-13 00:00", "2024-09-20 00:00"]);
    let due = utc("0 0 13 * *", "2024-09-01T00:00:00Z", 2);
    assert_eq!(due, ["2024-09-13 00:00", "2024-10-13 00:00"]);
}

#[test]
fn the_29th_of_february_comes_in_leap_years_and_not_in_2100() {
    let due = utc("0 12 29 2 *", "2024-02-29T12:00:00Z", 2);
    assert_eq!(due, ["2028-02-29 12:00", "2032-02-29 12:00"]);
    assert_eq!(utc("0 12 29 2 *", "2096-03-01T00:00:00Z", 1), ["2104-02-29 12:00"]);
}

#[test]
fn a_time_that_summer_time_skips_is_due_when_the_clocks_have_moved() {
    // 31 March 2024: after 01:59 comes 03:00.
    let due = next("30 2 * * *", "Europe/Berlin", "2024-03-30T12:00:00Z", 2);
    assert_eq!(due, ["2024-03-31 03:30 +02", "2024-04-01 02:30 +02"]);
    let due = next("*/30 * * * *", "Europe/Berlin", "2024-03-31T00:00:00Z", 3);
    assert_eq!(due, ["2024-03-31 01:30 +01", "2024-03-31 03:00 +02", "2024-03-31 03:30 +02"]);
}

#[test]
fn a_time_that_comes_twice_is_due_once_and_every_hour_is_every_hour() {
    // 27 October 2024: after 02:59 comes 02:00 again.
    let due = next("30 2 * * *", "Europe/Berlin", "2024-10-26T12:00:00Z", 2);
    assert_eq!(due, ["2024-10-27 02:30 +02", "2024-10-28 02:30 +01"]);
    let due = next("30 * * * *", "Europe/Berlin", "2024-10-26T23:45:00Z", 3);
    assert_eq!(due, ["2024-10-27 02:30 +02", "2024-10-27 02:30 +01", "2024-10-27 03:30 +01"]);
}

#[test]
fn what_is_no_schedule_is_refused_and_shown_where_it_is_wrong() {
    let reasons = [
        ("* * * *", "these are not five fields"),
        ("60 * * * *", "no minute: use 0 to 59\n  60 * * * *\n  ^^"),
        ("0  24 * * *", "no hour: use 0 to 23\n  0  24 * * *\n     ^^"),
        ("* * 0 * *", "no day of the month: use 1 to 31"),
        ("* * * jan-foo *", "no month: use 1 to 12\n  * * * jan-foo *\n            ^^^"),
        ("* * * * 8", "no day of the week: use 0 to 7"),
        ("1,2,*/0 * * * *", "no step of the minute: use 1 to 59\n  1,2,*/0 * * * *\n        ^"),
        ("+5 * * * *", "no minute"),
        ("30-10 * * * *", "this minute ends before it begins\n  30-10 * * * *\n  ^^^^^"),
        ("0 0 30 2 *", "there is no such day\n  0 0 30 2 *\n      ^^"),
        ("@fortnightly", "these are not five fields\n  @fortnightly\n  ^^^^^^^^^^^^"),
        ("", "these are not five fields"),
        ("1, * * * *", "no minute: use 0 to 59\n  1, * * * *\n    ^"),
        ("0 0\n* * *", "one line"),
    ];
    for (text, reason) in reasons {
        let error = text.parse::<Cron>().expect_err(text);
        assert_eq!(error.code(), Code::INVALID_SCHEDULE);
        assert!(
            error.message().starts_with(reason) || error.message().contains("one line"),
            "{text}: {}",
            error.message()
        );
    }
}

#[test]
fn the_latest_times_are_those_that_following_them_one_by_one_finds() {
    let cases = [
        ("*/7 * * * *", "Europe/Berlin", "2024-03-30T22:00:00Z", "2024-04-01T03:00:00Z"),
        ("*/7 * * * *", "Europe/Berlin", "2024-10-26T22:00:00Z", "2024-10-28T03:00:00Z"),
        ("15,45 1-4 * * *", "America/New_York", "2024-03-09T00:00:00Z", "2024-03-12T00:00:00Z"),
        ("15,45 1-4 * * *", "America/New_York", "2024-11-02T00:00:00Z", "2024-11-05T00:00:00Z"),
        ("0 0 29 2 *", "UTC", "1996-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
    ];
    for (text, zone, after, until) in cases {
        let (cron, zone) = (text.parse::<Cron>().expect(text), TimeZone::get(zone).expect(zone));
        let (after, until): (Timestamp, Timestamp) =
            (after.parse().expect("a time"), until.parse().expect("a time"));
        let followed =
            std::iter::successors(cron.next_after(after, &zone), |due| cron.next_after(*due, &zone));
        let followed: Vec<Timestamp> = followed.take_while(|due| *due <= until).collect();
        assert!(followed.len() >= 7, "{text}: {followed:?}");
        assert_eq!(cron.latest(after, until, &zone, usize::MAX), followed, "{text}");
        assert_eq!(cron.latest(after, until, &zone, 3), followed.split_at(followed.len() - 3).1, "{text}");
    }
}

#[test]
fn a_midnight_and_a_whole_day_can_be_skipped() {
    // Clocks in Beirut went from 23:59 to 01:00; Samoa had no 30th of December in 2011.
    let due = next("0 0 * * *", "Asia/Beirut", "2022-03-26T12:00:00Z", 2);
    assert_eq!(due, ["2022-03-27 01:00 +03", "2022-03-28 00:00 +03"]);
    let due = next("0 9 * * *", "Pacific/Apia", "2011-12-29T00:00:00Z", 3);
    assert_eq!(due, ["2011-12-29 09:00 -10", "2011-12-31 09:00 +14", "2012-01-01 09:00 +14"]);
}

#[test]
fn the_next_time_is_the_first_minute_that_matches() {
    // Against looking at every minute, for expressions that come from a small generator.
    let mut seed = 7u64;
    let mut draw = |bound: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % bound
    };
    for _ in 0..60 {
        let (from, step) = (draw(30), draw(20) + 1);
        let text = format!("{from}-{}/{step} {} */{} * {}", from + draw(29), draw(24), draw(9) + 1, draw(7));
        let cron: Cron = text.parse().expect(&text);
        let start = Timestamp::from_second(1_700_000_000 + i64::try_from(draw(90_000_000)).expect("small"));
        let start = start.expect("in range");
        let found = cron.next_after(start, &TimeZone::UTC).expect("it is due");
        let mut at = start.as_second().div_euclid(60) * 60 + 60;
        let plain = loop {
            let local = TimeZone::UTC.to_datetime(Timestamp::from_second(at).expect("in range"));
            if cron.admits(local.date())
                && cron.hours.admits(local.hour())
                && cron.minutes.admits(local.minute())
            {
                break at;
            }
            at += 60;
        };
        assert_eq!(found.as_second(), plain, "{text} after {start}");
    }
}
