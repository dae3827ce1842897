//! Messages that read, make, change and delete links.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage as Message,
    link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoVxlan, LinkAttribute, LinkExtentMask, LinkMessage},
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVxlan};
use weft_core::{
    kernel::{ALIAS, Device},
    types::LinkName,
};

use crate::kernel::rtnl::connection::Batch;

/// Without statistics, which are most of a link's message.
fn brief() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

/// All links.
pub(in crate::kernel::rtnl) fn dump() -> Message {
    Message::GetLink(LinkMessageBuilder::<LinkUnspec>::default().append_extra_attribute(brief()).build())
}

/// One link.
pub(in crate::kernel::rtnl) fn by_name(name: LinkName) -> Message {
    Message::GetLink(LinkUnspec::new_with_name(name.as_str()).append_extra_attribute(brief()).build())
}

/// Deletes a link.
pub(in crate::kernel::rtnl) fn delete(name: LinkName) -> Message {
    Message::DelLink(LinkUnspec::new_with_name(name.as_str()).build())
}

/// Makes the device. The kernel takes alias and address generation only once the link exists (`rtnl_create_link` in
/// net/core/rtnetlink.c knows neither), hence several messages; sent in one piece they are carried out in one piece, so that
/// no device without our mark stays behind. `ipv6`: the host knows IPv6, else it refuses to hear of address generation.
pub(in crate::kernel::rtnl) fn create(batch: &mut Batch, device: &Device, ipv6: bool) {
    let message = with_local(LinkVxlan::new(device.name.as_str(), device.vni.get()), device.local)
        .port(device.port)
        .learning(false)
        .append_info_data(InfoVxlan::UDPCsum(device.local.is_ipv6()))
        .append_info_data(InfoVxlan::UDPZeroCsumTX(false))
        .append_info_data(InfoVxlan::UDPZeroCsumRX(false))
        .address(device.mac.octets().to_vec())
        .mtu(device.mtu)
        .build();
    push(batch, NLM_F_CREATE | NLM_F_EXCL, Message::NewLink(message));
    let named = || LinkUnspec::new_with_name(device.name.as_str());
    mark(batch, device.name);
    if ipv6 {
        let none = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
        let link = named().append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![none]));
        push(batch, 0, Message::SetLink(link.build()));
    }
    if device.up {
        push(batch, 0, Message::SetLink(named().up().build()));
    }
}

/// Marks a link as ours.
pub(in crate::kernel::rtnl) fn mark(batch: &mut Batch, name: LinkName) {
    push(batch, 0, Message::SetLink(LinkUnspec::new_with_name(name.as_str()).alias(ALIAS).build()));
}

/// Makes the device `old`, which can become `new`, be `new`.
pub(in crate::kernel::rtnl) fn change(batch: &mut Batch, old: &Device, new: &Device) {
    let named = || LinkUnspec::new_with_name(new.name.as_str());
    if old.local != new.local {
        let named = LinkMessageBuilder::<LinkVxlan>::new(new.name.as_str());
        push(batch, 0, Message::NewLink(with_local(named, new.local).build()));
    }
    // One attribute a message: a refused one must not hold back the others.
    if old.mac != new.mac {
        push(batch, 0, Message::SetLink(named().address(new.mac.octets().to_vec()).build()));
    }
    if old.mtu != new.mtu {
        push(batch, 0, Message::SetLink(named().mtu(new.mtu).build()));
    }
    if old.up != new.up {
        let message: LinkMessage = if new.up { named().up().build() } else { named().down().build() };
        push(batch, 0, Message::SetLink(message));
    }
}

/// IPv4 outer packets carry no UDP checksum (RFC 7348, section 4.3; and faulty offloads of it are a known plague), IPv6 ones
/// do (RFC 6935 allows none only under conditions that we cannot check).
fn with_local(link: LinkMessageBuilder<LinkVxlan>, local: IpAddr) -> LinkMessageBuilder<LinkVxlan> {
    match local {
        IpAddr::V4(local) => link.local(local),
        IpAddr::V6(local) => link.local6(local),
    }
}

#[allow(clippy::needless_pass_by_value)]
fn push(batch: &mut Batch, flags: u16, message: Message) {
    batch.push(crate::kernel::rtnl::connection::acknowledged(flags), &message);
}
