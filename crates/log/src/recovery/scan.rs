//! Walking the journal frame by frame, and judging where the walk ends.

use std::sync::Arc;

use bytes::Bytes;
use ensue_core::{Code, Error};

use super::tail_after;
use crate::disk::{Disk, DiskFile, read_exactly};
use crate::errors;
use crate::frame::{self, ALIGNMENT, Header, SECTOR_BYTES};
use crate::frames::Loaded;
use crate::journal::{Layout, Tail, file_name};
use crate::superblock::Superblock;

/// Read at once when looking for what comes after the end.
const STRIDE_BYTES: usize = 1 << 20;

/// How a walk ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// Nothing follows.
    Clean,
    /// The last write is not whole; it had not been acknowledged.
    Torn,
}

/// A walk over the frames of a journal.
pub(crate) struct Scan<'a> {
    disk: &'a dyn Disk,
    layout: Layout,
    superblock: Superblock,
    tail: Tail,
    /// The highest frame that something on the disk says was synced.
    durable: u64,
    /// What the next frame must count on from, once one was seen.
    counts: Option<(u64, u64)>,
    file: Option<(u64, Arc<dyn DiskFile>)>,
    end: Option<End>,
}

/// What is wrong where a frame was expected.
struct Bad {
    address: u64,
    /// The damaged bytes, from `address` on.
    from: u64,
    until: u64,
    why: &'static str,
    /// Whether a write that was cut short could have left this.
    could_be_torn: bool,
}

enum Found {
    Frame(Box<Loaded>),
    Nothing,
    Bad(Bad),
}

impl<'a> Scan<'a> {
    /// Starts after `tail`, which is the beginning, or where the index ends.
    pub(crate) fn new(
        disk: &'a dyn Disk,
        superblock: Superblock,
        tail: Tail,
        counts: Option<(u64, u64)>,
    ) -> Self {
        let layout = Layout { file_bytes: superblock.journal_file_bytes };
        let durable = superblock.durable_sequence.max(tail.durable_sequence).max(tail.sequence);
        Self { disk, layout, superblock, tail, durable, counts, file: None, end: None }
    }

    /// Where the journal stands after the last frame that was handed out.
    pub(crate) fn tail(&self) -> Tail {
        Tail { durable_sequence: self.tail.sequence, ..self.tail }
    }

    /// How the walk ended, once it has.
    pub(crate) fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The next frame; `None` at the end. Rot is an error.
    pub(crate) fn next(&mut self) -> Result<Option<Loaded>, Error> {
        if self.end.is_some() {
            return Ok(None);
        }
        let bad = match self.find()? {
            Found::Frame(frame) => {
                self.accept(&frame);
                return Ok(Some(*frame));
            }
            Found::Nothing => None,
            Found::Bad(bad) => Some(bad),
        };
        self.end = Some(self.judge(bad)?);
        Ok(None)
    }

    fn accept(&mut self, frame: &Loaded) {
        let header = frame.header;
        self.durable = self.durable.max(header.durable_sequence);
        self.tail = tail_after(self.layout, frame, self.durable);
        let events = header.base_position + u64::from(header.events);
        self.counts = Some((events, header.base_commit + u64::from(header.commits)));
    }

    /// Looks where the next frame must be: here, or at the start of the next file.
    fn find(&mut self) -> Result<Found, Error> {
        let here = self.tail.address;
        let found = self.frame_at(here)?;
        let next = self.layout.start_of(self.layout.file_of(here) + 1);
        let may_go_on =
            self.layout.offset_of(here) != 0 && self.layout.file_of(next) <= self.superblock.newest_file;
        if matches!(found, Found::Nothing) && may_go_on {
            return self.frame_at(next);
        }
        Ok(found)
    }

    fn frame_at(&mut self, address: u64) -> Result<Found, Error> {
        let number = self.layout.file_of(address);
        if number > self.superblock.newest_file {
            return Ok(Found::Nothing);
        }
        let offset = self.layout.offset_of(address);
        let file = self.file(number)?;
        let first = self.read(&*file, number, offset, ALIGNMENT)?;
        if first.iter().all(|byte| *byte == 0) {
            return Ok(Found::Nothing);
        }
        let bad = |until: u64, why, could_be_torn| {
            Ok(Found::Bad(Bad { address, from: offset, until, why, could_be_torn }))
        };
        let block_end = offset + ALIGNMENT as u64;
        let header = match Header::parse(&first) {
            Ok(header) => header,
            // The header lies in one sector, which tears never split: it is there, or it is zeros.
            Err(why) => {
                let is_absent = first.iter().take(SECTOR_BYTES).all(|byte| *byte == 0);
                return bad(block_end, why, is_absent);
            }
        };
        if let Some(why) = self.misplaced(&header, number, offset) {
            return bad(block_end, why, false);
        }
        if header.frame_bytes() as u64 > self.layout.file_bytes - offset {
            return bad(block_end, "the frame is longer than its file", false);
        }
        let bytes = Bytes::from(self.read(&*file, number, offset, header.frame_bytes())?);
        match frame::payload(&header, &bytes) {
            Ok(payload) => Ok(Found::Frame(Box::new(Loaded { header, payload }))),
            Err(damage) => Ok(Found::Bad(Bad {
                address,
                from: offset + damage.from as u64,
                until: offset + damage.until as u64,
                why: damage.why,
                could_be_torn: has_zero_sector(&bytes, &header),
            })),
        }
    }

    /// Why a whole frame does not belong here.
    fn misplaced(&self, header: &Header, number: u64, offset: u64) -> Option<&'static str> {
        if !header.is_at(self.superblock.uuid, number, offset) {
            return Some("a frame lies here that was written elsewhere");
        }
        if header.sequence != self.tail.sequence + 1 {
            return Some("a frame is out of sequence");
        }
        if header.previous != self.tail.checksum {
            return Some("the chain of frames is broken");
        }
        let counts = (header.base_position, header.base_commit);
        if self.counts.is_some_and(|expected| expected != counts) {
            return Some("positions do not go on from the frame before");
        }
        None
    }

    /// The walk has ended: is that all right?
    fn judge(&mut self, bad: Option<Bad>) -> Result<End, Error> {
        let from = bad.as_ref().map_or(self.tail.address, |bad| bad.address);
        if let Some((address, header)) = self.later_frame(from)? {
            let why = bad.map_or("frames are missing here", |bad| bad.why);
            let number = self.layout.file_of(from);
            let until = if self.layout.file_of(address) == number {
                self.layout.offset_of(address)
            } else {
                self.layout.file_bytes
            };
            let why = format!("{why}; frame {} follows", header.sequence);
            return Err(errors::corrupt(&file_name(number), self.layout.offset_of(from), until, &why));
        }
        let lost = self.tail.sequence + 1;
        match bad {
            None if lost <= self.durable => {
                let offset = self.layout.offset_of(from);
                let why = format!("frame {lost} was acknowledged and is not there");
                let number = self.layout.file_of(from);
                Err(errors::corrupt(&file_name(number), offset, self.layout.file_bytes, &why))
            }
            None => Ok(End::Clean),
            Some(bad) if lost <= self.durable || !bad.could_be_torn => Err(errors::corrupt(
                &file_name(self.layout.file_of(bad.address)),
                bad.from,
                bad.until,
                bad.why,
            )),
            Some(_) => Ok(End::Torn),
        }
    }

    /// A frame after the end that belongs to this store, this place and a later time.
    fn later_frame(&mut self, after: u64) -> Result<Option<(u64, Header)>, Error> {
        let mut address = after + ALIGNMENT as u64;
        while self.layout.file_of(address) <= self.superblock.newest_file {
            let number = self.layout.file_of(address);
            let offset = self.layout.offset_of(address);
            let left = usize::try_from(self.layout.file_bytes - offset).expect("a file fits in memory");
            let file = self.file(number)?;
            let bytes = self.read(&*file, number, offset, left.min(STRIDE_BYTES))?;
            for (index, block) in bytes.chunks(ALIGNMENT).enumerate() {
                let at = offset + (index * ALIGNMENT) as u64;
                let header = Header::parse(block).ok();
                let belongs = |header: &Header| {
                    header.is_at(self.superblock.uuid, number, at) && header.sequence > self.tail.sequence
                };
                if let Some(header) = header.filter(belongs) {
                    return Ok(Some((self.layout.start_of(number) + at, header)));
                }
            }
            address += bytes.len() as u64;
        }
        Ok(None)
    }

    fn read(&self, file: &dyn DiskFile, number: u64, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        read_exactly(file, offset, length)
            .map_err(|error| errors::io(self.disk, &format!("read {} at {offset}", file_name(number)), error))
    }

    /// Opens a file of the journal; one that is missing or of another size is damage.
    fn file(&mut self, number: u64) -> Result<Arc<dyn DiskFile>, Error> {
        if let Some((open, file)) = &self.file
            && *open == number
        {
            return Ok(Arc::clone(file));
        }
        let name = file_name(number);
        let file = match self.disk.open(&name) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let message = format!("{}/{name} is missing", self.disk.path());
                return Err(Error::new(Code::INCOMPLETE, message));
            }
            file => file.map_err(|error| errors::io(self.disk, &format!("open {name}"), error))?,
        };
        let size = file.size().map_err(|error| errors::io(self.disk, &format!("measure {name}"), error))?;
        if size != self.layout.file_bytes {
            let (from, until) = (size.min(self.layout.file_bytes), size.max(self.layout.file_bytes));
            let why = format!("the file has {size} bytes instead of {}", self.layout.file_bytes);
            return Err(errors::corrupt(&name, from, until, &why));
        }
        self.file = Some((number, Arc::clone(&file)));
        Ok(file)
    }

    /// Checks that every file the superblock counts is there and whole.
    pub(crate) fn check_files(&mut self) -> Result<(), Error> {
        (1..=self.superblock.newest_file).try_for_each(|number| self.file(number).map(drop))
    }
}

/// Whether a sector of the frame's content is still as the file was before it was written.
fn has_zero_sector(bytes: &[u8], header: &Header) -> bool {
    let content = frame::content_bytes(header.payload_bytes as usize);
    let mut sectors = bytes.get(..content).unwrap_or(bytes).chunks(SECTOR_BYTES);
    sectors.any(|sector| sector.iter().all(|byte| *byte == 0))
}
