//! One pool: a network cut into pod CIDRs of one size.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnetwork::IpNetwork;

use super::{
    SelectorError, Usage,
    taken::{State, Taken},
};
use crate::types::{CidrError, Family, PodCidr};

/// A network and the prefix length of the pod CIDRs cut from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pool {
    cidr: PodCidr,
    node_prefix: u8,
}

/// Why something is no pool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// Not of the form `CIDR=PREFIX`.
    #[error("pool {0:?} cannot be read: give a CIDR and the prefix length of a node's share, such as 10.244.0.0/16=24")]
    Syntax(String),
    /// The network is none for pods.
    #[error(transparent)]
    Cidr(#[from] CidrError),
    /// Shares would be larger than the pool, or too small for pods.
    #[error("pool {cidr} cannot be cut into shares of /{node_prefix}: give a prefix length from {} to {longest}", .cidr.prefix())]
    Prefix {
        /// The pool's network.
        cidr: PodCidr,
        /// The prefix length given, in bits.
        node_prefix: u8,
        /// The longest that is possible, in bits.
        longest: u8,
    },
    /// Two pools share addresses.
    #[error("pools {0} and {1} overlap: make one of them smaller, or leave it out")]
    Overlap(Pool, Pool),
    /// What says which nodes it is for cannot be read.
    #[error("pool {0} has a selector that cannot be read: {1}")]
    Selector(Pool, SelectorError),
}

impl Pool {
    /// Checks a pool: `node_prefix` is at least the network's own, and at most 30 (IPv4) or 126 (IPv6).
    pub fn new(cidr: PodCidr, node_prefix: u8) -> Result<Self, PoolError> {
        let longest = match cidr.family() {
            Family::V4 => 30,
            Family::V6 => 126,
        };
        if !(cidr.prefix()..=longest).contains(&node_prefix) {
            return Err(PoolError::Prefix { cidr, node_prefix, longest });
        }
        Ok(Self { cidr, node_prefix })
    }

    /// The network.
    pub const fn cidr(&self) -> PodCidr {
        self.cidr
    }

    /// Prefix length of a node's share in bits.
    pub const fn node_prefix(&self) -> u8 {
        self.node_prefix
    }

    /// The family.
    pub fn family(&self) -> Family {
        self.cidr.family()
    }

    /// How many shares there are: at most 2^110.
    pub fn total(&self) -> u128 {
        1 << (self.node_prefix - self.cidr.prefix())
    }

    /// The first free share from `next` on, around the end.
    pub(super) fn free(&self, next: u128, taken: &Taken) -> Option<PodCidr> {
        self.search(next, self.total(), taken).or_else(|| self.search(0, next.min(self.total()), taken))
    }

    fn search(&self, first: u128, end: u128, taken: &Taken) -> Option<PodCidr> {
        let mut index = first;
        while index < end {
            let share = self.share(index);
            match taken.overlapping(&share) {
                None => return Some(share),
                Some((other, _)) => index = self.index_behind(&other).max(index + 1),
            }
        }
        None
    }

    fn share(&self, index: u128) -> PodCidr {
        let address = self.cidr.nth(index << self.share_bits()).expect("the index is below the total");
        let network = IpNetwork::new(address, self.node_prefix).expect("the prefix length was checked");
        PodCidr::new(network).expect("a part of a pod CIDR of checked size is one")
    }

    /// The first share that begins behind `cidr`; the total where there is none.
    pub(super) fn index_behind(&self, cidr: &PodCidr) -> u128 {
        let (first, last) = (bits(self.cidr.vtep()), last(cidr));
        if cidr.family() != self.family() || last < first {
            return 0;
        }
        let offset = last - first;
        ((offset >> self.share_bits()) + 1).min(self.total())
    }

    /// What is taken of it, counted in shares.
    pub(super) fn usage(&self, taken: &Taken) -> Usage {
        let (mut used, mut quarantined) = (0_u128, 0_u128);
        for (cidr, state) in taken.within(&self.cidr) {
            let shares = (1_u128 << self.node_prefix.saturating_sub(cidr.prefix())).min(self.total());
            match state {
                State::Used { .. } => used += shares,
                State::Quarantined { .. } => quarantined += shares,
            }
        }
        let figure = |count: u128| u64::try_from(count).unwrap_or(u64::MAX);
        Usage { pool: *self, used: figure(used), quarantined: figure(quarantined), total: figure(self.total()) }
    }

    fn share_bits(&self) -> u8 {
        self.family().bits() - self.node_prefix
    }
}

/// An address as a number; numbers of different families do not compare.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

fn last(cidr: &PodCidr) -> u128 {
    let host_bits = cidr.family().bits() - cidr.prefix();
    bits(cidr.vtep()) | ((1 << host_bits) - 1)
}

impl FromStr for Pool {
    type Err = PoolError;

    fn from_str(text: &str) -> Result<Self, PoolError> {
        let wrong = || PoolError::Syntax(text.chars().take(64).collect());
        let (cidr, prefix) = text.split_once('=').ok_or_else(wrong)?;
        let prefix = prefix.strip_prefix('/').unwrap_or(prefix);
        Self::new(cidr.parse()?, prefix.parse().map_err(|_| wrong())?)
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.cidr, self.node_prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_names_what_is_wrong() {
        let pool: Pool = "10.244.0.0/16=24".parse().expect("a pool");
        assert_eq!((pool.total(), pool.to_string().as_str()), (256, "10.244.0.0/16=24"));
        let error = |text: &str| text.parse::<Pool>().expect_err(text).to_string();
        assert!(error("10.244.0.0/16").contains("10.244.0.0/16=24"));
        assert!(error("10.244.0.0/16=15").contains("from 16 to 30"));
        assert!(error("10.244.0.0/16=31").contains("from 16 to 30"));
        assert!(error("fd00::/48=127").contains("from 48 to 126"));
    }

    #[test]
    fn the_largest_pool_of_the_smallest_shares_has_a_last_one() {
        let pool: Pool = "fd00::/16=126".parse().expect("a pool");
        let last = pool.share(pool.total() - 1);
        assert_eq!(last.to_string(), "fd00:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126");
        assert_eq!(pool.index_behind(&last), pool.total());
    }
}
