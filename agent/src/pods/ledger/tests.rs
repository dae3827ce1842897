//! The ledger on a disk that fails and loses power.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{
    super::{Fault, MemoryDisk},
    *,
};

fn key(number: u8) -> AttachmentKey {
    AttachmentKey::new(&format!("c{number}"), "eth0").expect("valid")
}

fn cidrs() -> PerFamily<Option<PodCidr>> {
    PerFamily { v4: Some("10.1.0.0/28".parse().expect("a CIDR")), v6: Some("fd00::/64".parse().expect("a CIDR")) }
}

fn allocate(number: u8) -> Change {
    let (netns, pod) = (format!("/run/netns/{number}"), format!("web/pod-{number}"));
    Change::Allocate(Wish { key: key(number), cidrs: cidrs(), netns, pod, now: 7 })
}

fn open(disk: &MemoryDisk) -> Ledger<MemoryDisk> {
    let (ledger, damage) = Ledger::open(disk.clone()).expect("opens");
    assert_eq!(damage, Vec::<String>::new());
    ledger
}

fn one(ledger: &mut Ledger<MemoryDisk>, change: Change) -> Answer {
    ledger.process(&[change]).pop().expect("an answer for a change")
}

fn record(ledger: &mut Ledger<MemoryDisk>, number: u8) -> Record {
    one(ledger, allocate(number)).expect("allocates").expect("a record")
}

#[test]
fn the_same_attachment_gets_the_same_answer_also_after_a_restart() {
    let disk = MemoryDisk::default();
    let mut ledger = open(&disk);
    let first = record(&mut ledger, 1);
    assert_eq!(record(&mut ledger, 1), first);
    assert_eq!(record(&mut open(&disk), 1), first);
    assert_eq!((first.netns.as_str(), first.pod.as_str()), ("/run/netns/1", "web/pod-1"));
}

#[test]
fn a_batch_costs_one_write() {
    let disk = MemoryDisk::default();
    let mut ledger = open(&disk);
    let before = disk.writes();
    let answers = ledger.process(&(1..=14).map(allocate).collect::<Vec<_>>());
    assert_eq!(disk.writes(), before + 1);
    let addresses: BTreeSet<_> = answers.into_iter().filter_map(|answer| answer.ok().flatten()?.addresses.v4).collect();
    assert_eq!(addresses.len(), 14);
    assert!(matches!(one(&mut ledger, allocate(15)), Err(StoreError::Exhausted(_))));
}

#[test]
fn the_cool_down_survives_a_restart() {
    let disk = MemoryDisk::default();
    let mut ledger = open(&disk);
    let all: Vec<_> = (1..=14).map(|number| record(&mut ledger, number).addresses.v4).collect();
    for number in [9, 2] {
        one(&mut ledger, Change::Release(key(number))).expect("releases");
    }
    let mut ledger = open(&disk);
    assert_eq!(record(&mut ledger, 20).addresses.v4, all[8], "freed first");
    assert_eq!(record(&mut ledger, 21).addresses.v4, all[1]);
}

#[test]
fn what_did_not_become_durable_is_not_given() {
    for fault in [Fault::Full(20), Fault::SyncFailedKept, Fault::SyncFailedLost, Fault::ReadOnly] {
        let disk = MemoryDisk::default();
        let mut ledger = open(&disk);
        let first = record(&mut ledger, 1);
        disk.fail([fault]);
        let answers = ledger.process(&[allocate(2), allocate(1), allocate(2)]);
        assert!(matches!(answers[0], Err(StoreError::Disk { .. })), "{fault:?}");
        assert_eq!(answers[1].as_ref().expect("held before"), &Some(first.clone()), "{fault:?}");
        assert!(answers[2].is_err(), "{fault:?}: the second of a failed batch was told of success");
        // Well again: the journal must not hold anything of the failed batch any more.
        let third = record(&mut ledger, 3);
        assert_ne!(third.addresses, first.addresses);
        let ledger = open(&disk);
        let held: Vec<_> = ledger.records().values().cloned().collect();
        assert_eq!(held, [first, third], "{fault:?}");
    }
}

#[test]
fn a_release_succeeds_without_disk_and_doubles_nothing() {
    let disk = MemoryDisk::default();
    let mut ledger = open(&disk);
    let held: Vec<_> = (1..=14).map(|number| record(&mut ledger, number)).collect();
    disk.fail([Fault::ReadOnly, Fault::ReadOnly]);
    assert_eq!(one(&mut ledger, Change::Release(key(5))).expect("done").as_ref(), Some(&held[4]));
    assert!(one(&mut ledger, allocate(30)).is_err(), "given although the disk still holds the old owner");
    disk.crash(0);
    // The worst case: the old owner is back, and its address is not another's.
    assert_eq!(open(&disk).records().len(), 14);
    assert_eq!(record(&mut ledger, 30).addresses.v4, held[4].addresses.v4);
    assert!(!open(&disk).records().contains_key(&key(5)));
}

#[test]
fn an_address_outside_the_present_cidrs_is_refused_and_stays_known() {
    let disk = MemoryDisk::default();
    let mut ledger = open(&disk);
    let old = record(&mut ledger, 1);
    let mut moved = cidrs();
    moved.v4 = Some("10.2.0.0/28".parse().expect("a CIDR"));
    let Change::Allocate(wish) = allocate(1) else { unreachable!() };
    let answer = one(&mut ledger, Change::Allocate(Wish { cidrs: moved, ..wish }));
    let text = answer.expect_err("outside").to_string();
    assert!(text.contains("10.1.0.1") && text.contains("delete the pod"), "{text}");
    assert_eq!(old.outside(&moved), old.addresses.v4);
    assert_eq!(ledger.records().len(), 1);
}

#[test]
fn damage_is_set_aside_whole_and_the_rest_is_kept() {
    let disk = MemoryDisk::default();
    let mut ledger = open(&disk);
    let kept = [record(&mut ledger, 1), record(&mut ledger, 2), record(&mut ledger, 3)];
    let mut bytes = disk.clone().read().expect("read");
    let at = bytes.iter().position(|byte| *byte == b'2').expect("a digit");
    let line_start = bytes.windows(4).position(|four| four == b"\"c2\"").expect("the record");
    assert!(at < bytes.len());
    bytes[line_start + 1] = b'x';
    let disk = MemoryDisk::with(&bytes);
    let (ledger, damage) = Ledger::open(disk.clone()).expect("opens");
    assert!(damage.iter().any(|text| text.contains("checksum")), "{damage:?}");
    assert!(damage.last().is_some_and(|text| text.contains("damaged-1")), "{damage:?}");
    assert_eq!(disk.aside(), [bytes]);
    let held: Vec<_> = ledger.records().values().cloned().collect();
    assert_eq!(held, [kept[0].clone(), kept[2].clone()]);
}

#[test]
fn the_later_holder_counts_where_a_release_is_unreadable() {
    let disk = MemoryDisk::default();
    let mut ledger = open(&disk);
    for number in 1..=14 {
        record(&mut ledger, number);
    }
    one(&mut ledger, Change::Release(key(4))).expect("releases");
    let later = record(&mut ledger, 40);
    let text = String::from_utf8(disk.clone().read().expect("read")).expect("text");
    let without: String =
        text.lines().filter(|line| !line.contains("remove")).map(|line| format!("{line}\n")).collect();
    let (ledger, damage) = Ledger::open(MemoryDisk::with(without.as_bytes())).expect("opens");
    assert!(damage[0].contains("dropped"), "{damage:?}");
    assert_eq!(ledger.records().get(&key(40)), Some(&later));
    assert_eq!(ledger.records().len(), 14);
}

#[test]
fn history_is_rewritten_before_it_grows_without_end() {
    let disk = MemoryDisk::default();
    let mut ledger = open(&disk);
    for _ in 0..2000 {
        record(&mut ledger, 1);
        one(&mut ledger, Change::Release(key(1))).expect("releases");
    }
    let lines = disk.clone().read().expect("read").split(|byte| *byte == b'\n').count();
    assert!(lines <= REWRITE_AT + 2, "{lines} lines");
}

/// A step of a random history.
#[derive(Debug, Clone)]
enum Step {
    Batch(Vec<(bool, u8)>),
    Fail(Fault),
    Crash(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fault = prop_oneof![
        (0_usize..400).prop_map(Fault::Full),
        Just(Fault::SyncFailedKept),
        Just(Fault::SyncFailedLost),
        Just(Fault::ReadOnly)
    ];
    let step = prop_oneof![
        6 => prop::collection::vec((any::<bool>(), 0_u8..20), 1..6).prop_map(Step::Batch),
        1 => fault.prop_map(Step::Fail),
        1 => (0_usize..600).prop_map(Step::Crash),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    /// Whatever fails and whenever power is lost: who was told of an address has it until its release, and nobody else.
    #[test]
    fn no_address_is_ever_doubled_or_lost(steps in steps()) {
        let disk = MemoryDisk::default();
        let mut ledger = open(&disk);
        let mut told: BTreeMap<AttachmentKey, Record> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Fail(fault) => disk.fail([fault]),
                Step::Crash(kept) => {
                    disk.crash(kept);
                    ledger = open(&disk);
                }
                Step::Batch(batch) => {
                    let release = |number| Change::Release(key(number));
                    let change = |(add, number): &(bool, u8)| if *add { allocate(*number) } else { release(*number) };
                    let changes: Vec<Change> = batch.iter().map(change).collect();
                    let answers = ledger.process(&changes);
                    for (change, answer) in changes.iter().zip(answers) {
                        match (change, answer) {
                            (Change::Allocate(wish), Ok(Some(record))) => { told.insert(wish.key.clone(), record); }
                            (Change::Allocate(_), _) => {}
                            (Change::Release(key), _) => { told.remove(key); }
                        }
                    }
                }
            }
            for (key, record) in &told {
                prop_assert_eq!(ledger.records().get(key), Some(record), "{} lost its allocation", key);
            }
            let all: Vec<_> = ledger.records().values().flat_map(|record| record.addresses.iter().copied()).collect();
            prop_assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "doubled");
        }
    }
}

/// Written by an agent of version 0.1.
const BY_0_1: &[u8] = include_bytes!("../golden/journal-1");

#[test]
fn a_journal_of_version_0_1_keeps_its_pods_and_is_written_as_that_version_reads_it() {
    let disk = MemoryDisk::with(BY_0_1);
    let ledger = open(&disk);
    let [record] = ledger.records().values().collect::<Vec<_>>()[..] else { panic!("{:?}", ledger.records()) };
    let addresses: Vec<String> = record.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(
        (record.pod.as_str(), addresses),
        ("lab/a1-p", vec!["10.244.0.1".to_owned(), "fd44:5745::1".to_owned()])
    );
    // Opening writes it anew, line by line as before.
    let written = disk.clone().read().expect("readable");
    let lines = |bytes: &[u8]| bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>();
    let (before, after) = (lines(BY_0_1), lines(&written));
    assert_eq!((&after[0], &after[2]), (&before[0], &before[2]));
    assert!(!ledger.records().is_empty() && after.len() == before.len());
}
