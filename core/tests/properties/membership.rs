//! Membership: whatever the order and repetition of what arrives, agent and controller agree in the end.

use proptest::prelude::*;
use weft_core::{
    encap::{Encapsulation, Endpoint},
    membership::{Delta, Digests, Log, Member, More, Prefixes, Snapshot, Touched, View, ViewError},
    settings::Settings,
    types::{Family, NodeName, PerFamily, Revision, Vni},
};

use super::strategies::{NODES, cidr, member, member_of, name, settings};

#[derive(Debug, Clone)]
enum Step {
    Upsert(Member),
    Remove(NodeName),
    Settings(Settings),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => member().prop_map(Step::Upsert),
        3 => (0..NODES).prop_map(|node| Step::Remove(name(node))),
        1 => settings().prop_map(Step::Settings),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 1..40)
}

fn take(log: &mut Log, step: Step) {
    match step {
        Step::Upsert(member) => log.upsert(member),
        Step::Remove(name) => log.remove(&name),
        Step::Settings(settings) => log.set_settings(settings),
    };
}

fn view_of(log: &Log) -> View {
    let mut view = View::new();
    view.apply_snapshot(log.snapshot()).expect("the first snapshot");
    view
}

fn agrees(view: &View, log: &Log) -> bool {
    view.snapshot() == Some(log.snapshot()) && view.digests() == log.digests()
}

proptest! {
    /// Deltas between any two revisions, shuffled and repeated; those that leave a gap are refused and come again.
    #[test]
    fn any_order_and_repetition_converges(
        settings in settings(),
        steps in steps(),
        ranges in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..60),
    ) {
        let mut log = Log::new(7, settings, []);
        let mut view = view_of(&log);
        let mut deltas: Vec<Delta> = Vec::new();
        let mut known = vec![log.revision()];
        let mut history = std::collections::BTreeMap::from([(log.revision(), log.snapshot())]);
        for step in steps {
            take(&mut log, step);
            deltas.extend(known.iter().rev().take(4).filter_map(|from| log.since(*from)));
            if known.last() != Some(&log.revision()) {
                known.push(log.revision());
            }
            history.insert(log.revision(), log.snapshot());
        }
        for (pick, _) in &ranges {
            let delta = pick.get(&deltas);
            let before = view.clone();
            match view.apply_delta(delta) {
                Ok(_) => prop_assert!(view.revision() >= before.revision()),
                Err(ViewError::Gap { .. }) => prop_assert_eq!(view.snapshot(), before.snapshot()),
                Err(error) => prop_assert!(false, "{}", error),
            }
            prop_assert_eq!(view.snapshot(), history.get(&view.revision()).cloned(), "not what its revision stands for");
        }
        for delta in &deltas {
            prop_assert!(view.apply_delta(delta).is_ok());
        }
        prop_assert!(agrees(&view, &log));
        prop_assert_eq!(log.digests(), log.snapshot().digests());
    }

    /// A reader at any revision either catches up by one delta, or is told to take a snapshot.
    #[test]
    fn a_slow_reader_catches_up(settings in settings(), steps in steps(), kept in 0..4_usize) {
        let mut log = Log::new(7, settings, []).with_departures_kept(kept);
        let mut readers = vec![view_of(&log)];
        for step in steps {
            take(&mut log, step);
            readers.push(view_of(&log));
        }
        for mut reader in readers {
            let Some(delta) = log.since(reader.revision()) else {
                prop_assert!(reader.revision().sequence < log.floor());
                continue;
            };
            let sequences = delta.changes.iter().map(|(sequence, _)| *sequence);
            prop_assert!(sequences.clone().is_sorted() && sequences.count() <= usize::from(NODES) + 1);
            reader.apply_delta(&delta).expect("a delta from what it holds");
            prop_assert!(agrees(&reader, &log));
        }
    }

    #[test]
    fn digests_are_equal_where_the_contents_are(a in steps(), b in steps(), settings in settings()) {
        let filled = |steps: Vec<Step>| {
            let mut log = Log::new(1, settings.clone(), []);
            steps.into_iter().for_each(|step| take(&mut log, step));
            log
        };
        let (a, b) = (filled(a), filled(b));
        let content = |log: &Log| Snapshot { revision: Revision::default(), ..log.snapshot() };
        prop_assert_eq!(a.digests() == b.digests(), content(&a) == content(&b));
        let members: Vec<Member> = a.members().map(|member| Member::clone(member)).collect();
        let reversed = Digests::of(a.settings(), members.iter().rev());
        prop_assert_eq!(reversed, a.digests());
    }

    /// What a delta is said to touch is what differs, and nothing else.
    #[test]
    fn touched_is_what_differs(settings in settings(), first in steps(), second in steps()) {
        let mut log = Log::new(7, settings, []);
        first.into_iter().for_each(|step| take(&mut log, step));
        let mut view = view_of(&log);
        let before = view.clone();
        second.into_iter().for_each(|step| take(&mut log, step));
        let touched = view.apply_delta(&log.since(before.revision()).expect("all kept")).expect("no gap");
        let (mut names, mut are_others) = (Vec::new(), false);
        for touched in touched {
            match touched {
                Touched::Member { name, old, new } => {
                    prop_assert!(old != new && old == before.member(&name) && new == view.member(&name));
                    names.push(name);
                }
                Touched::Settings { old } => prop_assert!(Some(&old) == before.settings() && Some(&old) != view.settings()),
                Touched::Prefixes => are_others = true,
            }
        }
        let lengths = |view: &View| view.prefixes().iter().collect::<Vec<_>>();
        prop_assert_eq!(lengths(&before) != lengths(&view), are_others);
        prop_assert_eq!(view.prefixes(), &Prefixes::of(log.members().map(AsRef::as_ref)));
        for node in (0..NODES).map(name).filter(|node| !names.contains(node)) {
            prop_assert_eq!(before.member(&node), view.member(&node));
        }
    }

    /// However many claim a CIDR, one has it; as long as any claims it, one has it.
    #[test]
    fn a_cidr_has_one_owner(settings in settings(), steps in steps(), every in 1..5_usize) {
        let mut log = Log::new(7, settings, []);
        let mut view = view_of(&log);
        for (at, step) in steps.into_iter().enumerate() {
            take(&mut log, step);
            if at % every == 0 {
                view.apply_delta(&log.since(view.revision()).expect("all kept")).expect("no gap");
            } else if at % 7 == 6 && log.members().len() > 0 {
                view.apply_snapshot(log.snapshot()).expect("not older");
            }
            let all = |members: Vec<std::sync::Arc<Member>>| -> Vec<_> {
                members.iter().flat_map(|member| member.pod_cidrs.iter().copied().collect::<Vec<_>>()).collect()
            };
            let mut owned = all(view.members().collect());
            let mut claimed = all(view.snapshot().expect("held").members);
            owned.sort();
            claimed.sort();
            claimed.dedup();
            prop_assert_eq!(owned, claimed);
        }
    }

    /// One field is enough to tell two memberships apart.
    #[test]
    fn every_field_shows_in_the_digest(a in member_of(1), b in member_of(2), s in settings(), t in settings()) {
        let digest = |member: &Member, settings: &Settings| Digests::of(settings, [member]);
        for other in one_field_of(&a, &b) {
            prop_assert_eq!(digest(&a, &s) == digest(&other, &s), a == other, "{:?}", other);
        }
        let vxlan = |vni, port, outer| {
            let encapsulation = Encapsulation::Vxlan { vni: Vni::new(vni).expect("in range"), port, outer };
            Settings { encapsulation, ..s.clone() }
        };
        let s = vxlan(5, 4789, Family::V4);
        let pools = Settings { pools: s.pools[..1].to_vec(), ..s.clone() };
        let mode = Settings { mode: t.mode, ..s.clone() };
        let (vni, port, outer) = (vxlan(6, 4789, Family::V4), vxlan(5, 4790, Family::V4), vxlan(5, 4789, Family::V6));
        for other in [port, pools, mode, vni, outer] {
            prop_assert_eq!(digest(&a, &s) == digest(&a, &other), s == other, "{:?}", other);
        }
    }
}

/// `a` with one field of `b`, for each field.
fn one_field_of(a: &Member, b: &Member) -> [Member; 8] {
    [
        Member { name: b.name.clone(), ..a.clone() },
        Member { incarnation: b.incarnation, ..a.clone() },
        Member { endpoint: Endpoint::Vxlan { mac: b.endpoint.mac() }, ..a.clone() },
        Member { underlay_mtu: b.underlay_mtu, ..a.clone() },
        Member { pod_cidrs: PerFamily { v4: b.pod_cidrs.v4, ..a.pod_cidrs }, ..a.clone() },
        Member { pod_cidrs: PerFamily { v6: b.pod_cidrs.v6, ..a.pod_cidrs }, ..a.clone() },
        Member { underlay: PerFamily { v4: b.underlay.v4, ..a.underlay }, ..a.clone() },
        Member { underlay: PerFamily { v6: b.underlay.v6, ..a.underlay }, ..a.clone() },
    ]
}

fn some_member(node: u8, share: u8) -> Member {
    Member {
        name: name(node),
        incarnation: 1,
        pod_cidrs: PerFamily { v4: Some(cidr(Family::V4, share)), v6: None },
        endpoint: Endpoint::Vxlan { mac: weft_core::types::Mac::local([2, 0, 0, 0, 0, node]) },
        underlay: PerFamily::default(),
        underlay_mtu: 1500,
        more: More::default(),
    }
}

fn some_settings() -> Settings {
    Settings {
        pools: super::strategies::pools(),
        mode: weft_core::settings::Mode::CrossSubnet,
        encapsulation: Encapsulation::Vxlan { vni: Vni::new(87).expect("in range"), port: 4789, outer: Family::V4 },
        more: More::default(),
    }
}

/// A CIDR moves to a new node and the departure of the old one is told late: it takes nothing from the new one, neither
/// by delta nor after a snapshot in between.
#[test]
fn a_late_departure_takes_nothing_from_the_new_owner() {
    for by_snapshot in [false, true] {
        let mut log = Log::new(7, some_settings(), [some_member(5, 1)]);
        let mut view = view_of(&log);
        log.upsert(some_member(2, 1));
        if by_snapshot {
            view.apply_snapshot(log.snapshot()).expect("newer");
        } else {
            let touched = view.apply_delta(&log.since(view.revision()).expect("kept")).expect("no gap");
            assert_eq!(touched.len(), 2, "the loser is touched as well as the winner");
        }
        let cidr_of = |view: &View, node| view.member(&name(node)).and_then(|member| member.pod_cidrs.v4);
        assert_eq!((cidr_of(&view, 5), cidr_of(&view, 2)), (None, some_member(2, 1).pod_cidrs.v4));
        // The old owner reports something else, still with the CIDR: no new claim.
        log.upsert(Member { underlay_mtu: 9000, ..some_member(5, 1) });
        view.apply_delta(&log.since(view.revision()).expect("kept")).expect("no gap");
        assert_eq!((cidr_of(&view, 5), cidr_of(&view, 2)), (None, some_member(2, 1).pod_cidrs.v4));
        log.remove(&name(5));
        let touched = view.apply_delta(&log.since(view.revision()).expect("kept")).expect("no gap");
        assert!(touched.iter().all(|touched| matches!(touched, Touched::Member { name: n, .. } if *n == name(5))));
        assert_eq!(cidr_of(&view, 2), some_member(2, 1).pod_cidrs.v4);
    }
}

#[test]
fn what_is_older_or_emptier_is_refused() {
    let mut log = Log::new(7, some_settings(), [some_member(1, 1)]);
    log.upsert(some_member(2, 2));
    let mut view = view_of(&log);
    let held = view.snapshot();
    let older = Log::new(6, some_settings(), [some_member(3, 3)]).snapshot();
    assert!(matches!(view.apply_snapshot(older), Err(ViewError::Older { .. })));
    let earlier = Log::new(7, some_settings(), [some_member(3, 3)]).snapshot();
    assert!(matches!(view.apply_snapshot(earlier), Err(ViewError::Older { .. })));
    let empty = Log::new(8, some_settings(), []).snapshot();
    assert!(matches!(view.apply_snapshot(empty), Err(ViewError::Empty { held: 2, .. })));
    let mut other = Log::new(8, some_settings(), [some_member(1, 1)]);
    other.upsert(some_member(3, 3));
    let delta = other.since(Revision::new(8, 0)).expect("kept");
    assert!(matches!(view.apply_delta(&delta), Err(ViewError::OtherEpoch { held: 7, .. })));
    let across = Delta { to: Revision::new(7, 9), ..delta.clone() };
    assert!(matches!(view.apply_delta(&across), Err(ViewError::OtherEpoch { .. })));
    assert!(matches!(view.adopt(Revision::new(6, 99), view.digests()), Err(ViewError::Older { .. })));
    assert!(matches!(View::new().apply_delta(&delta), Err(ViewError::NoSnapshot(_))));
    assert_eq!(view.snapshot(), held);
    view.adopt(Revision::new(8, 0), view.digests()).expect("a later epoch with the same content");
    assert_eq!((view.revision(), view.len()), (Revision::new(8, 0), 2));
}

#[test]
fn what_was_found_current_counts_only_while_it_is_held() {
    // An agent tells its digest while a change of the broken stream still waits to be applied. The next leader knows
    // nothing of that change's member any more, and finds the digest right.
    let mut log = Log::new(7, some_settings(), [some_member(1, 1)]);
    let mut view = view_of(&log);
    let (told, held) = (view.digests(), view.revision());
    log.upsert(some_member(2, 2));
    view.apply_delta(&log.since(held).expect("kept")).expect("the next change");
    let refused = view.adopt(Revision::new(8, 0), told);
    assert!(matches!(refused, Err(ViewError::Overtaken { .. })), "a departed member is held for ever: {refused:?}");
    assert_eq!(view.revision(), log.revision());
}

#[test]
fn a_leader_that_knows_of_nothing_more_leaves_what_its_own_snapshot_would() {
    let settings = Settings { more: More::new([8, 1]), ..some_settings() };
    let log = Log::new(7, settings, [Member { more: More::new([0x0a, 0]), ..some_member(1, 1) }, some_member(2, 2)]);
    let mut view = view_of(&log);
    let older = Log::new(8, some_settings(), [some_member(1, 1), some_member(2, 2)]);
    assert!(view.forget_more(), "there was more");
    view.adopt(older.revision(), view.digests()).expect("the same content");
    assert!(agrees(&view, &older));
    assert!(!view.forget_more(), "nothing is left");
}

#[test]
fn a_revision_of_another_epoch_or_of_the_future_needs_a_snapshot() {
    let mut log = Log::new(7, some_settings(), []);
    assert_eq!(log.upsert(some_member(1, 1)), Some(Revision::new(7, 1)));
    assert_eq!(log.upsert(some_member(1, 1)), None, "nothing changed");
    assert_eq!(log.remove(&name(9)), None, "there is no such member");
    assert_eq!(log.set_settings(some_settings()), None, "nothing changed");
    assert!(log.since(Revision::new(6, 1)).is_none());
    assert!(log.since(Revision::new(7, 2)).is_none());
    assert_eq!(log.since(Revision::new(7, 1)).expect("current").changes, []);
}

/// Departures beyond the bound are forgotten, and with them whoever has not heard of them.
#[test]
fn the_log_does_not_grow_with_departures() {
    let mut log = Log::new(7, some_settings(), []).with_departures_kept(10);
    for node in 0..=255 {
        log.upsert(some_member(node, 1));
        log.remove(&name(node));
    }
    assert_eq!(log.changes_after(log.floor()).count(), 10);
    assert!(log.since(Revision::new(7, 1)).is_none());
    // A member that comes and goes counts once.
    for _ in 0..100 {
        log.upsert(some_member(1, 1));
        log.remove(&name(1));
    }
    assert!(log.changes_after(0).count() <= 10);
}
