//! Seeded chance: the same seed and the same words give the same answer on every machine, in every run and style.
//!
//! Not for secrets. The standard library's hasher is not used, because its results may change from one release to the
//! next.

/// The increment of `SplitMix64` (Steele, Lea and Flood, 2014).
const GOLDEN_GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// A stream of numbers from a seed: `SplitMix64`.
#[derive(Clone, Debug)]
pub(crate) struct Dice {
    state: u64,
}

impl Dice {
    /// Dice for one question: every word takes part, and so does where one word ends and the next begins.
    pub(crate) fn new(seed: u64, words: &[&str]) -> Self {
        Self { state: words.iter().fold(seed, |state, word| mix(state ^ fnv1a(word.as_bytes()))) }
    }

    /// A number below `bound`; zero where the bound is zero.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN_GAMMA);
        // The high half of a 128-bit product maps evenly enough for a simulation, without a division.
        let wide = u128::from(mix(self.state)) * u128::from(bound);
        u64::try_from(wide >> 64).expect("the high half of a product has 64 bits")
    }

    /// Whether a thing happens that happens in so many of a hundred cases.
    pub(crate) fn happens(&mut self, percent: u8) -> bool {
        self.below(100) < u64::from(percent)
    }

    /// One of `choices`.
    pub(crate) fn pick<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        let index = self.below(u64::try_from(choices.len()).ok()?);
        choices.get(usize::try_from(index).ok()?)
    }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

fn mix(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_words_always_give_the_same_answer() {
        let mut dice = Dice::new(7, &["payments", "ORD-0001"]);
        let first: Vec<u64> = (0..4).map(|_| dice.below(1_000)).collect();
        let mut again = Dice::new(7, &["payments", "ORD-0001"]);
        assert_eq!(first, (0..4).map(|_| again.below(1_000)).collect::<Vec<_>>());
        let mut other = Dice::new(7, &["paymentsORD-0001"]);
        assert_ne!(first, (0..4).map(|_| other.below(1_000)).collect::<Vec<_>>());
    }

    #[test]
    fn a_percentage_is_met_over_many_orders() {
        for percent in [0, 5, 10, 50, 100] {
            let hits = (0..10_000)
                .filter(|number| Dice::new(1, &["x", &format!("ORD-{number:04}")]).happens(percent))
                .count();
            assert!(hits.abs_diff(usize::from(percent) * 100) < 150, "{percent} %: {hits} of 10,000");
        }
    }

    #[test]
    fn every_choice_is_picked_and_none_where_there_is_none() {
        let mut dice = Dice::new(3, &[]);
        let mut seen: Vec<u8> = (0..100).filter_map(|_| dice.pick(&[1, 2, 3]).copied()).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [1, 2, 3]);
        assert_eq!(dice.pick::<u8>(&[]), None);
    }
}
