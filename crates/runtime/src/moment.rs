//! A moment in the life of a store: a position, a time, or now. Everything that can be looked at as it was takes one.

use std::fmt;
use std::str::FromStr;

use ensue_core::{Code, Error, Position, Read, Store, StoreExt, Timestamp};

/// When to look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Moment {
    /// With everything that is in the log.
    #[default]
    Now,
    /// When the log had reached this position, inclusive.
    Position(Position),
    /// When the store had taken everything up to this time, inclusive, by its own clock.
    Time(Timestamp),
}

impl Moment {
    /// The last position that belongs to the moment; zero if it is before the first event. A time costs about as many
    /// single reads as the position of the head has binary digits.
    pub async fn position(self, store: &dyn Store) -> Result<Position, Error> {
        match self {
            Self::Now => store.head().await,
            Self::Position(position) => Ok(position.min(store.head().await?)),
            Self::Time(time) => last_until(store, time).await,
        }
    }
}

/// Times of record never go back from one position to the next, so the place is found by halving. A position may have no event any more:
/// then the next one that has decides.
async fn last_until(store: &dyn Store, time: Timestamp) -> Result<Position, Error> {
    let (mut known, mut beyond) = (0, store.head().await?.0 + 1);
    while beyond - known > 1 {
        let middle = Position(known + (beyond - known) / 2);
        let read = Read::all().after(middle.previous()).until(Position(beyond - 1)).limit(1);
        match store.collect(read).await?.pop() {
            Some(recorded) if recorded.recorded_at <= time => known = recorded.position.0,
            _ => beyond = middle.0,
        }
    }
    Ok(Position(known))
}

impl FromStr for Moment {
    type Err = Error;

    /// `now`, a position such as `1234` or `#1234`, or a time such as `2024-01-15T10:30:00Z`.
    fn from_str(input: &str) -> Result<Self, Error> {
        if input == "now" {
            return Ok(Self::Now);
        }
        if let Ok(position) = input.strip_prefix('#').unwrap_or(input).parse() {
            return Ok(Self::Position(Position(position)));
        }
        input.parse().map(Self::Time).map_err(|_| {
            Error::new(Code::USAGE, format!("`{}` is neither a position nor a time", input.escape_debug()))
                .with_fix("write a position such as `1234`, a time such as `2024-01-15T10:30:00Z`, or `now`")
        })
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now => f.write_str("now"),
            Self::Position(position) => write!(f, "#{position}"),
            Self::Time(time) => write!(f, "{time}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_as_it_is_written() {
        for text in ["now", "#7", "2024-01-15T10:30:00Z"] {
            assert_eq!(text.parse::<Moment>().expect("a moment").to_string(), text);
        }
        assert_eq!("7".parse::<Moment>().expect("a position"), Moment::Position(Position(7)));
        assert_eq!("soon".parse::<Moment>().expect_err("no moment").code(), Code::USAGE);
    }
}
