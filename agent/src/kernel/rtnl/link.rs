//! Links: the VXLAN device as messages, and what Weft needs to know of every other link.
//!
//! Owns the mark on the device (alias and kind); must never take a link for ours that lacks it.

mod decode;
mod encode;

use std::{collections::BTreeMap, net::IpAddr};

pub(super) use encode::{by_name, change, create, delete, dump, mark};
use weft_core::{
    kernel::{Device, POD_LINK_PREFIX, Seen, Value},
    types::{Family, LinkName, Mac, Vni},
};

/// A link as far as it concerns us.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "facts of the kernel that have nothing to do with each other")]
pub(crate) struct Link {
    /// Its index.
    pub(crate) index: u32,
    /// Its name.
    pub(crate) name: LinkName,
    /// IFLA_IFALIAS is ours.
    pub(crate) marked: bool,
    /// It has an alias, ours or another.
    pub(crate) aliased: bool,
    /// Its Ethernet address, where it has a usable one.
    pub(crate) mac: Option<Mac>,
    /// Its MTU in bytes.
    pub(crate) mtu: u32,
    /// IFF_UP.
    pub(crate) up: bool,
    /// IFF_LOWER_UP: there is a carrier.
    pub(super) carrier: bool,
    /// IFF_LOOPBACK.
    pub(super) loopback: bool,
    /// What makes it a VXLAN device.
    pub(crate) vxlan: Option<Vxlan>,
    /// One end of a veth pair.
    pub(crate) veth: bool,
    /// A bridge, or one end of a veth pair: whoever is behind it is a guest of this host.
    pub(super) leads_to_guests: bool,
}

/// A VXLAN device's own attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vxlan {
    pub(crate) vni: Option<Vni>,
    /// Each packet's metadata says the VNI (`external`).
    pub(crate) external: bool,
    pub(crate) port: u16,
    /// Of its outer packets.
    pub(crate) family: Family,
    pub(super) local: Option<IpAddr>,
    /// Every attribute that [`Device`] does not name is as we set it: learning off, addrgenmode none, no underlay link, DF
    /// unset.
    pub(super) sound: bool,
}

impl Link {
    /// Reads RTM_NEWLINK or RTM_DELLINK without its netlink header. None for a link whose name we cannot write.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        decode::link(payload)
    }

    /// As the VXLAN device, if it is one of ours.
    pub(super) fn device(&self) -> Option<Seen> {
        self.as_device().filter(|_| self.marked)
    }

    /// As a VXLAN device, whoever's it is. The kernel keeps most of what one is made with.
    pub(super) fn as_device(&self) -> Option<Seen> {
        let vxlan = self.vxlan.as_ref()?;
        let device = vxlan.sound.then_some(()).and_then(|()| {
            Some(Device {
                name: self.name,
                mac: self.mac?,
                vni: vxlan.vni?,
                port: vxlan.port,
                local: vxlan.local?,
                mtu: self.mtu,
                up: self.up,
            })
        });
        Some(device.map_or(Seen::Altered { in_place: false }, |device| Seen::As(Value::Device(device))))
    }

    /// True for what can be nothing but a pod's, marked or not yet.
    pub(super) fn is_of_pod(&self) -> bool {
        self.vxlan.is_none() && self.name.as_str().starts_with(POD_LINK_PREFIX)
    }

    /// True for the host's end of a pod's veth.
    pub(crate) fn is_pod(&self) -> bool {
        self.marked && self.vxlan.is_none() && self.name.as_str().starts_with(POD_LINK_PREFIX)
    }
}

/// The links present, by index and by name.
#[derive(Debug, Default)]
pub(super) struct Links {
    by_index: BTreeMap<u32, Link>,
    by_name: BTreeMap<LinkName, u32>,
}

impl Links {
    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.by_index.clear();
        self.by_name.clear();
    }

    /// Adds a link, or what it is now; returns what it was.
    pub(super) fn insert(&mut self, link: Link) -> Option<Link> {
        let (index, name) = (link.index, link.name);
        let before = self.by_index.insert(index, link);
        if let Some(before) = &before
            && before.name != name
        {
            self.forget_name(before.name, index);
        }
        self.by_name.insert(name, index);
        before
    }

    /// Removes a link.
    pub(super) fn remove(&mut self, index: u32) -> Option<Link> {
        let link = self.by_index.remove(&index)?;
        self.forget_name(link.name, index);
        Some(link)
    }

    fn forget_name(&mut self, name: LinkName, index: u32) {
        if self.by_name.get(&name) == Some(&index) {
            self.by_name.remove(&name);
        }
    }

    /// The link of that name.
    pub(super) fn named(&self, name: LinkName) -> Option<&Link> {
        self.by_name.get(&name).and_then(|index| self.by_index.get(index))
    }

    /// The link of that index.
    pub(super) fn get(&self, index: u32) -> Option<&Link> {
        self.by_index.get(&index)
    }

    /// The name of that index.
    pub(super) fn name(&self, index: u32) -> Option<LinkName> {
        self.get(index).map(|link| link.name)
    }

    /// All names, but of pods' links that are down: half made by a plugin that was killed, or set down by somebody. The
    /// kernel takes no route or neighbour for those.
    pub(super) fn names(&self) -> impl Iterator<Item = LinkName> {
        let usable = |link: &&Link| link.up || !link.name.as_str().starts_with(POD_LINK_PREFIX);
        self.by_index.values().filter(usable).map(|link| link.name)
    }

    /// All links.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Link> {
        self.by_index.values()
    }

    /// Our device: the one of that name, else another that carries our marks (the configured name has changed).
    pub(super) fn device(&self, name: LinkName) -> Option<&Link> {
        let ours = |link: &&Link| link.device().is_some();
        self.named(name).filter(ours).or_else(|| self.iter().find(ours))
    }
}
