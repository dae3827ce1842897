//! Carries planned messages to the kernel and says whose fault a refusal is.
//!
//! Must never report an operation as done that belongs to a refused transaction.

use std::collections::BTreeSet;

use rustix::io::Errno;
use weft_core::kernel::Key;

use super::{
    plan::Phases,
    socket::{Fault, Netfilter},
    wire::Message,
};
use crate::kernel::{Failure, KernelError};

/// Why a transaction did not take place.
#[derive(Debug)]
pub(super) struct Refused {
    /// The kernel's complaints with the objects each is about; no objects: about the whole.
    complaints: Vec<(Vec<Key>, Fault)>,
}

impl Refused {
    /// A complaint about the whole.
    pub(super) fn whole(fault: Fault) -> Self {
        Self { complaints: vec![(Vec::new(), fault)] }
    }

    /// True where the rule sets changed since they were read: read again and try again.
    pub(super) fn is_stale(&self) -> bool {
        self.complaints.iter().any(|(_, fault)| fault.is(Errno::RESTART))
    }

    /// A failure for each of `keys`, those that the kernel named first.
    pub(super) fn failures(self, keys: impl Iterator<Item = Key>) -> Vec<Failure> {
        let mut rest: BTreeSet<Key> = keys.collect();
        let because = self.complaints.first().map_or_else(String::new, |(_, fault)| fault.to_string());
        let mut failures = Vec::new();
        for (culprits, fault) in self.complaints {
            let named: Vec<Key> = culprits.into_iter().filter(|key| rest.remove(key)).collect();
            failures.extend(named.into_iter().map(|key| Failure { key, error: error(key.to_string(), &fault) }));
        }
        let message = format!("not applied, its transaction was refused: {because}");
        let errno = Errno::CANCELED.raw_os_error();
        failures.extend(rest.into_iter().map(|key| {
            let error = KernelError::Refused { object: key.to_string(), message: message.clone(), errno };
            Failure { key, error }
        }));
        failures
    }
}

/// Sends `phases` as one transaction, or as few as fit. The kernel checks `generation` for the first.
pub(super) fn commit(socket: &mut Netfilter, phases: Phases, generation: Option<u32>) -> Result<(), Refused> {
    let mut generation = generation;
    for batch in batches(phases, socket.limit()) {
        let check = generation.take();
        socket.transaction(&batch, check).map_err(|refusals| {
            let keys = |index: Option<usize>| {
                index.and_then(|at| batch.get(at)).map(|message: &Message| message.keys.clone()).unwrap_or_default()
            };
            Refused { complaints: refusals.into_iter().map(|(index, fault)| (keys(index), fault)).collect() }
        })?;
    }
    Ok(())
}

/// One batch where it fits into `limit` bytes; else `grow` and `shrink` are cut, and `change` stays whole.
fn batches(phases: Phases, limit: usize) -> Vec<Vec<Message>> {
    let size = |messages: &[Message]| messages.iter().map(Message::len).sum::<usize>();
    if size(&phases.grow) + size(&phases.change) + size(&phases.shrink) <= limit {
        return vec![phases.grow.into_iter().chain(phases.change).chain(phases.shrink).collect()];
    }
    let mut batches = cut(phases.grow, limit);
    batches.push(phases.change);
    batches.extend(cut(phases.shrink, limit));
    batches
}

fn cut(messages: Vec<Message>, limit: usize) -> Vec<Vec<Message>> {
    let mut batches: Vec<Vec<Message>> = Vec::new();
    let mut room = 0;
    for message in messages {
        match batches.last_mut().filter(|_| message.len() <= room) {
            Some(batch) => {
                room -= message.len();
                batch.push(message);
            }
            None => {
                room = limit.saturating_sub(message.len());
                batches.push(vec![message]);
            }
        }
    }
    batches
}

/// A fault about `object` as the trait tells it.
pub(super) fn error(object: String, fault: &Fault) -> KernelError {
    match fault {
        Fault::Refused { errno, text } => KernelError::Refused { object, message: text.clone(), errno: *errno },
        Fault::Interrupted | Fault::Lost | Fault::Malformed(_) => {
            KernelError::Incomplete { object, message: fault.to_string() }
        }
        Fault::Io(source) => {
            let source = std::io::Error::new(source.kind(), source.to_string());
            KernelError::Io { object, source }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::nft::wire::{Attributes, INET};

    fn message(bytes: usize) -> Message {
        let attributes = Attributes::new().bytes(1, &vec![0; bytes]);
        Message { kind: 0, flags: 0, family: INET, attributes, keys: Vec::new() }
    }

    #[test]
    fn what_does_not_fit_is_cut_but_never_the_change_of_chains() {
        let phases =
            || Phases { grow: vec![message(100); 3], change: vec![message(100); 3], shrink: vec![message(100)] };
        let lengths = |limit| batches(phases(), limit).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lengths(10_000), [7]);
        assert_eq!(lengths(300), [2, 1, 3, 1]);
    }
}
