//! Which packets of pods leave their node under the pod's own address.
//!
//! Owns the list of networks outside the pools towards which nothing is masqueraded, in a form that an interval set takes.
//! Must never hold a network inside another of the list.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnetwork::IpNetwork;

use crate::types::Family;

/// More are refused: each is a range of a kernel's set, and is announced to every agent.
pub const MOST: usize = 256;

/// The networks, sorted, none inside another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Unmasqueraded(Vec<IpNetwork>);

/// A text that names no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnmasqueradedError {
    /// It is none at all.
    #[error("{0:?} is no network: give one such as 10.0.0.0/8, or 0.0.0.0/0 for all of IPv4")]
    NoNetwork(String),
    /// Its address has bits that the prefix does not cover.
    #[error("{0} has bits behind its prefix: did you mean {1}?")]
    HostBits(IpNetwork, IpNetwork),
    /// There are more than [`MOST`].
    #[error("there are {0} networks and at most {MOST} are taken: give wider ones")]
    TooMany(usize),
}

impl Unmasqueraded {
    /// Reads a list; networks inside others of it are left out.
    ///
    /// # Errors
    /// Names the first text that is no network.
    pub fn parse(texts: &[String]) -> Result<Self, UnmasqueradedError> {
        if texts.len() > MOST {
            return Err(UnmasqueradedError::TooMany(texts.len()));
        }
        Ok(Self::of(texts.iter().map(|text| network(text)).collect::<Result<Vec<_>, _>>()?))
    }

    /// Of any networks; bits behind their prefixes do not count.
    pub fn of(networks: impl IntoIterator<Item = IpNetwork>) -> Self {
        let mut networks: Vec<IpNetwork> = networks.into_iter().filter_map(exact).collect();
        networks.sort_unstable();
        let mut kept: Vec<IpNetwork> = Vec::new();
        for network in networks {
            // Sorted, a wide one comes before all it contains.
            let is_inside =
                kept.last().is_some_and(|wide| wide.is_ipv4() == network.is_ipv4() && wide.contains(network.ip()));
            if !is_inside {
                kept.push(network);
            }
        }
        Self(kept)
    }

    /// Every address there is: nothing is masqueraded.
    pub fn everything() -> Self {
        let all: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        Self::of(all.into_iter().filter_map(|address| IpNetwork::new(address, 0).ok()))
    }

    /// The networks.
    pub fn networks(&self) -> &[IpNetwork] {
        &self.0
    }

    /// True where there is a network of this family.
    pub fn has(&self, family: Family) -> bool {
        self.0.iter().any(|network| Family::of(network.ip()) == family)
    }

    /// True where everything is masqueraded.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn network(text: &str) -> Result<IpNetwork, UnmasqueradedError> {
    let unread = || UnmasqueradedError::NoNetwork(text.chars().take(64).collect());
    let given = IpNetwork::from_str(text).ok().filter(|_| text.contains('/')).ok_or_else(unread)?;
    let meant = exact(given).ok_or_else(unread)?;
    if meant == given { Ok(given) } else { Err(UnmasqueradedError::HostBits(given, meant)) }
}

fn exact(network: IpNetwork) -> Option<IpNetwork> {
    IpNetwork::new(network.network(), network.prefix()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Result<Unmasqueraded, UnmasqueradedError> {
        Unmasqueraded::parse(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn what_lies_inside_another_is_left_out() {
        let list = parse(&["10.1.0.0/16", "fd00::/8", "10.0.0.0/8", "192.0.2.7/32", "10.0.0.0/8"]).expect("networks");
        let texts: Vec<String> = list.networks().iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["10.0.0.0/8", "192.0.2.7/32", "fd00::/8"]);
        assert!(list.has(Family::V4) && list.has(Family::V6));
        let all = parse(&["10.0.0.0/8", "0.0.0.0/0"]).expect("all of it");
        assert_eq!(all.networks().len(), 1);
        assert!(!all.has(Family::V6));
    }

    #[test]
    fn what_is_no_network_is_named_with_what_was_meant() {
        for (text, word) in [("10.0.0.1/8", "10.0.0.0/8"), ("10.0.0.1", "no network"), ("all", "0.0.0.0/0")] {
            let error = parse(&[text]).expect_err(text).to_string();
            assert!(error.contains(word) && error.contains(text), "{error}");
        }
        assert!(parse(&vec!["10.0.0.0/8"; MOST + 1]).is_err());
    }
}
