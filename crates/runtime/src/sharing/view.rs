//! What a process knows of the others, and what follows from it: which lanes each of them should have.
//!
//! Invariant: two processes with the same members come to the same shares, without talking to each other.

use std::collections::{BTreeMap, HashMap};

use ensue_core::Revision;
use smol_str::SmolStr;

use super::{Member, MemberId};

/// The members as one of them sees them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct View {
    pub(crate) me: MemberId,
    /// The process has the store for itself, as far as it is concerned: everything is its own, and stays so.
    pub(crate) is_alone: bool,
    /// Our own lease holds. If not, others may be at our work.
    pub(crate) holds_lease: bool,
    /// Whose record is there, by id.
    pub(crate) members: Vec<Member>,
    /// Subscriptions for which an operator asked for something, with the newest request.
    pub(crate) requests: BTreeMap<SmolStr, Revision>,
}

impl View {
    /// Of a process that shares with nobody.
    pub(crate) fn alone(me: MemberId) -> Self {
        Self { me, is_alone: true, holds_lease: true, members: Vec::new(), requests: BTreeMap::new() }
    }

    /// Whether this owner of a lane may still be at work.
    pub(crate) fn knows(&self, owner: MemberId) -> bool {
        self.members.iter().any(|member| member.id == owner)
    }

    /// Whether anybody else is there.
    pub(crate) fn has_others(&self) -> bool {
        self.members.iter().any(|member| member.id != self.me)
    }

    /// The lanes of a subscription that should be ours. Where all who mount it want another number of lanes, one of them
    /// gets all, so that it can change them.
    pub(crate) fn share(&self, subscription: &str, lanes: u16) -> Vec<u16> {
        if self.is_alone {
            return (0..lanes).collect();
        }
        let ids = self.candidates(subscription);
        let owners = if self.is_change_due(subscription, lanes) {
            vec![favourite(&ids, subscription); usize::from(lanes)]
        } else {
            spread(&ids, subscription, lanes)
        };
        (0..lanes).zip(owners).filter(|(_, owner)| *owner == self.me).map(|(lane, _)| lane).collect()
    }

    /// Whether something that only one process should do is ours to do.
    pub(crate) fn is_ours(&self, work: &str) -> bool {
        let staying = self.members.iter().filter(|member| !member.is_leaving).map(|member| member.id);
        self.is_alone || self.holds_lease && favourite(&staying.collect::<Vec<_>>(), work) == self.me
    }

    /// Whether all who mount the subscription agree on another number of lanes than it has.
    pub(crate) fn is_change_due(&self, subscription: &str, lanes: u16) -> bool {
        let mut wanted =
            self.mounting(subscription).filter_map(|member| member.subscriptions.get(subscription));
        let Some(first) = wanted.next() else { return false };
        *first != lanes && wanted.all(|other| other == first)
    }

    fn mounting<'a>(&'a self, subscription: &'a str) -> impl Iterator<Item = &'a Member> {
        self.members.iter().filter(move |member| member.subscriptions.contains_key(subscription))
    }

    /// Who can take lanes of this subscription.
    fn candidates(&self, subscription: &str) -> Vec<MemberId> {
        self.mounting(subscription).filter(|member| !member.is_leaving).map(|member| member.id).collect()
    }
}

/// The member with the highest weight for this work; nobody if there is none.
fn favourite(members: &[MemberId], work: &str) -> MemberId {
    members.iter().copied().max_by_key(|member| weight(*member, work, 0)).unwrap_or_default()
}

/// The owner of each lane: rendezvous hashing, so that few lanes move when a member comes or goes, with a bound on the
/// number of lanes of one member, so that the load is even.
fn spread(members: &[MemberId], subscription: &str, lanes: u16) -> Vec<MemberId> {
    let most = usize::from(lanes).div_ceil(members.len().max(1));
    let mut loads: HashMap<MemberId, usize> = HashMap::new();
    let mut owner = |lane| {
        let has_room = |member: &MemberId| loads.get(member).is_none_or(|load| *load < most);
        let open = members.iter().copied().filter(has_room);
        let owner = open.max_by_key(|member| weight(*member, subscription, lane)).unwrap_or_default();
        *loads.entry(owner).or_default() += 1;
        owner
    };
    (0..lanes).map(&mut owner).collect()
}

/// How much a member attracts a lane: FNV-1a over all three, its bits mixed well (the finisher of `SplitMix64`).
fn weight(member: MemberId, subscription: &str, lane: u16) -> u64 {
    let parts = member.0.to_be_bytes().into_iter().chain(lane.to_be_bytes()).chain(subscription.bytes());
    let hash = parts.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(seed: u64, count: u64) -> Vec<MemberId> {
        (0..count).map(|number| MemberId(seed * 1_000 + number + 1)).collect()
    }

    #[test]
    fn every_lane_has_one_owner_and_the_load_is_even() {
        for seed in 0..50 {
            for count in 1..=5 {
                let members = members(seed, count);
                let owners = spread(&members, "copy", 8);
                for member in &members {
                    let load = owners.iter().filter(|owner| *owner == member).count();
                    assert!(load <= 8usize.div_ceil(members.len()), "{load} of 8 lanes at one of {count}");
                }
                assert_eq!(owners.iter().filter(|owner| members.contains(owner)).count(), 8);
            }
        }
    }

    /// Lanes that change hands although neither their old owner left nor their new one came, per hundred.
    fn moved_in_vain(before: u64, after: u64) -> usize {
        let mut moved = 0;
        for seed in 0..100 {
            let (old, new) = (members(seed, before), members(seed, after));
            let pairs = spread(&old, "copy", 16).into_iter().zip(spread(&new, "copy", 16));
            moved += pairs.filter(|(from, to)| from != to && new.contains(from) && old.contains(to)).count();
        }
        moved / 16
    }

    #[test]
    fn few_lanes_move_when_a_member_comes_or_goes() {
        for (before, after) in [(2, 3), (3, 2), (4, 5), (5, 4)] {
            let moved = moved_in_vain(before, after);
            assert!(moved < 15, "{moved} of 100 lanes move in vain from {before} to {after} members");
        }
    }

    #[test]
    fn only_those_who_mount_a_subscription_get_its_lanes() {
        let member = |id, names: &[&str]| Member {
            id: MemberId(id),
            application: "test".into(),
            since: ensue_core::Timestamp::UNIX_EPOCH,
            is_leaving: false,
            subscriptions: names.iter().map(|name| (SmolStr::from(*name), 4)).collect(),
        };
        let mut view = View::alone(MemberId(1));
        view.is_alone = false;
        view.members = vec![member(1, &["old"]), member(2, &["old", "new"])];
        assert_eq!(view.share("new", 4), Vec::<u16>::new());
        assert_eq!(view.share("old", 4).len(), 2);
        view.me = MemberId(2);
        assert_eq!(view.share("new", 4), [0, 1, 2, 3]);
        assert!(view.is_change_due("new", 8) && !view.is_change_due("new", 4));
    }
}
