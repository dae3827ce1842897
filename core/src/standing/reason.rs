//! Reasons: one word for each kind of problem.
//!
//! Owns their spelling and what each means; the README's table has the same ones. Must never change a spelling: it is on the wire,
//! in resources of Kubernetes, and in people's scripts.

use std::{fmt, sync::Arc};

macro_rules! reasons {
    ($($(#[doc = $meaning:literal])+ $name:ident,)+) => {
        /// Why a node is not ready.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Reason {
            $($(#[doc = $meaning])+ $name,)+
            /// One that this version does not know, as its sender spelled it.
            Other(Arc<str>),
        }

        impl Reason {
            /// All that this version knows.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// One CamelCase word.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$name => stringify!($name),)+
                    Self::Other(word) => word,
                }
            }
        }

        impl From<&str> for Reason {
            fn from(word: &str) -> Self {
                match word {
                    $(stringify!($name) => Self::$name,)+
                    other => Self::Other(other.into()),
                }
            }
        }
    };
}

reasons! {
    /// It has joined, and its agent never opened a stream.
    NeverConnected,
    /// Its agent is late with the newest changes.
    NotAcknowledged,
    /// It has reported no underlay address, lost it, or is turned away for the one that it reports.
    NoUnderlayAddress,
    /// The pools of a family that it needs have no free pod CIDR.
    PoolsExhausted,
    /// Kubernetes: its Node object says something that cannot be.
    NodeInvalid,
    /// Kubernetes: its Node has a pod CIDR outside the pools.
    CidrOutsidePools,
    /// Kubernetes: its Node has a pod CIDR of another node.
    CidrTaken,
    /// Kubernetes: the kube-controller-manager has not given it pod CIDRs yet.
    CidrsAwaited,
    /// Kubernetes: who allocates pod CIDRs is not known yet.
    AllocatorUnknown,
    /// Its agent has no stream to the controller.
    AgentDisconnected,
    /// The kernel lacks an object, or holds its place for a foreign one.
    KernelDiffers,
    /// The kernel refuses to be read.
    KernelUnreadable,
    /// No link leads to the controller, or it has no address.
    NoUnderlay,
    /// The state directory takes no writes.
    StateNotWritable,
    /// Pods have addresses outside the node's present pod CIDRs.
    PodsOutsideCidr,
    /// Its agent is too old for the cluster's settings.
    NeedsNewerAgent,
    /// Kubernetes: everything of Weft is being removed from it.
    CleaningUp,
    /// Kubernetes: something is in the way of that.
    CleanUpFailed,
    /// It has heard of no membership yet.
    NoMembership,
    /// It is no member any more.
    NotMember,
    /// Its VTEP does not answer probes.
    ProbeLost,
    /// Neither a common subnet nor the tunnel leads to it.
    NoPath,
    /// Kubernetes: its Node object is gone.
    NodeDeleted,
    /// Kubernetes: no leader has judged it yet.
    NoStatus,
    /// Kubernetes: its Vtep is of another version.
    InvalidVtep,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_read_as_it_is_spelled() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from(reason.as_str()), *reason);
        }
        let newer = Reason::from("CanaryLost");
        assert_eq!((newer.as_str(), Reason::ALL.contains(&newer)), ("CanaryLost", false));
    }
}
