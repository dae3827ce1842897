//! A kernel that counts what it is asked to change.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::mpsc;
use weft_agent::kernel::{Event, Failure, Kernel, KernelError, Linux, Scope, UnderlayQuery};
use weft_core::{
    desired::Underlay,
    diff::Op,
    kernel::{Observed, Part},
    nft::CounterName,
};

/// The real kernel with a count of modifying rtnetlink requests: one an operation, but none for nftables and sysctls.
pub(super) struct Counted {
    pub(super) kernel: Linux,
    pub(super) requests: Arc<AtomicUsize>,
}

impl Kernel for Counted {
    async fn read(&mut self, scope: Scope<'_>) -> Result<Observed, KernelError> {
        self.kernel.read(scope).await
    }

    async fn apply(&mut self, ops: &[Op]) -> Vec<Failure> {
        let rtnetlink = |op: &&Op| op.key().part() == Part::Rtnl;
        self.requests.fetch_add(ops.iter().filter(rtnetlink).count(), Ordering::Relaxed);
        self.kernel.apply(ops).await
    }

    async fn underlay(&mut self, query: &UnderlayQuery) -> Result<Underlay, KernelError> {
        self.kernel.underlay(query).await
    }

    async fn counter(&mut self, name: CounterName) -> Result<u64, KernelError> {
        self.kernel.counter(name).await
    }

    fn events(&mut self) -> Result<mpsc::Receiver<Event>, KernelError> {
        self.kernel.events()
    }
}
