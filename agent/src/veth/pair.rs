//! The pair itself: created, configured inside the pod, found again, deleted.
//!
//! Must never touch a link that is not provably ours: a link of our name counts only with our alias, or while it has
//! none yet with the MAC that only we derive.

use std::{fs, io, net::IpAddr, path::Path};

use weft_core::{
    kernel::{GATEWAY_V4, GATEWAY_V6},
    types::{Family, LinkName, Mac, PerFamily},
};

use super::{
    AttachmentKey, Netlink, Netns, VethError,
    client::{EEXIST, ENODEV},
    messages,
};
use crate::kernel::rtnl::link::Link;

/// What the pair of an attachment is to look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    /// The host's end.
    pub(crate) link: LinkName,
    /// The pod's end.
    pub(crate) interface: LinkName,
    /// MAC of the host's end.
    pub(crate) host_mac: Mac,
    /// MAC of the pod's end.
    pub(crate) pod_mac: Mac,
    /// The pod's addresses.
    pub(crate) addresses: PerFamily<Option<IpAddr>>,
    /// MTU of both ends in bytes.
    pub(crate) mtu: u32,
}

/// The gateway in pods of a family.
pub(crate) const fn gateway(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(GATEWAY_V4),
        Family::V6 => IpAddr::V6(GATEWAY_V6),
    }
}

impl Pair {
    /// The families the pod has addresses of.
    pub(crate) fn families(&self) -> impl Iterator<Item = Family> {
        self.addresses.iter().map(|address| Family::of(*address))
    }

    /// Creates the pair and sets the host's end up. What an earlier, interrupted ADD of the same attachment left is
    /// removed first.
    pub(crate) fn create(&self, host: &mut Netlink, netns: &Netns) -> Result<(), VethError> {
        let request = || messages::create_veth(self, netns.raw_fd());
        match host.one(request()) {
            Err(error) if error.errno == EEXIST => {
                if !delete(host, self.link, self.host_mac)? {
                    // Ours did not exist, so it is the pod's end whose name is taken.
                    return Err(VethError::Taken { interface: self.interface, source: error });
                }
                host.one(request())?;
            }
            other => other?,
        }
        crate::fault::point("after-create");
        Ok(host.one(messages::host_up(self, has_ipv6()))?)
    }

    /// Configures the pod's end, inside the pod's namespace.
    pub(crate) fn configure_pod(&self, netns: &Netns) -> Result<(), VethError> {
        netns.inside(|| {
            let mut pod = Netlink::open()?;
            let name = self.interface.as_str();
            let index = pod.link(name)?.ok_or(VethError::Vanished(self.interface))?.index;
            sysctls(self)?;
            crate::fault::point("inside-pod");
            let mut requests = vec![messages::up("lo")];
            requests.extend(self.addresses.iter().map(|address| messages::address(index, *address)));
            requests.push(messages::up(name));
            for gateway in self.families().map(gateway) {
                requests.push(messages::neighbour(index, gateway, self.host_mac));
                // IPv6 needs none: every link has fe80::/64.
                if gateway.is_ipv4() {
                    requests.push(messages::gateway_route(index, gateway));
                }
                requests.push(messages::default_route(index, gateway));
            }
            // The kernel makes these by itself, but from a work queue, duplicate address detection or not (`addrconf_dad_work`
            // in net/ipv6/addrconf.c), and on a busy host later than the pod's first packet.
            let ipv6 = self.addresses.iter().filter(|address| address.is_ipv6());
            requests.extend(ipv6.map(|address| messages::local_route(index, *address)));
            Ok(pod.batch(&requests)?)
        })
    }
}

/// Takes the pair of an attachment away, by its host's end; false where there is none. A link of that name that is not ours
/// is an error.
pub(crate) fn unplug(key: &AttachmentKey) -> Result<bool, VethError> {
    delete(&mut Netlink::open()?, key.link(), key.host_mac())
}

fn delete(host: &mut Netlink, link: LinkName, mac: Mac) -> Result<bool, VethError> {
    let Some(found) = host.link(link.as_str())? else { return Ok(false) };
    if !is_ours(&found, mac) {
        return Err(VethError::Foreign(link));
    }
    match host.one(messages::delete(link.as_str())) {
        Err(error) if error.errno == ENODEV => Ok(true),
        other => Ok(other.map(|()| true)?),
    }
}

/// True for a veth with our alias, or without one but with the MAC we derive.
pub(crate) fn is_ours(link: &Link, mac: Mac) -> bool {
    link.veth && (link.marked || (!link.aliased && link.mac == Some(mac)))
}

/// Before the interface is up: router advertisements do not count, addresses are usable at once, and IPv6 is on where
/// the pod has an address of it (some runtimes switch it off in new namespaces).
fn sysctls(pair: &Pair) -> Result<(), VethError> {
    if !has_ipv6() {
        return Ok(());
    }
    let mut settings = vec![("accept_ra", "0"), ("accept_dad", "0")];
    if pair.families().any(|family| family == Family::V6) {
        settings.push(("disable_ipv6", "0"));
    }
    for (name, value) in settings {
        let path = format!("/proc/sys/net/ipv6/conf/{}/{name}", pair.interface);
        // Reading takes no lock; writing may spin for one that every namespace of the host shares.
        if fs::read_to_string(&path).is_ok_and(|now| now.trim() == value) {
            continue;
        }
        match fs::write(&path, value) {
            // No IPv6 on this interface: nothing to guard against, and an IPv6 address fails by itself.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(|source| VethError::Sysctl { path, value, source })?,
        }
    }
    Ok(())
}

fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}
