//! Reading all that is ours, by dumps.
//!
//! Owns what counts as ours and as foreign; must never return a part: any dump that fails fails the reading.

use std::{collections::BTreeSet, net::IpAddr};

use weft_core::{
    kernel::{Key, NEXTHOP_IDS, Objects, Observed, PROTOCOL, Seen, SeenObjects, Value},
    types::{Family, LinkName},
};

use super::{
    Rtnl,
    address::{self, Address},
    connection::Part,
    fdb::{self, Entry},
    link::{self, Link},
    neighbour::{self, Neighbour},
    nexthop::{self, Nexthop},
    request::no_such_table,
    route::{self, Found},
};
use crate::kernel::KernelError;

/// Up to so many missing routes are looked up one by one, to see who else holds their place. Beyond, as at the first
/// start, the refusal of their creation says so at no cost.
const FEW: usize = 128;

impl Rtnl {
    /// Everything of ours, and the places of wanted objects that others hold.
    pub(in crate::kernel) async fn read_all(&mut self, wanted: &Objects) -> Result<Observed, KernelError> {
        self.refresh_links().await?;
        let mut observed = Observed { links: self.links.names().collect(), ..Observed::default() };
        let device = self.observe_device(&mut observed);
        if let Some(device) = device {
            self.read_addresses(device, &mut observed.ours).await?;
            self.read_fdb(device, &mut observed.ours).await?;
        }
        self.read_neighbours(device, wanted, &mut observed.ours).await?;
        self.read_nexthops(device, &mut observed).await?;
        for family in Family::ALL {
            self.read_routes(family, &mut observed.ours).await?;
        }
        if let Some(device) = device {
            self.read_stray_routes(device, &mut observed.ours).await?;
        }
        self.find_foreign(wanted, &mut observed).await?;
        Ok(observed)
    }

    /// Takes all links anew.
    pub(super) async fn refresh_links(&mut self) -> Result<(), KernelError> {
        let links = &mut self.links;
        links.clear();
        let sink = |part: Part<'_>| match part {
            Part::Object(payload) => drop(Link::read(payload).and_then(|link| links.insert(link))),
            Part::Again => links.clear(),
        };
        self.connection.dump(&link::dump(), "links", sink).await
    }

    /// Adds the device as it is; returns its index.
    pub(super) fn observe_device(&self, observed: &mut Observed) -> Option<u32> {
        let found = self.links.device(self.device);
        if let Some(device) = found.and_then(Link::device) {
            observed.ours.insert(Key::Device, device);
        }
        observed.device = found.map(|link| link.name);
        let holder = self.links.named(self.device);
        if holder.is_some_and(|link| link.device().is_none()) {
            observed.foreign.insert(Key::Device);
        }
        found.map(|link| link.index)
    }

    /// Adds the addresses of the device.
    pub(super) async fn read_addresses(&mut self, device: u32, ours: &mut SeenObjects) -> Result<(), KernelError> {
        for family in Family::ALL {
            let mut found: Vec<Address> = Vec::new();
            let sink = |part: Part<'_>| match part {
                Part::Object(payload) => found.extend(Address::read(payload).filter(|address| address.link == device)),
                Part::Again => found.clear(),
            };
            self.connection.dump(&address::dump(family, device), "addresses of the VXLAN device", sink).await?;
            ours.extend(found.iter().map(Address::on_device));
        }
        Ok(())
    }

    async fn read_fdb(&mut self, device: u32, ours: &mut SeenObjects) -> Result<(), KernelError> {
        let mut found: Vec<Entry> = Vec::new();
        let sink = |part: Part<'_>| match part {
            Part::Object(payload) => found.extend(Entry::read(payload).filter(|entry| entry.link == device)),
            Part::Again => found.clear(),
        };
        self.connection.dump(&fdb::dump(device), "FDB of the VXLAN device", sink).await?;
        ours.extend(found.iter().map(|entry| (Key::Fdb(entry.mac), entry.seen())));
        Ok(())
    }

    /// Adds permanent neighbours on the device and on the pod links that `wanted` names.
    async fn read_neighbours(
        &mut self,
        device: Option<u32>,
        wanted: &Objects,
        ours: &mut SeenObjects,
    ) -> Result<(), KernelError> {
        let mut on = self.pod_links(wanted);
        let others = !on.is_empty();
        on.extend(device);
        if on.is_empty() {
            return Ok(());
        }
        let mut found: Vec<Neighbour> = Vec::new();
        let sink = |part: Part<'_>| match part {
            Part::Object(payload) => found.extend(Neighbour::read(payload).filter(|n| on.contains(&n.link))),
            Part::Again => found.clear(),
        };
        // Pods have a link each: one dump of all neighbours costs less than one dump for each.
        let request = neighbour::dump(device.filter(|_| !others));
        self.connection.dump(&request, "neighbours", sink).await?;
        for neighbour in found {
            if let (Some(link), Some(mac)) = (self.links.name(neighbour.link), neighbour.mac) {
                ours.insert(Key::Neighbour(link, neighbour.address), Seen::As(Value::Neighbour(mac)));
            }
        }
        Ok(())
    }

    fn pod_links(&self, wanted: &Objects) -> BTreeSet<u32> {
        let mut named: Option<LinkName> = None;
        let mut on = BTreeSet::new();
        let none = IpAddr::from([0, 0, 0, 0]);
        for key in wanted.range(Key::Neighbour(least_name(), none)..).map(|(key, _)| key) {
            let Key::Neighbour(link, _) = key else { break };
            if named != Some(*link) {
                named = Some(*link);
                on.extend(self.links.named(*link).filter(|link| link.is_pod()).map(|link| link.index));
            }
        }
        on
    }

    async fn read_nexthops(&mut self, device: Option<u32>, observed: &mut Observed) -> Result<(), KernelError> {
        let mut found: Vec<Nexthop> = Vec::new();
        let sink = |part: Part<'_>| match part {
            Part::Object(payload) => {
                found.extend(Nexthop::read(payload).filter(|nexthop| NEXTHOP_IDS.contains(&nexthop.id)));
            }
            Part::Again => found.clear(),
        };
        self.connection.dump(&nexthop::Request::Dump, "nexthops", sink).await?;
        for nexthop in found {
            let key = Key::Nexthop(nexthop.id);
            if nexthop.marked {
                observed.ours.insert(key, nexthop.seen(device));
            } else {
                observed.foreign.insert(key);
            }
        }
        Ok(())
    }

    /// Adds our routes of a family.
    pub(super) async fn read_routes(&mut self, family: Family, ours: &mut SeenObjects) -> Result<(), KernelError> {
        let mut found: Vec<Found> = Vec::new();
        let sink = |part: Part<'_>| match part {
            Part::Object(payload) => {
                found.extend(Found::read(payload).filter(|route| route.marked() && route.in_main));
            }
            Part::Again => found.clear(),
        };
        let object = format!("{family} routes of protocol {PROTOCOL}");
        match self.connection.dump(&route::dump(family, Some(PROTOCOL)), &object, sink).await {
            Err(error) if no_such_table(&error) => {}
            other => other?,
        }
        for route in found {
            let seen = route.seen(|index| self.links.name(index));
            // Of several in one place the kernel tells the one in force first.
            ours.entry(Key::Route(route.to, route.metric)).or_insert(seen);
        }
        Ok(())
    }

    /// Adds others' routes by the device. The kernel tells ours as well, since it cannot be asked for what is not of a
    /// protocol; they are passed over unread.
    pub(super) async fn read_stray_routes(&mut self, device: u32, ours: &mut SeenObjects) -> Result<(), KernelError> {
        for family in Family::ALL {
            let mut found: Vec<Found> = Vec::new();
            let sink = |part: Part<'_>| match part {
                Part::Object(payload) if route::is_ours(payload) => {}
                Part::Object(payload) => found.extend(Found::read(payload)),
                Part::Again => found.clear(),
            };
            let object = format!("{family} routes by the VXLAN device");
            match self.connection.dump(&route::dump_by(family, device), &object, sink).await {
                Err(error) if no_such_table(&error) => {}
                other => other?,
            }
            ours.extend(found.iter().filter_map(|route| route.stray(device, |index| self.links.name(index))));
        }
        Ok(())
    }

    /// Adds the places of wanted objects that others hold.
    async fn find_foreign(&mut self, wanted: &Objects, observed: &mut Observed) -> Result<(), KernelError> {
        let missing: Vec<Key> = wanted
            .keys()
            .filter(|key| matches!(key, Key::Route(..)) && !observed.ours.contains_key(key))
            .copied()
            .collect();
        if missing.len() <= FEW {
            for (key, holder) in self.look_up(&missing).await?.found {
                if !holder.marked() {
                    observed.foreign.insert(key);
                }
            }
        }
        self.settle_contested(observed);
        Ok(())
    }

    /// What the kernel refused to create because it exists, and what is not ours, is foreign.
    pub(super) fn settle_contested(&mut self, observed: &mut Observed) {
        let contested = std::mem::take(&mut self.contested);
        observed.foreign.extend(contested.into_iter().filter(|key| !observed.ours.contains_key(key)));
    }
}

/// The least of all names, to begin a range with.
fn least_name() -> LinkName {
    LinkName::new("!").expect("one graphic ASCII character is a name")
}
