//! Words about numbers.

use std::fmt;

/// So many of something: `1 letter`, `2 letters`.
pub(crate) fn count<N>(number: N, one: &str) -> String
where
    N: fmt::Display + PartialEq + From<u8> + Copy,
{
    let plural = if number == N::from(1) { "" } else { "s" };
    format!("{number} {one}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many_and_neither_is_none() {
        assert_eq!(count(0_u64, "letter"), "0 letters");
        assert_eq!(count(1_usize, "letter"), "1 letter");
        assert_eq!(count(2_u64, "letter"), "2 letters");
    }
}
