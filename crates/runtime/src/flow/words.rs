//! Times and durations as people read them.

use ensue_core::Timestamp;

/// A moment in the past: `14:02` on the same day, with the date otherwise. UTC.
pub(super) fn clock(moment: Timestamp, now: Timestamp) -> String {
    let is_same_day = moment.strftime("%F").to_string() == now.strftime("%F").to_string();
    moment.strftime(if is_same_day { "%H:%M" } else { "%F %H:%M" }).to_string()
}

/// A moment with its date. UTC.
pub(super) fn at(moment: Timestamp) -> String {
    moment.strftime("%F %H:%M").to_string()
}

/// Microseconds in the unit that fits.
pub(super) fn duration(micros: u64) -> String {
    const UNITS: [(u64, &str); 5] = [
        (86_400_000_000, "days"),
        (3_600_000_000, "hours"),
        (60_000_000, "minutes"),
        (1_000_000, "s"),
        (1_000, "ms"),
    ];
    // Two of the next smaller unit read better than a fraction of one.
    match UNITS.iter().find(|(unit, _)| micros >= 2 * unit) {
        Some((unit, name)) => format!("{} {name}", micros / unit),
        None => format!("{micros} µs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_of_today_is_a_time_and_any_other_has_its_date() {
        let moment: Timestamp = "2024-01-15T14:02:59Z".parse().expect("a time");
        let next_day: Timestamp = "2024-01-16T00:00:00Z".parse().expect("a time");
        assert_eq!(clock(moment, moment), "14:02");
        assert_eq!(clock(moment, next_day), "2024-01-15 14:02");
        assert_eq!(at(moment), "2024-01-15 14:02");
    }

    #[test]
    fn a_duration_is_told_in_the_unit_that_fits() {
        for (micros, text) in [
            (0, "0 µs"),
            (1_999, "1999 µs"),
            (2_000, "2 ms"),
            (90_000_000, "90 s"),
            (86_400_000_000, "24 hours"),
            (2_592_000_000_000, "30 days"),
        ] {
            assert_eq!(duration(micros), text);
        }
    }
}
