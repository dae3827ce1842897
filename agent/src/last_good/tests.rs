//! The files, with one that version 0.1 wrote.

use std::sync::Arc;

use weft_core::{
    encap::{Encapsulation, Endpoint},
    membership::{Member, More},
    settings::{Mode, Settings},
    types::{Family, Mac, NodeName, PerFamily, Revision, Vni},
};

use super::*;

/// Written by an agent of version 0.1.
const BY_0_1: &[u8] = include_bytes!("golden/membership-1");
/// Written by the first version that keeps it so.
const PRESENT: &[u8] = include_bytes!("golden/last-good-2");

fn snapshot() -> Snapshot {
    let member = |name: &str, more: &[u8]| {
        Arc::new(Member {
            name: NodeName::new(name).expect("valid"),
            incarnation: 1,
            pod_cidrs: PerFamily { v4: Some("10.244.1.0/24".parse().expect("valid")), v6: None },
            endpoint: Endpoint::Vxlan { mac: Mac::local([1; 6]) },
            underlay: PerFamily { v4: Some("192.0.2.1/24".parse().expect("valid")), v6: None },
            underlay_mtu: 1500,
            more: More::new(more),
        })
    };
    let settings = Settings {
        pools: vec!["10.244.0.0/16".parse().expect("valid")],
        mode: Mode::CrossSubnet,
        encapsulation: Encapsulation::Vxlan { vni: Vni::new(87).expect("valid"), port: 4789, outer: Family::V4 },
        more: More::new([8, 1]),
    };
    let members = vec![member("a", &[0x0a, 1, 5]), member("b", &[])];
    Snapshot { revision: Revision::new(5, 9), settings: Arc::new(settings), members }
}

/// The same as a version keeps it that knows of nothing more.
fn plain(snapshot: &Snapshot) -> Snapshot {
    let plain = |member: &Arc<Member>| Arc::new(Member { more: More::default(), ..Member::clone(member) });
    let settings = Settings { more: More::default(), ..Settings::clone(&snapshot.settings) };
    let members = snapshot.members.iter().map(plain).collect();
    Snapshot { revision: snapshot.revision, settings: Arc::new(settings), members }
}

struct Place(LastGood);

impl Place {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("weft-last-good-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a writable temp dir");
        Self(LastGood::in_dir(&dir))
    }

    fn put(&self, form: Form, bytes: &[u8]) {
        fs::write(self.0.path(form), bytes).expect("writable");
    }

    fn load(&self) -> Option<Kept> {
        let (kept, problems) = self.0.load();
        assert_eq!(problems, Vec::<String>::new());
        kept
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0.state_dir);
    }
}

#[test]
fn survives_the_disk_with_what_this_version_does_not_understand() {
    let place = Place::new("round");
    assert_eq!(place.load(), None);
    place.0.save(&snapshot()).expect("writable");
    assert_eq!(place.load(), Some(Kept { snapshot: snapshot(), is_whole: true }));
}

#[test]
fn every_cut_and_every_flipped_bit_is_seen() {
    for form in Form::ALL {
        let bytes = form.encode(&snapshot());
        for length in 0..bytes.len() {
            assert!(form.decode(&bytes[..length]).is_err(), "cut to {length} bytes went unseen");
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            assert!(form.decode(&flipped).is_err(), "a flipped bit in byte {at} went unseen");
        }
    }
}

#[test]
fn a_file_of_version_0_1_is_read_and_the_one_beside_the_new_is_what_it_would_write() {
    let place = Place::new("golden");
    place.put(Form::Old, BY_0_1);
    let kept = place.load().expect("an agent that was upgraded finds its membership");
    assert!(!kept.is_whole, "it would ask for changes after a revision that it holds a part of");
    let names: Vec<_> = kept.snapshot.members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(names, ["a1", "b1"]);
    place.0.save(&kept.snapshot).expect("writable");
    assert!(fs::read(place.0.path(Form::Old)).expect("readable") == BY_0_1, "an agent that is rolled back loses it");
    assert!(Form::Present.encode(&snapshot()) == PRESENT, "the form changed: it needs a mark of its own");
    assert_eq!(Form::Present.decode(PRESENT), Ok(snapshot()));
}

#[test]
fn after_a_rollback_the_newer_of_both_counts() {
    let place = Place::new("newer");
    place.0.save(&snapshot()).expect("writable");
    let later = Snapshot { revision: Revision::new(6, 0), ..plain(&snapshot()) };
    place.put(Form::Old, &Form::Old.encode(&later));
    assert_eq!(place.load(), Some(Kept { snapshot: later, is_whole: false }));
}

#[test]
fn a_broken_file_is_set_aside_and_the_other_one_is_used() {
    let place = Place::new("broken");
    place.0.save(&snapshot()).expect("writable");
    place.put(Form::Present, b"WEFTMEM2garbage");
    let (kept, problems) = place.0.load();
    assert_eq!(kept, Some(Kept { snapshot: plain(&snapshot()), is_whole: false }));
    assert!(matches!(problems.as_slice(), [one] if one.contains("last-good.broken")), "{problems:?}");
    place.put(Form::Old, b"WEFTMEM1garbage");
    let (kept, problems) = place.0.load();
    assert_eq!(kept, None);
    assert!(matches!(problems.as_slice(), [one] if one.contains("membership.broken")), "{problems:?}");
    place.0.remove().expect("removable");
    assert_eq!(fs::read_dir(&place.0.state_dir).expect("readable").count(), 0, "a node that leaves keeps something");
}

#[test]
fn whoever_reads_while_others_write_finds_a_whole_membership() {
    let place = Place::new("writers");
    let of = |sequence| Snapshot { revision: Revision::new(5, sequence), ..snapshot() };
    place.0.save(&of(0)).expect("writable");
    std::thread::scope(|scope| {
        let writers = [1, 2].map(|n| {
            let place = &place;
            scope.spawn(move || (0..30).for_each(|k| place.0.save(&of(n * 100 + k)).expect("writable")))
        });
        while writers.iter().any(|writer| !writer.is_finished()) {
            assert!(place.load().is_some(), "a mixture was set aside");
        }
    });
}
