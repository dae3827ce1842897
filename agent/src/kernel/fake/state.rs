//! What the fake kernel holds, and which operations it takes.
//!
//! Each rule here is one of Linux that Weft has to live with; where it comes from is said beside it.

use std::{collections::BTreeSet, net::IpAddr};

use rustix::io::Errno;
use weft_core::{
    diff::Op,
    kernel::{Device, Key, Objects, Part, Route, Stray, Value, Via},
    types::LinkName,
};

use crate::kernel::KernelError;

/// Objects, places held by others, and links.
#[derive(Debug, Clone)]
pub(super) struct State {
    device: LinkName,
    pub(super) ours: Objects,
    pub(super) foreign: BTreeSet<Key>,
    pub(super) links: BTreeSet<LinkName>,
}

/// A refusal as the real edge words it.
pub(super) fn refused(key: &Key, errno: Errno, message: &str) -> KernelError {
    KernelError::Refused { object: key.to_string(), message: message.to_owned(), errno: errno.raw_os_error() }
}

impl State {
    pub(super) fn new(device: LinkName) -> Self {
        let loopback = LinkName::new("lo").expect("a link name");
        Self { device, ours: Objects::new(), foreign: BTreeSet::new(), links: BTreeSet::from([loopback]) }
    }

    /// What our device is called, if it is there.
    pub(super) fn device_name(&self) -> Option<LinkName> {
        match self.ours.get(&Key::Device) {
            Some(Value::Device(device)) => Some(device.name),
            _ => None,
        }
    }

    pub(super) fn carry_out(&mut self, op: &Op) -> Result<(), KernelError> {
        match op {
            Op::Put { key, value, old, replace } => self.put(key, value, old.is_some() || *replace),
            Op::Delete { key, .. } => {
                self.remove(key);
                Ok(())
            }
        }
    }

    fn put(&mut self, key: &Key, value: &Value, over: bool) -> Result<(), KernelError> {
        self.check_needs(key, value)?;
        if let (Key::Device, Value::Device(device)) = (key, value) {
            return self.put_device(device);
        }
        let exclusive = matches!(key, Key::Route(..) | Key::Nexthop(_)) && !over;
        if exclusive && (self.foreign.contains(key) || self.ours.contains_key(key)) {
            // EEXIST, which the edge leaves to the next reading.
            return Ok(());
        }
        self.foreign.remove(key);
        self.ours.insert(*key, value.clone());
        if let Value::Ruleset(ruleset) = value {
            // Sets that no rule looks up any more go with what is in them.
            let sets = ruleset.sets();
            self.ours.retain(|key, _| key.set().is_none_or(|set| sets.contains(&set)));
        }
        Ok(())
    }

    /// What the object refers to must be there.
    fn check_needs(&self, key: &Key, value: &Value) -> Result<(), KernelError> {
        match (key, value) {
            (Key::Address(_) | Key::Fdb(_), _) => self.need_link(key, self.device),
            (Key::Neighbour(link, _), _) => self.need_link(key, *link),
            (Key::Nexthop(_), _) => {
                self.need_link(key, self.device)?;
                self.need_up(key)
            }
            (Key::Sysctl(sysctl), _) => match sysctl.link() {
                Some(link) if !self.links.contains(&link) => {
                    let source = std::io::Error::from(std::io::ErrorKind::NotFound);
                    Err(KernelError::Io { object: key.to_string(), source })
                }
                _ => Ok(()),
            },
            (Key::Element(..) | Key::Bound(..), _) => self.need_set(key),
            (Key::Route(..), Value::Route(route)) => self.check_route(key, route),
            _ => Ok(()),
        }
    }

    fn need_set(&self, key: &Key) -> Result<(), KernelError> {
        match (self.ours.get(&Key::Ruleset), key.set()) {
            (Some(Value::Ruleset(ruleset)), Some(set)) if ruleset.sets().contains(&set) => Ok(()),
            _ => Err(refused(key, Errno::NOENT, "No such file or directory")),
        }
    }

    fn check_route(&self, key: &Key, route: &Route) -> Result<(), KernelError> {
        match route.via {
            Via::Nexthop(id) if !self.ours.contains_key(&Key::Nexthop(id)) => {
                Err(refused(key, Errno::INVAL, "Nexthop id does not exist"))
            }
            Via::Gateway(_, link) | Via::Link(link) => self.need_link(key, link),
            Via::Nexthop(_) | Via::Unreachable => Ok(()),
        }
    }

    fn need_link(&self, key: &Key, link: LinkName) -> Result<(), KernelError> {
        if self.links.contains(&link) { Ok(()) } else { Err(refused(key, Errno::NODEV, "No such device")) }
    }

    fn need_up(&self, key: &Key) -> Result<(), KernelError> {
        match self.ours.get(&Key::Device) {
            Some(Value::Device(device)) if !device.up => Err(refused(key, Errno::NETDOWN, "Nexthop device is not up")),
            _ => Ok(()),
        }
    }

    /// Changes of VNI and port are refused (`vxlan_changelink`), another's device of the name stays (`EEXIST`).
    fn put_device(&mut self, wanted: &Device) -> Result<(), KernelError> {
        if self.foreign.contains(&Key::Device) {
            return Err(refused(&Key::Device, Errno::EXIST, "File exists"));
        }
        if let Some(Value::Device(old)) = self.ours.get(&Key::Device) {
            if !old.can_become(wanted) {
                return Err(refused(&Key::Device, Errno::OPNOTSUPP, "vxlan device does not support changing this"));
            }
            let (new_mac, down) = (old.mac != wanted.mac, old.up && !wanted.up);
            let mtus = (old.mtu, wanted.mtu);
            if new_mac {
                // `neigh_changeaddr`: neighbours go, permanent ones too.
                self.ours.retain(|key, _| !matches!(key, Key::Neighbour(link, _) if *link == wanted.name));
            }
            if mtus.0 != mtus.1 {
                self.follow_mtu(mtus);
            }
            if down {
                self.go_down();
            }
        }
        self.links.insert(wanted.name);
        self.ours.insert(Key::Device, Value::Device(*wanted));
        Ok(())
    }

    /// IPv6 routes whose own MTU is beyond the link's new one, or was its old one, get the new one (`rt6_mtu_change_route`).
    fn follow_mtu(&mut self, (old, new): (u32, u32)) {
        let device = self.device;
        for (key, value) in &mut self.ours {
            let of_it = matches!(key, Key::Route(to, _) if to.is_ipv6()) && leads_to(value, device, true);
            if let Value::Route(route) = value
                && of_it
                && route.mtu.is_some_and(|mtu| mtu >= new || mtu == old)
            {
                route.mtu = Some(new);
            }
        }
    }

    /// A link going down loses nexthops, the routes through them, and IPv6 addresses (`fib_sync_down_dev`,
    /// `addrconf_ifdown`).
    fn go_down(&mut self) {
        let device = self.device;
        self.forget_sources(IpAddr::is_ipv6);
        self.ours.retain(|key, value| match key {
            Key::Nexthop(_) | Key::Stray(Stray::Route(..)) => false,
            Key::Address(address) => address.is_ipv4(),
            Key::Route(..) => !leads_to(value, device, true),
            _ => true,
        });
    }

    /// The value of a sysctl, which is there as long as its link is.
    pub(super) fn sysctl(&self, key: &Key) -> Option<Value> {
        let Key::Sysctl(sysctl) = key else { return None };
        let there = sysctl.link().is_none_or(|link| self.links.contains(&link));
        there.then(|| self.ours.get(key).cloned().unwrap_or(Value::Sysctl(0)))
    }

    /// Removes an object and what cannot be without it.
    pub(super) fn remove(&mut self, key: &Key) {
        let Some(value) = self.ours.remove(key) else { return };
        match (key, value) {
            (Key::Device, Value::Device(device)) => self.remove_link(device.name),
            // `nexthop_flush_dev`, `__remove_nexthop_fib`: routes go with their nexthop.
            (Key::Nexthop(id), _) => self.ours.retain(|_, value| via(value) != Some(Via::Nexthop(*id))),
            (Key::Ruleset, _) => self.ours.retain(|key, _| key.part() != Part::Nft),
            (Key::Address(address), _) => self.forget_source(*address),
            _ => {}
        }
    }

    fn forget_sources(&mut self, which: impl Fn(&IpAddr) -> bool) {
        let addresses = self.ours.keys().filter_map(|key| if let Key::Address(a) = key { Some(*a) } else { None });
        for address in addresses.filter(which).collect::<Vec<_>>() {
            self.forget_source(address);
        }
    }

    /// With an address go the IPv4 routes that name it as source (`fib_sync_down_addr`), without a word; IPv6 ones lose the
    /// source, unless they lead to a nexthop object (`fib6_remove_prefsrc`).
    fn forget_source(&mut self, address: IpAddr) {
        let from = |value: &Value| matches!(value, Value::Route(route) if route.src == Some(address));
        self.ours.retain(|_, value| address.is_ipv6() || !from(value));
        for value in self.ours.values_mut() {
            if let Value::Route(route) = value
                && route.src == Some(address)
                && !matches!(route.via, Via::Nexthop(_))
            {
                route.src = None;
            }
        }
    }

    /// Removes a link with everything on it.
    pub(super) fn remove_link(&mut self, name: LinkName) {
        self.links.remove(&name);
        let is_device = name == self.device || self.is_device(name);
        if is_device {
            self.forget_sources(|_| true);
        }
        self.ours.retain(|key, value| match key {
            Key::Device | Key::Address(_) | Key::Fdb(_) | Key::Nexthop(_) | Key::Stray(_) if is_device => false,
            Key::Neighbour(link, _) => *link != name,
            Key::Sysctl(sysctl) => sysctl.link() != Some(name),
            Key::Route(..) => !leads_to(value, name, is_device),
            _ => true,
        });
    }

    fn is_device(&self, name: LinkName) -> bool {
        matches!(self.ours.get(&Key::Device), Some(Value::Device(device)) if device.name == name)
    }
}

fn via(value: &Value) -> Option<Via> {
    if let Value::Route(route) = value { Some(route.via) } else { None }
}

/// True for a route that leaves by `link`. All our nexthops are on the device.
fn leads_to(value: &Value, link: LinkName, is_device: bool) -> bool {
    match via(value) {
        Some(Via::Nexthop(_)) => is_device,
        Some(Via::Gateway(_, over) | Via::Link(over)) => over == link,
        Some(Via::Unreachable) | None => false,
    }
}
