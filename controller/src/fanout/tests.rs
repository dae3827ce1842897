//! What streams are given, without any stream.

use std::collections::BTreeMap;

use weft_core::{
    encap::{Encapsulation, Endpoint},
    membership::{Digests, Member, More, View},
    settings::{Mode, Settings},
    types::{Family, Mac, PerFamily, Vni},
};
use weft_proto::{
    convert::{self, SnapshotBuilder},
    v1::{WatchResponse, watch_response::Message},
};

use super::*;

pub(super) fn member(n: u32) -> Member {
    let [_, _, high, low] = n.to_be_bytes();
    let v4 = format!("10.{high}.{low}.0/24").parse().expect("a CIDR");
    Member {
        name: format!("node-{n:05}").parse().expect("a name"),
        incarnation: 1,
        pod_cidrs: PerFamily { v4: Some(v4), v6: None },
        endpoint: Endpoint::Vxlan { mac: Mac::local([2, 0, 0, 0, high, low]) },
        underlay: PerFamily { v4: Some(format!("192.0.{high}.{low}/16").parse().expect("an address")), v6: None },
        underlay_mtu: 1500,
        more: More::default(),
    }
}

pub(super) fn fanout(count: u32) -> Fanout {
    let settings = Settings {
        pools: vec!["10.0.0.0/8".parse().expect("a CIDR")],
        mode: Mode::CrossSubnet,
        encapsulation: Encapsulation::Vxlan { vni: Vni::new(87).expect("in range"), port: 4789, outer: Family::V4 },
        more: More::default(),
    };
    Fanout::new(Log::new(7, settings, (1..=count).map(member)))
}

/// Decodes what a stream would be sent, as an agent does.
fn receive(view: &mut View, next: Next) -> u64 {
    let (bytes, sequence) = match next {
        Next::Frame(frame, sequence) => (frame.to_vec(), sequence),
        Next::Snapshot(snapshot) => (snapshot.frames.concat(), snapshot.sequence),
    };
    let mut rest = bytes.as_slice();
    let mut builder = SnapshotBuilder::default();
    while let Some((header, tail)) = rest.split_at_checked(5) {
        assert_eq!(header[0], 0, "compressed");
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        let (message, tail) = tail.split_at(usize::try_from(length).expect("it fits"));
        let response: WatchResponse = prost::Message::decode(message).expect("a message");
        let revision = response.revision.expect("a revision").into();
        match response.message.expect("a kind") {
            Message::Current(_) => view.adopt(revision, view.digests()).expect("nothing newer"),
            Message::SnapshotChunk(chunk) => builder.chunk(revision, chunk).expect("sound"),
            Message::SnapshotEnd(end) => {
                let told = convert::told(&end.digest, &end.more_digest).expect("sound").expect("told");
                let whole = std::mem::take(&mut builder).end(revision, end).expect("whole");
                view.apply_snapshot(whole).expect("nothing newer");
                assert!(told.is_of(&view.digests()));
            }
            Message::Delta(delta) => {
                view.apply_delta(&convert::delta(revision, delta).expect("sound")).expect("no gap");
            }
            Message::CleanUp(_) => panic!("nobody ordered a clean-up"),
        }
        rest = tail;
    }
    assert!(rest.is_empty(), "{} octets are left over", rest.len());
    sequence
}

#[test]
fn a_reader_however_slow_ends_where_the_log_is() {
    let fanout = fanout(300);
    for pause in [1, 3, 50, 2000] {
        let mut view = View::new();
        let mut at = receive(&mut view, fanout.begin(None, None));
        for n in 0..2000u32 {
            match n % 3 {
                0 => fanout.take(BTreeMap::from([(member(n % 700).name, None)])),
                _ => fanout.upsert(Member { underlay_mtu: 1400 + n % 50, ..member(n % 700) }),
            }
            if n % pause == 0 {
                while let Some(next) = fanout.after(at) {
                    at = receive(&mut view, next);
                }
            }
        }
        while let Some(next) = fanout.after(at) {
            at = receive(&mut view, next);
        }
        assert_eq!(view.digests(), fanout.lock().log.digests(), "a reader that pauses for {pause}");
        assert_eq!(view.revision(), fanout.revision());
    }
}

#[test]
fn readers_in_step_share_one_encoding() {
    let fanout = fanout(10);
    let at = fanout.revision().sequence;
    fanout.upsert(member(11));
    let Some(Next::Frame(first, _)) = fanout.after(at) else { panic!("no delta") };
    let Some(Next::Frame(second, _)) = fanout.after(at) else { panic!("no delta") };
    assert_eq!(first.as_ptr(), second.as_ptr(), "the same change was encoded twice");
    assert!(first.len() < 120, "one change takes {} octets", first.len());
}

#[test]
fn who_holds_the_same_content_of_another_term_is_current() {
    let fanout = fanout(10);
    let told = Told::from(fanout.lock().log.digests());
    let begin = |held, told| fanout.begin(held, told);
    let is_current = |next: &Next| matches!(next, Next::Frame(frame, _) if frame.len() < 50);
    assert!(is_current(&begin(Some(Revision::new(3, 99)), Some(told))));
    assert!(is_current(&begin(Some(Revision::new(7, 0)), Some(told))));
    for (held, told) in [
        (Some(Revision::new(3, 99)), Some(Digests::default().into())),
        (Some(Revision::new(7, 0)), Some(Digests::default().into())),
        (Some(Revision::new(7, 5)), Some(told)),
        (Some(Revision::new(3, 99)), None),
        (None, Some(told)),
    ] {
        assert!(matches!(begin(held, told), Next::Snapshot(_)), "{held:?} {told:?}");
    }
}

#[test]
fn an_agent_of_version_0_1_is_current_by_what_it_knows_and_a_newer_one_is_told_the_rest() {
    let fanout = fanout(10);
    let before = fanout.lock().log.digests();
    fanout.upsert(Member { more: More::new([0x0a, 1, 5]), ..member(3) });
    let digests = fanout.lock().log.digests();
    assert_eq!(digests.typed, before.typed, "an agent of version 0.1 would compute another digest");
    let of_an_earlier_term = Some(Revision::new(3, 99));
    let old = Told { typed: digests.typed, more: None };
    assert!(matches!(fanout.begin(of_an_earlier_term, Some(old)), Next::Frame(..)));
    assert!(matches!(fanout.begin(of_an_earlier_term, Some(digests.into())), Next::Frame(..)));
    let Next::Snapshot(snapshot) = fanout.begin(of_an_earlier_term, Some(before.into())) else { panic!("not whole") };
    let mut view = View::new();
    receive(&mut view, Next::Snapshot(snapshot));
    assert_eq!(view.digests(), digests);
    assert_eq!(view.member(&member(3).name).expect("a member").more.octets(), [0x0a, 1, 5]);
}
