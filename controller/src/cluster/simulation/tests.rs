//! Many worlds, and bugs that must be found in them.

use std::{
    io::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{
    Planted, Violation,
    counts::Counts,
    world::{Outcome, World},
};

/// Histories of an ordinary test run; `WEFT_SIM_HISTORIES` says otherwise.
const HISTORIES: u64 = 1000;
/// Within so many a planted bug is found.
const SOON: u64 = 200;
/// Lines of a failing world's story that are shown.
const LAST_LINES: usize = 80;

fn run(seed: u64, planted: Planted) -> Result<Outcome, Violation> {
    survive(&mut World::new(seed, planted, false))
}

/// A panic is a violation too, and wants its seed told.
fn survive(world: &mut World) -> Result<Outcome, Violation> {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run()));
    outcome.unwrap_or_else(|_| Err(Violation("a panic, told above".to_owned())))
}

/// Runs it again for its story, which is the same.
fn story(seed: u64) -> (String, Result<Outcome, Violation>) {
    let mut world = World::new(seed, Planted::Nothing, true);
    let outcome = survive(&mut world);
    let lines = world.story.unwrap_or_default();
    (lines[lines.len().saturating_sub(LAST_LINES)..].join("\n"), outcome)
}

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is not a number")))
}

#[test]
fn no_history_violates_an_invariant() {
    if let Some(seed) = from_environment("WEFT_SIM_SEED") {
        let (story, outcome) = story(seed);
        println!("{story}");
        match outcome {
            Ok(outcome) => return println!("history {seed} is sound: {outcome:?}"),
            Err(violation) => panic!("history {seed}: {violation}"),
        }
    }
    let histories = from_environment("WEFT_SIM_HISTORIES").unwrap_or(HISTORIES);
    let next = AtomicU64::new(0);
    let totals: Vec<(Counts, u64)> = std::thread::scope(|scope| {
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(8);
        let worker = || {
            let (mut counts, mut events) = (Counts::default(), 0);
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= histories {
                    return (counts, events);
                }
                let outcome = run(seed, Planted::Nothing).unwrap_or_else(|violation| fail(seed, &violation));
                counts.add(&outcome.counts);
                events += outcome.events;
            }
        };
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        handles
            .into_iter()
            .map(|handle| handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let (mut counts, mut events) = (Counts::default(), 0);
    for (some, their_events) in &totals {
        counts.add(some);
        events += their_events;
    }
    // Not by a macro: this is to be seen without --nocapture too.
    let _closed = writeln!(
        std::io::stderr(),
        "{histories} simulated histories, {events} events, no invariant violated: {counts:?}"
    );
    let all = [
        counts.terms,
        counts.joins,
        counts.deletions,
        counts.released,
        counts.snapshots,
        counts.deltas,
        counts.currents,
    ];
    let rare = [counts.exhausted, counts.moved, counts.stale, counts.stalls, counts.slow_saves, counts.failed_saves];
    let lies = [
        counts.claims,
        counts.spoofs,
        counts.strange_claims,
        counts.floods,
        counts.accusations,
        counts.false_holdings,
        counts.turned_away,
        counts.paced,
        counts.accused,
        counts.bystanders,
        counts.bound,
    ];
    assert!(
        all.iter().chain(&rare).chain(&lies).all(|count| *count >= histories / 20),
        "hardly anything happened: {counts:?}"
    );
    assert!(histories < 500 || counts.overdue > 0 && counts.long_stalls > 0, "nobody was ever late: {counts:?}");
}

fn fail(seed: u64, violation: &Violation) -> ! {
    let (story, _) = story(seed);
    panic!("history {seed}: {violation}\n{story}\nto see it again: WEFT_SIM_SEED={seed}");
}

#[test]
fn a_history_depends_on_its_seed_alone() {
    for seed in 0..20 {
        assert_eq!(run(seed, Planted::Nothing), run(seed, Planted::Nothing));
    }
    assert_ne!(run(1, Planted::Nothing), run(2, Planted::Nothing));
}

/// The first history in which a planted bug is found in these words.
fn found_as(planted: Planted, words: &str) {
    let violation = (0..SOON).filter_map(|seed| run(seed, planted).err()).find(|it| it.to_string().contains(words));
    assert!(violation.is_some(), "{planted:?} was not found in {SOON} histories as {words:?}");
}

/// What the first history says in which a planted bug is found.
fn found(planted: Planted) -> String {
    let violation = (0..SOON).find_map(|seed| Some((seed, run(seed, planted).err()?)));
    let (seed, violation) = violation.unwrap_or_else(|| panic!("{planted:?} was not found in {SOON} histories"));
    println!("{planted:?} was found in history {seed}: {violation}");
    violation.to_string()
}

#[test]
fn announcing_before_persisting_is_found() {
    let violation = found(Planted::AnnounceBeforePersist);
    assert!(violation.contains("announced") && violation.contains("before that is written"), "{violation}");
}

#[test]
fn deleting_on_an_incomplete_snapshot_is_found() {
    let violation = found(Planted::IncompleteSnapshot);
    assert!(violation.contains("is deleted while it is a member's"), "{violation}");
}

#[test]
fn acknowledging_before_the_kernel_holds_it_is_found() {
    let violation = found(Planted::EarlyAcknowledgement);
    let is_told = violation.contains("is free again while the kernel") || violation.contains("acknowledged");
    assert!(is_told, "{violation}");
}

#[test]
fn taking_the_part_that_version_0_1_keeps_for_the_whole_is_found() {
    let violation = found(Planted::PartForWhole);
    assert!(violation.contains("with another content"), "{violation}");
}

#[test]
fn believing_an_address_without_proof_is_found() {
    for words in ["has said nothing", "has the address 192.0.2.254"] {
        found_as(Planted::UnprovenBeatsProven, words);
    }
    found_as(Planted::ForgottenRouters, "which is a router's");
}

#[test]
fn taking_facts_as_often_as_they_change_is_found() {
    let violation = found(Planted::NoPace);
    assert!(violation.contains("times, and") && violation.contains("are allowed"), "{violation}");
}

#[test]
fn counting_a_stall_of_the_disk_against_agents_is_found() {
    let violation = found(Planted::StallCounts);
    assert!(violation.contains("in which it could be heard"), "{violation}");
}

#[test]
fn an_engine_that_waits_for_its_disk_is_found() {
    let violation = found(Planted::EngineWaitsForDisk);
    assert!(violation.contains("nothing was wrong with it"), "{violation}");
}

#[test]
fn inner_sources_that_are_not_bound_or_bound_to_anybody_are_found() {
    for planted in [Planted::AnyInnerSource, Planted::MissingInnerSource] {
        let violation = found(planted);
        assert!(violation.contains("takes inner sources"), "{violation}");
    }
}

#[test]
fn facts_that_are_forgotten_are_found() {
    found_as(Planted::ForgottenFacts, "and is announced as");
}

#[test]
fn believing_any_accuser_is_found() {
    found_as(Planted::AnyAccuser, "on the word of a liar alone");
}
