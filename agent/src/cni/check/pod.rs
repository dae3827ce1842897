//! The pod's end, as the kernel has it. Runs inside the pod's namespace.

use std::{fs, net::IpAddr};

use netlink_packet_route::{
    RouteNetlinkMessage,
    address::{AddressFlags, AddressMessage},
    neighbour::NeighbourMessage,
    route::RouteMessage,
};
use weft_core::types::Family;

use super::{super::CniError, Problems, end};
use crate::{
    kernel::rtnl::{address::Address, neighbour::Neighbour, route::Found},
    veth::{Netlink, Pair, VethError, gateway},
};

/// All differences of the pod's end.
pub(super) fn check(pair: &Pair, mtus: &[u32]) -> Result<Problems, CniError> {
    let mut pod = Netlink::open()?;
    let name = pair.interface.as_str();
    let Some(link) = pod.link(name)? else {
        return Ok(vec![format!("interface {name} is missing in the pod")]);
    };
    let index = link.index;
    let mut problems = end(&link, &format!("interface {name} in the pod"), pair.pod_mac, mtus);
    problems.extend(addresses(&mut pod, pair, index)?);
    problems.extend(neighbours(&mut pod, pair, index)?);
    problems.extend(routes(&mut pod, pair, index)?);
    problems.extend(router_advertisements(pair));
    Ok(problems)
}

fn addresses(pod: &mut Netlink, pair: &Pair, index: u32) -> Result<Problems, VethError> {
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let dump = pod.dump("list the pod's addresses", &request)?;
    let found: Vec<_> =
        dump.iter().filter_map(|payload| Address::read(payload)).filter(|address| address.link == index).collect();
    let mut problems = Vec::new();
    for wanted in pair.addresses.iter() {
        match found.iter().find(|address| address.address == *wanted) {
            None => problems.push(format!("address {wanted} is missing on {} in the pod", pair.interface)),
            Some(address) if address.flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed) => {
                problems.push(format!("address {wanted} on {} in the pod is tentative or a duplicate", pair.interface));
            }
            Some(_) => {}
        }
    }
    Ok(problems)
}

fn neighbours(pod: &mut Netlink, pair: &Pair, index: u32) -> Result<Problems, VethError> {
    let request = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
    let dump = pod.dump("list the pod's neighbours", &request)?;
    let found: Vec<_> = dump.iter().filter_map(|payload| Neighbour::read(payload)).collect();
    let is_there =
        |gateway: &IpAddr| found.contains(&Neighbour { link: index, address: *gateway, mac: Some(pair.host_mac) });
    let missing = pair.families().map(gateway).filter(|gateway| !is_there(gateway));
    let text = |gateway| format!("permanent neighbour {gateway} with MAC {} is missing in the pod", pair.host_mac);
    Ok(missing.map(text).collect())
}

fn routes(pod: &mut Netlink, pair: &Pair, index: u32) -> Result<Problems, VethError> {
    let request = RouteNetlinkMessage::GetRoute(RouteMessage::default());
    let dump = pod.dump("list the pod's routes", &request)?;
    let found: Vec<_> = dump.iter().filter_map(|payload| Found::read(payload)).collect();
    let is_default = |route: &Found, gateway: IpAddr| {
        Family::of(route.to.ip()) == Family::of(gateway)
            && route.to.prefix() == 0
            && route.link == Some(index)
            && route.gateway == Some(gateway)
    };
    let missing = pair.families().map(gateway).filter(|gateway| !found.iter().any(|one| is_default(one, *gateway)));
    Ok(missing.map(|gateway| format!("default route via {gateway} is missing in the pod")).collect())
}

/// A router advertisement, which any neighbour could forge, must not change the pod's routes.
fn router_advertisements(pair: &Pair) -> Option<String> {
    let path = format!("/proc/sys/net/ipv6/conf/{}/accept_ra", pair.interface);
    let value = fs::read_to_string(path).ok()?;
    (value.trim() != "0")
        .then(|| format!("accept_ra of {} in the pod is {} instead of 0", pair.interface, value.trim()))
}
