//! What the kernel can do, asked by feature and not by version.
//!
//! Each question is a request that the kernel has to refuse: how it refuses tells whether it knows the thing. Kernel
//! modules come in as the kernel itself loads them for such requests. Must never send one that could be granted.

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NetlinkSerializable};
use rustix::io::Errno;
use weft_core::types::Family;

use super::{Finding, Input, error, unread};
use crate::kernel::{
    KernelError,
    netlink::connection::{Batch, Connection, Part},
    nft::Nft,
};

/// `RTM_NEWLINK` and `RTM_GETNEXTHOP`.
const NEW_LINK: u16 = 16;
const GET_NEXTHOP: u16 = 106;
/// Lengths of `struct ifinfomsg` and `struct nhmsg`.
const LINK_HEADER: usize = 16;
const NEXTHOP_HEADER: usize = 8;
/// `IFLA_LINKINFO` and `IFLA_INFO_KIND`.
const LINK_INFO: u16 = 18;
const INFO_KIND: u16 = 1;

/// A message as bytes.
pub(super) struct Raw {
    pub(super) kind: u16,
    pub(super) payload: Vec<u8>,
}

impl NetlinkSerializable for Raw {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.payload.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer[..self.payload.len()].copy_from_slice(&self.payload);
    }
}

/// VXLAN devices and nexthop objects.
pub(super) async fn check_links(route: &mut Connection) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(check_vxlan(route).await);
    findings.extend(check_nexthops(route).await);
    findings
}

/// Asks for a VXLAN device without a VNI, which `vxlan_validate` (drivers/net/vxlan/vxlan_core.c) refuses.
async fn check_vxlan(route: &mut Connection) -> Option<Finding> {
    let kind = attribute(INFO_KIND, b"vxlan\0");
    let payload = [vec![0; LINK_HEADER], attribute(LINK_INFO, &kind)].concat();
    let mut batch = Batch::default();
    batch.push(NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &Raw { kind: NEW_LINK, payload });
    let outcomes = match route.exchange(&mut batch, "VXLAN devices", |_, _| {}).await {
        Ok(outcomes) => outcomes,
        Err(error) => return Some(unread("the kernel's support of VXLAN devices", &error)),
    };
    let refusal = outcomes.into_iter().next().flatten()?;
    (refusal.errno == Errno::OPNOTSUPP.raw_os_error()).then(|| {
        let message = format!(
            "the kernel has no VXLAN devices ({}): use a kernel with CONFIG_VXLAN, or install the package with \
             its module vxlan",
            refusal.message
        );
        error("NoVxlan", message)
    })
}

/// Dumps nexthop objects.
async fn check_nexthops(route: &mut Connection) -> Option<Finding> {
    let request = Raw { kind: GET_NEXTHOP, payload: vec![0; NEXTHOP_HEADER] };
    let result = route.dump(&request, "nexthop objects", |_: Part<'_>| {}).await;
    match result {
        Err(KernelError::Refused { errno, message, .. }) if errno == Errno::OPNOTSUPP.raw_os_error() => {
            let message = format!("the kernel has no nexthop objects ({message}): use Linux 5.15 or later");
            Some(error("NoNexthops", message))
        }
        Err(other) => Some(unread("nexthop objects", &other)),
        Ok(()) => None,
    }
}

/// Everything that table `inet weft` is made of.
pub(super) async fn check_nftables(nft: &mut Nft) -> Option<Finding> {
    match nft.trial().await {
        Ok(()) => None,
        // Without the capability the kernel looks at nothing; that it is missing is a finding of its own.
        Err(KernelError::Refused { errno, .. }) if errno == Errno::PERM.raw_os_error() => None,
        Err(refused) => {
            let message = format!(
                "the kernel does not take {refused}: use a kernel with CONFIG_NF_TABLES_INET, CONFIG_NFT_MASQ, \
                 CONFIG_NFT_CT and CONFIG_NF_NAT, or install the package with these modules"
            );
            Some(error("NoNftables", message))
        }
    }
}

/// IPv6, where the overlay or the underlay needs it.
pub(super) fn check_ipv6(input: &Input) -> Option<Finding> {
    let settings = input.settings.as_ref()?;
    let needed = settings.outer == Family::V6 || input.may_carry(Family::V6);
    (needed && !std::path::Path::new("/proc/net/if_inet6").exists()).then(|| {
        let message =
            "the kernel has no IPv6, which the cluster's settings need: boot without ipv6.disable=1".to_owned();
        error("NoIpv6", message)
    })
}

/// No netlink socket at all.
pub(super) fn no_netlink(cause: &KernelError) -> Finding {
    let message = format!(
        "no netlink socket can be opened ({cause}): allow address family AF_NETLINK (systemd: \
         RestrictAddressFamilies, containers: seccomp profile) and use a kernel with netfilter"
    );
    error("NoNetlink", message)
}

pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("a few bytes");
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
