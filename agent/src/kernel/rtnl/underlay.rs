//! Finding the underlay: the link towards the other nodes, its MTU and its addresses.
//!
//! Must never choose the tunnel device or a pod's link, since the tunnel would run through itself, or a link that only holds
//! addresses of Services: one of those may be a node's own, too.

mod advertised;

use std::{collections::BTreeSet, net::IpAddr};

use netlink_packet_route::address::AddressFlags;
use weft_core::{
    desired::Underlay,
    kernel::SERVICE_LINKS,
    types::{Family, LinkName, PerFamily, UnderlayAddress},
};

use super::{
    Rtnl,
    address::{self, Address},
    connection::{Part, refused},
    link::Link,
    request::Request,
    route::{self, Found},
};
use crate::kernel::{KernelError, UnderlayQuery};

/// Addresses that no network has (RFC 5737, RFC 3849): packets to them take the default route.
const NOWHERE_V4: [[u8; 4]; 3] = [[192, 0, 2, 1], [198, 51, 100, 1], [203, 0, 113, 1]];
const NOWHERE_V6: [u16; 8] = [0x2001, 0xdb8, 0xffff, 0xffff, 0, 0, 0, 1];

/// Where a link's index is asked for: the addresses of all.
const ANY_LINK: u32 = 0;

/// The link and how it was found.
struct Choice {
    link: Link,
    how: String,
    /// The kernel's choice of source address towards where the link was found.
    source: Option<IpAddr>,
}

impl Rtnl {
    /// Finds the underlay; its advertised links are those that may listen to advertisements, whoever handles them.
    pub(in crate::kernel) async fn find_underlay(&mut self, query: &UnderlayQuery) -> Result<Underlay, KernelError> {
        self.refresh_links().await?;
        let mut choice = self.choose_link(query).await?;
        if choice.source.is_none_or(|source| Family::of(source) != query.outer) {
            choice.source = self.source_by_default(query.outer, choice.link.index).await?;
        }
        let mut found = Vec::new();
        for family in Family::ALL {
            found.extend(self.link_addresses(family, choice.link.index).await?);
        }
        let known = |found: &Address| query.addresses.contains(&found.address);
        if found.iter().any(|found| known(found) && Family::of(found.address) == query.outer) {
            // What others do not take for an address of this node is not announced as one.
            found.retain(known);
        }
        let kept = query.in_use.filter(|in_use| in_use.link == choice.link.name);
        let best_of = |family| {
            let kept = kept.and_then(|in_use| *in_use.addresses.get(family)).map(|address| address.address());
            best(&found, family, [kept, choice.source])
        };
        let addresses = PerFamily { v4: best_of(Family::V4), v6: best_of(Family::V6) };
        if addresses.get(query.outer).is_none() {
            return Err(no_address(&choice, query.outer));
        }
        let advertised_links = self.advertised_links(choice.link.index).await?;
        let gateways = self.gateways(query.controller, choice.link.index).await?;
        let Link { name: link, mtu, carrier: has_carrier, .. } = choice.link;
        Ok(Underlay { link, mtu, addresses, gateways, has_carrier, advertised_links })
    }

    async fn choose_link(&mut self, query: &UnderlayQuery) -> Result<Choice, KernelError> {
        if let Some(name) = query.interface {
            return self.named_link(name);
        }
        if let Some(choice) = self.addressed_link(query).await? {
            return Ok(choice);
        }
        match self.link_in_use(query).await? {
            Some(choice) => Ok(choice),
            None => self.routed_link(query).await,
        }
    }

    /// The link in use, while it is up and has the address of the outer family that was announced. A VPN that brings a
    /// better route to the controller, or to everywhere, does not carry the packets of the other nodes.
    async fn link_in_use(&mut self, query: &UnderlayQuery) -> Result<Option<Choice>, KernelError> {
        let Some(in_use) = query.in_use else { return Ok(None) };
        let link = self.links.named(in_use.link).filter(|link| link.up && self.can_carry(link)).cloned();
        let (Some(link), Some(address)) = (link, in_use.addresses.get(query.outer)) else { return Ok(None) };
        let found = self.link_addresses(query.outer, link.index).await?;
        let is_there = found.iter().any(|found| found.address == address.address() && is_usable(found));
        let source = Some(address.address());
        Ok(is_there.then(|| Choice { link, how: "in use before".to_owned(), source }))
    }

    fn named_link(&self, name: LinkName) -> Result<Choice, KernelError> {
        let link = self.links.named(name).filter(|link| self.can_carry(link)).cloned();
        let how = "named in the configuration".to_owned();
        link.map(|link| Choice { link, how, source: None }).ok_or_else(|| {
            let text = format!("link {name} is not there, or is Weft's own: name the link to the other nodes");
            KernelError::NoUnderlay(text)
        })
    }

    /// The link with the first of the node's addresses that is on any. None where none is: the node has others by now, and
    /// whoever told these did not notice yet.
    async fn addressed_link(&mut self, query: &UnderlayQuery) -> Result<Option<Choice>, KernelError> {
        let mut found = Vec::new();
        if !query.addresses.is_empty() {
            for family in Family::ALL {
                found.extend(self.link_addresses(family, ANY_LINK).await?);
            }
        }
        for wanted in &query.addresses {
            let links = found.iter().filter(|found| found.address == *wanted);
            let link = links.filter_map(|found| self.links.get(found.link)).find(|link| self.can_carry(link)).cloned();
            if let Some(link) = link {
                let how = format!("found by this node's address {wanted}");
                return Ok(Some(Choice { link, how, source: Some(*wanted) }));
            }
        }
        Ok(None)
    }

    fn can_carry(&self, link: &Link) -> bool {
        let is_of_services = SERVICE_LINKS.contains(&link.name.as_str());
        link.name != self.device && link.device().is_none() && !link.is_pod() && !link.loopback && !is_of_services
    }

    /// The link by the route to the controller, else by the default route; on the controller's own host, if that has none, the
    /// link at whose address the other nodes find the controller.
    async fn routed_link(&mut self, query: &UnderlayQuery) -> Result<Choice, KernelError> {
        if let Some(controller) = query.controller
            && let Some(choice) = self.link_towards(controller, false).await?
        {
            return Ok(choice);
        }
        let other = if query.outer == Family::V4 { Family::V6 } else { Family::V4 };
        // First by a default route proper; a host with 0.0.0.0/1 and 128.0.0.0/1 instead is asked again.
        for only_default in [true, false] {
            for family in [query.outer, other] {
                for nowhere in nowheres(family) {
                    if let Some(choice) = self.link_towards(nowhere, only_default).await? {
                        return Ok(Choice { how: format!("found by the {family} default route"), ..choice });
                    }
                }
            }
        }
        if let Some(controller) = query.controller
            && let Some(choice) = self.link_with(controller).await?
        {
            return Ok(choice);
        }
        let controller = query.controller.map(|controller| format!(" to the controller {controller} and"));
        Err(KernelError::NoUnderlay(format!(
            "there is no route{} to the outside by a link that could carry the tunnel: bring up the link to the other \
             nodes, or name it (--interface)",
            controller.unwrap_or_default()
        )))
    }

    async fn link_with(&mut self, controller: IpAddr) -> Result<Option<Choice>, KernelError> {
        let found = self.link_addresses(Family::of(controller), ANY_LINK).await?;
        let links = found.iter().filter(|found| found.address == controller);
        let link = links.filter_map(|found| self.links.get(found.link)).find(|link| self.can_carry(link)).cloned();
        let how = format!("found by the controller's address {controller}, which is this host's");
        Ok(link.map(|link| Choice { link, how, source: Some(controller) }))
    }

    async fn link_towards(&mut self, to: IpAddr, only_default: bool) -> Result<Option<Choice>, KernelError> {
        if only_default {
            let entry = self.ask_route(route::lookup_entry(to).into()).await?;
            if entry.is_none_or(|entry| entry.to.prefix() != 0) {
                return Ok(None);
            }
        }
        let Some(found) = self.ask_route(route::lookup(to).into()).await? else { return Ok(None) };
        let link = found.link.filter(|_| found.is_unicast() && !found.is_local());
        let link = link.and_then(|index| self.links.get(index)).filter(|link| self.can_carry(link)).cloned();
        let how = format!("found by the route to the controller {to}");
        Ok(link.map(|link| Choice { link, how, source: found.source }))
    }

    /// The source address that packets to nowhere in particular would have, where they leave by `link`.
    async fn source_by_default(&mut self, family: Family, link: u32) -> Result<Option<IpAddr>, KernelError> {
        for nowhere in nowheres(family) {
            if let Some(found) = self.ask_route(route::lookup(nowhere).into()).await?
                && found.link == Some(link)
            {
                return Ok(found.source);
            }
        }
        Ok(None)
    }

    /// The routers on `link` by which the controller, or anything else that has no route of its own, is reached.
    async fn gateways(&mut self, controller: Option<IpAddr>, link: u32) -> Result<BTreeSet<IpAddr>, KernelError> {
        let mut gateways = BTreeSet::new();
        for to in Family::ALL.into_iter().flat_map(nowheres).chain(controller) {
            let found = self.ask_route(route::lookup(to).into()).await?.filter(|found| found.link == Some(link));
            gateways.extend(found.and_then(|found| found.gateway));
        }
        Ok(gateways)
    }

    /// One lookup; none where the kernel says that there is no way.
    async fn ask_route(&mut self, request: Request) -> Result<Option<Found>, KernelError> {
        let mut found = None;
        let refusals = self.ask(&[request], "route", |_, payload| found = Found::read(payload)).await?;
        match refusals.into_iter().flatten().next() {
            Some(refusal) if !refusal.says_unreachable() && !refusal.says_absent() => {
                Err(refused("route to the controller", refusal))
            }
            Some(_) => Ok(None),
            None => Ok(found),
        }
    }

    async fn link_addresses(&mut self, family: Family, link: u32) -> Result<Vec<Address>, KernelError> {
        let mut found: Vec<Address> = Vec::new();
        let sink = |part: Part<'_>| match part {
            Part::Object(payload) => {
                let on_link = |found: &Address| link == ANY_LINK || found.link == link;
                found.extend(Address::read(payload).filter(|a| on_link(a) && Family::of(a.address) == family));
            }
            Part::Again => found.clear(),
        };
        self.connection.dump(&address::dump(family, link), "addresses of the underlay link", sink).await?;
        Ok(found)
    }
}

fn nowheres(family: Family) -> Vec<IpAddr> {
    match family {
        Family::V4 => NOWHERE_V4.map(IpAddr::from).into(),
        Family::V6 => vec![IpAddr::from(NOWHERE_V6)],
    }
}

/// The address that peers shall know: one of those preferred, the first before the others; else a lasting one; else the first.
fn best(addresses: &[Address], family: Family, preferred: [Option<IpAddr>; 2]) -> Option<UnderlayAddress> {
    let mut usable: Vec<_> = addresses
        .iter()
        .filter(|address| Family::of(address.address) == family && is_usable(address))
        .filter_map(|address| Some((address, UnderlayAddress::new(address.address, address.prefix).ok()?)))
        .collect();
    usable.sort_by_key(|(address, _)| {
        let rank = preferred.iter().position(|wanted| *wanted == Some(address.address)).unwrap_or(preferred.len());
        (rank, address.flags.contains(AddressFlags::Secondary), !address.flags.contains(AddressFlags::Permanent))
    });
    usable.first().map(|(_, underlay)| *underlay)
}

/// An address that stays and that others may use. DHCP's and router advertisements' are not "permanent" to the kernel, yet
/// stay. The bit that says "temporary" in IPv6 says "secondary" in IPv4.
fn is_usable(address: &Address) -> bool {
    let mut unfit = AddressFlags::Deprecated | AddressFlags::Tentative | AddressFlags::Dadfailed;
    if address.address.is_ipv6() {
        unfit |= AddressFlags::Secondary;
    }
    address.global && !address.flags.intersects(unfit)
}

fn no_address(choice: &Choice, outer: Family) -> KernelError {
    KernelError::NoUnderlay(format!(
        "link {} ({}) has no lasting {outer} address, and outer packets are {outer}: add one, or name another link \
         (--interface)",
        choice.link.name, choice.how
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str, flags: AddressFlags) -> Address {
        let at: UnderlayAddress = text.parse().expect(text);
        let (address, prefix) = (at.address(), at.prefix());
        let of = ipnetwork::IpNetwork::new(address, prefix).expect("a prefix");
        Address { link: 2, address, prefix, of, flags, global: true, by_router_advertisement: false }
    }

    #[test]
    fn the_kernels_choice_comes_first_then_what_lasts() {
        let none = AddressFlags::empty();
        let all = [
            address("10.0.0.9/24", AddressFlags::Secondary | AddressFlags::Permanent),
            address("10.0.0.1/24", none),
            address("10.0.0.2/24", AddressFlags::Permanent),
        ];
        let best_of = |source: Option<&str>| {
            best(&all, Family::V4, [None, source.map(|s| s.parse().expect(s))]).map(|best| best.to_string())
        };
        assert_eq!(best_of(None).as_deref(), Some("10.0.0.2/24"));
        assert_eq!(best_of(Some("10.0.0.9")).as_deref(), Some("10.0.0.9/24"));
    }

    #[test]
    fn addresses_that_pass_are_never_announced() {
        for flags in [
            AddressFlags::Deprecated,
            AddressFlags::Tentative,
            AddressFlags::Dadfailed,
            AddressFlags::Secondary, // temporary, for IPv6
        ] {
            assert_eq!(best(&[address("2001:db8::7/64", flags)], Family::V6, [None, None]), None, "{flags:?}");
        }
    }
}
