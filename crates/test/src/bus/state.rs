//! What a broker in memory keeps: channels, and for each group what it has still to get.

use std::collections::{BTreeMap, HashSet};

use ensue_core::bus::{Consume, Declare, Declared, Message, Topology};
use ensue_core::{BusCapabilities, Channel, Code, Error, SubscriptionName, Timestamp};
use smol_str::SmolStr;

use super::group::Group;
use super::luck::Luck;

/// Everything, behind one lock.
#[derive(Default)]
pub(super) struct State {
    channels: BTreeMap<Channel, Vec<Stored>>,
    /// What was published under which id.
    ids: HashSet<(Channel, String)>,
    groups: BTreeMap<(SubscriptionName, Channel), Group>,
    pub(super) luck: Luck,
    pub(super) last_token: u64,
    last_member: u64,
    members: HashSet<u64>,
    /// Another number after each time that connections broke.
    pub(super) connection: u64,
}

/// A message as it is kept.
#[derive(Clone)]
pub(super) struct Stored {
    pub(super) key: Option<SmolStr>,
    pub(super) message: Message,
    pub(super) published_at: Timestamp,
}

/// The channel that a group reads.
fn channel_of(consume: &Consume) -> &Channel {
    consume.fed_by.as_ref().map_or(&consume.from, |feed| &feed.from)
}

impl State {
    pub(super) fn has(&self, channel: &Channel) -> bool {
        self.channels.contains_key(channel)
    }

    /// Whether nothing was published under the id; from now on something was.
    pub(super) fn is_new(&mut self, channel: &Channel, id: &str) -> bool {
        self.ids.insert((channel.clone(), id.to_owned()))
    }

    /// Keeps a message, and says at which place.
    pub(super) fn keep(
        &mut self,
        channel: &Channel,
        key: Option<SmolStr>,
        message: Message,
        published_at: Timestamp,
    ) -> usize {
        let stored = self.channels.entry(channel.clone()).or_default();
        stored.push(Stored { key, message, published_at });
        stored.len()
    }

    pub(super) fn messages(&self, channel: &str) -> Vec<Message> {
        let stored = self.channels.iter().find(|(name, _)| name.as_str() == channel);
        stored
            .into_iter()
            .flat_map(|(_, stored)| stored.iter().map(|stored| stored.message.clone()))
            .collect()
    }

    pub(super) fn unsettled(&self) -> usize {
        self.groups.values().map(|group| group.unsettled(self.stored(&group.channel))).sum()
    }

    pub(super) fn group_names(&self) -> Vec<String> {
        self.groups.keys().map(|(name, _)| name.to_string()).collect()
    }

    pub(super) fn stored(&self, channel: &Channel) -> &[Stored] {
        self.channels.get(channel).map_or(&[], Vec::as_slice)
    }

    /// Every connection is lost: what was in hand waits again. Says how many members there are.
    pub(super) fn cut(&mut self) -> usize {
        self.groups.values_mut().for_each(|group| group.take_back(|_| true));
        self.connection += 1;
        self.members.len()
    }

    /// A member is gone: what it had in hand waits again.
    pub(super) fn leave(&mut self, consume: &Consume, member: u64) {
        self.members.remove(&member);
        if let Some(group) = self.groups.get_mut(&(consume.group.clone(), consume.from.clone())) {
            group.take_back(|one| one == member);
        }
    }

    pub(super) fn declare(
        &mut self,
        topology: &Topology,
        declare: Declare,
        capabilities: &BusCapabilities,
    ) -> Declared {
        let mut declared = Declared::default();
        let channels = topology.targets.iter().chain(topology.sources.iter().map(channel_of));
        for channel in channels.cloned().collect::<Vec<_>>() {
            note(&mut declared, self.has(&channel), format!("channel `{channel}`"));
            if declare == Declare::Make {
                self.channels.entry(channel).or_default();
            }
        }
        for source in &topology.sources {
            let place = (source.group.clone(), source.from.clone());
            let is_there = self.groups.contains_key(&place);
            note(&mut declared, is_there, format!("group `{}` of `{}`", source.group, source.from));
            if declare == Declare::Make && !is_there {
                self.add(source, capabilities);
            }
        }
        declared
    }

    fn add(&mut self, consume: &Consume, capabilities: &BusCapabilities) {
        let channel = channel_of(consume).clone();
        let read = if capabilities.can_replay { 0 } else { self.stored(&channel).len() };
        let place = (consume.group.clone(), consume.from.clone());
        self.groups.insert(place, Group::new(channel, read));
    }

    /// A new member of a group; `E0444` where the channel does not exist.
    pub(super) fn join(&mut self, consume: &Consume, capabilities: &BusCapabilities) -> Result<u64, Error> {
        if !self.has(channel_of(consume)) {
            let message = format!("there is no channel `{}`", channel_of(consume));
            return Err(Error::new(Code::BUS_UNROUTABLE, message));
        }
        if !self.groups.contains_key(&(consume.group.clone(), consume.from.clone())) {
            self.add(consume, capabilities);
        }
        self.last_member += 1;
        self.members.insert(self.last_member);
        Ok(self.last_member)
    }

    /// A group with what it reads and what may go wrong.
    pub(super) fn group(
        &mut self,
        consume: &Consume,
    ) -> Option<(&mut Group, &[Stored], &mut Luck, &mut u64)> {
        let Self { channels, groups, luck, last_token, .. } = self;
        let group = groups.get_mut(&(consume.group.clone(), consume.from.clone()))?;
        let stored = channels.get(&group.channel).map_or(&[][..], Vec::as_slice);
        Some((group, stored, luck, last_token))
    }
}

fn note(declared: &mut Declared, is_there: bool, line: String) {
    let lines = if is_there { &mut declared.found } else { &mut declared.missing };
    if !lines.contains(&line) {
        lines.push(line);
    }
}
