//! Table `inet weft` in the kernel: read, changed in transactions, watched. In process, over nfnetlink.
//!
//! Owns the encoding of weft-core's rules, sets and counters, and nothing of what they should say. Must never touch
//! another table, and never one of ours by halves: the kernel takes a transaction whole or not at all.

mod elements;
mod events;
mod expression;
mod others;
mod plan;
mod set;
mod socket;
mod step;
mod table;
mod transaction;
mod trial;
mod wire;

use std::collections::{BTreeMap, BTreeSet};

pub use others::{Dropper, Packet, Path};
use rustix::io::Errno;
use tokio::sync::mpsc;
pub(crate) use trial::{Missing, Module};
use weft_core::{
    diff::Op,
    kernel::{Key, Objects, Part, Seen, SeenObjects, Value},
    nft::{CounterName, SetName, TABLE},
};

use self::{
    events::Subscription,
    plan::Wanted,
    socket::{Fault, Netfilter},
    step::COUNTER,
    table::{GET_ELEMENT, GET_OBJECT, Table},
    transaction::{Refused, error},
    wire::{INET, Malformed},
};
use super::{Event, Failure, KernelError};

/// How often a reading or a transaction starts over because another hand changed the kernel's rule sets meanwhile.
const ATTEMPTS: usize = 8;
/// Up to so many elements are asked for one by one; beyond, their sets are dumped.
const FEW: usize = 64;
/// Above so many elements at once nobody listens to what others do meanwhile, and one more look follows.
const MANY: usize = 1_024;
/// `NFTA_OBJ_NAME`, `NFTA_OBJ_TYPE`, `NFTA_OBJ_DATA` and `NFTA_COUNTER_PACKETS`.
const OBJECT_NAME: u16 = 2;
const OBJECT_TYPE: u16 = 3;
const OBJECT_DATA: u16 = 4;
const COUNTER_PACKETS: u16 = 2;

/// The nftables side of one node's kernel.
#[derive(Debug)]
pub struct Nft {
    socket: Netfilter,
    /// Where somebody wants to know what others do.
    subscription: Option<Subscription>,
}

impl Nft {
    /// Opens a netfilter netlink socket in the thread's network namespace. Reading and changing need CAP_NET_ADMIN
    /// there: nfnetlink checks it on every message.
    pub fn open() -> Result<Self, KernelError> {
        let failed = |source| KernelError::Io { object: "netfilter netlink socket".to_owned(), source };
        Netfilter::open().map(|socket| Self { socket, subscription: None }).map_err(failed)
    }

    /// Reads the table whole: [`Key::Ruleset`] and every [`Key::Element`]; nothing where there is no table.
    pub async fn read(&mut self) -> Result<SeenObjects, KernelError> {
        self.table().map(Table::objects).map_err(|fault| error(format!("nftables table inet {TABLE}"), &fault))
    }

    /// As [`Self::read`], and asks once more for each element among `wanted` that was not found. A hash set that has just grown
    /// is moved to a larger table in the background, and a dump in several messages may then leave elements out without a
    /// word (`nft_rhash_walk` in net/netfilter/nft_set_hash.c, which counts the elements it has to skip).
    pub async fn read_expecting(&mut self, wanted: &Objects) -> Result<SeenObjects, KernelError> {
        let mut found = self.read().await?;
        let filled: BTreeSet<SetName> = found.keys().filter_map(Key::set).collect();
        let missing = by_set(wanted.keys().filter(|key| !found.contains_key(key)));
        for (set, keys) in missing.into_iter().filter(|(set, _)| !set.is_interval() && filled.contains(set)) {
            let there = self.ask_for_each(set, &keys).map_err(|fault| of_set(set, &fault))?;
            found.extend(there.into_iter().map(|key| (key, Seen::As(Value::Present))));
        }
        Ok(found)
    }

    /// Reads those of `keys` that are elements, or the ruleset; what is missing is left out.
    pub async fn read_elements(&mut self, keys: &[Key]) -> Result<SeenObjects, KernelError> {
        if keys.contains(&Key::Ruleset) {
            let mut all = self.read().await?;
            all.retain(|key, _| keys.contains(key));
            return Ok(all);
        }
        let mut found = SeenObjects::new();
        for (set, keys) in by_set(keys) {
            let present = self.present(set, &keys).map_err(|fault| of_set(set, &fault))?;
            found.extend(present.into_iter().map(|key| (key, Seen::As(Value::Present))));
        }
        Ok(found)
    }

    /// Carries out all operations that are about the table, in one transaction: all or none. A failure each where the
    /// kernel refused, first those that it named.
    ///
    /// A transaction beyond the send buffer (hundreds of thousands of elements; some ten thousand where the agent may
    /// not raise it) is cut: members are let in first, then chains change at once, members are shut out last.
    pub async fn apply(&mut self, ops: &[&Op]) -> Vec<Failure> {
        let keys = ops.iter().map(|op| *op.key()).filter(|key| key.part() == Part::Nft);
        let _paused = match &self.subscription {
            Some(subscription) if keys.clone().nth(MANY).is_some() => subscription.pause().await,
            _ => None,
        };
        match self.carry_out(&Wanted::new(ops)) {
            Ok(()) => Vec::new(),
            Err(refused) => refused.failures(keys),
        }
    }

    /// Packets that a named counter has counted; 0 where it is missing.
    pub async fn counter(&mut self, name: CounterName) -> Result<u64, KernelError> {
        let object = || format!("nftables counter {}", name.as_str());
        let request = table::named().text(OBJECT_NAME, name.as_str()).number(OBJECT_TYPE, COUNTER);
        let reply = self.socket.get(GET_OBJECT, INET, request).map_err(|fault| error(object(), &fault))?;
        let Some(reply) = reply else { return Ok(0) };
        let packets = || reply.attributes()?.nest(OBJECT_DATA)?.long(COUNTER_PACKETS).ok_or(Malformed);
        packets().map_err(|fault| error(object(), &fault.into()))
    }

    /// Asks the kernel whether it could take our table, and changes nothing. The error's object is the part that it lacks, or
    /// that this process lacks the right to.
    pub(crate) async fn trial(&mut self) -> Result<(), Missing> {
        trial::run(&mut self.socket)
    }

    /// Chains of other tables that drop a packet.
    pub async fn droppers(&mut self, packet: &Packet) -> Result<Vec<Dropper>, KernelError> {
        others::droppers(&mut self.socket, packet).map_err(|fault| error("nftables chains".to_owned(), &fault))
    }

    /// Reports from now on into `sender`, on the current tokio runtime: [`Event::Look`] for what anybody else does to
    /// the table, and after a transaction of thousands of elements, during which nobody listens; [`Event::Overflow`] for
    /// events lost. Ends when the receiver is gone.
    pub fn events(&mut self, sender: mpsc::Sender<Event>) -> Result<(), KernelError> {
        let failed = |source| KernelError::Io { object: "netlink group of nftables events".to_owned(), source };
        self.subscription = Some(events::subscribe(self.socket.port(), sender).map_err(failed)?);
        Ok(())
    }

    fn table(&mut self) -> Result<Table, Fault> {
        for _ in 1..ATTEMPTS {
            match Table::read(&mut self.socket) {
                // ENOENT: the table, or a set, went between two requests.
                Err(fault) if matches!(fault, Fault::Interrupted) || fault.is(Errno::NOENT) => {}
                other => return other,
            }
        }
        Table::read(&mut self.socket)
    }

    /// Which of `keys` are in the set.
    fn present(&mut self, set: SetName, keys: &[Key]) -> Result<Vec<Key>, Fault> {
        // The kernel answers a request about an interval set with the range that holds the address.
        if keys.len() > FEW || set.is_interval() {
            return match table::content(&mut self.socket, set) {
                Ok(content) => {
                    let (mut present, missing): (Vec<Key>, Vec<Key>) =
                        keys.iter().partition(|key| content.keys.contains(key));
                    if !set.is_interval() && !content.keys.is_empty() {
                        // See `read_expecting`.
                        present.extend(self.ask_for_each(set, &missing)?);
                    }
                    Ok(present)
                }
                Err(fault) if fault.is(Errno::NOENT) => Ok(Vec::new()),
                Err(fault) => Err(fault),
            };
        }
        self.ask_for_each(set, keys)
    }

    fn ask_for_each(&mut self, set: SetName, keys: &[Key]) -> Result<Vec<Key>, Fault> {
        let mut present = Vec::new();
        for key in keys {
            for (request, _) in elements::lists(set, &[*key]) {
                let reply = self.socket.get(GET_ELEMENT, INET, request)?;
                present.extend(reply.map(|_| *key));
            }
        }
        Ok(present)
    }

    fn carry_out(&mut self, wanted: &Wanted<'_>) -> Result<(), Refused> {
        // The common case, a member that comes or goes, needs no reading. Should the kernel refuse, then because it
        // holds something else than was thought: look, and leave out what is so already.
        if wanted.is_elements_only() && transaction::commit(&mut self.socket, plan::blind(wanted), None).is_ok() {
            return Ok(());
        }
        for _ in 0..ATTEMPTS {
            let table = self.table().map_err(Refused::whole)?;
            let flagged = wanted.ruleset.is_some() && table.flags.is_some_and(|flags| flags != 0);
            let phases = if flagged { plan::wake() } else { plan::full(&table, wanted) };
            match transaction::commit(&mut self.socket, phases, Some(table.generation)) {
                Ok(()) if !flagged => return Ok(()),
                Err(refused) if !refused.is_stale() => return Err(refused),
                _ => {}
            }
        }
        Err(Refused::whole(Fault::Interrupted))
    }
}

/// The elements among `keys`, by their sets.
fn by_set<'a>(keys: impl IntoIterator<Item = &'a Key>) -> BTreeMap<SetName, Vec<Key>> {
    let mut sets = BTreeMap::<SetName, Vec<Key>>::new();
    for key in keys {
        if let Some(set) = key.set() {
            sets.entry(set).or_default().push(*key);
        }
    }
    sets
}

fn of_set(set: SetName, fault: &Fault) -> KernelError {
    error(format!("nftables set {set}"), fault)
}
