//! What an event says of the read models that took it inline: in which generation, and what that changed in the number and
//! the sum of its documents.
//!
//! It stands in the extension attribute `inline` of the event, so it is there exactly if the documents are: both are in one
//! commit. Lanes add it up, and so the audit of an inline read model counts as that of any other.

use std::fmt;

use ensue_core::Envelope;

use super::super::generation::Generation;
use crate::message::{extension, set_extension};
use crate::tally::Tally;

/// Extension attribute: which read models have taken the event inline.
const INLINE: &str = "inline";

/// That one read model has taken an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::projection) struct Stamp {
    pub(in crate::projection) generation: Generation,
    /// Of documents alone; the event itself is counted by the lane that passes over it.
    pub(in crate::projection) tally: Tally,
}

impl Stamp {
    /// The stamp of a read model on an event, if it has one that can be read.
    pub(in crate::projection) fn on(envelope: &Envelope, name: &str) -> Option<Self> {
        let stamps = extension(envelope, INLINE)?.split(';');
        stamps.filter_map(|stamp| stamp.split_once(' ')).find(|(of, _)| *of == name)?.1.parse().ok()
    }

    /// Puts it on an event, beside those of other read models.
    pub(super) fn put(self, envelope: &mut Envelope, name: &str) {
        let stamps = match extension(envelope, INLINE) {
            Some(others) => format!("{others};{name} {self}"),
            None => format!("{name} {self}"),
        };
        set_extension(envelope, INLINE, &stamps);
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation: Generation { version, number }, tally } = self;
        write!(f, "{version}-{number}")?;
        if (tally.documents, tally.documents_sum) != (0, 0) {
            write!(f, " {} {:x}", tally.documents.cast_signed(), tally.documents_sum)?;
        }
        Ok(())
    }
}

/// That a stamp is none of ours.
#[derive(Debug)]
pub(in crate::projection) struct Unreadable;

impl std::str::FromStr for Stamp {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let mut words = text.split(' ');
        let place = words.next().and_then(|word| word.split_once('-')).ok_or(Unreadable)?;
        let version = place.0.parse().map_err(|_| Unreadable)?;
        let generation = Generation { version, number: place.1.parse().map_err(|_| Unreadable)? };
        let mut tally = Tally::default();
        if let (Some(documents), Some(sum)) = (words.next(), words.next()) {
            let documents: i64 = documents.parse().map_err(|_| Unreadable)?;
            tally.documents = documents.cast_unsigned();
            tally.documents_sum = u64::from_str_radix(sum, 16).map_err(|_| Unreadable)?;
        }
        Ok(Self { generation, tally })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_as_it_is_written() {
        let generation = Generation { version: 3, number: 12 };
        for (documents, documents_sum) in [(0, 0), (1, u64::MAX), (u64::MAX, 7), (0, 9)] {
            let stamp = Stamp { generation, tally: Tally { documents, documents_sum, ..Tally::default() } };
            assert_eq!(stamp.to_string().parse::<Stamp>().expect("a stamp"), stamp);
        }
        assert!("3".parse::<Stamp>().is_err() && "3-x".parse::<Stamp>().is_err());
    }
}
