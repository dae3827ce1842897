//! The kernel's state as values: what one node's kernel holds of Weft's, or should hold.
//!
//! One object is a [`Key`] with a [`Value`]. Keys are ordered as objects depend on each other: whoever creates in
//! ascending and deletes in descending order never refers to something that is not there. Must never know netlink:
//! interfaces are named, not numbered, and the edge translates.

mod sysctl;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    sync::Arc,
};

use ipnetwork::IpNetwork;

pub use sysctl::Sysctl;

pub use crate::veth::{GATEWAY_V4, GATEWAY_V6, POD_LINK_PREFIX};
use crate::{
    nft::{Ruleset, SetName},
    types::{LinkName, Mac, Vni},
};

/// Marks our routes and nexthops (`rtm_protocol`, `nh_protocol`); 87 is assigned to nobody in the kernel's rtnetlink.h
/// or iproute2's rt_protos.
pub const PROTOCOL: u8 = 87;
/// Marks our device (`IFLA_IFALIAS`).
pub const ALIAS: &str = "weft";
/// Our nexthop ids are in this range: "WE" in the upper half.
pub const NEXTHOP_IDS: std::ops::RangeInclusive<u32> = 0x5745_0000..=0x5746_ffff;
/// Metric of the `unreachable` routes, so high that every other route wins.
pub const UNREACHABLE_METRIC: u32 = 0x7fff_5745;
/// Metric of the other IPv4 routes: the kernel's own default.
pub const METRIC_V4: u32 = 0;
/// Metric of the other IPv6 routes: the kernel's own default (`IP6_RT_PRIO_USER`).
pub const METRIC_V6: u32 = 1024;
/// Links that carry nothing: kube-proxy in IPVS mode and NodeLocal DNSCache put addresses of Services there, the same on every
/// node, which is no network's and no node's own.
pub const SERVICE_LINKS: [&str; 2] = ["kube-ipvs0", "nodelocaldns"];

/// Identity of one kernel object of ours, in order of dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The VXLAN device.
    Device,
    /// A network sysctl.
    Sysctl(Sysctl),
    /// An address on the VXLAN device, always a whole host (/32 or /128).
    Address(IpAddr),
    /// All chains and named counters of table `inet weft`.
    Ruleset,
    /// An element of a set of table `inet weft`.
    Element(SetName, IpNetwork),
    /// An element of a set of pairs of table `inet weft`: a member's underlay address with its pod CIDR.
    Bound(IpAddr, IpNetwork),
    /// A forwarding entry of the VXLAN device: which underlay address a VTEP MAC is behind.
    Fdb(Mac),
    /// A permanent neighbour on one of our links.
    Neighbour(LinkName, IpAddr),
    /// A nexthop object.
    Nexthop(u32),
    /// A route of the main table.
    Route(IpNetwork, u32),
    /// Somebody else's, on the VXLAN device: never wanted.
    Stray(Stray),
}

/// What others put onto the VXLAN device, as a DHCP client or a routing daemon does that takes it for a link to a network.
/// Its addresses and routes are ours to judge: what is not ours leads packets into the tunnel that no peer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stray {
    /// An address with a prefix or with a peer: the address, and what the kernel names beside it. Whole hosts are
    /// [`Key::Address`], wanted or not.
    Address(IpAddr, IpNetwork),
    /// A route of table main that leads to the device and nowhere else: its destination, metric and protocol.
    Route(IpNetwork, u32, u8),
}

/// Through what the kernel takes an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// rtnetlink(7): links, addresses, forwarding entries, neighbours, nexthops, routes.
    Rtnl,
    /// nf_tables: table `inet weft`, which changes in one transaction.
    Nft,
    /// Files below /proc/sys/net.
    Sysctl,
}

/// What one kernel object is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// For [`Key::Device`].
    Device(Device),
    /// For [`Key::Sysctl`].
    Sysctl(i32),
    /// For keys that say all: [`Key::Address`], [`Key::Element`], [`Key::Bound`] and [`Stray::Address`].
    Present,
    /// For [`Key::Ruleset`].
    Ruleset(Arc<Ruleset>),
    /// For [`Key::Fdb`]: the underlay address of the VTEP.
    Fdb(IpAddr),
    /// For [`Key::Neighbour`].
    Neighbour(Mac),
    /// For [`Key::Nexthop`]: an onlink gateway on the VXLAN device.
    Nexthop(IpAddr),
    /// For [`Key::Route`] and [`Stray::Route`].
    Route(Route),
}

/// The VXLAN device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Its name; the key does not carry it because there is one device only.
    pub name: LinkName,
    /// The VTEP MAC.
    pub mac: Mac,
    /// The network identifier.
    pub vni: Vni,
    /// UDP port, host byte order.
    pub port: u16,
    /// Source of outer packets: the registered underlay address.
    pub local: IpAddr,
    /// Largest inner IP packet in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
}

impl Device {
    /// True if `self` can be changed into `wanted` in place. The kernel takes a new MAC, MTU and, within a family, a new
    /// local address (`vxlan_changelink` in drivers/net/vxlan/vxlan_core.c), but neither VNI nor port.
    pub fn can_become(&self, wanted: &Self) -> bool {
        self.name == wanted.name
            && self.vni == wanted.vni
            && self.port == wanted.port
            && self.local.is_ipv4() == wanted.local.is_ipv4()
    }
}

/// Where a route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// How packets leave.
    pub via: Via,
    /// Path MTU in bytes, if it differs from the link's.
    pub mtu: Option<u32>,
    /// Source address the host uses for its own packets.
    pub src: Option<IpAddr>,
}

/// How packets of a route leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Via {
    /// Through a nexthop object of ours: the tunnel.
    Nexthop(u32),
    /// Through a gateway that is on the link: a peer in the same subnet.
    Gateway(IpAddr, LinkName),
    /// Straight to the link: a pod.
    Link(LinkName),
    /// Answered with ICMP unreachable.
    Unreachable,
}

/// A set of kernel objects.
pub type Objects = BTreeMap<Key, Value>;

/// What a reading shows of one object of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// It is set to this, which a desired state could want.
    As(Value),
    /// Somebody set it to what no desired state can want, such as a route with weights or a device that learns.
    Altered {
        /// The kernel takes what is wanted over it; otherwise it has to be deleted first.
        in_place: bool,
    },
}

impl Seen {
    /// What it is set to, if a desired state could want that.
    pub const fn value(&self) -> Option<&Value> {
        match self {
            Self::As(value) => Some(value),
            Self::Altered { .. } => None,
        }
    }

    /// True if it is set to `wanted`.
    pub fn is(&self, wanted: &Value) -> bool {
        self.value() == Some(wanted)
    }

    /// True if it cannot become anything wanted unless it is deleted first.
    pub const fn is_deleted_first(&self) -> bool {
        matches!(self, Self::Altered { in_place: false })
    }
}

/// Objects of ours as they were read.
pub type SeenObjects = BTreeMap<Key, Seen>;

/// Objects as a reading shows them that finds them as they should be.
pub fn seen(objects: Objects) -> SeenObjects {
    objects.into_iter().map(|(key, value)| (key, Seen::As(value))).collect()
}

/// What a reading of the kernel found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Objects that carry our marks, and the current values of the sysctls asked for.
    pub ours: SeenObjects,
    /// What our VXLAN device is called, if it is there: the configured name may have changed since it was made.
    pub device: Option<LinkName>,
    /// Keys whose place in the kernel is held by an object without our marks, such as a route to a pod CIDR that an
    /// administrator added.
    pub foreign: BTreeSet<Key>,
    /// The links present, so that only pods whose interface exists get host routes; a pod's only while it is up.
    pub links: BTreeSet<LinkName>,
}

impl Key {
    /// The set of table `inet weft` that it is an element of.
    pub fn set(&self) -> Option<SetName> {
        match self {
            Self::Element(set, _) => Some(*set),
            Self::Bound(outer, inner) => Some(SetName::bound(*outer, *inner)),
            _ => None,
        }
    }

    /// Through what the kernel takes it.
    pub const fn part(&self) -> Part {
        match self {
            Self::Ruleset | Self::Element(..) | Self::Bound(..) => Part::Nft,
            Self::Sysctl(_) => Part::Sysctl,
            Self::Device
            | Self::Address(_)
            | Self::Fdb(_)
            | Self::Neighbour(..)
            | Self::Nexthop(_)
            | Self::Route(..)
            | Self::Stray(_) => Part::Rtnl,
        }
    }

    /// True if the object lives on the VXLAN device `device` and so goes with it; `value` is what it is set to. Of a route that
    /// was altered nobody knows: it is replaced or deleted, which succeeds if it has gone.
    pub fn goes_with_device(&self, value: Option<&Value>, device: LinkName) -> bool {
        match self {
            Self::Device | Self::Address(_) | Self::Fdb(_) | Self::Nexthop(_) | Self::Stray(_) => true,
            Self::Neighbour(link, _) => *link == device,
            Self::Sysctl(sysctl) => sysctl.link() == Some(device),
            // IPv4 routes go with their source address too (`fib_sync_down_addr` in net/ipv4/fib_semantics.c), which is a
            // VTEP address wherever there is a device.
            Self::Route(to, _) => match value {
                Some(Value::Route(route)) => {
                    matches!(route.via, Via::Nexthop(_)) || (to.is_ipv4() && route.src.is_some())
                }
                _ => false,
            },
            Self::Ruleset | Self::Element(..) | Self::Bound(..) => false,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device => f.write_str("VXLAN device"),
            Self::Sysctl(sysctl) => write!(f, "sysctl net/{}", sysctl.path()),
            Self::Address(address) => write!(f, "VTEP address {address}"),
            Self::Ruleset => f.write_str("nftables table inet weft"),
            Self::Element(set, element) => write!(f, "element {element} of nftables set {set}"),
            Self::Bound(outer, inner) => {
                let set = SetName::bound(*outer, *inner);
                write!(f, "element {outer} . {inner} of nftables set {set}")
            }
            Self::Fdb(mac) => write!(f, "FDB entry {mac}"),
            Self::Neighbour(link, address) => write!(f, "neighbour {address} on {link}"),
            Self::Nexthop(id) => write!(f, "nexthop {id}"),
            Self::Route(to, UNREACHABLE_METRIC) => write!(f, "unreachable route {to}"),
            Self::Route(to, _) => write!(f, "route {to}"),
            Self::Stray(Stray::Address(address, of)) if *address == of.ip() => write!(f, "address {of}"),
            Self::Stray(Stray::Address(address, of)) => write!(f, "address {address} peer {of}"),
            Self::Stray(Stray::Route(to, ..)) => write!(f, "route {to} by the VXLAN device"),
        }
    }
}

/// The metric of an ordinary route to `to`.
pub const fn metric(to: &IpNetwork) -> u32 {
    match to {
        IpNetwork::V4(_) => METRIC_V4,
        IpNetwork::V6(_) => METRIC_V6,
    }
}
