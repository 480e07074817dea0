//! The frame: one group commit, the atomic unit of the journal.
//!
//! ```text
//!   0  magic "ENSUEFRM"      40  offset in its file u64       88  durable sequence u64
//!   8  format version u16    48  frame sequence u64           96  payload bytes u32
//!  10  header bytes u16      56  base position u64           100  checksum of the previous header u32
//!  12  flags u32 (zero)      64  base commit u64             104  checksum of the table u32
//!  16  uuid of the store     72  events u32                  108  zero (16 bytes)
//!  32  generation u64        76  commits u32                 124  checksum of bytes 0..124 u32
//!                            80  recorded at, µs i64
//! 128  payload, then the table: one CRC32C per 64 KiB of payload, then zeros up to a multiple of 4 KiB
//! ```
//! The header fits one disk sector and checks itself; through the table it vouches for the whole payload; through the
//! chain it vouches for every frame before it. Generation, offset and uuid catch a frame that lies where it was not
//! written: copied, misdirected, or left over from an earlier use of the file. All-zero bytes are no frame.
//!
//! Invariant: the layout is final. A change gets a new format version, and the old one stays readable.

use bytes::Bytes;

use crate::wire::{Malformed, Reader, patch};

/// What every store that this version writes is made of.
pub(crate) const FORMAT_VERSION: u16 = 1;
/// Bytes of the header.
pub(crate) const HEADER_BYTES: usize = 128;
/// Frames start and end at multiples of this.
pub(crate) const ALIGNMENT: usize = 4096;
/// Payload bytes that share a checksum.
pub(crate) const BLOCK_BYTES: usize = 64 * 1024;
/// The unit that a disk writes whole or not at all.
pub(crate) const SECTOR_BYTES: usize = 512;

const MAGIC: [u8; 8] = *b"ENSUEFRM";
const CRC_AT: usize = 124;

const _: () = assert!(HEADER_BYTES <= SECTOR_BYTES, "a header must not tear");
const _: () = assert!(ALIGNMENT.is_multiple_of(SECTOR_BYTES) && BLOCK_BYTES.is_multiple_of(ALIGNMENT));

/// The header of a frame. `generation` and `offset` are its address: which file, and where in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) uuid: [u8; 16],
    pub(crate) generation: u64,
    pub(crate) offset: u64,
    pub(crate) sequence: u64,
    /// Position of its first event; of the next one, if it holds none.
    pub(crate) base_position: u64,
    /// Number of its first commit.
    pub(crate) base_commit: u64,
    pub(crate) events: u32,
    pub(crate) commits: u32,
    /// Microseconds since the epoch.
    pub(crate) recorded_at: i64,
    /// The highest frame known to be synced when this one was built.
    pub(crate) durable_sequence: u64,
    pub(crate) payload_bytes: u32,
    /// [`Header::checksum`] of the frame before; zero for the first.
    pub(crate) previous: u32,
    /// Of the table of block checksums; filled in by [`seal`].
    pub(crate) table_crc: u32,
}

impl Header {
    /// The header as it lies on disk.
    pub(crate) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut text = Vec::with_capacity(HEADER_BYTES);
        text.extend_from_slice(&MAGIC);
        text.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        text.extend_from_slice(&u16::try_from(HEADER_BYTES).expect("128").to_le_bytes());
        text.extend_from_slice(&0u32.to_le_bytes());
        text.extend_from_slice(&self.uuid);
        for number in [self.generation, self.offset, self.sequence, self.base_position, self.base_commit] {
            text.extend_from_slice(&number.to_le_bytes());
        }
        text.extend_from_slice(&self.events.to_le_bytes());
        text.extend_from_slice(&self.commits.to_le_bytes());
        text.extend_from_slice(&self.recorded_at.to_le_bytes());
        text.extend_from_slice(&self.durable_sequence.to_le_bytes());
        for number in [self.payload_bytes, self.previous, self.table_crc] {
            text.extend_from_slice(&number.to_le_bytes());
        }
        text.resize(CRC_AT, 0);
        let crc = crc32c::crc32c(&text);
        text.extend_from_slice(&crc.to_le_bytes());
        text.try_into().expect("the fields above are 128 bytes")
    }

    /// Reads a header that checks out by itself; whether it belongs here is for the caller to say.
    pub(crate) fn parse(block: &[u8]) -> Result<Self, Malformed> {
        let block = block.get(..HEADER_BYTES).ok_or("the header is cut short")?;
        if !block.starts_with(&MAGIC) {
            return Err("no frame starts here");
        }
        let mut reader = Reader::new(Bytes::copy_from_slice(block));
        reader.peel(16)?; // constants: compared below with the rest
        let header = Self {
            uuid: reader.array()?,
            generation: reader.u64()?,
            offset: reader.u64()?,
            sequence: reader.u64()?,
            base_position: reader.u64()?,
            base_commit: reader.u64()?,
            events: reader.u32()?,
            commits: reader.u32()?,
            recorded_at: reader.i64()?,
            durable_sequence: reader.u64()?,
            payload_bytes: reader.u32()?,
            previous: reader.u32()?,
            table_crc: reader.u32()?,
        };
        if header.to_bytes().as_slice() != block {
            return Err("the checksum of the frame's header does not hold");
        }
        Ok(header)
    }

    /// What the next frame carries as its link to this one: the checksum at the end of the header. Not a checksum over
    /// the whole header, which is the same for every header, since CRC(text, CRC(text)) is a constant.
    pub(crate) fn checksum(self) -> u32 {
        let text = self.to_bytes();
        let crc = text.last_chunk().expect("a header ends in its checksum");
        u32::from_le_bytes(*crc)
    }

    /// Bytes of the whole frame on disk.
    pub(crate) fn frame_bytes(self) -> usize {
        frame_bytes(self.payload_bytes as usize)
    }

    /// Whether the header stands where it says it stands, in the store it says it belongs to.
    pub(crate) fn is_at(&self, uuid: [u8; 16], generation: u64, offset: u64) -> bool {
        self.uuid == uuid && self.generation == generation && self.offset == offset
    }
}

/// Bytes on disk of a frame with so much payload.
pub(crate) fn frame_bytes(payload_bytes: usize) -> usize {
    content_bytes(payload_bytes).next_multiple_of(ALIGNMENT)
}

/// Bytes of it that are not padding.
pub(crate) fn content_bytes(payload_bytes: usize) -> usize {
    HEADER_BYTES + payload_bytes + table_bytes(payload_bytes)
}

fn table_bytes(payload_bytes: usize) -> usize {
    payload_bytes.div_ceil(BLOCK_BYTES) * size_of::<u32>()
}

/// Completes a frame in place: `frame` is a header's room followed by the payload.
pub(crate) fn seal(frame: &mut Vec<u8>, mut header: Header) -> Header {
    let payload_bytes = frame.len().checked_sub(HEADER_BYTES).expect("the header's room comes first");
    let table: Vec<u8> = {
        let payload = frame.get(HEADER_BYTES..).unwrap_or_default();
        payload.chunks(BLOCK_BYTES).flat_map(|block| crc32c::crc32c(block).to_le_bytes()).collect()
    };
    header.payload_bytes = u32::try_from(payload_bytes).expect("a frame is bounded below 4 GiB");
    header.table_crc = crc32c::crc32c(&table);
    frame.extend_from_slice(&table);
    frame.resize(frame_bytes(payload_bytes), 0);
    patch(frame, 0, &header.to_bytes());
    header
}

/// The payload of a whole frame, checked against the header; else what is damaged: its range in the frame and why.
pub(crate) fn payload(header: &Header, frame: &Bytes) -> Result<Bytes, Damage> {
    let payload_bytes = header.payload_bytes as usize;
    let table_from = HEADER_BYTES + payload_bytes;
    let table_until = table_from + table_bytes(payload_bytes);
    let whole = Damage { from: 0, until: header.frame_bytes(), why: "the frame is cut short" };
    let table = frame.get(table_from..table_until).ok_or(whole)?;
    if crc32c::crc32c(table) != header.table_crc {
        let why = "the table of checksums is damaged";
        return Err(Damage { from: table_from, until: table_until, why });
    }
    let payload = frame.slice(HEADER_BYTES..table_from);
    for (index, (block, crc)) in payload.chunks(BLOCK_BYTES).zip(table.chunks_exact(4)).enumerate() {
        if crc32c::crc32c(block).to_le_bytes() != *crc {
            let from = HEADER_BYTES + index * BLOCK_BYTES;
            let why = "the checksum of a block does not hold";
            return Err(Damage { from, until: from + block.len(), why });
        }
    }
    Ok(payload)
}

/// A damaged range inside a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Damage {
    pub(crate) from: usize,
    pub(crate) until: usize,
    pub(crate) why: Malformed,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Header, Vec<u8>) {
        let header = Header {
            uuid: [7; 16],
            generation: 1,
            offset: 8192,
            sequence: 3,
            base_position: 11,
            base_commit: 5,
            events: 2,
            commits: 1,
            recorded_at: 1_700_000_000_000_000,
            durable_sequence: 2,
            payload_bytes: 0,
            previous: 0xdead_beef,
            table_crc: 0,
        };
        let mut frame = vec![0; HEADER_BYTES];
        frame.extend_from_slice(b"payload");
        let header = seal(&mut frame, header);
        (header, frame)
    }

    #[test]
    fn a_frame_reads_back_as_it_was_sealed() {
        let (header, frame) = sample();
        assert_eq!(frame.len(), ALIGNMENT);
        assert_eq!(Header::parse(&frame), Ok(header));
        assert_eq!(payload(&header, &frame.into()), Ok(Bytes::from_static(b"payload")));
    }

    #[test]
    fn every_flipped_byte_before_the_padding_is_noticed() {
        let (header, frame) = sample();
        let end = HEADER_BYTES + header.payload_bytes as usize + 4;
        for at in 0..end {
            let mut damaged = frame.clone();
            if let Some(byte) = damaged.get_mut(at) {
                *byte ^= 0x40;
            }
            let noticed = match Header::parse(&damaged) {
                Ok(header) => payload(&header, &damaged.into()).is_err(),
                Err(_) => true,
            };
            assert!(noticed, "byte {at}");
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let (header, _) = sample();
        assert_eq!(hex(&header.to_bytes()), GOLDEN);
    }

    fn hex(bytes: &[u8]) -> String {
        use std::fmt::Write as _;
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a string takes everything");
            text
        })
    }

    const GOLDEN: &str = concat!(
        "454e53554546524d010080000000000007070707070707070707070707070707",
        "0100000000000000002000000000000003000000000000000b00000000000000",
        "0500000000000000020000000100000000401e18240a06000200000000000000",
        "07000000efbeaddeece9fd1d00000000000000000000000000000000eb3b6b58",
    );

    #[test]
    fn zeros_are_no_frame() {
        assert!(Header::parse(&[0; ALIGNMENT]).is_err());
    }
}
