//! A deed: one commit with all the calls that sent it, and where its events stand in the log.

use std::collections::BTreeMap;

use ensue_core::{Append, Appended, Commit, CommitError, Committed, EventId, Recorded, Source};

use super::{Answer, Call};

/// An event is known by its source and id.
pub(super) type Name<'a> = (&'a Source, &'a EventId);

/// Where the events of each name stand.
pub(super) type Places<'a> = BTreeMap<Name<'a>, Vec<&'a Recorded>>;

/// One commit, however often it was sent.
pub(super) struct Deed<'a> {
    pub(super) commit: &'a Commit,
    /// When it was first sent.
    pub(super) invoked: u64,
    /// When its success was first told.
    pub(super) acknowledged: Option<u64>,
    pub(super) answers: Vec<&'a Committed>,
    pub(super) refusals: Vec<Refusal<'a>>,
    /// Whether the outcome of some call is unknown.
    pub(super) is_unknown: bool,
    /// Where its events stand, if they do.
    pub(super) stored: Option<Vec<Appended>>,
}

/// A call that was refused.
pub(super) struct Refusal<'a> {
    pub(super) invoked: u64,
    pub(super) answered: u64,
    pub(super) error: &'a CommitError,
}

/// Where each event of the log stands.
pub(super) fn places(log: &[Recorded]) -> Places<'_> {
    let mut places = Places::new();
    for event in log {
        places.entry((&event.envelope.source, &event.envelope.id)).or_default().push(event);
    }
    places
}

/// The deeds of these calls, in the order in which they were first sent. Commits without events leave nothing in the
/// log, so they are no deeds. The second value lists misuse of ids.
pub(super) fn deeds(calls: &[Call]) -> (Vec<Deed<'_>>, Vec<String>) {
    let mut deeds: Vec<Deed<'_>> = Vec::new();
    let mut known: BTreeMap<Name<'_>, usize> = BTreeMap::new();
    let mut misuse = Vec::new();
    for call in calls {
        let Some(first) = names(&call.commit).next() else { continue };
        let place = *known.entry(first).or_insert_with(|| {
            deeds.push(Deed::of(call));
            deeds.len() - 1
        });
        let deed = deeds.get_mut(place).expect("the place was noted when the deed was pushed");
        if deed.commit.appends == call.commit.appends {
            deed.hear(call);
        } else {
            misuse.push(format!("the test sent {} in two different commits", first.1));
        }
    }
    (deeds, misuse)
}

/// The names of the events of a commit.
pub(super) fn names(commit: &Commit) -> impl Iterator<Item = Name<'_>> {
    commit.appends.iter().flat_map(|append| &append.events).map(|event| (&event.source, &event.id))
}

impl<'a> Deed<'a> {
    fn of(call: &'a Call) -> Self {
        Self {
            commit: &call.commit,
            invoked: call.invoked,
            acknowledged: None,
            answers: Vec::new(),
            refusals: Vec::new(),
            is_unknown: false,
            stored: None,
        }
    }

    fn hear(&mut self, call: &'a Call) {
        match &call.answer {
            Answer::Unknown => self.is_unknown = true,
            Answer::Refused { at, error } => {
                self.refusals.push(Refusal { invoked: call.invoked, answered: *at, error });
            }
            Answer::Acknowledged { at, committed } => {
                self.acknowledged = Some(self.acknowledged.map_or(*at, |earlier| earlier.min(*at)));
                self.answers.push(committed);
            }
        }
    }

    /// The first event's id, by which a message names the commit.
    pub(super) fn name(&self) -> &'a EventId {
        names(self.commit).next().expect("a deed has events").1
    }

    /// Finds where the events stand. The error says what is wrong with the place: a part is missing, or moved.
    pub(super) fn locate(&mut self, places: &Places<'_>) -> Result<(), String> {
        let (mut found, mut missing) = (0, 0);
        for name in names(self.commit) {
            if places.contains_key(&name) { found += 1 } else { missing += 1 }
        }
        if found == 0 {
            return Ok(());
        }
        if missing > 0 {
            return Err(format!("commit {}: {found} events stand, {missing} are missing", self.name()));
        }
        let appended: Result<Vec<_>, _> =
            self.commit.appends.iter().map(|append| self.locate_append(append, places)).collect();
        let appended = appended?;
        if !appended.is_sorted_by(|a, b| a.last_position < b.first_position) {
            return Err(format!("commit {}: its appends stand in another order", self.name()));
        }
        self.stored = Some(appended);
        Ok(())
    }

    fn locate_append(&self, append: &Append, places: &Places<'_>) -> Result<Appended, String> {
        let stand = append.events.iter().map(|event| {
            let recorded = places.get(&(&event.source, &event.id)).and_then(|places| places.first().copied());
            recorded
                .filter(|recorded| recorded.stream == append.stream && recorded.envelope == *event)
                .ok_or_else(|| format!("event {} of {} stands elsewhere or changed", event.id, append.stream))
        });
        let stand: Vec<&Recorded> = stand.collect::<Result<_, String>>()?;
        let (Some(first), Some(last)) = (stand.first(), stand.last()) else {
            return Err(format!("commit {} was taken with an append without events", self.name()));
        };
        let is_consecutive =
            stand.is_sorted_by(|a, b| a.position.next() == b.position && a.version.next() == b.version);
        if !is_consecutive {
            return Err(format!(
                "the events of commit {} in {} do not stand together",
                self.name(),
                append.stream
            ));
        }
        Ok(Appended {
            first_version: first.version,
            last_version: last.version,
            first_position: first.position,
            last_position: last.position,
        })
    }
}
