//! Why the loop did not do what it was asked.

use std::sync::Arc;

use crate::kernel::KernelError;

/// Why the loop did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// The loop has ended.
    #[error("the agent is stopping; try again")]
    Stopping,
    /// No controller has answered since the node was installed.
    #[error("the node has no membership yet; try again")]
    NoMembership,
    /// What keeps the node from being programmed.
    #[error("{0}")]
    NotProgrammed(String),
    /// The node is being taken out of the cluster.
    #[error("Weft is being removed from this node")]
    Halted,
    /// Everything is removed only while nothing is put back.
    #[error("the loop has not been told to stop programming")]
    NotHalted,
    /// The kernel was put right, and read back not to be; what differs.
    #[error("{}", .0.join("; "))]
    Differs(Vec<String>),
    /// What the kernel said.
    #[error(transparent)]
    Kernel(Arc<KernelError>),
}

impl From<KernelError> for EngineError {
    fn from(error: KernelError) -> Self {
        Self::Kernel(Arc::new(error))
    }
}
