//! Crowds before a few places.

use super::*;

const ENDS: i64 = 1000;

/// Places with names for those who have them.
struct Hall {
    places: Places<&'static str>,
    now: Instant,
}

impl Hall {
    fn new(all: usize) -> Self {
        let (first_request, stay) = (Duration::from_secs(10), Duration::from_secs(60));
        let bounds = Bounds { all, strangers: all / 4, first_request, stay };
        Self { places: Places::new(bounds), now: Instant::now() }
    }

    fn enter(&mut self, who: &Who, name: &'static str) -> (Answer<&'static str>, Arc<Signs>) {
        let signs = Arc::new(Signs::until(ENDS));
        (self.places.enter(who, &signs, name, self.now), signs)
    }

    /// Who leaves for it; it has to get in.
    fn out_for(&mut self, who: &Who, name: &'static str) -> Option<&'static str> {
        match self.enter(who, name).0 {
            Answer::In { out, .. } => out,
            other => panic!("{name}: {other:?}"),
        }
    }

    /// Takes `count` places, which cost nobody anything, and asks something.
    fn fill(&mut self, who: &Who, count: usize, name: &'static str) -> Vec<Arc<Signs>> {
        let enter = |_| {
            let (answer, signs) = self.enter(who, name);
            assert!(matches!(answer, Answer::In { out: None, .. }), "{name}: {answer:?}");
            signs.ask();
            signs
        };
        (0..count).map(enter).collect()
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn sweep(&mut self, now_unix: i64, is_welcome: impl Fn(&Principal) -> bool) -> Vec<(&'static str, Why)> {
        let mut over = self.places.sweep(self.now, now_unix, is_welcome);
        over.sort_unstable();
        over
    }
}

fn node(name: &str) -> Who {
    Who::Known(Principal::Node { name: name.parse().expect("a name"), incarnation: 1 })
}

fn operator(name: &str) -> Who {
    Who::Known(Principal::Operator(name.to_owned()))
}

#[test]
fn of_a_node_the_newest_connection_wins_but_not_against_its_stream() {
    let mut hall = Hall::new(100);
    let (_, first) = hall.enter(&node("a"), "first");
    let stream = first.carry();
    for name in ["second", "third", "fourth"] {
        assert_eq!(hall.out_for(&node("a"), name), None);
    }
    assert_eq!(hall.out_for(&node("a"), "fifth"), Some("second"), "the oldest without the stream");
    assert_eq!(hall.out_for(&node("b"), "other"), None, "each node has places of its own");
    let (answer, sixth) = hall.enter(&node("a"), "sixth");
    assert!(matches!(answer, Answer::In { out: Some("third"), .. }), "{answer:?}");
    // The node's stream is a later connection's from now on.
    let _its_stream = sixth.carry();
    drop(stream);
    assert_eq!(hall.out_for(&node("a"), "seventh"), Some("first"));
}

#[test]
fn an_operator_with_enough_is_told_so() {
    let mut hall = Hall::new(1000);
    hall.fill(&operator("tool"), OF_OPERATOR, "tool");
    assert_eq!(hall.enter(&operator("tool"), "one more").0, Answer::Enough);
    assert_eq!(hall.out_for(&operator("admin"), "admin"), None);
}

#[test]
fn with_all_places_taken_the_youngest_of_the_largest_crowd_makes_room_for_an_operator() {
    let mut hall = Hall::new(40);
    for (who, count, name) in
        [(node("a"), 4, "a"), (operator("tool"), 26, "tool"), (node("b"), 1, "b"), (Who::Stranger, 9, "stranger")]
    {
        hall.fill(&who, count, name);
    }
    assert_eq!(hall.out_for(&operator("tool"), "youngest tool"), Some("tool"), "full, and it has most itself");
    assert_eq!(hall.out_for(&operator("admin"), "admin"), Some("youngest tool"));
    assert_eq!(hall.enter(&node("b"), "b's second").0, Answer::Full, "who has one can wait");
    assert_eq!(hall.out_for(&node("c"), "c"), Some("tool"), "a node that has none must not be kept out");
    assert_eq!(hall.enter(&Who::Stranger, "one more stranger").0, Answer::Full);
}

#[test]
fn with_one_place_each_the_youngest_makes_room_for_an_operator_and_for_nobody_else() {
    let mut hall = Hall::new(4);
    for (who, name) in [(node("b"), "b"), (node("d"), "d"), (node("a"), "a"), (node("c"), "c")] {
        assert_eq!(hall.out_for(&who, name), None);
    }
    assert_eq!(hall.enter(&node("e"), "e").0, Answer::Full);
    assert_eq!(hall.out_for(&operator("admin"), "admin"), Some("c"));
}

#[test]
fn strangers_have_a_share_and_one_that_has_been_there_for_a_while_makes_room() {
    let mut hall = Hall::new(8);
    hall.fill(&Who::Stranger, 2, "early");
    assert_eq!(hall.enter(&Who::Stranger, "late").0, Answer::Full, "nobody is displaced at once");
    hall.pass(1);
    assert_eq!(hall.out_for(&Who::Stranger, "late"), Some("early"));
    assert_eq!(hall.fill(&node("a"), 4, "a").len(), 4, "the rest is not theirs");
}

#[test]
fn a_place_that_was_left_is_free_and_leaving_twice_is_of_no_consequence() {
    let mut hall = Hall::new(1);
    let (answer, _) = hall.enter(&node("a"), "a");
    let Answer::In { key, .. } = answer else { panic!("{answer:?}") };
    assert_eq!(hall.enter(&node("b"), "b").0, Answer::Full);
    assert_eq!((hall.places.leave(key), hall.places.leave(key)), (Some("a"), None));
    assert_eq!(hall.out_for(&node("b"), "b"), None);
    assert!(!hall.places.of.contains_key(&node("a")), "a name stays for ever");
}

#[test]
fn who_asks_nothing_goes_and_a_stranger_goes_also_if_it_asks() {
    let mut hall = Hall::new(8);
    hall.enter(&node("a"), "silent");
    hall.fill(&node("a"), 1, "asking");
    hall.fill(&Who::Stranger, 1, "stranger");
    hall.pass(9);
    assert_eq!(hall.sweep(0, |_| true), []);
    hall.pass(1);
    assert_eq!(hall.sweep(0, |_| true), [("silent", "silent")]);
    hall.pass(50);
    assert_eq!(hall.sweep(0, |_| true), [("stranger", "stranger")]);
}

#[test]
fn a_connection_ends_with_its_certificate_unless_it_was_given_another() {
    let mut hall = Hall::new(8);
    hall.fill(&operator("admin"), 1, "ended");
    hall.fill(&node("a"), 1, "renewed")[0].prolong(ENDS + 1000);
    assert_eq!(hall.sweep(ENDS, |_| true), [], "it is told first");
    hall.pass(LAST_WORDS.as_secs());
    assert_eq!(hall.sweep(ENDS, |_| true), [("ended", "certificate_ended")]);
}

#[test]
fn a_connection_ends_with_the_membership() {
    let mut hall = Hall::new(8);
    hall.fill(&node("a"), 1, "deleted");
    hall.fill(&node("b"), 1, "member");
    let is_b = |principal: &Principal| Who::Known(principal.clone()) == node("b");
    assert_eq!(hall.sweep(0, is_b), [], "it is told first");
    hall.pass(LAST_WORDS.as_secs());
    assert_eq!(hall.sweep(0, is_b), [("deleted", "not_member")]);
    assert_eq!(hall.places.taken.len(), 1);
}
