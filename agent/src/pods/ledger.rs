//! The allocations in memory and on disk, kept equal.
//!
//! Owns the order of things: a batch is decided in memory, written with one sync, and only then answered; when the
//! write fails, what it allocated is taken back and the journal counts as unknown until it was replaced as a whole.
//! Synchronous, without threads or clocks: [`super::PodStore`] runs it.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, net::IpAddr};

use weft_core::types::{PerFamily, PodCidr};

use super::{
    Disk, Record, StoreError,
    allocator::Allocator,
    journal::{self, Event},
};
use crate::veth::AttachmentKey;

/// A journal of so many lines is rewritten once most of them are history.
const REWRITE_AT: usize = 1024;

/// What an attachment is to get.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    /// For whom.
    pub(super) key: AttachmentKey,
    /// The node's CIDRs: one address of each.
    pub(super) cidrs: PerFamily<Option<PodCidr>>,
    /// CNI_NETNS.
    pub(super) netns: String,
    /// Namespace and name of the pod.
    pub(super) pod: String,
    /// Unix time in seconds.
    pub(super) now: u64,
}

/// A change of the ledger.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// Addresses for an attachment; the same answer where it has some.
    Allocate(Wish),
    /// The end of an attachment; unknown ones have ended already.
    Release(AttachmentKey),
}

/// The answer to a change: what the attachment holds, or held.
pub(super) type Answer = Result<Option<Record>, StoreError>;

/// All allocations of a node.
pub(super) struct Ledger<D> {
    disk: D,
    records: BTreeMap<AttachmentKey, Record>,
    allocator: Allocator,
    /// Lines of the journal.
    lines: usize,
    /// True while the journal may hold something else than `records`.
    unsure: bool,
}

impl<D: Disk> Ledger<D> {
    /// Reads the journal; the sentences say what was wrong with it, or that it cannot be written: then what was read
    /// still counts, because the pods it names are running, and allocations fail until the disk is well.
    pub(super) fn open(mut disk: D) -> Result<(Self, Vec<String>), StoreError> {
        let failed = |disk: &D, source| StoreError::Disk { journal: disk.name(), source };
        let bytes = disk.read().map_err(|error| failed(&disk, error))?;
        let parsed = journal::parse(&bytes).map_err(|why| failed(&disk, std::io::Error::other(why)))?;
        let (records, allocator) = (BTreeMap::new(), Allocator::default());
        let mut ledger = Self { disk, records, allocator, lines: 0, unsure: true };
        let mut problems = parsed.damage;
        for event in parsed.events {
            problems.extend(ledger.replay(event));
        }
        if !problems.is_empty() {
            problems.push(ledger.keep_for_people(&bytes)?);
        }
        // Also drops a torn end, and shows at start, not at the first pod, whether the disk can be written.
        if let Err(error) = ledger.rewrite() {
            problems.push(failed(&ledger.disk, error).to_string());
        }
        Ok((ledger, problems))
    }

    /// Nothing is overwritten before a damaged journal was copied.
    fn keep_for_people(&mut self, bytes: &[u8]) -> Result<String, StoreError> {
        let journal = self.disk.name();
        match self.disk.set_aside(bytes) {
            Ok(copy) => {
                Ok(format!("{journal} was damaged; {} allocations were read, its copy is {copy}", self.records.len()))
            }
            Err(source) => Err(StoreError::Disk { journal, source }),
        }
    }

    /// All records by key.
    pub(super) const fn records(&self) -> &BTreeMap<AttachmentKey, Record> {
        &self.records
    }

    /// Carries out a batch with one write; answers in the same order.
    pub(super) fn process(&mut self, batch: &[Change]) -> Vec<Answer> {
        let mut lines = Vec::new();
        let mut count = 0;
        let mut decided = Vec::with_capacity(batch.len());
        let mut made = Vec::new();
        for change in batch {
            let (answer, event) = self.decide(change);
            if let Some(event) = event {
                if let (Event::Add(_), Ok(Some(record))) = (&event, &answer) {
                    made.push(record.key.clone());
                }
                journal::write(&event, &mut lines);
                count += 1;
            }
            decided.push(answer);
        }
        match self.write(&lines, count) {
            Ok(()) => decided,
            Err(error) => {
                self.take_back(&made);
                self.answers_without_disk(batch, decided, &error)
            }
        }
    }

    fn decide(&mut self, change: &Change) -> (Answer, Option<Event>) {
        match change {
            Change::Allocate(wish) => self.allocate(wish),
            Change::Release(key) => {
                let gone = self.forget(key);
                let event = gone.is_some().then(|| removal(key));
                (Ok(gone), event)
            }
        }
    }

    fn allocate(&mut self, wish: &Wish) -> (Answer, Option<Event>) {
        if let Some(record) = self.records.get(&wish.key) {
            return match record.outside(&wish.cidrs) {
                Some(address) => (Err(StoreError::Outside { key: wish.key.clone(), address }), None),
                None => (Ok(Some(record.clone())), None),
            };
        }
        let addresses = match self.allocator.take(&wish.cidrs) {
            Ok(addresses) => addresses,
            Err(exhausted) => return (Err(exhausted.into()), None),
        };
        let record = Record {
            key: wish.key.clone(),
            addresses,
            link: wish.key.link(),
            host_mac: wish.key.host_mac(),
            pod_mac: wish.key.pod_mac(),
            netns: wish.netns.clone(),
            pod: wish.pod.clone(),
            created: wish.now,
        };
        self.records.insert(wish.key.clone(), record.clone());
        let event = Event::Add((&record).into());
        (Ok(Some(record)), Some(event))
    }

    fn forget(&mut self, key: &AttachmentKey) -> Option<Record> {
        let record = self.records.remove(key)?;
        record.addresses.iter().for_each(|address| self.allocator.free(*address));
        Some(record)
    }

    /// Makes the batch durable.
    fn write(&mut self, lines: &[u8], count: usize) -> std::io::Result<()> {
        let history = self.lines + count > REWRITE_AT && self.lines + count > 4 * self.records.len();
        if self.unsure || history {
            return self.rewrite();
        }
        if count > 0 {
            self.unsure = true;
            self.disk.append(lines)?;
            self.unsure = false;
            self.lines += count;
        }
        Ok(())
    }

    /// Replaces the journal by what is true.
    fn rewrite(&mut self) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        journal::write(&journal::format(), &mut bytes);
        let last: Vec<IpAddr> = self.allocator.last().iter().copied().collect();
        journal::write(&Event::Cursor { last, cooling: self.allocator.cooling().collect() }, &mut bytes);
        for record in self.records.values() {
            journal::write(&Event::Add(record.into()), &mut bytes);
        }
        self.unsure = true;
        self.disk.replace(&bytes)?;
        self.unsure = false;
        self.lines = self.records.len() + 2;
        Ok(())
    }

    /// Undoes allocations that did not become durable. Releases stay: the worst a crash can do is to bring back an
    /// allocation that no pod has, and no address is handed out again before the whole journal was written.
    fn take_back(&mut self, made: &[AttachmentKey]) {
        for key in made {
            if let Some(record) = self.records.remove(key) {
                record.addresses.iter().for_each(|address| self.allocator.undo(*address));
            }
        }
    }

    /// After a failed write: who still holds what was asked for, gets it; releases are done; the others hear why.
    fn answers_without_disk(&self, batch: &[Change], decided: Vec<Answer>, error: &std::io::Error) -> Vec<Answer> {
        let failed = || StoreError::Disk {
            journal: self.disk.name(),
            source: std::io::Error::new(error.kind(), error.to_string()),
        };
        batch
            .iter()
            .zip(decided)
            .map(|(change, answer)| match (change, answer) {
                (Change::Allocate(wish), Ok(_)) => match self.records.get(&wish.key) {
                    Some(record) => Ok(Some(record.clone())),
                    None => Err(failed()),
                },
                (_, answer) => answer,
            })
            .collect()
    }

    /// Repeats an event of the journal; a sentence where it contradicts what was before.
    fn replay(&mut self, event: Event) -> Option<String> {
        match event {
            Event::Format { .. } => None,
            Event::Cursor { last, cooling } => {
                last.into_iter().for_each(|address| self.allocator.set_last(address));
                cooling.into_iter().for_each(|address| self.allocator.cool(address));
                None
            }
            Event::Add(text) => match Record::try_from(text) {
                Ok(record) => self.replay_add(record),
                Err(why) => Some(format!("an allocation cannot be read: {why}")),
            },
            Event::Remove { container, interface } => {
                let key = AttachmentKey::new(&container, &interface).map_err(|error| error.to_string());
                key.map(|key| self.forget(&key)).err()
            }
        }
    }

    /// An address that comes again was released in between by a line that cannot be read: the later holder counts.
    fn replay_add(&mut self, record: Record) -> Option<String> {
        let doubled = record.addresses.iter().any(|address| self.allocator.holds(*address));
        let earlier = self.records.values().find(|other| doubled && shares_address(other, &record));
        let earlier = earlier.map(|other| other.key.clone());
        let problem = earlier.filter(|key| *key != record.key).map(|key| {
            self.forget(&key);
            format!("the allocation of {key} was dropped: {} got the same address later", record.key)
        });
        record.addresses.iter().for_each(|address| self.allocator.hold(*address));
        self.records.insert(record.key.clone(), record);
        problem
    }
}

fn shares_address(a: &Record, b: &Record) -> bool {
    a.addresses.iter().any(|address| b.addresses.iter().any(|other| other == address))
}

fn removal(key: &AttachmentKey) -> Event {
    Event::Remove { container: key.container().to_owned(), interface: key.interface().to_string() }
}
