//! Replicas, an API server, and a network between them that delays and loses, for thousands of histories.
//!
//! Replicas sleep at the worst moments; their clocks show different times and run up to 10 % too fast or too slow. At
//! every moment at most one of them leads, and where the trouble ends one does soon. `WEFT_SIM_SEED=N` replays one.

use super::*;

const REPLICAS: usize = 3;
/// One step of the world, in milliseconds.
const STEP: u64 = 50;
const TROUBLE: u64 = 180_000;
/// Long enough for a lease to end by the slowest clock, with retries.
const CALM: u64 = 40_000;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn jitter(&mut self) -> f64 {
        f64::from(u32::try_from(self.below(1000)).expect("below 1000")) / 1000.0
    }
}

/// A request on its way.
struct Request {
    /// What the replica's clock showed.
    sent: Duration,
    bid: Option<Bid>,
    /// When the server has it, by the world's clock; none where it is lost, or was answered.
    arrives: Option<u64>,
    /// When the replica hears, or no longer waits.
    answered: u64,
    answer: Answer,
}

struct Replica {
    machine: Machine,
    /// Parts of a thousand, and what the clock showed at the beginning.
    rate: u64,
    offset: u64,
    asleep_until: u64,
    waiting: Option<Request>,
    /// Writes that nobody waits for any more and that arrive nevertheless.
    late: Vec<(u64, Bid)>,
}

impl Replica {
    fn clock(&self, now: u64) -> Duration {
        Duration::from_millis(self.offset + now * self.rate / 1000)
    }
}

struct World {
    random: Random,
    now: u64,
    lease: Seen,
    version: u64,
    replicas: Vec<Replica>,
    changes: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let lease = Seen { uid: "u".to_owned(), version: "0".to_owned(), ..Seen::default() };
        let replica = |at: usize| Replica {
            machine: Machine::new(format!("replica-{at}"), times()),
            rate: 900 + random.below(201),
            offset: random.below(1_000_000),
            asleep_until: 0,
            waiting: None,
            late: Vec::new(),
        };
        let replicas = (0..REPLICAS).map(replica).collect();
        Self { random, now: 0, lease, version: 0, replicas, changes: 0 }
    }

    /// The server's part: all of a write or nothing, by the version.
    fn serve(&mut self, at: usize, bid: Option<&Bid>) -> Answer {
        let Some(bid) = bid else { return Answer::Read(self.lease.clone()) };
        if bid.version != self.lease.version {
            return Answer::Conflict;
        }
        self.version += 1;
        self.changes += usize::from(bid.acquires);
        self.lease = Seen {
            version: self.version.to_string(),
            holder: Some(format!("replica-{at}")),
            duration: Some(times().duration),
            transitions: Some(bid.transitions),
            ..self.lease.clone()
        };
        Answer::Written(self.lease.clone())
    }

    fn network(&mut self, at: usize, trouble: bool) {
        let late = std::mem::take(&mut self.replicas[at].late);
        for (arrives, bid) in late {
            if arrives <= self.now {
                self.serve(at, Some(&bid));
            } else {
                self.replicas[at].late.push((arrives, bid));
            }
        }
        let Some(mut request) = self.replicas[at].waiting.take() else { return };
        if request.arrives.is_some_and(|arrives| arrives <= self.now) {
            request.arrives = None;
            let answer = self.serve(at, request.bid.as_ref());
            // The answer may be lost where the request was not.
            if !(trouble && self.random.one_in(4)) {
                request.answer = answer;
            }
        }
        self.replicas[at].waiting = Some(request);
    }

    fn think(&mut self, at: usize, trouble: bool) {
        if self.replicas[at].asleep_until > self.now {
            return;
        }
        if trouble && self.random.one_in(400) {
            self.replicas[at].asleep_until = self.now + self.random.below(30_000);
            return;
        }
        let clock = self.replicas[at].clock(self.now);
        if let Some(request) = self.replicas[at].waiting.take() {
            if request.answered > self.now {
                self.replicas[at].waiting = Some(request);
                return;
            }
            if let (Some(arrives), Some(bid)) = (request.arrives, request.bid) {
                self.replicas[at].late.push((arrives, bid));
            }
            let jitter = self.random.jitter();
            self.replicas[at].machine.answered(request.sent, clock, request.answer, jitter);
        }
        let bid = match self.replicas[at].machine.turn(clock) {
            Turn::Wait(_) => return,
            Turn::Read => None,
            Turn::Bid(bid) => Some(bid),
        };
        let slow = trouble && self.random.one_in(6);
        let delay = self.random.below(if slow { 20_000 } else { 200 });
        let lost = trouble && self.random.one_in(8);
        let request = Request {
            sent: clock,
            bid,
            arrives: (!lost).then_some(self.now + delay),
            answered: self.now + if slow || lost { 5000 } else { delay + self.random.below(200) },
            answer: Answer::Failed,
        };
        self.replicas[at].waiting = Some(request);
    }

    fn leaders(&self) -> Vec<usize> {
        let leads = |at: &usize| self.replicas[*at].machine.leads(self.replicas[*at].clock(self.now));
        (0..REPLICAS).filter(leads).collect()
    }

    fn run(&mut self, until: u64, trouble: bool, seed: u64) {
        while self.now < until {
            self.now += STEP;
            for at in 0..REPLICAS {
                self.network(at, trouble);
                self.think(at, trouble);
            }
            let leaders = self.leaders();
            assert!(leaders.len() <= 1, "replicas {leaders:?} lead at {} ms; WEFT_SIM_SEED={seed}", self.now);
        }
    }
}

#[test]
fn never_two_lead_and_soon_one_does() {
    let seeds = match std::env::var("WEFT_SIM_SEED") {
        Ok(seed) => vec![seed.parse().expect("WEFT_SIM_SEED is a number")],
        Err(_) => (0..300).collect::<Vec<u64>>(),
    };
    let (mut changes, count) = (0, seeds.len());
    for seed in seeds {
        let mut world = World::new(seed);
        world.run(TROUBLE, true, seed);
        for replica in &mut world.replicas {
            replica.asleep_until = 0;
        }
        world.run(TROUBLE + CALM, false, seed);
        assert_eq!(world.leaders().len(), 1, "nobody leads after the trouble; WEFT_SIM_SEED={seed}");
        changes += world.changes;
    }
    assert!(changes > count, "leadership hardly ever changed hands ({changes} times), so nothing was tried");
}
