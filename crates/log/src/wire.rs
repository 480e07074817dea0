//! Reading and writing plain numbers and byte strings: the letters that frames, batches and index values are spelt in.
//!
//! Invariant: reading never panics, whatever the bytes are; it says what was cut short or out of range.

use bytes::Bytes;

/// Why bytes do not decode: a sentence for the error that names the place.
pub(crate) type Malformed = &'static str;

/// A cursor over bytes. Strings it hands out are shared slices, not copies.
pub(crate) struct Reader {
    bytes: Bytes,
    at: usize,
}

macro_rules! fixed {
    ($($name:ident $type:ty, $from:ident);* $(;)?) => {
        $(pub(crate) fn $name(&mut self) -> Result<$type, Malformed> {
            Ok(<$type>::$from(self.array()?))
        })*
    };
}

impl Reader {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// The next bytes, shared.
    pub(crate) fn take(&mut self, length: usize) -> Result<Bytes, Malformed> {
        let end =
            self.at.checked_add(length).filter(|end| *end <= self.bytes.len()).ok_or("it is cut short")?;
        let taken = self.bytes.slice(self.at..end);
        self.at = end;
        Ok(taken)
    }

    /// The next bytes, borrowed.
    pub(crate) fn peel(&mut self, length: usize) -> Result<&[u8], Malformed> {
        let start = self.at;
        let end = start.checked_add(length).ok_or("it is cut short")?;
        let taken = self.bytes.get(start..end).ok_or("it is cut short")?;
        self.at = end;
        Ok(taken)
    }

    /// Everything that is left, shared.
    pub(crate) fn rest(self) -> Bytes {
        self.bytes.slice(self.at..)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.peel(N)?.try_into().map_err(|_| "it is cut short")
    }

    fixed! {
        u8 u8, from_le_bytes;
        u16 u16, from_le_bytes;
        u32 u32, from_le_bytes;
        u64 u64, from_le_bytes;
        i64 i64, from_le_bytes;
        i16_be i16, from_be_bytes;
        i32_be i32, from_be_bytes;
        i64_be i64, from_be_bytes;
        u32_be u32, from_be_bytes;
    }

    /// Base 128, least significant group first.
    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a variable-length number is too long")
    }

    /// Kafka's signed form: zig-zag, then base 128.
    pub(crate) fn zigzag(&mut self) -> Result<i64, Malformed> {
        let raw = self.varint()?;
        Ok((raw >> 1).cast_signed() ^ -((raw & 1).cast_signed()))
    }

    /// A length as Kafka writes it.
    pub(crate) fn length(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.zigzag()?).map_err(|_| "a length is negative")
    }

    /// A string behind its length in 16 bits.
    pub(crate) fn short_text(&mut self) -> Result<&str, Malformed> {
        let length = usize::from(self.u16()?);
        std::str::from_utf8(self.peel(length)?).map_err(|_| "a name is not UTF-8")
    }
}

pub(crate) fn put_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(low_byte(value) | 0x80);
        value >>= 7;
    }
    to.push(low_byte(value));
}

pub(crate) fn put_zigzag(to: &mut Vec<u8>, value: i64) {
    put_varint(to, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

pub(crate) fn put_length(to: &mut Vec<u8>, length: usize) {
    put_zigzag(to, i64::try_from(length).expect("a length in memory fits"));
}

pub(crate) fn put_short_text(to: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("names are bounded far below 64 KiB");
    to.extend_from_slice(&length.to_le_bytes());
    to.extend_from_slice(text.as_bytes());
}

/// Bytes that [`put_zigzag`] takes for this value.
pub(crate) fn zigzag_size(value: i64) -> usize {
    let raw = ((value << 1) ^ (value >> 63)).cast_unsigned();
    usize::try_from((64 - raw.leading_zeros()).div_ceil(7).max(1)).expect("at most ten")
}

/// Bytes that [`put_length`] takes for this length.
pub(crate) fn length_size(length: usize) -> usize {
    zigzag_size(i64::try_from(length).expect("a length in memory fits"))
}

/// Replaces bytes that were left open when the text around them was written.
pub(crate) fn patch(text: &mut [u8], at: usize, with: &[u8]) {
    text.get_mut(at..at + with.len()).expect("the place was reserved").copy_from_slice(with);
}

fn low_byte(value: u64) -> u8 {
    value.to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_length_come_back() {
        for value in [0, 1, -1, 63, 64, -64, -65, 8_191, 1 << 40, i64::MAX, i64::MIN] {
            let mut written = Vec::new();
            put_zigzag(&mut written, value);
            assert_eq!(written.len(), zigzag_size(value), "{value}");
            assert_eq!(Reader::new(written.into()).zigzag(), Ok(value));
        }
    }

    #[test]
    fn endless_numbers_and_cut_strings_are_refused() {
        assert!(Reader::new(vec![0xff; 20].into()).varint().is_err());
        assert!(Reader::new(vec![5, 0, b'a'].into()).short_text().is_err());
        assert!(Reader::new(Bytes::new()).take(usize::MAX).is_err());
    }
}
