//! Counting how often the same thing is said.
//!
//! Owns the arithmetic, with time as an argument. Must never log, read a clock or hold more than a bounded number of texts.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// Texts remembered at most. Beyond it new texts of one target share a count, so that a flood in which every line
/// differs ends too.
const TEXTS: usize = 1024;

/// What is said: who says it, and the words. No words stand for all those there was no room for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Line {
    pub(super) target: String,
    pub(super) message: String,
}

/// Lines that were held back, once their time is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) line: Line,
    pub(super) is_error: bool,
    pub(super) count: u64,
}

#[derive(Debug)]
struct Said {
    since: Instant,
    passed: u32,
    held: u64,
    is_error: bool,
}

/// The counts.
#[derive(Debug)]
pub(super) struct Repeats {
    burst: u32,
    window: Duration,
    said: HashMap<Line, Said>,
}

impl Repeats {
    /// Lets `burst` equal lines pass within `window`.
    pub(super) fn new(burst: u32, window: Duration) -> Self {
        Self { burst, window, said: HashMap::new() }
    }

    /// True where the line is to be logged; otherwise it is counted.
    pub(super) fn passes(&mut self, line: Line, is_error: bool, now: Instant) -> bool {
        let line = self.with_room(line, now);
        let fresh = Said { since: now, passed: 0, held: 0, is_error };
        let said = self.said.entry(line).or_insert(fresh);
        if now.duration_since(said.since) >= self.window && said.held == 0 {
            *said = Said { since: now, passed: 0, held: 0, is_error };
        }
        if said.passed < self.burst {
            said.passed += 1;
            return true;
        }
        said.held += 1;
        false
    }

    /// What was held back and is over at `now`; from here on these lines pass again.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Summary> {
        let window = self.window;
        let due = self.said.extract_if(|_, said| said.held > 0 && now.duration_since(said.since) >= window);
        due.map(|(line, said)| Summary { line, is_error: said.is_error, count: said.held }).collect()
    }

    /// When the next summary is due; none while nothing is held back.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.said.values().filter(|said| said.held > 0).map(|said| said.since + self.window).min()
    }

    fn with_room(&mut self, line: Line, now: Instant) -> Line {
        if self.said.len() < TEXTS || self.said.contains_key(&line) {
            return line;
        }
        let window = self.window;
        self.said.retain(|_, said| said.held > 0 || now.duration_since(said.since) < window);
        if self.said.len() < TEXTS { line } else { Line { message: String::new(), ..line } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn line(message: &str) -> Line {
        Line { target: "weft".to_owned(), message: message.to_owned() }
    }

    #[test]
    fn more_than_a_burst_is_counted_and_summed_up_once() {
        let (mut repeats, start) = (Repeats::new(3, MINUTE), Instant::now());
        let passed = (0..10).filter(|_| repeats.passes(line("no route"), true, start)).count();
        assert_eq!(passed, 3);
        assert_eq!(repeats.next_due(), Some(start + MINUTE));
        assert_eq!(repeats.take_due(start + MINUTE / 2), []);
        let summary = Summary { line: line("no route"), is_error: true, count: 7 };
        assert_eq!(repeats.take_due(start + MINUTE), [summary]);
        assert_eq!((repeats.take_due(start + MINUTE), repeats.next_due()), (Vec::new(), None));
        assert!(repeats.passes(line("no route"), true, start + MINUTE), "a new minute has its own burst");
    }

    #[test]
    fn a_line_that_stays_rare_always_passes_and_others_do_not_count_against_it() {
        let (mut repeats, start) = (Repeats::new(2, MINUTE), Instant::now());
        for at in 0..100 {
            let now = start + Duration::from_secs(40) * at;
            assert!(repeats.passes(line("late"), false, now), "number {at} was held back");
            repeats.passes(line("often"), false, start);
        }
    }

    #[test]
    fn a_flood_of_different_lines_takes_bounded_room_and_ends() {
        let (mut repeats, start) = (Repeats::new(2, MINUTE), Instant::now());
        let passed = (0..10_000).filter(|n| repeats.passes(line(&n.to_string()), false, start)).count();
        assert!(passed <= TEXTS + 2, "{passed} lines passed");
        assert!(repeats.said.len() <= TEXTS + 1, "{} texts are held", repeats.said.len());
        let held: u64 = repeats.take_due(start + MINUTE).iter().map(|summary| summary.count).sum();
        assert_eq!(passed as u64 + held, 10_000, "some lines were neither logged nor counted");
        assert!(repeats.passes(line("new"), false, start + MINUTE));
        assert!(repeats.said.len() < TEXTS, "texts whose minute is over are still held");
    }
}
