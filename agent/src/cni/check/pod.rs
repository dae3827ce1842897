//! The pod's end, as the kernel has it. Runs inside the pod's namespace.

use std::{fs, net::IpAddr};

use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::{RouteAddress, RouteAttribute, RouteMessage},
};

use super::{
    super::{
        CniError,
        netlink::Netlink,
        plan::{Plan, gateway},
        wire,
    },
    Problems, end,
};

/// All differences of the pod's end.
pub(super) fn check(plan: &Plan, mtus: &[u32]) -> Result<Problems, CniError> {
    let mut pod = Netlink::open().map_err(wire::kernel)?;
    let name = plan.interface.as_str();
    let Some(link) = pod.link(name).map_err(wire::kernel)? else {
        return Ok(vec![format!("interface {name} is missing in the pod")]);
    };
    let index = link.header.index;
    let mut problems = end(&link, &format!("interface {name} in the pod"), plan.pod_mac, mtus);
    problems.extend(addresses(&mut pod, plan, index)?);
    problems.extend(neighbours(&mut pod, plan, index)?);
    problems.extend(routes(&mut pod, plan, index)?);
    problems.extend(router_advertisements(plan));
    Ok(problems)
}

fn addresses(pod: &mut Netlink, plan: &Plan, index: u32) -> Result<Problems, CniError> {
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let found: Vec<AddressMessage> = pod
        .dump("list the pod's addresses", &request)
        .map_err(wire::kernel)?
        .into_iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewAddress(address) if address.header.index == index => Some(address),
            _ => None,
        })
        .collect();
    let mut problems = Vec::new();
    for wanted in plan.addresses.iter() {
        match found.iter().find(|message| address_of(message) == Some(*wanted)) {
            None => problems.push(format!("address {wanted} is missing on {} in the pod", plan.interface)),
            Some(message) if is_unusable(message) => {
                problems.push(format!("address {wanted} on {} in the pod is tentative or a duplicate", plan.interface));
            }
            Some(_) => {}
        }
    }
    Ok(problems)
}

/// On a veth `IFA_LOCAL` is the address; IPv6 without a peer has `IFA_ADDRESS` only.
fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

fn is_unusable(message: &AddressMessage) -> bool {
    message.attributes.iter().any(|attribute| {
        matches!(attribute, AddressAttribute::Flags(flags)
            if flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed))
    })
}

fn neighbours(pod: &mut Netlink, plan: &Plan, index: u32) -> Result<Problems, CniError> {
    let request = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
    let found = pod.dump("list the pod's neighbours", &request).map_err(wire::kernel)?;
    let is_there = |gateway: IpAddr| {
        found.iter().any(|message| match message {
            RouteNetlinkMessage::NewNeighbour(neighbour) => leads_to(neighbour, gateway, plan, index),
            _ => false,
        })
    };
    let missing = plan.families().map(gateway).filter(|gateway| !is_there(*gateway));
    let text = |gateway| format!("permanent neighbour {gateway} with MAC {} is missing in the pod", plan.host_mac);
    Ok(missing.map(text).collect())
}

fn leads_to(neighbour: &NeighbourMessage, gateway: IpAddr, plan: &Plan, index: u32) -> bool {
    let wanted = [
        NeighbourAttribute::Destination(NeighbourAddress::from(gateway)),
        NeighbourAttribute::LinkLayerAddress(plan.host_mac.octets().to_vec()),
    ];
    neighbour.header.ifindex == index
        && neighbour.header.state == NeighbourState::Permanent
        && wanted.iter().all(|attribute| neighbour.attributes.contains(attribute))
}

fn routes(pod: &mut Netlink, plan: &Plan, index: u32) -> Result<Problems, CniError> {
    let request = RouteNetlinkMessage::GetRoute(RouteMessage::default());
    let found = pod.dump("list the pod's routes", &request).map_err(wire::kernel)?;
    let is_default = |message: &RouteNetlinkMessage, gateway: IpAddr| {
        let RouteNetlinkMessage::NewRoute(route) = message else { return false };
        let family = if gateway.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        route.header.address_family == family
            && route.header.destination_prefix_length == 0
            && route.attributes.contains(&RouteAttribute::Oif(index))
            && route.attributes.contains(&RouteAttribute::Gateway(RouteAddress::from(gateway)))
    };
    let missing = plan.families().map(gateway).filter(|gateway| !found.iter().any(|one| is_default(one, *gateway)));
    Ok(missing.map(|gateway| format!("default route via {gateway} is missing in the pod")).collect())
}

/// A router advertisement, which any neighbour could forge, must not change the pod's routes.
fn router_advertisements(plan: &Plan) -> Option<String> {
    let path = format!("/proc/sys/net/ipv6/conf/{}/accept_ra", plan.interface);
    let value = fs::read_to_string(path).ok()?;
    (value.trim() != "0")
        .then(|| format!("accept_ra of {} in the pod is {} instead of 0", plan.interface, value.trim()))
}
