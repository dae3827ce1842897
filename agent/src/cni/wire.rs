//! The veth pair: created, configured inside the pod, deleted.
//!
//! Must never touch a link that is not provably ours: a link of our name counts only with our alias, or while it has
//! none yet with the MAC that only we derive.

use std::{fs, io, path::Path};

use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use weft_core::{
    kernel::ALIAS,
    types::{Family, LinkName, Mac},
};

use super::{
    CniError, Code,
    netlink::{EEXIST, ENODEV, Netlink, NetlinkError, messages},
    netns::Netns,
    plan::{Plan, gateway},
};

/// Creates the pair and sets the host's end up. What an earlier, interrupted ADD of the same attachment left is
/// removed first.
pub(super) fn create(host: &mut Netlink, plan: &Plan, netns: &Netns) -> Result<(), CniError> {
    let request = || messages::create_veth(plan, netns.raw_fd());
    match host.one(request()) {
        Err(error) if error.errno == EEXIST => {
            if !delete(host, plan.link, plan.host_mac)? {
                // Ours did not exist, so it is the pod's end whose name is taken.
                let text = format!("interface {} exists in the pod already and is not Weft's", plan.interface);
                return Err(CniError::new(Code::Kernel, text).because(error));
            }
            host.one(request()).map_err(kernel)?;
        }
        other => other.map_err(kernel)?,
    }
    crate::fault::point("after-create");
    host.one(messages::host_up(plan, has_ipv6())).map_err(kernel)
}

/// Deletes the pair by its host's end; false where there is none. A link of that name that is not ours is an error.
pub(super) fn delete(host: &mut Netlink, link: LinkName, mac: Mac) -> Result<bool, CniError> {
    let Some(found) = host.link(link.as_str()).map_err(kernel)? else { return Ok(false) };
    if !is_ours(&found, mac) {
        let text = format!("interface {link} exists and is not Weft's: remove or rename it");
        return Err(CniError::new(Code::Kernel, text));
    }
    match host.one(messages::delete(link.as_str())) {
        Err(error) if error.errno == ENODEV => Ok(true),
        other => other.map(|()| true).map_err(kernel),
    }
}

/// True for a veth with our alias, or without one but with the MAC we derive.
pub(crate) fn is_ours(link: &LinkMessage, mac: Mac) -> bool {
    let has = |wanted: &dyn Fn(&LinkAttribute) -> bool| link.attributes.iter().any(wanted);
    let kind = LinkInfo::Kind(InfoKind::Veth);
    let veth = has(&|attribute| matches!(attribute, LinkAttribute::LinkInfo(infos) if infos.contains(&kind)));
    let alias = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfAlias(alias) => Some(alias.as_str()),
        _ => None,
    });
    let derived = has(&|attribute| matches!(attribute, LinkAttribute::Address(octets) if *octets == mac.octets()));
    veth && (alias == Some(ALIAS) || (alias.is_none() && derived))
}

/// Configures the pod's end, inside the pod's namespace.
pub(super) fn configure_pod(plan: &Plan, netns: &Netns) -> Result<(), CniError> {
    netns.inside(|| {
        let mut pod = Netlink::open().map_err(kernel)?;
        let name = plan.interface.as_str();
        let link = pod.link(name).map_err(kernel)?.ok_or_else(|| {
            CniError::new(Code::Kernel, format!("interface {name} vanished from the pod while it was configured"))
        })?;
        sysctls(plan)?;
        crate::fault::point("inside-pod");
        let index = link.header.index;
        let mut requests = vec![messages::up("lo")];
        requests.extend(plan.addresses.iter().map(|address| messages::address(index, *address)));
        requests.push(messages::up(name));
        for gateway in plan.families().map(gateway) {
            requests.push(messages::neighbour(index, gateway, plan.host_mac));
            // IPv6 needs none: every link has fe80::/64.
            if gateway.is_ipv4() {
                requests.push(messages::gateway_route(index, gateway));
            }
            requests.push(messages::default_route(index, gateway));
        }
        // The kernel makes these by itself, but from a work queue, duplicate address detection or not (`addrconf_dad_work`
        // in net/ipv6/addrconf.c), and on a busy host later than the pod's first packet.
        let ipv6 = plan.addresses.iter().filter(|address| address.is_ipv6());
        requests.extend(ipv6.map(|address| messages::local_route(index, *address)));
        pod.batch(requests).map_err(kernel)
    })
}

/// Before the interface is up: router advertisements do not count, addresses are usable at once, and IPv6 is on where
/// the pod has an address of it (some runtimes switch it off in new namespaces).
fn sysctls(plan: &Plan) -> Result<(), CniError> {
    if !has_ipv6() {
        return Ok(());
    }
    let mut settings = vec![("accept_ra", "0"), ("accept_dad", "0")];
    if plan.families().any(|family| family == Family::V6) {
        settings.push(("disable_ipv6", "0"));
    }
    for (name, value) in settings {
        let path = format!("/proc/sys/net/ipv6/conf/{}/{name}", plan.interface);
        // Reading takes no lock; writing may spin for one that every namespace of the host shares.
        if fs::read_to_string(&path).is_ok_and(|now| now.trim() == value) {
            continue;
        }
        match fs::write(&path, value) {
            // No IPv6 on this interface: nothing to guard against, and an IPv6 address fails by itself.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(|error| {
                CniError::new(Code::Kernel, format!("{path} in the pod cannot be set to {value}")).because(error)
            })?,
        }
    }
    Ok(())
}

fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

/// A netlink error as a plugin's.
#[allow(clippy::needless_pass_by_value, reason = "used as a function in map_err")]
pub(super) fn kernel(error: NetlinkError) -> CniError {
    CniError::new(Code::Kernel, format!("the kernel refused: {error}"))
}
