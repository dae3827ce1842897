//! What this host still knows of pods: their links, their namespaces' paths, the runtime's cached results.
//!
//! Owns looking, and deleting a link that nobody claims. Blocking: to be called off the agent's thread. Must never enter a
//! namespace, and must never take "cannot be seen" for "is not there": the agent may run in a container that sees less.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use netlink_packet_route::{RouteNetlinkMessage, link::LinkMessage};
use rustix::fs::statfs;
use weft_core::types::{LinkName, Mac};

use super::{
    Record,
    truth::{Evidence, Witnesses},
};
use crate::{
    kernel::rtnl::link::Link,
    veth::{self, AttachmentKey, ENODEV, NSFS, Netlink, messages},
};

/// Where libcni, and so every runtime built on it, keeps the results of its ADDs (`CacheDir` and "results").
pub const CACHED_RESULTS: &str = "/var/lib/cni/results";

/// The host's end of a pod's veth pair, or what looks like one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PodLink {
    pub(super) name: LinkName,
    pub(super) index: u32,
    pub(super) mac: Option<Mac>,
    /// Bytes.
    pub(super) mtu: u32,
    /// It carries our marks: a veth of our prefix with our alias.
    pub(super) marked: bool,
}

/// Everything seen at one moment.
#[derive(Debug)]
pub(super) struct Look {
    links: Vec<PodLink>,
    /// Names of the links of all attachments that the runtime has a cached result of.
    remembered: BTreeSet<LinkName>,
    /// Directories of namespaces that this process sees as the runtime does.
    visible: BTreeMap<PathBuf, bool>,
}

impl Look {
    /// Looks; an error where the links cannot be read whole.
    pub(super) fn now(results: &Path) -> io::Result<Self> {
        let mut host = Netlink::open().map_err(io::Error::other)?;
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let dump = host.dump("list the host's interfaces", &request).map_err(io::Error::other)?;
        let links = dump.iter().filter_map(|payload| Link::read(payload)).map(PodLink::from);
        Ok(Self { links: links.collect(), remembered: remembered(results)?, visible: BTreeMap::new() })
    }

    /// All links that carry our marks.
    pub(super) fn marked(&self) -> impl Iterator<Item = &PodLink> {
        self.links.iter().filter(|link| link.marked)
    }

    /// The link of an allocation. Renaming it does not hide it: its MAC is nobody else's.
    pub(super) fn link(&self, record: &Record) -> Option<&PodLink> {
        self.links.iter().find(|link| link.name == record.link || link.mac == Some(record.host_mac))
    }

    /// True where the runtime has a cached result of the attachment behind this link.
    pub(super) fn remembers(&self, link: LinkName) -> bool {
        self.remembered.contains(&link)
    }

    /// What is known of an allocation. `cached` says that the runtime keeps its results where we look for them.
    pub(super) fn of(&mut self, record: &Record, cached: bool) -> Witnesses {
        let runtime = match self.remembers(record.link) {
            true => Evidence::There,
            false if cached => Evidence::Gone,
            false => Evidence::Unknown,
        };
        let link = self.link(record).is_some();
        Witnesses { link, namespace: self.namespace(Path::new(&record.netns)), runtime }
    }

    /// A path below /proc says nothing by its absence: the namespace of a process may have others in it.
    fn namespace(&mut self, path: &Path) -> Evidence {
        let parent = match path.parent() {
            Some(parent) if path.is_absolute() => parent.to_owned(),
            _ => return Evidence::Unknown,
        };
        match statfs(path) {
            Ok(found) if found.f_type == NSFS => Evidence::There,
            // The file under a mount point: unmounted, or mounted where this process does not see it.
            Ok(_) => Evidence::Unknown,
            Err(error) if error.kind() != io::ErrorKind::NotFound || path.starts_with("/proc") => Evidence::Unknown,
            Err(_) => match self.visible.entry(parent).or_insert_with_key(|parent| shows_namespaces(parent)) {
                true => Evidence::Gone,
                false => Evidence::Unknown,
            },
        }
    }
}

/// Deletes a link that nobody claims, and no other that may have its name by now. One that is gone already is a success.
pub(super) fn delete(link: &PodLink) -> io::Result<()> {
    let mut host = Netlink::open().map_err(io::Error::other)?;
    match host.one(messages::delete_at(link.index, link.name.as_str())) {
        Err(error) if error.errno != ENODEV => Err(io::Error::other(error)),
        _ => Ok(()),
    }
}

/// Deletes every link of a pod that carries our marks, for a node that Weft leaves; returns how many there were.
pub(crate) fn delete_links(results: &Path) -> io::Result<usize> {
    let look = Look::now(results)?;
    look.marked().try_for_each(delete)?;
    Ok(look.marked().count())
}

/// True where the link of an allocation is there now.
pub(super) fn is_linked(record: &Record) -> io::Result<bool> {
    let mut host = Netlink::open().map_err(io::Error::other)?;
    let found = host.link(record.link.as_str()).map_err(io::Error::other)?;
    Ok(found.is_some_and(|link| veth::is_ours(&link, record.host_mac)))
}

impl From<Link> for PodLink {
    fn from(link: Link) -> Self {
        let marked = link.veth && link.is_pod() && link.mac.is_some();
        Self { name: link.name, index: link.index, mac: link.mac, mtu: link.mtu, marked }
    }
}

/// True where at least one namespace is mounted in the directory, so that mounts there are seen from here.
fn shows_namespaces(directory: &Path) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| statfs(&path).is_ok_and(|found| found.f_type == NSFS))
}

/// Links of the attachments in a runtime's cache: its files are called NETWORK-CONTAINER-INTERFACE, and each part may
/// hold dashes, so that every way to read a name counts. No directory is an empty cache.
fn remembered(results: &Path) -> io::Result<BTreeSet<LinkName>> {
    let entries = match fs::read_dir(results) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        other => other?,
    };
    let mut links = BTreeSet::new();
    for entry in entries {
        let name = entry?.file_name();
        links.extend(name.to_str().into_iter().flat_map(attachments).map(|key| key.link()));
    }
    Ok(links)
}

fn attachments(name: &str) -> impl Iterator<Item = AttachmentKey> {
    let dashes = || name.match_indices('-').map(|(at, _)| at);
    let pairs = dashes().flat_map(move |first| dashes().filter(move |second| first < *second).map(move |s| (first, s)));
    pairs.filter_map(|(first, second)| AttachmentKey::new(&name[first + 1..second], &name[second + 1..]).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cached_result_is_found_whatever_has_dashes() {
        for (network, container, interface) in [("weft", "abc", "eth0"), ("my-net", "a-b-c", "net-1")] {
            let key = AttachmentKey::new(container, interface).expect("valid");
            let name = format!("{network}-{container}-{interface}");
            assert!(attachments(&name).any(|found| found == key), "{name}");
            assert!(!attachments(&name).any(|found| found.container() == "other"), "{name}");
        }
        assert_eq!(attachments("weft-a").count(), 0);
    }

    #[test]
    fn no_cache_is_an_empty_cache_and_an_unreadable_one_an_error() {
        assert!(remembered(Path::new("/nonexistent/results")).expect("empty").is_empty());
        assert!(remembered(Path::new("/proc/self/status")).is_err(), "a look that saw nothing would free addresses");
    }
}
