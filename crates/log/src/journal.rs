//! The journal: files that are filled with zeros before they are used, then with frames, one write per group commit.
//!
//! The files are one address space: address = (file number - 1) * file size + offset. A frame never spans two files; what
//! is left at the end of a file stays zero.
//!
//! Invariants: one writer; a frame is never rewritten; after a failed write or sync nothing more is written.

use std::sync::Arc;

use ensue_core::{Code, Error};

use crate::disk::{AlignedBuffer, Disk, DiskFile, Sync, WriteMode};
use crate::errors;
use crate::frame::{self, HEADER_BYTES, Header};

mod room;
pub(crate) use room::Room;

/// The folder of journal files.
pub(crate) const FOLDER: &str = "journal";
/// Memory that the write buffer may keep between frames.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

/// The name of a journal file, numbered from 1.
pub(crate) fn file_name(number: u64) -> String {
    format!("{FOLDER}/{number:08}.log")
}

/// Where things lie in files of one size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Layout {
    pub(crate) file_bytes: u64,
}

impl Layout {
    pub(crate) fn file_of(self, address: u64) -> u64 {
        address / self.file_bytes + 1
    }

    pub(crate) fn offset_of(self, address: u64) -> u64 {
        address % self.file_bytes
    }

    pub(crate) fn start_of(self, file: u64) -> u64 {
        (file - 1) * self.file_bytes
    }

    /// Where a frame of this size goes that comes after `address`.
    pub(crate) fn fit(self, address: u64, frame_bytes: usize) -> u64 {
        let left = self.file_bytes - self.offset_of(address);
        if (frame_bytes as u64) <= left { address } else { address + left }
    }
}

/// What the next frame must link to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tail {
    /// Where it goes at the earliest.
    pub(crate) address: u64,
    /// The sequence of the last frame; zero before the first.
    pub(crate) sequence: u64,
    /// The checksum of its header.
    pub(crate) checksum: u32,
    /// Its time, in microseconds since the epoch.
    pub(crate) recorded_at: i64,
    /// The highest frame known to be synced.
    pub(crate) durable_sequence: u64,
}

/// What a frame holds, as the sequencer counts it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Contents {
    pub(crate) base_position: u64,
    pub(crate) base_commit: u64,
    pub(crate) events: u32,
    pub(crate) commits: u32,
    pub(crate) recorded_at: i64,
}

/// The writing end.
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    layout: Layout,
    uuid: [u8; 16],
    room: Arc<Room>,
    file: Arc<dyn DiskFile>,
    file_number: u64,
    tail: Tail,
    buffer: AlignedBuffer,
    is_poisoned: bool,
}

impl Journal {
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        layout: Layout,
        uuid: [u8; 16],
        tail: Tail,
        room: Arc<Room>,
    ) -> Result<Self, Error> {
        let file_number = layout.file_of(tail.address);
        room.claim(tail.address + 1)?;
        let file = open_file(&*disk, file_number)?;
        let buffer = AlignedBuffer::default();
        Ok(Self { disk, layout, uuid, room, file, file_number, tail, buffer, is_poisoned: false })
    }

    pub(crate) fn tail(&self) -> Tail {
        self.tail
    }

    pub(crate) fn mode(&self) -> WriteMode {
        self.file.mode()
    }

    /// Makes sure that a frame with so much payload can be written without asking for disk space. An error leaves
    /// everything as it was, and may be gone at the next try.
    pub(crate) fn reserve(&mut self, payload_bytes: usize) -> Result<(), Error> {
        let bytes = frame::frame_bytes(payload_bytes);
        let address = self.layout.fit(self.tail.address, bytes);
        self.room.claim(address + bytes as u64)
    }

    /// Writes one frame; `frame` is room for the header followed by the payload, and [`Journal::reserve`] has found it a
    /// place. After an error nothing more can be written.
    pub(crate) fn append(
        &mut self,
        frame: &mut Vec<u8>,
        contents: Contents,
        sync: Sync,
    ) -> Result<Written, Error> {
        assert!(!self.is_poisoned, "the writer's thread stops after a failed write");
        let bytes = frame::frame_bytes(frame.len() - HEADER_BYTES);
        let address = self.layout.fit(self.tail.address, bytes);
        self.turn_to(address)?;
        let header = frame::seal(frame, self.header(address, contents));
        assert_eq!(frame.len(), bytes, "a sealed frame is as long as its place");
        assert!(header.is_at(self.uuid, self.file_number, self.layout.offset_of(address)));
        let content = self.buffer.fill(frame);
        if let Err(error) = self.file.write_at(content, header.offset, sync) {
            self.is_poisoned = true;
            return Err(poisoned(&*self.disk, &error));
        }
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        self.advance(address, &header, sync);
        Ok(Written { header, address })
    }

    fn header(&self, address: u64, contents: Contents) -> Header {
        assert!(contents.recorded_at >= self.tail.recorded_at, "the time of recording never goes back");
        Header {
            uuid: self.uuid,
            generation: self.file_number,
            offset: self.layout.offset_of(address),
            sequence: self.tail.sequence + 1,
            base_position: contents.base_position,
            base_commit: contents.base_commit,
            events: contents.events,
            commits: contents.commits,
            recorded_at: contents.recorded_at,
            durable_sequence: self.tail.durable_sequence,
            payload_bytes: 0,
            previous: self.tail.checksum,
            table_crc: 0,
        }
    }

    fn advance(&mut self, address: u64, header: &Header, sync: Sync) {
        self.tail.address = address + header.frame_bytes() as u64;
        self.tail.sequence = header.sequence;
        self.tail.checksum = header.checksum();
        self.tail.recorded_at = header.recorded_at;
        if sync == Sync::Now {
            self.tail.durable_sequence = header.sequence;
        }
        self.want_room();
    }

    /// Once something is written, the rest of its file is wanted; from half of the file on, the next one. Stores that are
    /// only read claim nothing, and a busy one always has a file ahead.
    fn want_room(&self) {
        let file = self.layout.file_of(self.tail.address);
        let is_half = self.layout.offset_of(self.tail.address) > self.layout.file_bytes / 2;
        self.room.want(self.layout.start_of(file + 1 + u64::from(is_half)));
    }

    /// Goes on in the next file if this frame lies there. What was written to the file before is synced first, since a
    /// sync covers one file.
    fn turn_to(&mut self, address: u64) -> Result<(), Error> {
        let number = self.layout.file_of(address);
        if number != self.file_number {
            self.sync()?;
            self.file = open_file(&*self.disk, number)?;
            self.file_number = number;
        }
        Ok(())
    }

    /// Makes every frame so far durable.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        if self.tail.durable_sequence < self.tail.sequence {
            if let Err(error) = self.file.sync() {
                self.is_poisoned = true;
                return Err(poisoned(&*self.disk, &error));
            }
            self.tail.durable_sequence = self.tail.sequence;
        }
        Ok(())
    }
}

/// A frame that lies in the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Written {
    pub(crate) header: Header,
    pub(crate) address: u64,
}

fn open_file(disk: &dyn Disk, number: u64) -> Result<Arc<dyn DiskFile>, Error> {
    disk.open(&file_name(number)).map_err(|error| errors::io(disk, "open the journal", error))
}

fn poisoned(disk: &dyn Disk, error: &std::io::Error) -> Error {
    let message = format!("a write to the journal in {} failed: {error}", disk.path());
    Error::new(Code::POISONED, message)
}
