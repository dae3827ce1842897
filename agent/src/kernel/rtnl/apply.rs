//! Carrying out operations, in their order, many to a batch.
//!
//! Owns the translation of an operation of rtnetlink into messages, and the judgement of the kernel's answers. Must never retry or
//! skip: what failed is told, and only a reading says what became of it.

use std::collections::BTreeSet;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rustix::io::Errno;
use weft_core::{
    diff::Op,
    kernel::{Device, Key, Seen, Stray, Value, Via},
    types::LinkName,
};

use super::{
    Rtnl, address,
    connection::{BATCH, Outcomes, acknowledged, refused},
    fdb, link, neighbour, nexthop,
    request::Request,
    route,
    wire::Refusal,
};
use crate::kernel::{Failure, KernelError};

/// Most messages that one operation becomes.
const LONGEST: usize = 8;

/// What an operation becomes.
type Messages = Vec<(u16, Request)>;

/// An application under way.
pub(in crate::kernel) struct Progress<'a> {
    ops: &'a [Op],
    device: LinkName,
    /// For each message of the batch its operation.
    owners: Vec<usize>,
    failures: Vec<Failure>,
    /// The device could not be made or set up, which was told: what is on it cannot succeed and is not tried.
    without_device: bool,
}

impl Rtnl {
    /// Begins to carry out `ops`; the caller takes those of rtnetlink a step at a time, in their order.
    pub(in crate::kernel) async fn begin<'a>(&mut self, ops: &'a [Op]) -> Progress<'a> {
        self.batch.clear();
        self.resolve_links(ops).await;
        Progress { ops, device: self.device, owners: Vec::new(), failures: Vec::new(), without_device: false }
    }

    /// Carries out one operation, with others at once if it can wait.
    pub(in crate::kernel) async fn step(&mut self, index: usize, progress: &mut Progress<'_>) {
        let op = &progress.ops[index];
        match op.key() {
            Key::Device => self.step_device(index, progress).await,
            _ => match self.messages(op) {
                Ok(messages) => self.push(index, messages, progress).await,
                Err(error) => progress.failures.push(Failure { key: *op.key(), error }),
            },
        }
    }

    /// Waits for what is under way; what failed.
    pub(in crate::kernel) async fn finish(&mut self, mut progress: Progress<'_>) -> Vec<Failure> {
        self.flush(&mut progress).await;
        if !progress.failures.is_empty() {
            // Whatever failed may have failed because a link is not the one it was.
            self.links.clear();
        }
        progress.failures
    }

    async fn push(&mut self, index: usize, messages: Messages, progress: &mut Progress<'_>) {
        if self.batch.len() + LONGEST > BATCH {
            self.flush(progress).await;
        }
        for (flags, message) in messages {
            self.batch.push(acknowledged(flags), &message);
            progress.owners.push(index);
        }
        self.expect_echo(&progress.ops[index]);
    }

    /// The device's messages travel alone: what follows needs the link's index.
    async fn step_device(&mut self, index: usize, progress: &mut Progress<'_>) {
        self.flush(progress).await;
        let op = &progress.ops[index];
        if let Err(error) = self.push_device(op).await {
            progress.failures.push(Failure { key: Key::Device, error });
        }
        progress.owners = vec![index; self.batch.len()];
        self.flush(progress).await;
        if let Err(error) = self.look_at_links(&BTreeSet::from([self.device])).await {
            progress.failures.push(Failure { key: Key::Device, error });
        }
        self.batch.clear();
        let usable = self.links.device(self.device).is_some_and(|link| link.up);
        progress.without_device = matches!(op, Op::Put { .. }) && !usable;
    }

    async fn push_device(&mut self, op: &Op) -> Result<(), KernelError> {
        match op {
            Op::Put { value: Value::Device(new), old: Some(Seen::As(Value::Device(old))), .. } => {
                link::change(&mut self.batch, old, new);
            }
            Op::Put { value: Value::Device(new), replace, .. } => self.push_new_device(new, *replace).await?,
            Op::Delete { .. } => {
                let device = self.links.device(self.device).map(|link| link.name);
                device.into_iter().for_each(|name| self.batch.push(acknowledged(0), &link::delete(name)));
            }
            Op::Put { .. } => {}
        }
        Ok(())
    }

    /// A link of the name that is not ours is left alone. With `replace` it was ours and lost its mark: where it otherwise
    /// can become what it should be, it gets the mark back and stays.
    async fn push_new_device(&mut self, new: &Device, replace: bool) -> Result<(), KernelError> {
        self.look_at_links(&BTreeSet::from([new.name])).await?;
        self.batch.clear();
        let Some(holder) = self.links.named(new.name) else {
            link::create(&mut self.batch, new, has_ipv6());
            return Ok(());
        };
        match holder.as_device() {
            Some(Seen::As(Value::Device(old))) if replace && old.can_become(new) => {
                link::mark(&mut self.batch, new.name);
                link::change(&mut self.batch, &old, new);
                Ok(())
            }
            _ => Err(taken(new.name)),
        }
    }

    /// Waits for what is under way.
    pub(in crate::kernel) async fn flush(&mut self, progress: &mut Progress<'_>) {
        if !self.batch.is_empty() {
            let owners = std::mem::take(&mut progress.owners);
            let answers = self.connection.exchange(&mut self.batch, "a batch of changes", |_, _| {}).await;
            match answers {
                Ok(outcomes) => self.judge(&owners, outcomes, progress),
                Err(error) => progress.lose(&owners, &error),
            }
            self.batch.clear();
        }
    }

    /// Of an operation's messages the first refused one tells.
    fn judge(&mut self, owners: &[usize], outcomes: Outcomes, progress: &mut Progress<'_>) {
        let mut told = None;
        for (owner, refusal) in owners.iter().zip(outcomes) {
            let Some(refusal) = refusal else { continue };
            if told == Some(*owner) {
                continue;
            }
            let op = &progress.ops[*owner];
            if self.is_for_the_reading(op, &refusal) {
                continue;
            }
            told = Some(*owner);
            let rival = refusal.says_exists().then(|| self.rival(op)).flatten();
            let error = rival.unwrap_or_else(|| refused(&op.key().to_string(), refusal));
            progress.failures.push(Failure { key: *op.key(), error });
        }
    }

    /// EEXIST on creation and "not there" on deletion are no failures; the reading that follows says whether they are
    /// success. A device is another matter: its EEXIST may mean another device with its VNI and port.
    fn is_for_the_reading(&mut self, op: &Op, refusal: &Refusal) -> bool {
        match op {
            Op::Put { key, .. } if refusal.says_exists() && *key != Key::Device => {
                self.contested.insert(*key);
                true
            }
            Op::Put { old: Some(old), .. } => refusal.says_absent() && old.is_deleted_first(),
            Op::Put { .. } => false,
            Op::Delete { .. } => refusal.says_absent(),
        }
    }

    /// Who keeps a device from being made: the kernel has one VXLAN device to a VNI and port, and does not say which.
    fn rival(&self, op: &Op) -> Option<KernelError> {
        let Op::Put { key: Key::Device, value: Value::Device(new), .. } = op else { return None };
        let is_rival = |link: &&link::Link| {
            let vxlan = link.vxlan.as_ref();
            vxlan.is_some_and(|vxlan| vxlan.vni == Some(new.vni) && vxlan.port == new.port) && link.name != new.name
        };
        let other = self.links.iter().find(is_rival)?;
        let message = format!(
            "link {} has VNI {} and port {} already: remove it, or give the cluster another VNI or port",
            other.name, new.vni, new.port
        );
        Some(KernelError::Refused { object: Key::Device.to_string(), message, errno: Errno::EXIST.raw_os_error() })
    }

    /// Tells the monitor of an FDB change that comes back without a sender's port.
    fn expect_echo(&self, op: &Op) {
        let Some(echoes) = &self.echoes else { return };
        match op {
            Op::Put { key: Key::Fdb(mac), value: Value::Fdb(remote), .. } => echoes.expect(*mac, Some(Some(*remote))),
            Op::Delete { key: Key::Fdb(mac), .. } => echoes.expect(*mac, None),
            _ => {}
        }
    }

    /// Learns the indexes of links that operations name and nobody has read yet.
    async fn resolve_links(&mut self, ops: &[Op]) {
        let unknown = |name: &LinkName| self.links.named(*name).is_none();
        let mut names: BTreeSet<LinkName> = ops.iter().filter_map(names_link).filter(unknown).collect();
        if unknown(&self.device) {
            names.insert(self.device);
        }
        // A link that cannot be found fails its operations, each by name.
        let _ = self.look_at_links(&names).await;
        self.batch.clear();
    }

    fn messages(&self, op: &Op) -> Result<Messages, KernelError> {
        match op {
            Op::Put { key, value, old, replace } => self.put(key, value, old.as_ref(), *replace),
            Op::Delete { key, old } => self.delete(key, old),
        }
    }

    fn put(&self, key: &Key, value: &Value, old: Option<&Seen>, replace: bool) -> Result<Messages, KernelError> {
        let over = NLM_F_CREATE | NLM_F_REPLACE;
        let place = if old.is_none() && !replace { NLM_F_CREATE | NLM_F_EXCL } else { over };
        let mut messages = match old {
            Some(old) if old.is_deleted_first() => self.delete(key, old)?,
            _ => Messages::new(),
        };
        let (flags, request) = match (key, value) {
            (Key::Address(address), Value::Present) => (over, address::put(self.device_index(key)?, *address).into()),
            // What else is on our own device, such as a neighbour the kernel could not resolve, is nobody's to keep.
            (Key::Fdb(mac), Value::Fdb(remote)) => (over, fdb::put(self.device_index(key)?, *mac, *remote).into()),
            (Key::Neighbour(link, address), Value::Neighbour(mac)) => {
                (over, neighbour::put(self.index(key, *link)?, *address, *mac).into())
            }
            (Key::Nexthop(id), Value::Nexthop(gateway)) => {
                let link = self.device_index(key)?;
                (place, nexthop::Request::New { id: *id, link, gateway: *gateway }.into())
            }
            (Key::Route(to, metric), Value::Route(route)) => {
                let link = match route.via {
                    Via::Gateway(_, link) | Via::Link(link) => self.index(key, link)?,
                    Via::Nexthop(_) | Via::Unreachable => 0,
                };
                (place, route::put(*to, *metric, route, link, place == over).into())
            }
            _ => return Err(mismatch(key)),
        };
        messages.push((flags, request));
        Ok(messages)
    }

    fn delete(&self, key: &Key, old: &Seen) -> Result<Messages, KernelError> {
        let link = match key {
            Key::Address(_) | Key::Fdb(_) | Key::Stray(_) => self.links.device(self.device),
            Key::Neighbour(link, _) => self.links.named(*link),
            _ => None,
        };
        let request: Request = match (key, link) {
            (Key::Address(address), Some(link)) => address::delete(link.index, *address).into(),
            (Key::Stray(Stray::Address(address, of)), Some(link)) => {
                address::delete_stray(link.index, *address, *of).into()
            }
            (Key::Stray(Stray::Route(to, metric, protocol)), Some(link)) => {
                route::delete_stray(*to, *metric, *protocol, old, link.index).into()
            }
            (Key::Fdb(mac), Some(link)) => fdb::delete(link.index, *mac).into(),
            (Key::Neighbour(_, address), Some(link)) => neighbour::delete(link.index, *address).into(),
            // It went with its link.
            (Key::Address(_) | Key::Fdb(_) | Key::Neighbour(..) | Key::Stray(_), None) => return Ok(Messages::new()),
            (Key::Nexthop(id), _) => nexthop::Request::Delete(*id).into(),
            (Key::Route(to, metric), _) => route::delete(*to, *metric, old).into(),
            _ => return Err(mismatch(key)),
        };
        Ok(vec![(0, request)])
    }

    fn device_index(&self, key: &Key) -> Result<u32, KernelError> {
        let device = self.links.device(self.device).map(|link| link.index);
        device.ok_or_else(|| no_link(key, self.device))
    }

    fn index(&self, key: &Key, name: LinkName) -> Result<u32, KernelError> {
        self.links.named(name).map(|link| link.index).ok_or_else(|| no_link(key, name))
    }
}

impl Progress<'_> {
    /// True for what is on a device that could not be made.
    pub(in crate::kernel) fn is_hopeless(&self, op: &Op) -> bool {
        self.without_device && is_put_on(op, self.device)
    }

    /// Notes what failed elsewhere.
    pub(in crate::kernel) fn note(&mut self, failures: impl IntoIterator<Item = Failure>) {
        self.failures.extend(failures);
    }

    /// Nothing is known of a batch whose answers did not come.
    fn lose(&mut self, owners: &[usize], error: &KernelError) {
        let mut owners = owners.to_vec();
        owners.dedup();
        self.failures.extend(owners.into_iter().map(|owner| {
            let key = *self.ops[owner].key();
            let error = KernelError::Incomplete { object: key.to_string(), message: error.to_string() };
            Failure { key, error }
        }));
    }
}

/// True where an operation puts something onto the device.
fn is_put_on(op: &Op, device: LinkName) -> bool {
    matches!(op, Op::Put { key, value, .. } if *key != Key::Device && key.goes_with_device(Some(value), device))
}

/// The link an operation names.
fn names_link(op: &Op) -> Option<LinkName> {
    match op {
        Op::Put { key: Key::Neighbour(link, _), .. } | Op::Delete { key: Key::Neighbour(link, _), .. } => Some(*link),
        Op::Put { value: Value::Route(route), .. } => match route.via {
            Via::Gateway(_, link) | Via::Link(link) => Some(link),
            Via::Nexthop(_) | Via::Unreachable => None,
        },
        _ => None,
    }
}

/// False where the kernel was started without IPv6.
fn has_ipv6() -> bool {
    std::path::Path::new("/proc/sys/net/ipv6").exists()
}

fn no_link(key: &Key, name: LinkName) -> KernelError {
    let message = format!("link {name} is not there; it is tried again once it is");
    KernelError::Refused { object: key.to_string(), message, errno: Errno::NODEV.raw_os_error() }
}

fn taken(name: LinkName) -> KernelError {
    let message = format!(
        "link {name} is there and is not Weft's: remove or rename it, or give Weft's device another name (--device)"
    );
    KernelError::Refused { object: Key::Device.to_string(), message, errno: Errno::EXIST.raw_os_error() }
}

fn mismatch(key: &Key) -> KernelError {
    let message = "the value does not belong to this kind of object; this is a defect of Weft".to_owned();
    KernelError::Refused { object: key.to_string(), message, errno: Errno::INVAL.raw_os_error() }
}
