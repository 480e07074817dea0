//! Times and durations as people read them.

use ensue_core::Timestamp;

/// A moment in RFC 3339, to the second: whoever reads it need not guess the day or the zone.
pub(super) fn at(moment: Timestamp) -> String {
    moment.strftime("%FT%H:%M:%SZ").to_string()
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
    fn a_moment_has_its_day_and_its_zone() {
        let moment: Timestamp = "2024-01-15T14:02:59.123Z".parse().expect("a time");
        assert_eq!(at(moment), "2024-01-15T14:02:59Z");
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
