//! Reading frames back: whole, checked, and shared by the events that lie in them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use ensue_core::{Envelope, Error, Position, Recorded, StreamName, Timestamp, Version};

use crate::batch;
use crate::body::{self, Commits};
use crate::disk::{Disk, DiskFile, read_exactly};
use crate::errors;
use crate::frame::{self, Header};
use crate::journal::{Layout, file_name};
use crate::window::FramePlace;
use crate::wire::Malformed;

/// Files that stay open for reading.
const OPEN_MAX: usize = 64;

/// The reading end of the journal.
pub(crate) struct Frames {
    disk: Arc<dyn Disk>,
    layout: Layout,
    uuid: [u8; 16],
    open: Mutex<HashMap<u64, Arc<dyn DiskFile>>>,
}

/// A frame in memory.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) header: Header,
    pub(crate) payload: Bytes,
}

impl Frames {
    pub(crate) fn new(disk: Arc<dyn Disk>, layout: Layout, uuid: [u8; 16]) -> Self {
        Self { disk, layout, uuid, open: Mutex::default() }
    }

    /// Reads the frame at a place where one is known to be. Anything else there is damage.
    pub(crate) fn load(&self, place: FramePlace) -> Result<Loaded, Error> {
        let number = self.layout.file_of(place.address);
        let offset = self.layout.offset_of(place.address);
        let until = offset + u64::from(place.frame_bytes);
        let name = file_name(number);
        let bytes = self
            .file(number)
            .and_then(|file| read_exactly(&*file, offset, place.frame_bytes as usize))
            .map_err(|error| errors::io(&*self.disk, &format!("read {name} at {offset}"), error))?;
        let bytes = Bytes::from(bytes);
        let header = Header::parse(&bytes)
            .map_err(|why| errors::corrupt(&name, offset, offset + frame::HEADER_BYTES as u64, why))?;
        if !header.is_at(self.uuid, number, offset) || header.base_position != place.base_position {
            return Err(errors::corrupt(&name, offset, until, "another frame lies here than was written"));
        }
        let payload = frame::payload(&header, &bytes).map_err(|damage| {
            errors::corrupt(&name, offset + damage.from as u64, offset + damage.until as u64, damage.why)
        })?;
        Ok(Loaded { header, payload })
    }

    fn file(&self, number: u64) -> std::io::Result<Arc<dyn DiskFile>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&number) {
            return Ok(Arc::clone(file));
        }
        if open.len() >= OPEN_MAX {
            open.clear();
        }
        let file = self.disk.open(&file_name(number))?;
        open.insert(number, Arc::clone(&file));
        Ok(file)
    }
}

impl Loaded {
    pub(crate) fn recorded_at(&self) -> Timestamp {
        recorded_at(&self.header)
    }

    /// Calls `visit` with each event of `low..=high`, in order; batches outside are not decoded.
    pub(crate) fn events(
        &self,
        (low, high): (u64, u64),
        mut visit: impl FnMut(Recorded),
    ) -> Result<(), Malformed> {
        let recorded_at = self.recorded_at();
        let mut position = self.header.base_position;
        for commit in Commits::new(self.payload.clone()) {
            for append in body::appends(commit?)? {
                let count = batch::count(&append.batch)? as u64;
                if position <= high && position + count > low {
                    let (stream, batch) = append.decode()?;
                    let numbered = (position..).zip(append.first_version..).zip(batch.events);
                    numbered
                        .filter(|((position, _), _)| (low..=high).contains(position))
                        .map(|(numbers, envelope)| recorded(numbers, &stream, recorded_at, envelope))
                        .for_each(&mut visit);
                }
                position += count;
                if position > high {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

pub(crate) fn recorded_at(header: &Header) -> Timestamp {
    Timestamp::from_microsecond(header.recorded_at).unwrap_or_default()
}

pub(crate) fn recorded(
    (position, version): (u64, u64),
    stream: &StreamName,
    recorded_at: Timestamp,
    envelope: Envelope,
) -> Recorded {
    Recorded {
        position: Position(position),
        stream: stream.clone(),
        version: Version(version),
        recorded_at,
        envelope,
    }
}

impl Loaded {
    pub(crate) fn holds(&self, position: u64) -> bool {
        let first = self.header.base_position;
        (first..first + u64::from(self.header.events)).contains(&position)
    }
}
