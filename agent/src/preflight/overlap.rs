//! Pools that overlap networks which the host knows otherwise.
//!
//! A subnet of the host inside a pool, or a pool inside a subnet, loses packets of both; a foreign route inside a pool
//! takes pods' packets away. A wider route merely loses the pool's part of it, which may be meant.

use ipnetwork::IpNetwork;
use weft_core::{settings::Settings, types::PodCidr};

use super::{
    Finding, error,
    host::{Host, HostRoute},
    warning,
};

pub(super) fn check(settings: &Settings, host: &Host) -> Vec<Finding> {
    settings.pools.iter().flat_map(|pool| of_pool(pool, host)).collect()
}

fn of_pool(pool: &PodCidr, host: &Host) -> Vec<Finding> {
    let subnets = host.addresses.iter().filter(|(_, address)| overlap(pool.network(), *address));
    let mut findings: Vec<Finding> = subnets
        .map(|(link, address)| {
            let name = host.name(*link);
            let subnet = IpNetwork::new(address.network(), address.prefix()).unwrap_or(*address);
            error(
                "PoolOverlapsSubnet",
                format!(
                    "pool {pool} overlaps subnet {subnet} of link {name} (address {}): choose a pool outside the \
                 host's networks (weft-controller init --pool), or remove that address if another overlay left it \
                 behind (ip address delete {address} dev {name})",
                    address.ip()
                ),
            )
        })
        .collect();
    let routes = host.routes.iter().filter(|route| route.to.prefix() > 0 && overlap(pool.network(), route.to));
    findings.extend(routes.map(|route| of_route(pool, route, host)));
    findings
}

fn of_route(pool: &PodCidr, route: &HostRoute, host: &Host) -> Finding {
    let (to, by) = (route.to, route.link.map(|link| format!(" by {}", host.name(link))).unwrap_or_default());
    if to.prefix() < pool.prefix() {
        return warning(
            "PoolInsideRoute",
            format!(
                "pool {pool} is part of the host's route to {to}{by}: hosts behind that route whose addresses are \
             in the pool cannot be reached any more; if there are any, choose another pool (weft-controller init \
             --pool)"
            ),
        );
    }
    error(
        "PoolOverlapsRoute",
        format!(
            "the host's route to {to}{by} leads away packets to pods of pool {pool}: choose another pool \
         (weft-controller init --pool), or remove the route if another overlay left it behind (ip route delete \
         {to})"
        ),
    )
}

/// True where the two share an address. Host bits are of no matter.
fn overlap(a: IpNetwork, b: IpNetwork) -> bool {
    let (wide, narrow) = if a.prefix() <= b.prefix() { (a, b) } else { (b, a) };
    a.is_ipv4() == b.is_ipv4() && wide.contains(narrow.ip())
}
