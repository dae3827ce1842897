//! Probes on their way, and which answers are theirs.
//!
//! Owns that only the probed address itself answers, with the very token that it was sent: nobody else can tell tokens, since each
//! is drawn from the kernel's generator. Must never let an answer that is nobody's use up a probe.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use tokio::time::Instant;
use weft_core::types::NodeName;

/// One probe.
#[derive(Debug)]
struct Flight {
    node: NodeName,
    to: IpAddr,
    sent: Instant,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Flights(HashMap<u64, Flight>);

impl Flights {
    /// One leaves; none where the kernel has no random numbers to give, which it only has not in the first moments of a boot.
    pub(super) fn depart(&mut self, node: &NodeName, to: IpAddr, now: Instant) -> Option<u64> {
        let token = random()?;
        self.0.insert(token, Flight { node: node.clone(), to, sent: now });
        Some(token)
    }

    /// An answer came: whose it is, and after how long.
    pub(super) fn arrive(&mut self, token: u64, from: IpAddr, now: Instant) -> Option<(NodeName, Duration)> {
        let flight = self.0.remove(&token)?;
        if flight.to != from {
            self.0.insert(token, flight);
            return None;
        }
        Some((flight.node, now - flight.sent))
    }

    /// Gives up on those that left longer ago.
    pub(super) fn give_up(&mut self, patience: Duration, now: Instant) -> Vec<(NodeName, IpAddr)> {
        let late = self.0.extract_if(|_, flight| now - flight.sent >= patience);
        late.map(|(_, flight)| (flight.node, flight.to)).collect()
    }
}

fn random() -> Option<u64> {
    let mut bytes = [0; 8];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK).ok()?;
    (filled == bytes.len()).then(|| u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[tokio::test]
    async fn only_whom_it_was_sent_to_answers_a_probe_and_only_once() {
        let (node, to) = (NodeName::new("b1").expect("a name"), address("10.244.2.0"));
        let mut flights = Flights::default();
        let sent = Instant::now();
        let token = flights.depart(&node, to, sent).expect("random numbers");
        let now = sent + Duration::from_millis(3);
        assert_eq!(flights.arrive(token, address("10.244.3.0"), now), None, "somebody else answered");
        assert_eq!(flights.arrive(token.wrapping_add(1), to, now), None, "no such probe");
        assert_eq!(flights.arrive(token, to, now), Some((node.clone(), Duration::from_millis(3))));
        assert_eq!(flights.arrive(token, to, now), None, "it was answered already");

        let first = flights.depart(&node, to, sent).expect("random numbers");
        let second = flights.depart(&node, to, now).expect("random numbers");
        assert!(first.abs_diff(second) > 1 << 16, "who knows one token must not know the next: {first} and {second}");
        assert_eq!(flights.give_up(Duration::from_millis(1), now), [(node, to)]);
        assert_eq!(flights.arrive(first, to, now), None, "it is lost");
        assert!(flights.arrive(second, to, now).is_some());
    }
}
