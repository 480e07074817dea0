//! Positions under one mark: sorted, one without an allocation, since most flows and many streams have one event in a
//! window.

use crate::mark::{Mark, MarkMap};

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Postings {
    first: u64,
    rest: Vec<u64>,
}

impl Postings {
    pub(crate) fn add(to: &mut MarkMap<Self>, mark: Mark, position: u64) {
        match to.entry(mark) {
            std::collections::hash_map::Entry::Occupied(entry) => {
                let postings = entry.into_mut();
                // One event may carry a tag twice.
                if postings.last() < position {
                    postings.rest.push(position);
                }
            }
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(Self { first: position, rest: Vec::new() });
            }
        }
    }

    pub(crate) fn last(&self) -> u64 {
        self.rest.last().copied().unwrap_or(self.first)
    }

    pub(crate) fn len(&self) -> usize {
        1 + self.rest.len()
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = u64> + '_ {
        std::iter::once(self.first).chain(self.rest.iter().copied())
    }

    /// Those in `low..=high`, in order.
    pub(crate) fn between(&self, low: u64, high: u64) -> impl DoubleEndedIterator<Item = u64> + '_ {
        let from = self.rest.partition_point(|position| *position < low);
        let until = self.rest.partition_point(|position| *position <= high).max(from);
        let first = (low..=high).contains(&self.first).then_some(self.first);
        first.into_iter().chain(self.rest.get(from..until).unwrap_or_default().iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_inclusive_on_both_sides() {
        let mut map = MarkMap::default();
        for position in [3, 5, 5, 9] {
            Postings::add(&mut map, Mark(1), position);
        }
        let postings = map.remove(&Mark(1)).expect("it was added");
        assert_eq!(postings.len(), 3);
        assert_eq!(postings.between(3, 5).collect::<Vec<_>>(), [3, 5]);
        assert_eq!(postings.between(4, 9).rev().collect::<Vec<_>>(), [9, 5]);
        assert_eq!(postings.between(10, 1).count(), 0);
    }
}
