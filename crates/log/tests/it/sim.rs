//! A disk in memory that keeps only what was synced, and fails where it is told to.
//!
//! It fakes: loss of what was not synced, torn writes (any subset of the sectors), failed operations, power that goes off
//! at an operation, and a device that is full. It does not fake bit rot; tests flip bytes themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

use ensue_log::disk::{Disk, DiskFile, Sync, WriteMode};

const SECTOR: usize = 512;

/// What goes wrong, at which operation that changes the disk, counted from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    None,
    /// Power goes off: the operation has no effect, nor has any later one.
    Off(u64),
    /// Power goes off in the middle of a write: some of its sectors are there.
    Torn(u64),
    /// The operation fails, and later ones work.
    Error(u64),
}

#[derive(Clone)]
pub(crate) struct SimDisk(Arc<Mutex<State>>);

struct State {
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    fault: Fault,
    operations: u64,
    has_fired: bool,
    is_off: bool,
    blocks_max: usize,
    bytes_read: u64,
    seed: u64,
}

#[derive(Clone, Default)]
struct File {
    now: Vec<u8>,
    synced: Vec<u8>,
    blocks: BTreeSet<u64>,
}

impl SimDisk {
    pub(crate) fn new(fault: Fault) -> Self {
        Self(Arc::new(Mutex::new(State {
            files: Vec::new(),
            names: BTreeMap::new(),
            synced_names: BTreeMap::new(),
            fault,
            operations: 0,
            has_fired: false,
            is_off: false,
            blocks_max: usize::MAX,
            bytes_read: 0,
            seed: 7,
        })))
    }

    /// Whether the fault happened.
    pub(crate) fn has_fired(&self) -> bool {
        self.lock().has_fired
    }

    /// From now on so many blocks of 4 KiB may be in use.
    pub(crate) fn limit(&self, blocks: usize) {
        self.lock().blocks_max = blocks;
    }

    /// Blocks of 4 KiB in use.
    pub(crate) fn blocks(&self) -> usize {
        self.lock().blocks()
    }

    /// Bytes that were read from files.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.lock().bytes_read
    }

    /// What a machine finds when power is back: only what was synced.
    pub(crate) fn after_power_loss(&self) -> Self {
        let state = self.lock();
        let disk = Self::new(Fault::None);
        let mut fresh = disk.lock();
        fresh.files =
            state.files.iter().map(|file| File { now: file.synced.clone(), ..file.clone() }).collect();
        fresh.names = state.synced_names.clone();
        fresh.synced_names = state.synced_names.clone();
        drop(fresh);
        disk
    }

    /// The bytes of a file as they are now.
    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        let state = self.lock();
        let file = state.names.get(name).and_then(|id| state.files.get(*id));
        file.expect("a file of this name").now.clone()
    }

    /// Puts other bytes in the place of a file's, behind everyone's back.
    pub(crate) fn tamper(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.lock();
        let id = *state.names.get(name).expect("a file of this name");
        let file = state.files.get_mut(id).expect("a file of this name");
        file.now.clone_from(&bytes);
        file.synced = bytes;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds the disk")
    }
}

impl State {
    fn blocks(&self) -> usize {
        self.files.iter().map(|file| file.blocks.len()).sum()
    }

    /// Counts an operation. `Ok(true)`: it is torn.
    fn operate(&mut self) -> io::Result<bool> {
        self.operations += 1;
        let off = || io::Error::other("the power is off");
        if self.is_off {
            return Err(off());
        }
        match self.fault {
            Fault::Off(at) if at == self.operations => {
                self.has_fired = true;
                self.is_off = true;
                Err(off())
            }
            Fault::Torn(at) if at == self.operations => {
                self.has_fired = true;
                self.is_off = true;
                Ok(true)
            }
            Fault::Error(at) if at == self.operations => {
                self.has_fired = true;
                Err(io::Error::other("the device reports an error"))
            }
            _ => Ok(false),
        }
    }

    fn toss(&mut self) -> bool {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.seed >> 63 == 1
    }

    /// Some sectors of a write reach the disk, in no order.
    fn tear(&mut self, id: usize, bytes: &[u8], offset: usize) {
        for (index, sector) in bytes.chunks(SECTOR).enumerate() {
            if self.toss() {
                let at = offset + index * SECTOR;
                let file = self.files.get_mut(id).expect("an open file");
                file.synced[at..at + sector.len()].copy_from_slice(sector);
            }
        }
    }
}

struct Handle {
    disk: SimDisk,
    id: usize,
}

impl Disk for SimDisk {
    fn path(&self) -> String {
        "sim:".to_owned()
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let inside = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let state = self.lock();
        let names = state.names.keys().filter_map(|name| name.strip_prefix(&inside));
        let mut names: Vec<String> =
            names.map(|name| name.split('/').next().unwrap_or_default().to_owned()).collect();
        names.dedup();
        Ok(names)
    }

    fn create_folder(&self, _folder: &str) -> io::Result<()> {
        Ok(())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.lock();
        if state.operate()? {
            return Err(io::Error::other("the power is off"));
        }
        let zeros = vec![0; usize::try_from(bytes).expect("small files")];
        state.files.push(File { now: zeros.clone(), synced: zeros, blocks: BTreeSet::new() });
        let id = state.files.len() - 1;
        state.names.insert(name.to_owned(), id);
        Ok(Arc::new(Handle { disk: self.clone(), id }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let id = self.lock().names.get(name).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(Handle { disk: self.clone(), id }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.operate()?;
        let id = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), id);
        Ok(())
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.operate()?;
        let is_inside = |name: &str| match name.rsplit_once('/') {
            Some((parent, _)) => parent == folder,
            None => folder.is_empty(),
        };
        let current: Vec<_> = state
            .names
            .iter()
            .filter(|(name, _)| is_inside(name))
            .map(|(name, id)| (name.clone(), *id))
            .collect();
        state.synced_names.retain(|name, _| !is_inside(name));
        state.synced_names.extend(current);
        Ok(())
    }
}

impl DiskFile for Handle {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.lock().files[self.id].now.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.lock();
        let offset = usize::try_from(offset).expect("small files");
        let rest = state.files[self.id].now.get(offset..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        state.bytes_read += length as u64;
        Ok(length)
    }

    fn write_at(&self, bytes: &[u8], offset: u64, sync: Sync) -> io::Result<()> {
        assert!(bytes.len().is_multiple_of(4096) && offset.is_multiple_of(4096), "direct writes are aligned");
        let mut state = self.disk.lock();
        let is_torn = state.operate()?;
        let at = usize::try_from(offset).expect("small files");
        if is_torn {
            state.tear(self.id, bytes, at);
            return Err(io::Error::other("the power is off"));
        }
        let blocks: BTreeSet<u64> = (offset / 4096..(offset + bytes.len() as u64) / 4096).collect();
        let added = blocks.difference(&state.files[self.id].blocks).count();
        if state.blocks() + added > state.blocks_max {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = &mut state.files[self.id];
        file.blocks.extend(blocks);
        file.now[at..at + bytes.len()].copy_from_slice(bytes);
        if sync == Sync::Now {
            file.synced = file.now.clone();
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.operate()?;
        let file = &mut state.files[self.id];
        file.synced = file.now.clone();
        Ok(())
    }

    fn mode(&self) -> WriteMode {
        WriteMode::Direct
    }
}
