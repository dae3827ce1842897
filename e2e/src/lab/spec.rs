//! What a lab looks like: its subnets, their addresses, and what the cluster in it is set to.
//!
//! Owns the address plan. Pure: nothing here touches the kernel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weft_core::{
    settings::Mode,
    types::{Family, Mac, PerFamily, UnderlayAddress},
};

/// The subnet of the controller's host.
pub const MANAGEMENT: &str = "mgmt";
/// The host the controller runs on, behind the router like everybody else.
pub const CONTROL: &str = "control";
/// The subnet beyond, which knows nothing of nodes or pods.
pub const BEYOND: &str = "beyond";
/// The host in it.
pub const OUTSIDE: &str = "outside";
/// The router's namespace.
pub const ROUTER: &str = "router";

/// Which families the hosts' network carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Underlay {
    /// Both.
    Dual,
    /// One only.
    Only(Family),
}

impl Underlay {
    /// True where hosts have an address of `family`.
    pub fn carries(self, family: Family) -> bool {
        match self {
            Self::Dual => true,
            Self::Only(only) => only == family,
        }
    }
}

/// A subnet of nodes.
#[derive(Debug, Clone)]
pub struct SubnetSpec {
    /// Its name; its hosts are called by it and a number from 1: `a1`, `a2`.
    pub name: String,
    /// How many hosts it has.
    pub hosts: usize,
}

/// A lab.
#[derive(Debug, Clone)]
pub struct LabSpec {
    /// The subnets of nodes; those of the controller and of the outside come on top.
    pub subnets: Vec<SubnetSpec>,
    /// Families of the hosts' network.
    pub underlay: Underlay,
    /// MTU of every link of the hosts' network, in bytes.
    pub mtu: u32,
    /// rp_filter=1 on every link of every host and of the router.
    pub strict: bool,
    /// Networks that pod CIDRs are cut from, each with the prefix length of a node's share.
    pub pools: Vec<(String, u8)>,
    /// When to encapsulate.
    pub mode: Mode,
    /// Family of outer packets.
    pub outer: Family,
}

impl Default for LabSpec {
    /// Two subnets of two hosts, everything dual-stack.
    fn default() -> Self {
        let subnet = |name: &str| SubnetSpec { name: name.to_owned(), hosts: 2 };
        Self {
            subnets: vec![subnet("a"), subnet("b")],
            underlay: Underlay::Dual,
            mtu: 1500,
            strict: true,
            pools: vec![("10.244.0.0/16".to_owned(), 24), ("fd44:5745::/48".to_owned(), 64)],
            mode: Mode::CrossSubnet,
            outer: Family::V4,
        }
    }
}

impl LabSpec {
    /// The same with this many hosts in each subnet.
    #[must_use]
    pub fn hosts(mut self, hosts: usize) -> Self {
        self.subnets.iter_mut().for_each(|subnet| subnet.hosts = hosts);
        self
    }

    /// The same over another underlay; where that is IPv6 only, outer packets are IPv6.
    #[must_use]
    pub fn underlay(mut self, underlay: Underlay) -> Self {
        self.underlay = underlay;
        self.outer = if underlay.carries(Family::V4) { Family::V4 } else { Family::V6 };
        self
    }
}

/// A subnet's place in the address plan.
#[derive(Debug, Clone)]
pub(super) struct Subnet {
    pub(super) name: String,
    number: u8,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
}

impl Subnet {
    /// The subnet with this number: 0 is the controller's, 255 the outside.
    pub(super) fn new(name: &str, number: u8) -> Self {
        let (v4, v6) = match number {
            u8::MAX => (Ipv4Addr::new(198, 51, 100, 0), "2001:db8:ffff::".parse().expect("an address")),
            _ => (Ipv4Addr::new(10, 87, number, 0), Ipv6Addr::new(0xfd87, 0, 0, number.into(), 0, 0, 0, 0)),
        };
        Self { name: name.to_owned(), number, v4, v6 }
    }

    /// The router's bridge that is this subnet.
    pub(super) fn bridge(&self) -> String {
        format!("net-{}", self.name)
    }

    /// The `n`th address of each family the underlay carries; the first is the router's.
    pub(super) fn addresses(&self, n: u8, underlay: Underlay) -> PerFamily<Option<UnderlayAddress>> {
        let [a, b, c, _] = self.v4.octets();
        let v4 = IpAddr::from([a, b, c, n]);
        let v6 = IpAddr::from(Ipv6Addr::from(u128::from(self.v6) | u128::from(n)));
        let usable = |family, address, prefix| {
            underlay
                .carries(family)
                .then(|| UnderlayAddress::new(address, prefix).expect("the plan holds unicast addresses only"))
        };
        PerFamily { v4: usable(Family::V4, v4, 24), v6: usable(Family::V6, v6, 64) }
    }

    /// The Ethernet address of the `n`th participant, the same after a reboot.
    pub(super) fn mac(&self, n: u8) -> Mac {
        Mac::local([0x02, 0x4c, 0x61, 0x62, self.number, n])
    }
}
