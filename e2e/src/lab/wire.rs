//! Links, addresses and routes of one namespace, over rtnetlink.
//!
//! Owns how the lab's cables are laid and cut. Must never touch what Weft's agent owns, except where a test plays the
//! foreign hand.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd, BorrowedFd},
};

use anyhow::{Context, Result, ensure};
use futures::TryStreamExt;
use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressFlags},
    link::{
        BridgePortState, InfoBridgePort, InfoData, InfoPortData, InfoVeth, LinkAttribute, LinkInfo, LinkMessage, State,
    },
    neighbour::NeighbourMessage,
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType},
};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder};
use weft_core::types::{Family, Mac};

use super::wait;

/// One end of a cable that is to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct End<'a> {
    /// The interface's name.
    pub name: &'a str,
    /// Its Ethernet address.
    pub mac: Mac,
}

/// The wiring of one namespace.
#[derive(Debug, Clone)]
pub struct Wire {
    handle: Handle,
}

impl Wire {
    /// Opens a netlink socket in the namespace of the calling thread, served by the current tokio runtime.
    pub(super) fn open() -> Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// The index of a link.
    ///
    /// # Errors
    /// Where there is none of that name.
    pub async fn index(&self, link: &str) -> Result<u32> {
        Ok(self.link(link).await?.header.index)
    }

    /// True where there is a link of that name.
    pub async fn has_link(&self, link: &str) -> bool {
        self.link(link).await.is_ok()
    }

    /// A link as the kernel describes it.
    ///
    /// # Errors
    /// Where there is none of that name.
    pub async fn link(&self, link: &str) -> Result<LinkMessage> {
        let mut found = self.handle.link().get().match_name(link.to_owned()).execute();
        let message = found.try_next().await.with_context(|| format!("no link {link}"))?;
        message.with_context(|| format!("no link {link}"))
    }

    /// Creates a bridge with an address that stays the same whatever joins it.
    pub(super) async fn add_bridge(&self, end: End<'_>, mtu: u32) -> Result<()> {
        let message = LinkBridge::new(end.name).address(end.mac.octets().to_vec()).mcast_snooping(false).mtu(mtu).up();
        let added = self.handle.link().add(message.build()).execute().await;
        added.with_context(|| format!("cannot create bridge {}", end.name))
    }

    /// Lays a cable from here to another namespace; both ends are still down (the kernel refuses to create them up, for
    /// at that moment each lacks its peer).
    pub(super) async fn add_cable(&self, near: End<'_>, far: End<'_>, to: BorrowedFd<'_>, mtu: u32) -> Result<()> {
        let mut peer = LinkUnspec::new_with_name(far.name).address(far.mac.octets().to_vec()).mtu(mtu).build();
        peer.attributes.push(LinkAttribute::NetNsFd(to.as_raw_fd()));
        let message = LinkVeth::new(near.name, far.name)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .address(near.mac.octets().to_vec())
            .mtu(mtu);
        let added = self.handle.link().add(message.build()).execute().await;
        added.with_context(|| format!("cannot create the cable {} - {}", near.name, far.name))
    }

    /// Makes `link` a port of `bridge`.
    pub(super) async fn join(&self, link: &str, bridge: &str) -> Result<()> {
        let message = LinkUnspec::new_with_index(self.index(link).await?).controller(self.index(bridge).await?);
        let set = self.handle.link().set(message.build()).execute().await;
        set.with_context(|| format!("cannot make {link} a port of {bridge}"))
    }

    /// Switches a link up or down.
    ///
    /// # Errors
    /// Where there is none of that name, or the kernel refuses.
    pub async fn set_up(&self, link: &str, up: bool) -> Result<()> {
        let message = LinkUnspec::new_with_index(self.index(link).await?);
        let message = if up { message.up() } else { message.down() };
        let set = self.handle.link().set(message.build()).execute().await;
        set.with_context(|| format!("cannot switch {link} {}", if up { "up" } else { "down" }))
    }

    /// Waits until a link that is up carries packets: the kernel takes note of a carrier later, on a busy machine much later, and
    /// until then its queue and the bridge drop what is sent.
    pub(super) async fn carries(&self, link: &str) -> Result<()> {
        wait::until(&format!("{link} to carry packets"), wait::PATIENCE, async || {
            let found = self.link(link).await?;
            ensure!(found.attributes.contains(&LinkAttribute::OperState(State::Up)), "it has no carrier");
            let of_port = |info: &LinkInfo| match info {
                LinkInfo::PortData(InfoPortData::BridgePort(port)) => Some(port.clone()),
                _ => None,
            };
            let forwarding = InfoBridgePort::State(BridgePortState::Forwarding);
            let port = found.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::LinkInfo(infos) => infos.iter().find_map(of_port),
                _ => None,
            });
            ensure!(port.is_none_or(|port| port.contains(&forwarding)), "its bridge does not forward yet");
            Ok(())
        })
        .await
    }

    /// Deletes a link, and with one end of a cable the other.
    ///
    /// # Errors
    /// Where there is none of that name, or the kernel refuses.
    pub async fn delete_link(&self, link: &str) -> Result<()> {
        let deleted = self.handle.link().del(self.index(link).await?).execute().await;
        deleted.with_context(|| format!("cannot delete {link}"))
    }

    /// Gives a link an address; an IPv6 one is usable at once (no duplicate address detection).
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub async fn add_address(&self, link: &str, address: IpAddr, prefix: u8) -> Result<()> {
        let mut request = self.handle.address().add(self.index(link).await?, address, prefix);
        if address.is_ipv6() {
            request.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        request.execute().await.with_context(|| format!("cannot give {link} the address {address}/{prefix}"))
    }

    /// Takes an address from a link.
    ///
    /// # Errors
    /// Where it does not have it, or the kernel refuses.
    pub async fn delete_address(&self, link: &str, address: IpAddr) -> Result<()> {
        let index = self.index(link).await?;
        let mut found = self.handle.address().get().set_link_index_filter(index).set_address_filter(address).execute();
        let message = found.try_next().await?.with_context(|| format!("{link} does not have {address}"))?;
        let deleted = self.handle.address().del(message).execute().await;
        deleted.with_context(|| format!("cannot take {address} from {link}"))
    }

    /// Adds a route; without a gateway its packets are dropped (type blackhole).
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub async fn add_route(&self, to: (IpAddr, u8), gateway: Option<IpAddr>) -> Result<()> {
        let mut route = RouteMessageBuilder::<IpAddr>::new().destination_prefix(to.0, to.1)?;
        route = match gateway {
            Some(gateway) => route.gateway(gateway)?,
            None => route.kind(RouteType::BlackHole),
        };
        let added = self.handle.route().add(route.build()).execute().await;
        added.with_context(|| format!("cannot add a route to {}/{}", to.0, to.1))
    }

    /// All routes of the main table that lead exactly to this network.
    ///
    /// # Errors
    /// Where the kernel refuses the dump.
    pub async fn routes_to(&self, to: (IpAddr, u8)) -> Result<Vec<RouteMessage>> {
        // A request that names a destination asks for the route a packet would take instead of a dump.
        let mut filter = match to.0 {
            IpAddr::V4(_) => RouteMessageBuilder::<Ipv4Addr>::new().build(),
            IpAddr::V6(_) => RouteMessageBuilder::<Ipv6Addr>::new().build(),
        };
        // The builder means "static", and a dump would tell of no others.
        filter.header.protocol = RouteProtocol::Unspec;
        let all: Vec<_> = self.handle.route().get(filter).execute().try_collect().await?;
        Ok(all.into_iter().filter(|route| is_to(route, to)).collect())
    }

    /// Deletes a route as dumped before.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub async fn delete_route(&self, mut route: RouteMessage) -> Result<()> {
        // A dump tells a nexthop object and what it resolves to; a request may hold only one of the two.
        route.attributes.retain(|attribute| {
            matches!(attribute, RouteAttribute::Destination(_) | RouteAttribute::Priority(_) | RouteAttribute::Table(_))
        });
        self.handle.route().del(route).execute().await.context("cannot delete the route")
    }

    /// The neighbours of a family on a link.
    ///
    /// # Errors
    /// Where there is no such link, or the kernel refuses the dump.
    pub async fn neighbours(&self, link: &str, family: AddressFamily) -> Result<Vec<NeighbourMessage>> {
        let index = self.index(link).await?;
        let request = self.handle.neighbours().get().set_address_family(family);
        let all: Vec<_> = request.execute().try_collect().await?;
        Ok(all.into_iter().filter(|neighbour| neighbour.header.ifindex == index).collect())
    }

    /// Deletes a neighbour or forwarding entry as dumped before.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub async fn delete_neighbour(&self, neighbour: NeighbourMessage) -> Result<()> {
        self.handle.neighbours().del(neighbour).execute().await.context("cannot delete the entry")
    }
}

/// The default route's network of a family.
pub const fn default_network(family: Family) -> (IpAddr, u8) {
    match family {
        Family::V4 => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        Family::V6 => (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
    }
}

fn is_to(route: &RouteMessage, to: (IpAddr, u8)) -> bool {
    let destination = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::from(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::from(*address)),
        _ => None,
    });
    route.header.destination_prefix_length == to.1
        && route.header.table == rtnetlink::packet_route::route::RouteHeader::RT_TABLE_MAIN
        // The kernel leaves the destination of a default route out.
        && (destination == Some(to.0) || (destination.is_none() && to.1 == 0))
}
