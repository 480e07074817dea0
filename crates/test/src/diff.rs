//! What differs between two texts, line by line, for the message of a failed assertion.

use std::fmt::Write;

/// Both texts as one: lines of `expected` alone begin with `-`, of `actual` alone with `+`, common ones with a space.
pub(crate) fn lines(expected: &str, actual: &str) -> String {
    let (expected, actual): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), actual.lines().collect());
    let common = common_lengths(&expected, &actual);
    let length =
        |row: usize, column: usize| common.get(row).and_then(|row| row.get(column)).copied().unwrap_or(0);
    let (mut row, mut column) = (0, 0);
    let mut diff = String::new();
    loop {
        let (mark, line) = match (expected.get(row), actual.get(column)) {
            (None, None) => return diff,
            (Some(old), Some(new)) if old == new => {
                (row, column) = (row + 1, column + 1);
                (' ', old)
            }
            (Some(old), new) if new.is_none() || length(row + 1, column) >= length(row, column + 1) => {
                row += 1;
                ('-', old)
            }
            (_, Some(new)) => {
                column += 1;
                ('+', new)
            }
            (Some(_), None) => unreachable!("the arm before takes every line that is left"),
        };
        writeln!(diff, "{mark} {line}").expect("a String takes everything");
    }
}

/// For each pair of places, the length of the longest common subsequence of what follows them.
fn common_lengths(expected: &[&str], actual: &[&str]) -> Vec<Vec<usize>> {
    let mut below = vec![0; actual.len() + 1];
    let mut rows = vec![below.clone()];
    for old in expected.iter().rev() {
        let mut row = vec![0];
        for (place, new) in actual.iter().enumerate().rev() {
            let at = |column: usize| below.get(column).copied().unwrap_or(0);
            let right = row.last().copied().unwrap_or(0);
            row.push(if old == new { at(place + 1) + 1 } else { right.max(at(place)) });
        }
        row.reverse();
        rows.push(row.clone());
        below = row;
    }
    rows.reverse();
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_have_no_marks() {
        assert_eq!(lines("a\nb", "a\nb"), "  a\n  b\n");
        assert_eq!(lines("", ""), "");
    }

    #[test]
    fn a_changed_line_shows_both_and_keeps_its_neighbours() {
        assert_eq!(lines("a\nb\nc", "a\nx\nc"), "  a\n- b\n+ x\n  c\n");
    }

    #[test]
    fn what_is_missing_or_added_at_either_end_is_shown() {
        assert_eq!(lines("a\nb", "b\nc"), "- a\n  b\n+ c\n");
        assert_eq!(lines("a", ""), "- a\n");
        assert_eq!(lines("", "a"), "+ a\n");
    }
}
