//! Why a pair could not be made, read, or taken away.

use weft_core::types::LinkName;

use super::{NetlinkError, NetnsError};

/// A failure at a pod's veth pair, as a sentence that names the object.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VethError {
    /// The namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// A request.
    #[error("the kernel refused: {0}")]
    Kernel(NetlinkError),
    /// A link of our name that is somebody else's.
    #[error("interface {0} exists and is not Weft's: remove or rename it")]
    Foreign(LinkName),
    /// The pod has an interface of that name.
    #[error("interface {interface} exists in the pod already and is not Weft's")]
    Taken { interface: LinkName, source: NetlinkError },
    /// The pod's end went while it was configured.
    #[error("interface {0} vanished from the pod while it was configured")]
    Vanished(LinkName),
    /// The pod's end is another link than the one of the attachment.
    #[error("interface {0} of the pod is not ours")]
    NotOurs(LinkName),
    /// A file of /proc/sys.
    #[error("{path} in the pod cannot be set to {value}")]
    Sysctl { path: String, value: &'static str, source: std::io::Error },
}

impl From<NetlinkError> for VethError {
    fn from(error: NetlinkError) -> Self {
        Self::Kernel(error)
    }
}
