//! Reading links (rtnetlink(7), include/uapi/linux/if_link.h).

use std::net::IpAddr;

use weft_core::{
    kernel::ALIAS,
    types::{Family, Vni},
};

use super::{Link, Vxlan};
use crate::kernel::rtnl::wire::{attributes, ip, link_name, mac, nested, number, text, u16_at, u32_at};

/// Length of `struct ifinfomsg`.
const HEADER: usize = 16;
const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 1 << 3;
const IFF_LOWER_UP: u32 = 1 << 16;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const AF_INET6: u16 = 10;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;

pub(super) fn link(payload: &[u8]) -> Option<Link> {
    let index = u32_at(payload, 4)?;
    let flags = u32_at(payload, 8)?;
    let (mut name, mut address, mut mtu, mut alias, mut vxlan) = (None, None, 0, None, None);
    let (mut enslaved, mut no_address_generated, mut of_kind) = (false, true, None);
    for (kind, value) in attributes(payload, HEADER) {
        match kind {
            IFLA_IFNAME => name = link_name(value),
            IFLA_ADDRESS => address = mac(value),
            IFLA_MTU => mtu = number(value)?,
            IFLA_IFALIAS => alias = Some(text(value)),
            IFLA_MASTER => enslaved = number(value) != Some(0),
            IFLA_LINKINFO => {
                vxlan = vxlan_info(value);
                of_kind = info_kind(value);
            }
            IFLA_AF_SPEC => no_address_generated = generates_no_address(value),
            _ => {}
        }
    }
    if let Some(vxlan) = &mut vxlan {
        vxlan.sound &= !enslaved && no_address_generated;
    }
    Some(Link {
        index,
        name: name?,
        marked: alias == Some(Some(ALIAS)),
        aliased: alias.is_some(),
        mac: address,
        mtu,
        up: flags & IFF_UP != 0,
        carrier: flags & IFF_LOWER_UP != 0,
        loopback: flags & IFF_LOOPBACK != 0,
        vxlan,
        veth: of_kind == Some("veth"),
        leads_to_guests: matches!(of_kind, Some("bridge" | "veth")),
    })
}

/// True where the link makes no IPv6 link-local address of its own, also because it carries no IPv6 at all.
fn generates_no_address(value: &[u8]) -> bool {
    let inet6 = nested(value).find(|(family, _)| *family == AF_INET6);
    let mode = inet6.and_then(|(_, value)| nested(value).find(|(kind, _)| *kind == IFLA_INET6_ADDR_GEN_MODE));
    mode.is_none_or(|(_, mode)| mode.first() == Some(&IN6_ADDR_GEN_MODE_NONE))
}

fn info_kind(value: &[u8]) -> Option<&str> {
    nested(value).find(|(kind, _)| *kind == IFLA_INFO_KIND).and_then(|(_, kind)| text(kind))
}

fn vxlan_info(value: &[u8]) -> Option<Vxlan> {
    if info_kind(value) != Some("vxlan") {
        return None;
    }
    let data = nested(value).find(|(kind, _)| *kind == IFLA_INFO_DATA);
    Some(vxlan(data.map(|(_, data)| data).unwrap_or_default()))
}

const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_GROUP: u16 = 2;
const IFLA_VXLAN_LINK: u16 = 3;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PROXY: u16 = 11;
const IFLA_VXLAN_RSC: u16 = 12;
const IFLA_VXLAN_L2MISS: u16 = 13;
const IFLA_VXLAN_L3MISS: u16 = 14;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_GROUP6: u16 = 16;
const IFLA_VXLAN_LOCAL6: u16 = 17;
const IFLA_VXLAN_UDP_ZERO_CSUM6_TX: u16 = 19;
const IFLA_VXLAN_UDP_ZERO_CSUM6_RX: u16 = 20;
const IFLA_VXLAN_REMCSUM_TX: u16 = 21;
const IFLA_VXLAN_REMCSUM_RX: u16 = 22;
const IFLA_VXLAN_GBP: u16 = 23;
const IFLA_VXLAN_COLLECT_METADATA: u16 = 25;
const IFLA_VXLAN_GPE: u16 = 27;
const IFLA_VXLAN_DF: u16 = 29;
const IFLA_VXLAN_VNIFILTER: u16 = 30;

fn vxlan(data: &[u8]) -> Vxlan {
    let mut vxlan = Vxlan { vni: None, external: false, port: 0, family: Family::V4, local: None, sound: true };
    for (kind, value) in nested(data) {
        match kind {
            IFLA_VXLAN_ID => vxlan.vni = number(value).and_then(|id| Vni::new(id).ok()),
            IFLA_VXLAN_PORT => vxlan.port = u16_at(value, 0).map_or(0, u16::from_be),
            IFLA_VXLAN_LOCAL | IFLA_VXLAN_LOCAL6 => vxlan.local = ip(value).filter(|a| !a.is_unspecified()),
            _ => vxlan.sound &= !departs(kind, value),
        }
        match kind {
            IFLA_VXLAN_LOCAL6 | IFLA_VXLAN_GROUP6 => vxlan.family = Family::V6,
            IFLA_VXLAN_COLLECT_METADATA => vxlan.external = value.first() == Some(&1),
            _ => {}
        }
    }
    vxlan
}

/// True where an attribute says that the device does something beside carrying packets to where the FDB says.
fn departs(kind: u16, value: &[u8]) -> bool {
    let set = value.iter().any(|byte| *byte != 0);
    match kind {
        IFLA_VXLAN_GROUP | IFLA_VXLAN_GROUP6 => ip(value).is_some_and(|group: IpAddr| !group.is_unspecified()),
        IFLA_VXLAN_GBP | IFLA_VXLAN_GPE => true,
        IFLA_VXLAN_LINK
        | IFLA_VXLAN_LEARNING
        | IFLA_VXLAN_PROXY
        | IFLA_VXLAN_RSC
        | IFLA_VXLAN_L2MISS
        | IFLA_VXLAN_L3MISS
        | IFLA_VXLAN_UDP_ZERO_CSUM6_TX
        | IFLA_VXLAN_UDP_ZERO_CSUM6_RX
        | IFLA_VXLAN_REMCSUM_TX
        | IFLA_VXLAN_REMCSUM_RX
        | IFLA_VXLAN_COLLECT_METADATA
        | IFLA_VXLAN_DF
        | IFLA_VXLAN_VNIFILTER => set,
        _ => false,
    }
}
