//! A program: what an application is made of, and what is done to it from outside. Plain data, so that the runtime and
//! the model are given the same, and a search can leave parts of it out.

use std::collections::BTreeMap;

/// Kinds of signals. A reaction to one kind emits only higher kinds, so that every cascade ends.
pub(super) const KINDS: usize = 6;
/// Sagas end with a signal of this kind.
pub(super) const ENDED: usize = 4;
/// Sagas wait for signals of this kind; only the outside sends them.
pub(super) const ANSWERED: usize = 5;
/// Keys of signals.
pub(super) const KEYS: u64 = 4;

/// An application and what is done to it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Program {
    pub(super) reactions: Vec<Reaction>,
    pub(super) sagas: Vec<SagaPlan>,
    pub(super) acts: Vec<Act>,
}

/// A handler of one kind of signals.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Reaction {
    pub(super) consumes: usize,
    pub(super) emits: Vec<Emission>,
    pub(super) lanes: u16,
    pub(super) batch: usize,
    pub(super) attempts: u32,
    pub(super) skips: Skips,
    /// How it fails for some keys; the others always succeed.
    pub(super) moods: BTreeMap<u64, Mood>,
}

/// What becomes of a delivery whose attempts have run out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Skips {
    /// It is parked, and everything behind it of the same key.
    Never,
    /// It is skipped.
    WhenItGivesUp,
}

/// A signal that a reaction emits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Emission {
    pub(super) kind: usize,
    /// Under this key; under the key of the cause where there is none.
    pub(super) key: Option<u64>,
}

/// How a reaction fails for one key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mood {
    pub(super) lasts: Lasts,
    pub(super) how: How,
    /// Whether the effect outside was made before it fails.
    pub(super) when: When,
}

/// For how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lasts {
    /// So many attempts, fewer than there are.
    Attempts(u32),
    /// Until it is mended.
    UntilMended,
}

/// In which way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum How {
    Error,
    Panic,
    /// It says that trying again is of no use.
    Refusal,
}

/// Before or after its effect outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum When {
    BeforeEffect,
    AfterEffect,
}

/// A saga: its steps in order. Then it emits a signal of the kind [`ENDED`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SagaPlan {
    /// The kind of signal that starts it.
    pub(super) starts: usize,
    pub(super) steps: Vec<Step>,
}

/// One step of a saga.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Send {
        fate: Fate,
        /// Time limit of one attempt.
        within: Option<u64>,
        retries: u32,
        class: Class,
        on_error: OnError,
    },
    Local {
        /// Failures before it succeeds; with more than there are retries it never does.
        failures: u32,
        retries: u32,
        class: Class,
        on_error: OnError,
    },
    Sleep {
        units: u64,
    },
    Wait {
        within: Option<u64>,
        on_error: OnError,
    },
}

impl Step {
    /// What becomes of its command.
    pub(super) fn fate(&self) -> Fate {
        match self {
            Self::Send { fate, .. } => *fate,
            Self::Local { .. } | Self::Sleep { .. } | Self::Wait { .. } => Fate::Done,
        }
    }

    /// What becomes of the command that undoes it, if one does.
    pub(super) fn undo_fate(&self) -> Option<Fate> {
        match self.class() {
            Class::Undo(fate) => Some(fate),
            Class::NothingToUndo | Class::Pivot | Class::Forward => None,
        }
    }

    /// How it can be taken back.
    pub(super) fn class(&self) -> Class {
        match self {
            Self::Send { class, .. } | Self::Local { class, .. } => *class,
            Self::Sleep { .. } | Self::Wait { .. } => Class::NothingToUndo,
        }
    }

    /// What the saga does with its error.
    pub(super) fn on_error(&self) -> OnError {
        match self {
            Self::Send { on_error, .. } | Self::Local { on_error, .. } | Self::Wait { on_error, .. } => {
                *on_error
            }
            Self::Sleep { .. } => OnError::Fails,
        }
    }

    /// How often a local effect fails before it succeeds; `None` if it never does.
    pub(super) fn local_failures(&self) -> Option<u32> {
        match self {
            Self::Local { failures, retries, class, .. } => {
                Some(*failures).filter(|failures| failures <= retries || *class == Class::Forward)
            }
            Self::Send { .. } | Self::Sleep { .. } | Self::Wait { .. } => Some(0),
        }
    }
}

/// What the handler of a command does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    Done,
    Refused,
    /// So many commands are refused, the next is done.
    RefusedFirst(u32),
    /// So many attempts break down, fewer than there are.
    Breaks(u32),
    /// It breaks down until it is mended.
    Broken,
}

/// How a step can be taken back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    NothingToUndo,
    /// By a command with this fate.
    Undo(Fate),
    Pivot,
    /// After the pivot: until it is done.
    Forward,
}

/// What the saga's code does with the error of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum OnError {
    /// Ends with it, which starts the compensation.
    Fails,
    /// Goes on.
    GoesOn,
}

/// Something done from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Act {
    Publish {
        kind: usize,
        key: u64,
    },
    /// A command to the account of this key; refused where it would be overdrawn.
    Move {
        key: u64,
        cents: i64,
    },
    /// What sagas wait for, when everything before is at rest.
    Answer {
        key: u64,
    },
    Settle,
    /// Time passes: so many units, and a little.
    Advance {
        units: u64,
    },
    /// The process is stopped and started, with other numbers of lanes.
    Restart,
    /// Everything that is parked is tried again, often enough for what only breaks down a few times.
    Redrive,
    /// From now on nothing is broken.
    Mend,
}

impl Act {
    /// Whether it lets the pauses of sagas pass first. They are not in the model: that they are over when something is
    /// mended or tried again makes them irrelevant.
    pub(super) fn takes_a_little(self) -> bool {
        matches!(self, Self::Advance { .. } | Self::Redrive | Self::Mend)
    }
}

/// A unit of time in seconds: far longer than all pauses of a run together.
pub(super) const UNIT: u64 = 6_000;
/// What an act that takes time takes longer than its units, so that no deadline is due at the moment of an act: longer
/// than the pauses of a saga, and over all acts of a program less than a unit.
pub(super) const A_LITTLE: u64 = 300;
/// Acts of a program that take time, so that they stay below a unit together with those of [`Program::ending`].
pub(super) const TIMED_ACTS_MAX: usize = 8;

impl Program {
    /// The acts that bring every program to its end: everything is mended, tried again, and has all the time it needs.
    pub(super) fn ending() -> [Act; 7] {
        let ages = Act::Advance { units: 500 };
        [Act::Settle, Act::Mend, Act::Redrive, ages, Act::Redrive, ages, Act::Settle]
    }
}
