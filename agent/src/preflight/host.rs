//! The host's links, addresses and routes, as far as they can get into the overlay's way.
//!
//! Reads only, and leaves out what is ours: our device, pods' links and routes of our protocol.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use weft_core::{
    kernel::{POD_LINK_PREFIX, PROTOCOL},
    types::LinkName,
};

use super::features::Raw;
use crate::kernel::{
    KernelError,
    rtnl::{
        connection::{Connection, Part},
        link::{Link, Vxlan},
        wire::{attributes, ip, number, u32_at},
    },
};

/// `RTM_GETLINK`, `RTM_GETADDR` and `RTM_GETROUTE` with the lengths of their headers.
const LINKS: (u16, usize) = (18, 16);
const ADDRESSES: (u16, usize) = (22, 8);
const ROUTES: (u16, usize) = (26, 12);
/// `RT_TABLE_MAIN`, `RT_TABLE_LOCAL`, `RTPROT_KERNEL` and `RTM_F_CLONED`.
pub(super) const MAIN_TABLE: u32 = 254;
const LOCAL_TABLE: u32 = 255;
const KERNEL: u8 = 2;
const CLONED: u32 = 0x200;

/// A link that is not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostLink {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) up: bool,
    pub(super) vxlan: Option<Vxlan>,
}

/// A route of the main table that is neither ours nor the kernel's own for an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostRoute {
    pub(super) to: IpNetwork,
    pub(super) link: Option<u32>,
}

/// A route of any table.
struct AnyRoute {
    to: IpNetwork,
    table: u32,
    link: Option<u32>,
    /// The links of a route with several ways.
    ways: Vec<u32>,
}

/// The host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) links: Vec<HostLink>,
    /// Addresses with the networks they are in, by link.
    pub(super) addresses: Vec<(u32, IpNetwork)>,
    pub(super) routes: Vec<HostRoute>,
    /// True where our own device is up: the tunnel's port is then ours.
    pub(super) device_is_up: bool,
    /// Others' routes that lead by our device, among other ways or in a table of their own, and the table.
    pub(super) into_tunnel: Vec<(IpNetwork, u32)>,
}

impl Host {
    /// Reads all of it; `device` is the name of ours.
    pub(super) async fn read(route: &mut Connection, device: LinkName) -> Result<Self, KernelError> {
        let mut host = Self::default();
        let (mut ours, mut our_device) = (Vec::new(), None);
        for link in dump(route, LINKS, "links").await?.iter().filter_map(|payload| Link::read(payload)) {
            let is_device = link.name == device && link.vxlan.is_some();
            if link.marked && (is_device || link.name.as_str().starts_with(POD_LINK_PREFIX)) {
                host.device_is_up |= is_device && link.up;
                our_device = our_device.or(is_device.then_some(link.index));
                ours.push(link.index);
            } else {
                let Link { index, name, up, vxlan, .. } = link;
                host.links.push(HostLink { index, name: name.to_string(), up, vxlan });
            }
        }
        let addresses = dump(route, ADDRESSES, "addresses").await?;
        host.addresses = addresses.iter().filter_map(|payload| read_address(payload)).collect();
        host.addresses.retain(|(link, _)| !ours.contains(link));
        let routes = dump(route, ROUTES, "routes").await?;
        for route in routes.iter().filter_map(|payload| read_route(payload)) {
            let mut by = route.ways.iter().chain(&route.link);
            if our_device.is_some_and(|device| by.any(|link| *link == device)) {
                host.into_tunnel.push((route.to, route.table));
            } else if route.table == MAIN_TABLE && route.link.is_none_or(|link| !ours.contains(&link)) {
                host.routes.push(HostRoute { to: route.to, link: route.link });
            }
        }
        Ok(host)
    }

    /// A link's name, for messages.
    pub(super) fn name(&self, index: u32) -> &str {
        self.links.iter().find(|link| link.index == index).map_or("?", |link| &link.name)
    }

    /// Names of the links that IPv4 default routes use.
    pub(super) fn default_links(&self) -> impl Iterator<Item = &str> {
        let defaults = self.routes.iter().filter(|route| route.to.is_ipv4() && route.to.prefix() == 0);
        defaults.filter_map(|route| route.link).map(|index| self.name(index))
    }
}

async fn dump(route: &mut Connection, what: (u16, usize), name: &str) -> Result<Vec<Vec<u8>>, KernelError> {
    let request = Raw { kind: what.0, payload: vec![0; what.1] };
    let mut found = Vec::new();
    let sink = |part: Part<'_>| match part {
        Part::Object(payload) => found.push(payload.to_vec()),
        Part::Again => found.clear(),
    };
    route.dump(&request, name, sink).await?;
    Ok(found)
}

/// `struct ifaddrmsg` and `IFA_…`.
fn read_address(payload: &[u8]) -> Option<(u32, IpNetwork)> {
    let prefix = *payload.get(1)?;
    let index = u32_at(payload, 4)?;
    // IFA_ADDRESS; of a point-to-point link it is the other end, which its network is around.
    let (_, value) = attributes(payload, ADDRESSES.1).find(|(kind, _)| *kind == 1)?;
    Some((index, IpNetwork::new(ip(value)?, prefix).ok()?))
}

/// `struct rtmsg` and `RTA_…`; none for what the kernel makes by itself, and what is ours.
fn read_route(payload: &[u8]) -> Option<AnyRoute> {
    let (family, prefix, protocol) = (*payload.first()?, *payload.get(1)?, *payload.get(5)?);
    let mut table = u32::from(*payload.get(4)?);
    let cloned = u32_at(payload, 8)? & CLONED != 0;
    let everything: IpAddr = if family == 2 { [0; 4].into() } else { [0; 16].into() };
    let (mut to, mut link, mut ways) = (everything, None, Vec::new());
    for (kind, value) in attributes(payload, ROUTES.1) {
        match kind {
            1 => to = ip(value)?,
            4 => link = number(value),
            9 => ways = read_ways(value),
            15 => table = number(value)?,
            _ => {}
        }
    }
    let skipped = cloned || table == LOCAL_TABLE || protocol == KERNEL || protocol == PROTOCOL;
    let to = IpNetwork::new(to, prefix).ok().filter(|_| matches!(family, 2 | 10) && !skipped)?;
    Some(AnyRoute { to, table, link, ways })
}

/// `RTA_MULTIPATH`: a row of `struct rtnexthop`, each with attributes of its own.
fn read_ways(mut value: &[u8]) -> Vec<u32> {
    let mut links = Vec::new();
    while let Some([low, high, ..]) = value.get(..8) {
        links.extend(u32_at(value, 4));
        let length = usize::from(u16::from_ne_bytes([*low, *high])).max(8);
        value = value.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    links
}
