//! A kernel made of maps, for tests: it behaves as the real one does where Weft depends on it, and fails on demand.
//!
//! Owns nothing real. Must never be kinder than the kernel: what the kernel refuses, drops or leaves unsaid, it does too;
//! the contract test holds both to the same scenarios.

mod state;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard},
};

use rustix::io::Errno;
use tokio::sync::mpsc;
use weft_core::{
    desired::Underlay,
    diff::Op,
    kernel::{Key, Objects, Observed, POD_LINK_PREFIX, Part, Seen, Value, seen},
    nft::CounterName,
    types::LinkName,
};

use self::state::State;
use super::{Event, Failure, Kernel, KernelError, Scope, UnderlayQuery};

/// A handle to a kernel of maps; clones share it, so that a test holds one and the loop under test another.
#[derive(Debug, Clone)]
pub struct FakeKernel(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    state: State,
    underlay: Option<Underlay>,
    counters: Vec<(CounterName, u64)>,
    listeners: Vec<mpsc::Sender<Event>>,
    lose_events: bool,
    incomplete_reads: usize,
    reads: usize,
    /// Operations from now on that fail, by distance, and how.
    faults: Vec<(usize, Fault)>,
    applied: Vec<Op>,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// It is not carried out.
    Refuse(Errno),
    /// It is carried out, and its ack is lost.
    LoseAck,
}

impl FakeKernel {
    /// A host with a loopback and nothing of ours.
    pub fn new(device: LinkName) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            state: State::new(device),
            underlay: None,
            counters: Vec::new(),
            listeners: Vec::new(),
            lose_events: false,
            incomplete_reads: 0,
            reads: 0,
            faults: Vec::new(),
            applied: Vec::new(),
        })))
    }

    /// Sets the underlay and adds its link; none takes the underlay away. Reported unless events are being lost.
    pub fn set_underlay(&self, underlay: Option<Underlay>) {
        let mut inner = self.inner();
        if let Some(underlay) = &underlay {
            inner.state.links.insert(underlay.link);
        }
        inner.underlay = underlay;
        inner.tell(&Event::Underlay);
    }

    /// Adds a link that is not the device, such as a pod's.
    pub fn add_link(&self, name: LinkName) {
        let mut inner = self.inner();
        inner.state.links.insert(name);
        inner.tell(&of_link(name));
    }

    /// Removes a link with everything on it.
    pub fn remove_link(&self, name: LinkName) {
        let mut inner = self.inner();
        inner.state.remove_link(name);
        inner.tell(&of_link(name));
    }

    /// Lets another hand carry out an operation on objects of ours, and reports it.
    pub fn meddle(&self, op: &Op) -> Result<(), KernelError> {
        let mut inner = self.inner();
        inner.state.carry_out(op)?;
        let key = *op.key();
        let event = match op {
            _ if key.part() != Part::Rtnl || key == Key::Device => Event::Look,
            Op::Put { value, .. } => Event::Object(key, Some(Seen::As(value.clone()))),
            Op::Delete { .. } => Event::Object(key, None),
        };
        inner.tell(&event);
        // With these, routes go without a word.
        if matches!(op, Op::Delete { key: Key::Nexthop(_) | Key::Address(_), .. }) {
            inner.tell(&Event::Look);
        }
        Ok(())
    }

    /// Removes an object of ours, with what goes with it, without any event.
    pub fn remove_silently(&self, key: &Key) {
        self.inner().state.remove(key);
    }

    /// Puts an object of somebody else into a place, over ours if need be, and reports it.
    pub fn hold(&self, key: Key) {
        let mut inner = self.inner();
        inner.state.remove(&key);
        inner.state.foreign.insert(key);
        inner.tell(&Event::Object(key, None));
    }

    /// Takes somebody else's object out of its place.
    pub fn release(&self, key: &Key) {
        let mut inner = self.inner();
        inner.state.foreign.remove(key);
        inner.tell(&Event::Object(*key, None));
    }

    /// Lets another hand put an object of ours into its place, whoever's is there, and reports it.
    pub fn mend(&self, key: Key, value: Value) {
        let mut inner = self.inner();
        inner.state.foreign.remove(&key);
        inner.state.ours.insert(key, value.clone());
        inner.tell(&Event::Object(key, Some(Seen::As(value))));
    }

    /// Makes the operation after `distance` others fail with `errno`, without effect.
    pub fn refuse(&self, distance: usize, errno: Errno) {
        self.inner().faults.push((distance, Fault::Refuse(errno)));
    }

    /// Carries out the operation after `distance` others and loses its ack.
    pub fn lose_ack(&self, distance: usize) {
        self.inner().faults.push((distance, Fault::LoseAck));
    }

    /// Makes the next `count` readings incomplete.
    pub fn interrupt_reads(&self, count: usize) {
        self.inner().incomplete_reads = count;
    }

    /// How many of these are still to come.
    pub fn interrupted_reads(&self) -> usize {
        self.inner().incomplete_reads
    }

    /// Reports nothing from now on; or again, and then that events were lost.
    pub fn lose_events(&self, lose: bool) {
        let mut inner = self.inner();
        let recovered = inner.lose_events && !lose;
        inner.lose_events = lose;
        if recovered {
            inner.tell(&Event::Overflow);
        }
    }

    /// Sets a counter, in packets.
    pub fn set_counter(&self, name: CounterName, packets: u64) {
        let mut inner = self.inner();
        inner.counters.retain(|(counter, _)| *counter != name);
        inner.counters.push((name, packets));
    }

    /// What it holds of ours.
    pub fn objects(&self) -> Objects {
        self.inner().state.ours.clone()
    }

    /// Keys that somebody else holds.
    pub fn foreign(&self) -> BTreeSet<Key> {
        self.inner().state.foreign.clone()
    }

    /// The operations that it was given since the last call, in order.
    pub fn take_applied(&self) -> Vec<Op> {
        std::mem::take(&mut self.inner().applied)
    }

    /// How often it was read.
    pub fn reads(&self) -> usize {
        self.inner().reads
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no test panics while it holds the fake kernel")
    }
}

impl Inner {
    fn tell(&mut self, event: &Event) {
        if self.lose_events {
            return;
        }
        self.listeners.retain(|listener| !listener.is_closed());
        for listener in &self.listeners {
            listener.try_send(event.clone()).expect("a test's events fit the channel");
        }
    }

    /// The fault of the operation that comes now.
    fn next_fault(&mut self) -> Option<Fault> {
        let now = self.faults.iter().position(|(distance, _)| *distance == 0);
        let fault = now.map(|at| self.faults.swap_remove(at).1);
        for (distance, _) in &mut self.faults {
            *distance = distance.saturating_sub(1);
        }
        fault
    }

    fn carry_out(&mut self, op: &Op) -> Result<(), KernelError> {
        let object = op.key().to_string();
        match self.next_fault() {
            Some(Fault::Refuse(errno)) => Err(state::refused(op.key(), errno, "refused on demand")),
            Some(Fault::LoseAck) => {
                let _ = self.state.carry_out(op);
                Err(KernelError::Incomplete { object, message: "the ack was lost on demand".to_owned() })
            }
            None => self.state.carry_out(op),
        }
    }

    /// All nftables operations are one transaction: one refused, all refused.
    fn apply_nft(&mut self, ops: &[&Op]) -> Vec<Failure> {
        let before = self.state.clone();
        let failures: Vec<Failure> = ops.iter().filter_map(|op| failure(op, self.carry_out(op))).collect();
        let lost_only = failures.iter().all(|failure| matches!(failure.error, KernelError::Incomplete { .. }));
        if !lost_only {
            self.state = before;
        }
        failures
    }
}

fn failure(op: &Op, result: Result<(), KernelError>) -> Option<Failure> {
    result.err().map(|error| Failure { key: *op.key(), error })
}

fn of_nft(op: &Op) -> bool {
    op.key().part() == Part::Nft
}

impl Kernel for FakeKernel {
    async fn read(&mut self, scope: Scope<'_>) -> Result<Observed, KernelError> {
        let mut inner = self.inner();
        inner.reads += 1;
        if inner.incomplete_reads > 0 {
            inner.incomplete_reads -= 1;
            let message = "interrupted on demand".to_owned();
            return Err(KernelError::Incomplete { object: "the kernel's state".to_owned(), message });
        }
        let state = &inner.state;
        let (of_scope, keys): (_, Vec<&Key>) = match scope {
            Scope::All { wanted } => (None, wanted.keys().collect()),
            Scope::Keys(keys) => (Some(keys), keys.iter().collect()),
        };
        let asked = |key: &Key| of_scope.is_none_or(|keys| keys.contains(key)) && !matches!(key, Key::Sysctl(_));
        let mut ours: Objects =
            state.ours.iter().filter(|(key, _)| asked(key)).map(|(key, value)| (*key, value.clone())).collect();
        ours.extend(keys.into_iter().filter_map(|key| Some((*key, state.sysctl(key)?))));
        let foreign = state.foreign.iter().filter(|key| asked(key)).copied().collect();
        let device = state.device_name();
        Ok(Observed { ours: seen(ours), device, foreign, links: state.links.clone() })
    }

    async fn apply(&mut self, ops: &[Op]) -> Vec<Failure> {
        let mut inner = self.inner();
        inner.applied.extend_from_slice(ops);
        let mut failures = Vec::new();
        let mut nft_done = false;
        for op in ops {
            if !of_nft(op) {
                failures.extend(failure(op, inner.carry_out(op)));
            } else if !std::mem::replace(&mut nft_done, true) {
                let transaction: Vec<&Op> = ops.iter().filter(|op| of_nft(op)).collect();
                failures.extend(inner.apply_nft(&transaction));
            }
        }
        failures
    }

    async fn underlay(&mut self, query: &UnderlayQuery) -> Result<Underlay, KernelError> {
        let underlay = self.inner().underlay.clone();
        let found = underlay.filter(|found| query.interface.is_none_or(|named| named == found.link));
        let found = found.filter(|found| found.addresses.get(query.outer).is_some());
        found.ok_or_else(|| KernelError::NoUnderlay("the fake kernel was given none that fits".to_owned()))
    }

    async fn counter(&mut self, name: CounterName) -> Result<u64, KernelError> {
        let inner = self.inner();
        let found = inner.counters.iter().find(|(counter, _)| *counter == name);
        Ok(found.map_or(0, |(_, packets)| *packets))
    }

    fn events(&mut self) -> Result<mpsc::Receiver<Event>, KernelError> {
        let (sender, receiver) = mpsc::channel(1 << 16);
        self.inner().listeners.push(sender);
        Ok(receiver)
    }
}

/// What a change of this link is told as.
fn of_link(name: LinkName) -> Event {
    if name.as_str().starts_with(POD_LINK_PREFIX) { Event::PodLink(name) } else { Event::Look }
}
