//! The MTU of running pods follows that of the node, where the agent may enter their namespaces.
//!
//! Both ends of a pair or none: a veth drops, without a word, what is larger than the MTU of the end that receives it.
//! The pod's end can only be changed from inside (rtnetlink addresses a link of another namespace for reading and
//! deleting only), and that takes CAP_SYS_ADMIN. An agent without it leaves both ends alone: routes carry the path's
//! MTU, so that pods learn by ICMP of a path that became narrower, and pods made later have the new one.
//!
//! The host's end comes last: where it has the wanted MTU, nothing is left to do, also after a crash in between.

use std::path::Path;

use super::{Record, witness::PodLink};
use crate::veth::{Netlink, Netns, VethError, messages};

/// Sets the MTU of both ends, in bytes. Blocking.
pub(super) fn follow(record: &Record, host_end: &PodLink, mtu: u32) -> Result<(), VethError> {
    Netns::open(Path::new(&record.netns))?.inside(|| follow_inside(record, host_end.mtu, mtu))?;
    Ok(Netlink::open()?.one(messages::mtu(host_end.index, host_end.name.as_str(), mtu))?)
}

fn follow_inside(record: &Record, old: u32, mtu: u32) -> Result<(), VethError> {
    let name = record.key.interface();
    let mut pod = Netlink::open()?;
    let link = pod.link(name.as_str())?.filter(|link| link.mac == Some(record.pod_mac));
    let link = link.ok_or(VethError::NotOurs(name))?;
    // A plugin behind us in the chain made it smaller on purpose, and smaller it stays.
    if link.mtu < old && link.mtu <= mtu {
        return Ok(());
    }
    Ok(pod.one(messages::mtu(link.index, name.as_str(), mtu))?)
}
