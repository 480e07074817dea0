//! Memory whose address is a multiple of 4 KiB, as direct writes want it; without `unsafe`, by starting late in a vector.

use crate::frame::ALIGNMENT;

/// A growing buffer that is handed to the disk whole.
#[derive(Default)]
pub struct AlignedBuffer {
    bytes: Vec<u8>,
    start: usize,
}

impl AlignedBuffer {
    /// Copies `content` into aligned memory, keeping what was allocated before.
    pub fn fill(&mut self, content: &[u8]) -> &[u8] {
        self.bytes.clear();
        // Room first: growing later would move the bytes off their alignment.
        self.bytes.reserve(content.len() + ALIGNMENT);
        let address = self.bytes.as_ptr().addr();
        self.start = address.next_multiple_of(ALIGNMENT) - address;
        self.bytes.resize(self.start, 0);
        self.bytes.extend_from_slice(content);
        self.content()
    }

    fn content(&self) -> &[u8] {
        let content = self.bytes.get(self.start..).expect("the start lies in the buffer");
        assert!(content.as_ptr().addr().is_multiple_of(ALIGNMENT), "direct writes need aligned memory");
        content
    }

    /// Gives memory back that one large frame had needed.
    pub fn shrink_to(&mut self, bytes: usize) {
        if self.bytes.capacity() > bytes {
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_aligned_whatever_its_size() {
        let mut buffer = AlignedBuffer::default();
        for length in [0, 1, 4096, 100_000, 3] {
            let content = vec![9; length];
            assert_eq!(buffer.fill(&content), content);
        }
    }
}
