//! The MTU of running pods follows that of the node, where the agent may enter their namespaces.
//!
//! Both ends of a pair or none: a veth drops, without a word, what is larger than the MTU of the end that receives it.
//! The pod's end can only be changed from inside (rtnetlink addresses a link of another namespace for reading and
//! deleting only), and that takes CAP_SYS_ADMIN. An agent without it leaves both ends alone: routes carry the path's
//! MTU, so that pods learn by ICMP of a path that became narrower, and pods made later have the new one.
//!
//! The host's end comes last: where it has the wanted MTU, nothing is left to do, also after a crash in between.

use std::path::Path;

use netlink_packet_route::link::{LinkAttribute, LinkMessage};

use super::{Record, witness::PodLink};
use crate::cni::{
    CniError, Code,
    netlink::{Netlink, NetlinkError, messages},
    netns::Netns,
};

/// Sets the MTU of both ends, in bytes. Blocking.
pub(super) fn follow(record: &Record, host_end: &PodLink, mtu: u32) -> Result<(), CniError> {
    Netns::open(Path::new(&record.netns))?.inside(|| follow_inside(record, host_end.mtu, mtu))?;
    let mut host = Netlink::open().map_err(kernel)?;
    host.one(messages::mtu(host_end.index, host_end.name.as_str(), mtu)).map_err(kernel)
}

fn follow_inside(record: &Record, old: u32, mtu: u32) -> Result<(), CniError> {
    let name = record.key.interface();
    let mut pod = Netlink::open().map_err(kernel)?;
    let link = pod.link(name.as_str()).map_err(kernel)?.filter(|link| has_mac(link, record));
    let link = link.ok_or_else(|| CniError::new(Code::Kernel, format!("interface {name} of the pod is not ours")))?;
    let now = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    });
    // A plugin behind us in the chain made it smaller on purpose, and smaller it stays.
    if now.is_some_and(|now| now < old && now <= mtu) {
        return Ok(());
    }
    pod.one(messages::mtu(link.header.index, name.as_str(), mtu)).map_err(kernel)
}

fn has_mac(link: &LinkMessage, record: &Record) -> bool {
    let ours = record.pod_mac.octets();
    link.attributes.iter().any(|attribute| matches!(attribute, LinkAttribute::Address(octets) if *octets == ours))
}

#[allow(clippy::needless_pass_by_value, reason = "used as a function in map_err")]
fn kernel(error: NetlinkError) -> CniError {
    CniError::new(Code::Kernel, error.to_string())
}
