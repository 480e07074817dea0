//! Opening a store: make it or load it, recover, and start its threads.

use std::path::Path;
use std::sync::{Arc, RwLock};
use std::thread::{self, JoinHandle};

use ensue_core::{Code, Error};

use crate::config::Config;
use crate::disk::{Disk, WriteMode};
use crate::engine::{Engine, Flushes};
use crate::errors;
use crate::frame::ALIGNMENT;
use crate::frames::Frames;
use crate::head::Head;
use crate::index::{Applied, Index};
use crate::journal::{self, Journal, Layout, Room, Tail, file_name};
use crate::mark::Marker;
use crate::queue::Queue;
use crate::recovery::{self, Scan};
use crate::sequencer::{Offsets, Sequencer};
use crate::superblock::{self, Superblock};
use crate::window::Window;
use crate::writer::Writer;
use crate::{index, lock, reading};

/// Smallest journal file.
const JOURNAL_FILE_BYTES_MIN: u64 = 1 << 20;

/// What to do where there is no store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Absent {
    Create,
    Refuse,
}

/// The threads of an open store.
pub(crate) struct Threads {
    pub(crate) writer: JoinHandle<Result<Journal, Error>>,
    pub(crate) flusher: JoinHandle<()>,
    pub(crate) room: JoinHandle<()>,
    pub(crate) mode: WriteMode,
}

pub(crate) fn open(
    disk: Arc<dyn Disk>,
    index_folder: &Path,
    config: &Config,
    absent: Absent,
) -> Result<(Arc<Engine>, Threads), Error> {
    let superblock = load_or_create(&*disk, config, absent)?;
    let recovered = recover(&*disk, &superblock, index_folder, config)?;
    let layout = Layout { file_bytes: superblock.journal_file_bytes };
    let tail = recovered.tail;
    let room = Arc::new(Room::new(Arc::clone(&disk), layout, superblock, tail.address));
    let room_thread = {
        let room = Arc::clone(&room);
        spawn("ensue-room", move || room.run())?
    };
    let journal = Journal::open(Arc::clone(&disk), layout, superblock.uuid, tail, Arc::clone(&room));
    let journal = match journal {
        Ok(journal) => journal,
        Err(error) => {
            room.close();
            join(room_thread);
            return Err(error);
        }
    };
    let mode = journal.mode();
    let Recovered { index, window, offsets, .. } = recovered;
    let sequencer = Sequencer::new(window.commit(), window.head(), offsets, config.memory_commits);
    let engine = Arc::new(engine(disk, superblock, config, room, (index, window)));
    let writer = Writer::new(Arc::clone(&engine), sequencer, journal);
    let writer = spawn("ensue-writer", move || writer.run())?;
    let flusher = {
        let engine = Arc::clone(&engine);
        spawn("ensue-flusher", move || engine.run_flushes())?
    };
    Ok((engine, Threads { writer, flusher, room: room_thread, mode }))
}

/// Opens a store to be read: nothing writes to its disk, and commits are refused.
pub(crate) fn open_to_read(
    disk: Arc<dyn Disk>,
    index_folder: &Path,
    config: &Config,
) -> Result<(Arc<Engine>, WriteMode), Error> {
    let superblock = load_or_create(&*disk, config, Absent::Refuse)?;
    let Recovered { index, window, tail, .. } = recover(&*disk, &superblock, index_folder, config)?;
    let layout = Layout { file_bytes: superblock.journal_file_bytes };
    // Nobody asks it for room, since nobody writes.
    let room = Arc::new(Room::new(Arc::clone(&disk), layout, superblock, tail.address));
    let engine = engine(disk, superblock, config, room, (index, window));
    engine.queue.close(reading::refused(&engine.disk.path()));
    Ok((Arc::new(engine), WriteMode::Buffered))
}

fn engine(
    disk: Arc<dyn Disk>,
    superblock: Superblock,
    config: &Config,
    room: Arc<Room>,
    (index, window): (Index, Window),
) -> Engine {
    let layout = Layout { file_bytes: superblock.journal_file_bytes };
    Engine {
        host: config.host.clone(),
        capabilities: config.capabilities(superblock.journal_file_bytes),
        frames: Frames::new(Arc::clone(&disk), layout, superblock.uuid),
        disk,
        layout,
        uuid: superblock.uuid,
        marker: Marker::new(superblock.secret),
        room,
        index: RwLock::new(Some(Arc::new(index))),
        head: Arc::new(Head::new(window.head())),
        window: RwLock::new(window),
        queue: Queue::new(config.queue_bytes_max),
        flushes: Flushes::default(),
        window_bytes: config.window_bytes,
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    life: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Error> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(life);
    spawned.map_err(|error| {
        Error::new(Code::IO, format!("cannot start thread {name}: {error}")).with_source(error)
    })
}

/// Waits for a thread. Its panic has been printed already; closing goes on.
pub(crate) fn join<T>(thread: JoinHandle<T>) -> Option<T> {
    thread.join().ok()
}

pub(crate) fn load_or_create(disk: &dyn Disk, config: &Config, absent: Absent) -> Result<Superblock, Error> {
    if let Some(superblock) = Superblock::load(disk)? {
        return Ok(superblock);
    }
    refuse_remains(disk)?;
    let names = disk.list("").map_err(|error| errors::io(disk, "list files", error))?;
    let ours = [lock::FILE, journal::FOLDER, index::FOLDER, "superblock.new"];
    let is_foreign = names.iter().any(|name| !ours.contains(&name.as_str()));
    if absent == Absent::Refuse || is_foreign {
        let reason = if is_foreign { "holds other files and no superblock" } else { "is empty" };
        return Err(Error::new(Code::NOT_A_STORE, format!("{} {reason}", disk.path())));
    }
    create(disk, config)
}

/// A journal without a superblock is a store of which a part was deleted, unless it is an attempt to make one.
fn refuse_remains(disk: &dyn Disk) -> Result<(), Error> {
    for name in disk.list(journal::FOLDER).map_err(|error| errors::io(disk, "list files", error))? {
        let name = format!("{}/{name}", journal::FOLDER);
        let is_used = || -> std::io::Result<bool> {
            let mut start = vec![0; ALIGNMENT];
            disk.open(&name)?.read_at(&mut start, 0)?;
            Ok(start.iter().any(|byte| *byte != 0))
        };
        if is_used().map_err(|error| errors::io(disk, &format!("read {name}"), error))? {
            let message = format!("{} has {name}, but its {} is missing", disk.path(), superblock::FILE);
            return Err(Error::new(Code::INCOMPLETE, message));
        }
    }
    Ok(())
}

fn create(disk: &dyn Disk, config: &Config) -> Result<Superblock, Error> {
    let failed = |error| errors::io(disk, "make a store", error);
    let mut uuid = [0; 16];
    let mut secret = [0; 16];
    config.host.entropy.fill(&mut uuid);
    config.host.entropy.fill(&mut secret);
    let file_bytes = config.journal_file_bytes.max(JOURNAL_FILE_BYTES_MIN);
    let superblock = Superblock {
        uuid,
        secret,
        turn: 1,
        journal_file_bytes: file_bytes.next_multiple_of(ALIGNMENT as u64),
        newest_file: 1,
        durable_sequence: 0,
    };
    disk.create_folder(journal::FOLDER).map_err(failed)?;
    disk.create(&file_name(1), superblock.journal_file_bytes).map_err(failed)?;
    disk.sync_folder(journal::FOLDER).map_err(failed)?;
    disk.sync_folder("").map_err(failed)?;
    superblock.create(disk)?;
    Ok(superblock)
}

struct Recovered {
    index: Index,
    window: Window,
    offsets: Offsets,
    tail: Tail,
}

fn recover(
    disk: &dyn Disk,
    superblock: &Superblock,
    index_folder: &Path,
    config: &Config,
) -> Result<Recovered, Error> {
    let (index, applied) = open_index(superblock, index_folder, config.cache_bytes)?;
    let marker = Marker::new(superblock.secret);
    let layout = Layout { file_bytes: superblock.journal_file_bytes };
    let counts = Some((applied.position + 1, applied.commit + 1));
    let mut scan = Scan::new(disk, *superblock, applied.tail, counts);
    scan.check_files()?;
    let mut window = Window::new(applied.position, applied.commit, applied.tail);
    while let Some(frame) = scan.next()? {
        let commits = recovery::replay(&marker, &frame).map_err(|why| recovery::undecodable(&frame, why))?;
        window.publish(&recovery::written(layout, &frame), scan.tail(), commits);
        if window.active.bytes >= config.window_bytes {
            let generation = window.rotate();
            index.flush(superblock.uuid, &generation, config.host.clock.now())?;
            drop(window.keep_flushed());
        }
    }
    let mut offsets = index.offsets(&marker)?;
    for ((topic, partition), next) in &window.active.offsets {
        offsets.insert((marker.topic(topic), *partition), *next);
    }
    Ok(Recovered { index, window, offsets, tail: scan.tail() })
}

/// The index, if it is one of this store; else a new one, since it can be rebuilt.
fn open_index(superblock: &Superblock, folder: &Path, cache_bytes: u64) -> Result<(Index, Applied), Error> {
    let found = Index::open(folder, cache_bytes).and_then(|index| {
        let applied = index.applied()?;
        Ok((index, applied))
    });
    match found {
        Ok((index, None)) => return Ok((index, Applied::default())),
        Ok((index, Some(applied))) if applied.uuid == superblock.uuid => return Ok((index, applied)),
        Ok(_) => {}
        Err(error) if error.code() == Code::CORRUPT => {}
        // In use, unreadable, full: nothing that a new index would mend.
        Err(error) => return Err(error),
    }
    std::fs::remove_dir_all(folder).map_err(|error| {
        let message = format!("cannot remove the damaged index {}: {error}", folder.display());
        Error::new(Code::IO, message).with_source(error)
    })?;
    Ok((Index::open(folder, cache_bytes)?, Applied::default()))
}
