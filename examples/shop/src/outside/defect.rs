//! Orders that the outside does not let through: nobody refuses them as one should, nobody answers, or not for a long time.
//!
//! Which orders these are depends on the seed and the order alone, as with refusals.

use serde::{Deserialize, Serialize};

use crate::dice::Dice;
use crate::{OrderId, Style};

/// In what way an order is broken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Defect {
    /// The provider takes the charge, says that it will answer later, and never does.
    NoReply,
    /// The provider cannot be reached, however often it is tried.
    Parked,
    /// The warehouse orders the articles from elsewhere, and nobody listens to that.
    NoConsumer,
    /// The warehouse refuses, and so does the provider when the money is to go back.
    UndoFailed,
    /// The provider takes the charge, but not before a day far away.
    Timer,
}

impl Defect {
    /// As documents write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoReply => "no_reply",
            Self::Parked => "parked",
            Self::NoConsumer => "no_consumer",
            Self::UndoFailed => "undo_failed",
            Self::Timer => "timer",
        }
    }

    /// Those that there are in a style. A command of a saga is answered or tried again, and a saga listens to every answer.
    fn of(style: Style) -> &'static [Self] {
        match style {
            Style::Choreography => {
                &[Self::NoReply, Self::Parked, Self::NoConsumer, Self::UndoFailed, Self::Timer]
            }
            Style::Saga => &[Self::Parked, Self::UndoFailed],
        }
    }
}

/// Which of the generator's orders are broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken {
    seed: u64,
    style: Style,
    orders: u64,
    count: u64,
}

impl Broken {
    /// Every order is served.
    pub const NONE: Self = Self { seed: 0, style: Style::Choreography, orders: 0, count: 0 };

    /// So many of the first `orders` orders, spread over them and over the ways to be broken.
    pub fn some(seed: u64, style: Style, orders: u64, count: u64) -> Self {
        Self { seed, style, orders, count: count.min(orders) }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// What is wrong with an order, if anything is.
    pub fn defect(&self, order_id: &str) -> Option<Defect> {
        let place = order_id.strip_prefix("ORD-")?.parse::<u64>().ok()?.checked_sub(1)?;
        if self.count == 0 || place >= self.orders {
            return None;
        }
        // As many parts of about the same size as there are broken orders; one of each part is broken.
        let part = ((place + 1) * self.count - 1) / self.orders;
        let (begin, end) = (part * self.orders / self.count, (part + 1) * self.orders / self.count);
        let chosen = begin + Dice::new(self.seed, &["broken", &part.to_string()]).below(end - begin);
        let defects = Defect::of(self.style);
        let defect = usize::try_from(part).ok().and_then(|part| defects.get(part % defects.len()));
        defect.copied().filter(|_| place == chosen)
    }

    /// Whether an order has this defect.
    pub(super) fn has(&self, order_id: &OrderId, defect: Defect) -> bool {
        self.defect(order_id.as_str()) == Some(defect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(orders: u64, count: u64) -> Vec<(u64, Defect)> {
        let broken = Broken::some(7, Style::Choreography, orders, count);
        let defect = |number: u64| Some((number, broken.defect(&format!("ORD-{number:04}"))?));
        (1..=orders + 5).filter_map(defect).collect()
    }

    #[test]
    fn exactly_as_many_orders_are_broken_as_asked_for_spread_over_all_and_over_every_way() {
        for (orders, count) in [(1, 1), (20, 0), (20, 1), (20, 7), (20, 20), (333, 50), (100_000, 999)] {
            let found = broken(orders, count);
            assert_eq!(found.len() as u64, count, "{count} of {orders}");
            assert_eq!(found, broken(orders, count), "the same every time");
            for defect in Defect::of(Style::Choreography) {
                let times = found.iter().filter(|(_, known)| known == defect).count() as u64;
                assert!(times.abs_diff(count / 5) <= 1, "{defect:?}: {times} of {count}");
            }
        }
        assert_eq!(broken(20, 99).len(), 20, "no more than there are orders");
        assert_eq!(Broken::some(7, Style::Saga, 20, 20).defect("other"), None);
    }
}
