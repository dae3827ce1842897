//! One type for all requests, and the error numbers that answers are judged by.

use netlink_packet_core::NetlinkSerializable;
use netlink_packet_route::RouteNetlinkMessage;
use rustix::io::Errno;

use super::{nexthop, wire::Refusal};

/// A message to the kernel: the packet crate's, or our own of nexthops.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Request {
    Route(RouteNetlinkMessage),
    Nexthop(nexthop::Request),
}

impl From<RouteNetlinkMessage> for Request {
    fn from(message: RouteNetlinkMessage) -> Self {
        Self::Route(message)
    }
}

impl From<nexthop::Request> for Request {
    fn from(message: nexthop::Request) -> Self {
        Self::Nexthop(message)
    }
}

impl NetlinkSerializable for Request {
    fn message_type(&self) -> u16 {
        match self {
            Self::Route(message) => message.message_type(),
            Self::Nexthop(message) => message.message_type(),
        }
    }

    fn buffer_len(&self) -> usize {
        match self {
            Self::Route(message) => NetlinkSerializable::buffer_len(message),
            Self::Nexthop(message) => message.buffer_len(),
        }
    }

    fn serialize(&self, buffer: &mut [u8]) {
        match self {
            Self::Route(message) => message.serialize(buffer),
            Self::Nexthop(message) => message.serialize(buffer),
        }
    }
}

impl Refusal {
    fn is(&self, errors: &[Errno]) -> bool {
        errors.iter().any(|error| error.raw_os_error() == self.errno)
    }

    /// The place is taken.
    pub(super) fn says_exists(&self) -> bool {
        self.is(&[Errno::EXIST])
    }

    /// The object, or the link it is on, is not there; or the whole family, on a host without IPv6.
    pub(super) fn says_absent(&self) -> bool {
        self.is(&[Errno::NOENT, Errno::SRCH, Errno::NODEV, Errno::ADDRNOTAVAIL]) || self.says_no_family()
    }

    fn says_no_family(&self) -> bool {
        self.is(&[Errno::AFNOSUPPORT, Errno::OPNOTSUPP]) && !self.explained
    }

    /// No route leads there: none at all, or one that says unreachable, prohibited or black hole. A black hole answers
    /// EINVAL without a word; with words it is the request that was wrong.
    pub(super) fn says_unreachable(&self) -> bool {
        let black_hole = self.is(&[Errno::INVAL]) && !self.explained;
        self.is(&[Errno::HOSTUNREACH, Errno::NETUNREACH, Errno::ACCESS]) || black_hole || self.says_no_family()
    }
}

/// True for an error that says that a link went while it was read.
pub(in crate::kernel) fn link_went(error: &crate::kernel::KernelError) -> bool {
    matches!(error, crate::kernel::KernelError::Refused { errno, .. } if *errno == Errno::NODEV.raw_os_error())
}

/// True for the answer to a dump of a routing table that no route was ever put into.
pub(super) fn no_such_table(error: &crate::kernel::KernelError) -> bool {
    matches!(error, crate::kernel::KernelError::Refused { errno, .. } if *errno == Errno::NOENT.raw_os_error())
}
