//! Which controller leads, as a standby says it beside its refusal.
//!
//! Owns the metadata key and what counts as an address in it. What comes from there is a hint: whoever follows it trusts
//! the next controller by its certificate, as any other.

use std::net::SocketAddr;

use tonic::{Code, Status};

/// Metadata of a standby's refusal: the leader's ADDRESS:PORT; absent where no leader is known.
pub const LEADER: &str = "weft-leader";

/// UNAVAILABLE as a standby says it.
pub fn not_leading(message: impl Into<String>, leader: Option<SocketAddr>) -> Status {
    let mut status = Status::unavailable(message);
    if let Some(leader) = leader {
        let value = leader.to_string().parse().expect("digits, letters, dots, colons and brackets are ASCII");
        status.metadata_mut().insert(LEADER, value);
    }
    status
}

/// The leader that a refusal names; none where it names none, or nothing that could be connected to.
pub fn named_leader(status: &Status) -> Option<SocketAddr> {
    let text = status.metadata().get(LEADER).filter(|_| status.code() == Code::Unavailable)?;
    let leader: SocketAddr = text.to_str().ok()?.parse().ok()?;
    let ip = leader.ip();
    (leader.port() != 0 && !ip.is_unspecified() && !ip.is_multicast()).then_some(leader)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_survives_the_way_and_nonsense_is_none() {
        for text in ["192.0.2.7:7887", "[2001:db8::7]:7887"] {
            let leader: SocketAddr = text.parse().expect(text);
            assert_eq!(named_leader(&not_leading("a standby", Some(leader))), Some(leader));
        }
        assert_eq!(named_leader(&not_leading("a standby", None)), None);
        for nonsense in ["", "controller:7887", "192.0.2.7", "192.0.2.7:0", "0.0.0.0:7887", "[ff02::1]:7887", "1:2:3"] {
            let mut status = Status::unavailable("a standby");
            status.metadata_mut().insert(LEADER, nonsense.parse().expect(nonsense));
            assert_eq!(named_leader(&status), None, "{nonsense:?}");
        }
        let mut other = Status::aborted("replaced");
        other.metadata_mut().insert(LEADER, "192.0.2.7:7887".parse().expect("ASCII"));
        assert_eq!(named_leader(&other), None, "only a standby knows better");
    }
}
