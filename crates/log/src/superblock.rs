//! The superblock: what must be known before the journal can be read, kept twice so that one torn write loses nothing.
//!
//! Two slots of 4 KiB in one file, written in turn; the newer one that checks out counts. Written when the store is made,
//! before a new journal file is used, and when the store is closed.
//!
//! ```text
//!   0  magic "ENSUELOG"            32  uuid of the store          64  written for the nth time u64
//!   8  format version u32          48  secret of the index's      72  bytes of a journal file u64
//!  12  partitions per topic u32        hash (16 bytes)            80  newest journal file u64
//!  16  incompatible features u64                                  88  highest frame known to be synced u64
//!  24  compatible features u64                                   124  CRC32C of bytes 0..124 u32
//! ```
//! Invariant: a store whose version or incompatible features are unknown here is not opened.

use bytes::Bytes;
use ensue_core::{Code, Error};

use crate::disk::{AlignedBuffer, Disk, DiskFile, Sync};
use crate::errors;
use crate::frame::ALIGNMENT;
use crate::partition::PARTITIONS;
use crate::wire::Reader;

/// Its name in the folder.
pub(crate) const FILE: &str = "superblock";
const FRESH_FILE: &str = "superblock.new";
const MAGIC: [u8; 8] = *b"ENSUELOG";
const FORMAT_VERSION: u32 = 1;
/// Features that change how the bytes must be read. None exist yet.
const INCOMPATIBLE_KNOWN: u64 = 0;
const CRC_AT: usize = 124;
const SLOTS: u64 = 2;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Superblock {
    pub(crate) uuid: [u8; 16],
    pub(crate) secret: [u8; 16],
    /// How often it was written.
    pub(crate) turn: u64,
    pub(crate) journal_file_bytes: u64,
    /// Files 1 to this one belong to the journal.
    pub(crate) newest_file: u64,
    pub(crate) durable_sequence: u64,
}

impl Superblock {
    fn to_bytes(self) -> Vec<u8> {
        let mut text = Vec::with_capacity(CRC_AT + 4);
        text.extend_from_slice(&MAGIC);
        text.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        text.extend_from_slice(&PARTITIONS.to_le_bytes());
        text.extend_from_slice(&0u64.to_le_bytes());
        text.extend_from_slice(&0u64.to_le_bytes());
        text.extend_from_slice(&self.uuid);
        text.extend_from_slice(&self.secret);
        for number in [self.turn, self.journal_file_bytes, self.newest_file, self.durable_sequence] {
            text.extend_from_slice(&number.to_le_bytes());
        }
        text.resize(CRC_AT, 0);
        let crc = crc32c::crc32c(&text);
        text.extend_from_slice(&crc.to_le_bytes());
        text.resize(ALIGNMENT, 0);
        text
    }

    /// `None`: this slot does not check out. An error: it does, but must not be read by this version.
    fn parse(slot: &[u8], path: &str) -> Result<Option<Self>, Error> {
        let (Some(checked), Some(crc)) = (slot.get(..CRC_AT), slot.get(CRC_AT..CRC_AT + 4)) else {
            return Ok(None);
        };
        if !checked.starts_with(&MAGIC) || crc32c::crc32c(checked).to_le_bytes() != crc {
            return Ok(None);
        }
        let mut reader = Reader::new(Bytes::copy_from_slice(checked));
        Self::read(&mut reader, path).map(Some)
    }

    fn read(reader: &mut Reader, path: &str) -> Result<Self, Error> {
        let cut = |_| Error::new(Code::CORRUPT, format!("the superblock in {path} is cut short"));
        reader.peel(MAGIC.len()).map_err(cut)?;
        let version = reader.u32().map_err(cut)?;
        let partitions = reader.u32().map_err(cut)?;
        let incompatible = reader.u64().map_err(cut)?;
        reader.u64().map_err(cut)?;
        let is_known = incompatible & !INCOMPATIBLE_KNOWN == 0 && partitions == PARTITIONS;
        if version > FORMAT_VERSION || !is_known {
            return Err(Error::new(
                Code::NEWER_FORMAT,
                format!(
                    "{path} has format {version} with features {incompatible:#x} and {partitions} partitions; \
                     this version knows format {FORMAT_VERSION}"
                ),
            ));
        }
        Ok(Self {
            uuid: reader.array().map_err(cut)?,
            secret: reader.array().map_err(cut)?,
            turn: reader.u64().map_err(cut)?,
            journal_file_bytes: reader.u64().map_err(cut)?,
            newest_file: reader.u64().map_err(cut)?,
            durable_sequence: reader.u64().map_err(cut)?,
        })
    }

    /// Makes the superblock of a new store. It appears whole or not at all.
    pub(crate) fn create(&self, disk: &dyn Disk) -> Result<(), Error> {
        let failed = |error| errors::io(disk, "make the superblock", error);
        let file = disk.create(FRESH_FILE, SLOTS * ALIGNMENT as u64).map_err(failed)?;
        for slot in 0..SLOTS {
            self.put(&*file, slot).map_err(failed)?;
        }
        file.sync().map_err(failed)?;
        disk.rename(FRESH_FILE, FILE).map_err(failed)?;
        disk.sync_folder("").map_err(failed)
    }

    /// Writes the next turn over the older slot.
    pub(crate) fn write(&mut self, disk: &dyn Disk) -> Result<(), Error> {
        self.turn += 1;
        let write = || self.put(&*disk.open(FILE)?, self.turn % SLOTS);
        write().map_err(|error| errors::io(disk, "write the superblock", error))
    }

    fn put(&self, file: &dyn DiskFile, slot: u64) -> std::io::Result<()> {
        let mut buffer = AlignedBuffer::default();
        file.write_at(buffer.fill(&self.to_bytes()), slot * ALIGNMENT as u64, Sync::Now)
    }

    /// The newer slot that checks out; `None` if there is no superblock at all.
    pub(crate) fn load(disk: &dyn Disk) -> Result<Option<Self>, Error> {
        let file = match disk.open(FILE) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|error| errors::io(disk, "open the superblock", error))?,
        };
        let path = disk.path();
        let mut newest: Option<Self> = None;
        for slot in 0..SLOTS {
            let mut text = vec![0; ALIGNMENT];
            file.read_at(&mut text, slot * ALIGNMENT as u64)
                .map_err(|error| errors::io(disk, "read the superblock", error))?;
            let found = Self::parse(&text, &path)?;
            newest = newest.max_by_turn(found);
        }
        newest.map(Some).ok_or_else(|| {
            Error::new(Code::CORRUPT, format!("both copies of the superblock {path}/{FILE} are damaged"))
        })
    }
}

trait MaxByTurn {
    fn max_by_turn(self, other: Self) -> Self;
}

impl MaxByTurn for Option<Superblock> {
    fn max_by_turn(self, other: Self) -> Self {
        match (self, other) {
            (Some(one), Some(two)) => Some(if two.turn > one.turn { two } else { one }),
            (one, two) => one.or(two),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: Superblock = Superblock {
        uuid: [1; 16],
        secret: [2; 16],
        turn: 3,
        journal_file_bytes: 64 << 20,
        newest_file: 2,
        durable_sequence: 9,
    };

    #[test]
    fn a_slot_reads_back_and_a_flipped_bit_does_not() {
        let text = SAMPLE.to_bytes();
        assert_eq!(Superblock::parse(&text, "here").expect("a known format"), Some(SAMPLE));
        for at in 0..CRC_AT + 4 {
            let mut damaged = text.clone();
            if let Some(byte) = damaged.get_mut(at) {
                *byte ^= 1;
            }
            assert_eq!(Superblock::parse(&damaged, "here").expect("no format to judge"), None, "byte {at}");
        }
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let mut text = SAMPLE.to_bytes();
        crate::wire::patch(&mut text, 8, &2u32.to_le_bytes());
        let crc = crc32c::crc32c(text.get(..CRC_AT).expect("a whole slot"));
        crate::wire::patch(&mut text, CRC_AT, &crc.to_le_bytes());
        let error = Superblock::parse(&text, "here").expect_err("format 2 is not known");
        assert_eq!(error.code(), Code::NEWER_FORMAT);
    }
}
