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
    nft::{Missing, Module, Nft},
    rtnl::connection::{Batch, Connection, Part},
};

/// `RTM_NEWLINK` and `RTM_GETNEXTHOP`.
const NEW_LINK: u16 = 16;
const GET_NEXTHOP: u16 = 106;
/// Lengths of `struct ifinfomsg` and `struct nhmsg`.
const LINK_HEADER: usize = 16;
const NEXTHOP_HEADER: usize = 8;
/// `IFLA_ADDRESS`, `IFLA_LINKINFO` and `IFLA_INFO_KIND`.
const ADDRESS: u16 = 1;
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

/// A kind of link that has a module of its own.
struct Kind {
    name: &'static [u8],
    /// What makes the request one that the module's own check refuses.
    flaw: Vec<u8>,
    what: &'static str,
    code: &'static str,
    module: Module,
}

/// What to do where a module is missing.
fn remedy((module, option): Module) -> String {
    format!(
        "modprobe {module}, and where there is no such module install the package with this kernel's modules, or use a \
         kernel with {option}"
    )
}

/// VXLAN devices, veth pairs and nexthop objects.
pub(super) async fn check_links(route: &mut Connection) -> Vec<Finding> {
    // Without a VNI: `vxlan_validate` (drivers/net/vxlan/vxlan_core.c) refuses that.
    let vxlan = Kind {
        name: b"vxlan\0",
        flaw: Vec::new(),
        what: "VXLAN devices",
        code: "NoVxlan",
        module: ("vxlan", "CONFIG_VXLAN"),
    };
    // With an address that no link can have: `veth_validate` (drivers/net/veth.c) refuses it.
    let veth = Kind {
        name: b"veth\0",
        flaw: attribute(ADDRESS, &[0; 6]),
        what: "veth pairs, by which pods are attached",
        code: "NoVeth",
        module: ("veth", "CONFIG_VETH"),
    };
    let mut findings = Vec::new();
    for kind in [vxlan, veth] {
        findings.extend(check_kind(route, &kind).await);
    }
    findings.extend(check_nexthops(route).await);
    findings
}

/// Asks for a link that cannot be.
async fn check_kind(route: &mut Connection, kind: &Kind) -> Option<Finding> {
    let info = attribute(LINK_INFO, &attribute(INFO_KIND, kind.name));
    let payload = [vec![0; LINK_HEADER], kind.flaw.clone(), info].concat();
    let mut batch = Batch::default();
    batch.push(NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &Raw { kind: NEW_LINK, payload });
    let outcomes = match route.exchange(&mut batch, kind.what, |_, _| {}).await {
        Ok(outcomes) => outcomes,
        Err(error) => return Some(unread(&format!("the kernel's support of {}", kind.what), &error)),
    };
    let refusal = outcomes.into_iter().next().flatten()?;
    (refusal.errno == Errno::OPNOTSUPP.raw_os_error()).then(|| {
        let message = format!("the kernel has no {} ({}): {}", kind.what, refusal.message, remedy(kind.module));
        error(kind.code, message)
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
        Err(Missing { error: KernelError::Refused { errno, .. }, .. }) if errno == Errno::PERM.raw_os_error() => None,
        Err(missing) if missing.error.is_no_answer() => {
            Some(unread("the kernel's support of nftables", &missing.error))
        }
        Err(missing) => {
            let message = format!("the kernel does not take {}: {}", missing.error, remedy(missing.module));
            Some(error("NoNftables", message))
        }
    }
}

/// IPv6, where the overlay or the underlay needs it.
pub(super) fn check_ipv6(input: &Input) -> Option<Finding> {
    let settings = input.settings.as_ref()?;
    let needed = settings.outer() == Family::V6 || input.may_carry(Family::V6);
    (needed && !std::path::Path::new("/proc/net/if_inet6").exists()).then(|| {
        let message =
            "the kernel has no IPv6, which the cluster's settings need: boot without ipv6.disable=1".to_owned();
        error("NoIpv6", message)
    })
}

/// No netlink socket of netfilter's: the kernel lacks it, or there are none at all.
pub(super) fn no_netfilter(cause: &KernelError) -> Finding {
    let lacks = Errno::PROTONOSUPPORT.raw_os_error();
    if !matches!(cause, KernelError::Io { source, .. } if source.raw_os_error() == Some(lacks)) {
        return no_netlink(cause);
    }
    let remedy = remedy(("nfnetlink", "CONFIG_NETFILTER_NETLINK"));
    error("NoNftables", format!("the kernel has no netlink sockets of netfilter's ({cause}): {remedy}"))
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    /// NLMSG_ERROR with the number alone, as rtnetlink answers (`netlink_ack` without an extended ack).
    fn refusal(request: &[u8], errno: Errno) -> Vec<u8> {
        let mut header = request[..16].to_vec();
        header[..4].copy_from_slice(&36_u32.to_ne_bytes());
        header[4..6].copy_from_slice(&2_u16.to_ne_bytes());
        header[6..8].copy_from_slice(&0x100_u16.to_ne_bytes());
        [&header, &(-errno.raw_os_error()).to_ne_bytes()[..], &request[..16]].concat()
    }

    /// What is found on a kernel that refuses the requests in turn: a VXLAN device, a veth pair, the dump of nexthop objects.
    fn found(refusals: [Errno; 3]) -> Vec<Finding> {
        let (ours, kernel) = UnixDatagram::pair().expect("two sockets");
        let answering = std::thread::spawn(move || {
            for errno in refusals {
                let mut request = [0; 4096];
                let length = kernel.recv(&mut request).expect("a request");
                kernel.send(&refusal(&request[..length], errno)).expect("the agent listens");
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let findings = runtime.block_on(async { check_links(&mut Connection::over(ours.into())).await });
        answering.join().expect("all requests came");
        findings
    }

    // Linux before 5.3 knows no such message: rtnetlink_rcv_msg() answers EOPNOTSUPP to types beyond its last.
    #[test]
    fn a_kernel_without_nexthop_objects_is_told_by_its_answer() {
        let findings = found([Errno::INVAL, Errno::ADDRNOTAVAIL, Errno::OPNOTSUPP]);
        let [finding] = &findings[..] else { panic!("one finding: {findings:#?}") };
        assert_eq!((finding.severity, finding.code), (super::super::Severity::Error, "NoNexthops"));
        assert!(finding.message.ends_with("use Linux 5.15 or later"), "{finding}");
    }

    #[test]
    fn a_missing_module_is_named_with_the_command_that_loads_it() {
        let findings = found([Errno::OPNOTSUPP, Errno::OPNOTSUPP, Errno::INVAL]);
        let told: Vec<(&str, &str)> = findings.iter().map(|finding| (finding.code, &finding.message[..])).collect();
        let [("NoVxlan", vxlan), ("NoVeth", veth), ("NotChecked", _)] = told[..] else { panic!("{told:#?}") };
        assert!(vxlan.contains("modprobe vxlan,") && vxlan.contains("CONFIG_VXLAN"), "{vxlan}");
        assert!(veth.contains("modprobe veth,") && veth.contains("CONFIG_VETH"), "{veth}");
    }
}
