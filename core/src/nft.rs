//! Table `inet weft` as values: sets, chains and rules in the small vocabulary that Weft needs.
//!
//! Owns what the rules say; must never know how nf_tables encodes them. The edge encodes these expressions and decodes
//! a dump into the same ones, so that an edited chain shows as a difference.

mod ruleset;
mod sets;
mod words;

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;

pub use ruleset::ruleset;
pub use sets::{BoundSet, SetName, sets};
pub use words::{module, words};

use crate::types::Family;

/// The table's name; its family is `inet`.
pub const TABLE: &str = "weft";

/// A named counter (`NFT_OBJECT_COUNTER`): it keeps its figures when chains change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CounterName {
    /// Tunnel packets that a pod sent, dropped.
    TunnelFromPod,
    /// Tunnel packets from an address that no member has, dropped.
    TunnelFromStranger,
    /// Tunnel packets from a member's address that do not come from that member's pods, dropped.
    TunnelForged,
    /// Packets of a pod under an address that is not its own, dropped.
    ForgedByPod,
    /// Packets of a pod to its gateway's own address, dropped.
    PodToGateway,
    /// First packets of connections from pods to networks that are not masqueraded.
    Unmasqueraded,
    /// Packets from those networks to pods.
    FromUnmasqueraded,
}

impl CounterName {
    /// All counters.
    pub const ALL: [Self; 7] = [
        Self::TunnelFromPod,
        Self::TunnelFromStranger,
        Self::TunnelForged,
        Self::ForgedByPod,
        Self::PodToGateway,
        Self::Unmasqueraded,
        Self::FromUnmasqueraded,
    ];

    /// The name in nf_tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TunnelFromPod => "tunnel_from_pod",
            Self::TunnelFromStranger => "tunnel_from_stranger",
            Self::TunnelForged => "tunnel_forged",
            Self::ForgedByPod => "forged_by_pod",
            Self::PodToGateway => "pod_to_gateway",
            Self::Unmasqueraded => "unmasqueraded",
            Self::FromUnmasqueraded => "from_unmasqueraded",
        }
    }
}

/// The table but its elements and figures: the chains with their rules. All of [`Self::sets`] and [`CounterName::ALL`]
/// belong to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    /// Base chains, ordered by [`Chain::place`].
    pub chains: Vec<Chain>,
}

impl Ruleset {
    /// The sets that belong to the table.
    pub fn sets(&self) -> BTreeSet<SetName> {
        sets(&self.chains)
    }
}

/// A base chain; its policy is accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// `filter` or `nat`.
    pub kind: ChainKind,
    /// Where it hooks in.
    pub hook: Hook,
    /// Its place among the chains of the hook.
    pub priority: i32,
    /// Its rules in order.
    pub rules: Vec<Rule>,
}

impl Chain {
    /// The order in which a ruleset lists its chains; the kernel's own order is that of creation and says nothing.
    pub fn place(&self) -> (Hook, i32, &str) {
        (self.hook, self.priority, &self.name)
    }
}

/// The type of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// Type `filter`.
    Filter,
    /// Type `nat`.
    Nat,
}

/// A netfilter hook of the `inet` family (`enum nf_inet_hooks`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// NF_INET_PRE_ROUTING.
    Prerouting,
    /// NF_INET_LOCAL_IN.
    Input,
    /// NF_INET_FORWARD.
    Forward,
    /// NF_INET_LOCAL_OUT.
    Output,
    /// NF_INET_POST_ROUTING.
    Postrouting,
}

/// A rule: its expressions in order.
pub type Rule = Vec<Expr>;

/// One expression of a rule. Matches that fail end the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    /// `meta nfproto ipv4|ipv6`.
    Family(Family),
    /// `meta l4proto N`.
    Protocol(u8),
    /// `udp dport N`, host byte order; the rule checks the protocol before.
    DestinationPort(u16),
    /// `@th,96,24 VNI`: the VNI of a VXLAN header behind the UDP header (RFC 7348, section 5).
    Vni(u32),
    /// `@th,224,16 0x0800` or `0x86dd`: what the frame in a VXLAN packet carries.
    Inner(Family),
    /// `ip|ip6 saddr . @th,336,32 & MASK @SET`, of IPv6 `@th,304,128`: a VXLAN packet's own source, together with the network
    /// that the source of the packet in it lies in. The rule checks [`Self::Inner`] before.
    Bound(BoundSet),
    /// `iifname "PREFIX*"`.
    InInterfacePrefix(String),
    /// `oifname NAME`.
    OutInterface(String),
    /// `oifname != NAME`.
    NotOutInterface(String),
    /// `ip|ip6 saddr @SET`, or `!=` where `negated`.
    Source {
        /// The set looked up; its family names the header read.
        set: SetName,
        /// True for "not in the set".
        negated: bool,
    },
    /// `ip|ip6 daddr @SET`, or `!=` where `negated`.
    Destination {
        /// The set looked up; its family names the header read.
        set: SetName,
        /// True for "not in the set".
        negated: bool,
    },
    /// `ip|ip6 saddr NETWORK`; the prefix length is a multiple of 8.
    SourceIn(IpNetwork),
    /// `ip|ip6 daddr NETWORK`; the prefix length is a multiple of 8.
    DestinationIn(IpNetwork),
    /// `fib saddr . iif oif missing`: what is sent to the packet's source does not leave by the link it came by.
    NotItsSource,
    /// `counter name N`.
    Counter(CounterName),
    /// `notrack`.
    Notrack,
    /// `drop`.
    Drop,
    /// `accept`.
    Accept,
    /// `masquerade fully-random`, and where ports are given `to :FIRST-LAST`.
    Masquerade {
        /// First and last source port, host byte order.
        ports: Option<(u16, u16)>,
    },
    /// Something outside this vocabulary, found in the kernel and described for the log. Never part of a desired state,
    /// so that none equals it.
    Foreign(String),
}
