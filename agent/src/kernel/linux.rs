//! The real kernel, by its parts: rtnetlink, nf_tables, and the files of sysctls.
//!
//! Owns the order between the parts; which one an object belongs to says [`Key::part`]. Must never know how a part reads or writes
//! an object.

use std::{collections::BTreeSet, path::Path};

use tokio::sync::mpsc;
use weft_core::{
    desired::Underlay,
    diff::Op,
    kernel::{Key, Objects, Observed, Part},
    nft::CounterName,
    types::LinkName,
};

use super::{
    Event, Failure, Kernel, KernelError, Scope, UnderlayQuery,
    nft::Nft,
    rtnl::{Rtnl, link_went},
    sysctl::Sysctls,
};

/// Events that may wait for the loop; what is beyond becomes one [`Event::Overflow`].
const EVENTS: usize = 4096;
/// A link that goes during a reading makes it start over, so often.
const ATTEMPTS: usize = 4;

/// The kernel of the network namespace in which it was opened.
pub struct Linux {
    rtnl: Rtnl,
    nft: Nft,
    sysctls: Sysctls,
}

impl Linux {
    /// Opens the sockets in the network namespace of the calling thread, inside a runtime. `device` is the name of our
    /// tunnel device. Reading needs no privilege, changing CAP_NET_ADMIN.
    ///
    /// # Errors
    /// If a socket cannot be opened.
    pub fn open(device: LinkName) -> Result<Self, KernelError> {
        Ok(Self { rtnl: Rtnl::open(device)?, nft: Nft::open()?, sysctls: Sysctls::default() })
    }

    /// Takes the network's sysctls from `root` instead of /proc/sys, which is read-only in a container.
    #[must_use]
    pub fn with_sysctls(self, root: &Path) -> Self {
        Self { sysctls: Sysctls::below(root), ..self }
    }

    async fn read_all(&mut self, wanted: &Objects) -> Result<Observed, KernelError> {
        let mut observed = self.rtnl.read_all(wanted).await?;
        observed.ours.extend(self.sysctls.read_each(wanted.keys())?);
        observed.ours.extend(self.nft.read_expecting(wanted).await?);
        Ok(observed)
    }
}

impl Kernel for Linux {
    async fn read(&mut self, scope: Scope<'_>) -> Result<Observed, KernelError> {
        match scope {
            Scope::All { wanted } => {
                for _ in 1..ATTEMPTS {
                    match self.read_all(wanted).await {
                        Err(error) if link_went(&error) => {}
                        other => return other,
                    }
                }
                self.read_all(wanted).await
            }
            Scope::Keys(keys) => {
                let mut observed = self.rtnl.read_keys(keys).await?;
                observed.ours.extend(self.sysctls.read_each(keys)?);
                if keys.iter().any(|key| key.part() == Part::Nft) {
                    observed.ours.extend(self.nft.read_elements(keys).await?);
                }
                Ok(observed)
            }
        }
    }

    /// What rtnetlink was told is acknowledged before another part is: a sysctl may be of a link that was just made.
    async fn apply(&mut self, ops: &[Op]) -> Vec<Failure> {
        let mut progress = self.rtnl.begin(ops).await;
        let mut transaction = ops.iter().filter(|op| op.key().part() == Part::Nft).collect::<Vec<&Op>>();
        for (index, op) in ops.iter().enumerate() {
            if progress.is_hopeless(op) {
                continue;
            }
            match (op, op.key()) {
                (Op::Put { value, .. }, Key::Sysctl(sysctl)) => {
                    self.rtnl.flush(&mut progress).await;
                    progress.note(self.sysctls.put(sysctl, value).err());
                }
                (Op::Delete { .. }, Key::Sysctl(_)) => {}
                (_, key) if key.part() == Part::Nft => {
                    // One transaction, where the first of them stands.
                    let transaction = std::mem::take(&mut transaction);
                    if !transaction.is_empty() {
                        self.rtnl.flush(&mut progress).await;
                        progress.note(self.nft.apply(&transaction).await);
                    }
                }
                _ => self.rtnl.step(index, &mut progress).await,
            }
        }
        self.rtnl.finish(progress).await
    }

    async fn underlay(&mut self, query: &UnderlayQuery) -> Result<Underlay, KernelError> {
        let mut underlay = self.rtnl.find_underlay(query).await?;
        let mut listening = BTreeSet::new();
        for link in std::mem::take(&mut underlay.advertised_links) {
            if self.sysctls.heeds_advertisements(link)? {
                listening.insert(link);
            }
        }
        underlay.advertised_links = listening;
        Ok(underlay)
    }

    async fn counter(&mut self, name: CounterName) -> Result<u64, KernelError> {
        self.nft.counter(name).await
    }

    fn events(&mut self) -> Result<mpsc::Receiver<Event>, KernelError> {
        let (sender, receiver) = mpsc::channel(EVENTS);
        self.nft.events(sender.clone())?;
        self.rtnl.events(sender)?;
        Ok(receiver)
    }
}
