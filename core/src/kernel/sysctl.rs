//! The sysctls that Weft sets.
//!
//! Owns which there are and where their files lie. Must never open one.

use crate::types::LinkName;

/// A network sysctl we set. Each maps to one file below /proc/sys/net.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sysctl {
    /// `ipv4/ip_forward`. Writing it sets the switch of every link, and of those that come later.
    ForwardV4,
    /// `ipv4/conf/LINK/forwarding`: counts for packets that come in by the link (`ip_route_input_slow` in net/ipv4/route.c).
    /// IPv6 has no such switch by link: there only the one for all counts (`ip6_forward` in net/ipv6/ip6_output.c).
    ForwardFrom(LinkName),
    /// `ipv6/conf/LINK/accept_ra`; before forwarding is switched on, else router advertisements stop counting.
    AcceptRa(LinkName),
    /// `ipv6/conf/all/forwarding`.
    ForwardV6,
    /// `ipv4/conf/LINK/rp_filter`.
    RpFilter(LinkName),
    /// `ipv4/conf/LINK/send_redirects`.
    SendRedirects(LinkName),
    /// `ipv6/conf/LINK/disable_ipv6`: some images switch IPv6 off by default, links of ours that carry it need it on.
    DisableIpv6(LinkName),
}

impl Sysctl {
    /// The interface it belongs to, where it is not global.
    pub const fn link(&self) -> Option<LinkName> {
        match self {
            Self::ForwardV4 | Self::ForwardV6 => None,
            Self::ForwardFrom(link)
            | Self::AcceptRa(link)
            | Self::RpFilter(link)
            | Self::SendRedirects(link)
            | Self::DisableIpv6(link) => Some(*link),
        }
    }

    /// Its path below /proc/sys/net.
    pub fn path(&self) -> String {
        match self {
            Self::ForwardV4 => "ipv4/ip_forward".to_owned(),
            Self::ForwardV6 => "ipv6/conf/all/forwarding".to_owned(),
            Self::ForwardFrom(link) => format!("ipv4/conf/{link}/forwarding"),
            Self::AcceptRa(link) => format!("ipv6/conf/{link}/accept_ra"),
            Self::RpFilter(link) => format!("ipv4/conf/{link}/rp_filter"),
            Self::SendRedirects(link) => format!("ipv4/conf/{link}/send_redirects"),
            Self::DisableIpv6(link) => format!("ipv6/conf/{link}/disable_ipv6"),
        }
    }
}
