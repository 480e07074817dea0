//! The writer: one thread that owns the sequencer and the writing end of the journal.
//!
//! A turn of its life: take what has gathered, decide, write one frame, publish, answer. What arrives meanwhile becomes
//! the next frame, so the busier it is, the larger the frames; nothing lingers and nothing spins.
//!
//! Invariants: nothing is published or answered before its frame is as safe as it asked for; the window and the head move
//! as one, so that what is decided as of a commit has read its events; a refusal is answered after the frame that it may
//! have been caused by; after a failed write, nothing more is acknowledged.

use std::sync::Arc;
use std::time::Duration;

use ensue_core::{
    Appended, Change, Committed, Durability, Error, Position, Recorded, Revision, Timestamp, Version,
};

use crate::disk::Sync;
use crate::engine::Engine;
use crate::frame::HEADER_BYTES;
use crate::frames::recorded;
use crate::journal::{Contents, Journal};
use crate::queue::{Answer, Queued, Request, Taken};
use crate::reply::Sender;
use crate::sequencer::{Numbers, Sequencer, Verdict};
use crate::window::{Advance, Published, Stored, record_key};

/// Bytes of requests that share a frame at most, unless one alone is larger.
const FRAME_BYTES: usize = 4 << 20;
/// How long buffered commits may wait for a durable one to take them along.
const BUFFERED_FOR: Duration = Duration::from_millis(5);
/// The window may outgrow its bound so many times before commits wait for the flush.
const WINDOW_SLACK: usize = 2;
const FRAME_BYTES_KEPT: usize = 4 << 20;

pub(crate) struct Writer {
    engine: Arc<Engine>,
    sequencer: Sequencer,
    journal: Journal,
    frame: Vec<u8>,
}

/// The taken and the refused of one turn.
#[derive(Default)]
struct Turn {
    taken: Vec<(Box<Request>, Numbers, Sender<Answer>)>,
    refused: Vec<(Answer, Sender<Answer>)>,
    is_durable: bool,
}

impl Writer {
    pub(crate) fn new(engine: Arc<Engine>, sequencer: Sequencer, journal: Journal) -> Self {
        Self { engine, sequencer, journal, frame: Vec::new() }
    }

    /// Until the queue is closed and empty, or a write fails. Hands the journal's tail back.
    pub(crate) fn run(mut self) -> Result<Journal, Error> {
        match self.serve() {
            Ok(()) => Ok(self.journal),
            Err(error) => {
                self.engine.queue.poison(&error);
                self.engine.head.end(error.clone());
                Err(error)
            }
        }
    }

    fn serve(&mut self) -> Result<(), Error> {
        loop {
            let tail = self.journal.tail();
            let patience = (tail.durable_sequence < tail.sequence).then_some(BUFFERED_FOR);
            match self.engine.queue.take(FRAME_BYTES, patience) {
                Taken::Requests(requests) => self.turn(requests)?,
                Taken::Idle => self.journal.sync()?,
                Taken::Closed => return self.journal.sync(),
            }
        }
    }

    /// An error is a failed write. Everything else is answered to those it concerns.
    fn turn(&mut self, requests: Vec<Queued>) -> Result<(), Error> {
        let bytes = requests.iter().map(|(request, _)| request.body.len()).sum();
        if self.is_overfull() {
            // A flush that failed is tried again before anything more is taken.
            self.rotate()?;
        }
        if let Err(error) = self.make_room(bytes) {
            for (_, reply) in requests {
                reply.send(Answer::Failed(error.clone()));
            }
            return Ok(());
        }
        let now = self.now(requests.first().and_then(|(request, _)| request.recorded_at));
        let base = (self.sequencer.position() + 1, self.sequencer.commit() + 1);
        let turn = self.decide(requests, now);
        let published = if turn.taken.is_empty() {
            Ok(Vec::new())
        } else {
            self.write(turn.taken, base, now, turn.is_durable)
        };
        match published {
            Ok(answers) => {
                for (answer, reply) in answers.into_iter().chain(turn.refused) {
                    reply.send(answer);
                }
                self.rotate()
            }
            Err(error) => {
                for (_, reply) in turn.refused {
                    reply.send(Answer::Failed(error.clone()));
                }
                Err(error)
            }
        }
    }

    /// Before anything is decided, since what is decided must be written.
    fn make_room(&mut self, bytes: usize) -> Result<(), Error> {
        if self.is_overfull() {
            self.engine.flushes.wait()?;
        }
        self.journal.reserve(bytes)
    }

    /// Whether memory has run so far ahead of the index that commits must wait, or be refused while flushes fail.
    fn is_overfull(&self) -> bool {
        self.window_bytes() > self.engine.window_bytes * WINDOW_SLACK
    }

    fn window_bytes(&self) -> usize {
        self.engine.window().active.bytes
    }

    /// The clock, or the time that is given, in microseconds, as frames carry it; never goes back.
    fn now(&self, given: Option<Timestamp>) -> Timestamp {
        let now = given.unwrap_or_else(|| self.engine.host.clock.now());
        let now = now.as_microsecond().max(self.journal.tail().recorded_at);
        Timestamp::from_microsecond(now).expect("a timestamp in microseconds is one")
    }

    fn decide(&mut self, requests: Vec<Queued>, now: Timestamp) -> Turn {
        let mut turn = Turn::default();
        self.frame.clear();
        self.frame.resize(HEADER_BYTES, 0);
        for (mut request, reply) in requests {
            match self.sequencer.step(&request.proposal, now) {
                Verdict::Taken(numbers) => {
                    for (blank, (version, offset)) in request.blanks.iter().zip(&numbers.appends) {
                        blank.fill(&mut request.body, *version, *offset);
                    }
                    self.frame.extend_from_slice(&request.body);
                    turn.is_durable |= request.durability == Durability::Durable;
                    turn.taken.push((request, numbers, reply));
                }
                Verdict::Refused(refusal) => turn.refused.push((Answer::Refused(refusal, request), reply)),
                Verdict::LookAgain => turn.refused.push((Answer::LookAgain(request), reply)),
            }
        }
        turn
    }

    fn write(
        &mut self,
        taken: Vec<(Box<Request>, Numbers, Sender<Answer>)>,
        (base_position, base_commit): (u64, u64),
        now: Timestamp,
        is_durable: bool,
    ) -> Result<Vec<(Answer, Sender<Answer>)>, Error> {
        let events = self.sequencer.position() + 1 - base_position;
        let contents = Contents {
            base_position,
            base_commit,
            events: u32::try_from(events).expect("a frame is bounded below 2^32 events"),
            commits: u32::try_from(taken.len()).expect("a frame is bounded below 2^32 commits"),
            recorded_at: now.as_microsecond(),
        };
        let sync = if is_durable { Sync::Now } else { Sync::Later };
        let written = match self.journal.append(&mut self.frame, contents, sync) {
            Ok(written) => written,
            Err(error) => {
                for (_, _, reply) in taken {
                    reply.send(Answer::Failed(error.clone()));
                }
                return Err(error);
            }
        };
        if self.frame.capacity() > FRAME_BYTES_KEPT {
            self.frame = Vec::new();
        }
        let mut commits = Vec::with_capacity(taken.len());
        let mut answers = Vec::with_capacity(taken.len());
        for (request, numbers, reply) in taken {
            answers.push((Answer::Taken(committed(&request, &numbers)), reply));
            commits.push(publish(*request, &numbers, now));
        }
        let mut window = self.engine.window_mut();
        window.publish(&written, self.journal.tail(), commits);
        self.engine.head.advance(self.sequencer.position());
        drop(window);
        if events > 0 {
            self.engine.head.wake();
        }
        Ok(answers)
    }

    /// Hands a full window to the flusher. What goes into the index must not be lost afterwards, so it is synced first.
    fn rotate(&mut self) -> Result<(), Error> {
        if self.window_bytes() < self.engine.window_bytes || self.engine.flushes.is_busy() {
            return Ok(());
        }
        self.journal.sync()?;
        let mut window = self.engine.window_mut();
        // After a failed flush the same generation is tried again before a new one is begun.
        let generation = match &window.flushing {
            Some(generation) => Arc::clone(generation),
            None => {
                window.active.tail = self.journal.tail();
                window.rotate()
            }
        };
        drop(window);
        self.engine.flushes.start(generation);
        Ok(())
    }
}

fn committed(request: &Request, numbers: &Numbers) -> Committed {
    let mut position = numbers.first_position;
    let appended = request.appends.iter().zip(&numbers.appends).map(|(append, (version, _))| {
        let count = append.events.len() as u64;
        let first = position;
        position += count;
        Appended {
            first_version: Version(*version),
            last_version: Version(version + count - 1),
            first_position: Position(first),
            last_position: Position(position - 1),
        }
    });
    Committed { appended: appended.collect(), revision: Revision(numbers.commit), repeated: false }
}

/// The commit as readers will see it.
fn publish(request: Request, numbers: &Numbers, recorded_at: Timestamp) -> Published {
    let proposal = request.proposal;
    let mut events: Vec<Recorded> = Vec::with_capacity(proposal.events.len());
    let mut streams = Vec::with_capacity(proposal.events.len());
    let mut offsets = Vec::with_capacity(request.appends.len());
    let placed = request.appends.into_iter().zip(&proposal.appends).zip(&numbers.appends);
    for ((append, marks), (version, offset)) in placed {
        let first = numbers.first_position + events.len() as u64;
        offsets.push(Advance {
            topic: append.stream.topic.clone(),
            partition: marks.partition,
            records: marks.count,
            next_offset: offset + marks.count,
        });
        streams.extend(std::iter::repeat_n(marks.stream, append.events.len()));
        let numbered = (first..).zip(*version..).zip(append.events);
        events.extend(
            numbered.map(|(numbers, envelope)| recorded(numbers, &append.stream, recorded_at, envelope)),
        );
    }
    let records = request.records.into_iter().map(|write| {
        let stored = match write.change {
            Change::Put { value, expires_at } => {
                Some(Stored { value, revision: numbers.commit, lapse: expires_at })
            }
            Change::Delete => None,
        };
        (record_key(write.space.as_str(), &write.key), stored)
    });
    let records = records.collect();
    Published { commit: numbers.commit, events, marks: proposal.events, streams, records, offsets }
}
