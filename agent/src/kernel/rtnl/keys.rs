//! Reading a few objects, each by a request of its own, many to a batch.
//!
//! Must never take "I cannot tell" for "not there": where a single request does not settle it, a dump does.

use std::collections::{BTreeMap, BTreeSet};

use netlink_packet_core::NLM_F_ACK;
use weft_core::{
    kernel::{Key, NEXTHOP_IDS, Observed, Seen, SeenObjects, Stray, UNREACHABLE_METRIC, Value},
    types::{Family, LinkName},
};

use super::{
    Rtnl,
    connection::{BATCH, refused},
    fdb::{self, Entry},
    link::{self, Link},
    neighbour::{self, Neighbour},
    nexthop::{self, Nexthop},
    request::Request,
    route::{self, Found},
    wire::Refusal,
};
use crate::kernel::KernelError;

/// What lookups of routes said.
#[derive(Debug, Default)]
pub(super) struct LookedUp {
    /// The entry in each place, ours or not.
    pub(super) found: BTreeMap<Key, Found>,
    /// Places that another, longer or stronger entry hides.
    hidden: BTreeSet<Key>,
}

impl Rtnl {
    pub(in crate::kernel) async fn read_keys(&mut self, keys: &[Key]) -> Result<Observed, KernelError> {
        self.refresh_named(keys).await?;
        let mut observed = Observed { links: self.links.names().collect(), ..Observed::default() };
        let device = self.observe_device(&mut observed);
        if let Some(device) = device {
            if keys.iter().any(|key| matches!(key, Key::Address(_) | Key::Stray(Stray::Address(..)))) {
                self.read_addresses(device, &mut observed.ours).await?;
            }
            if keys.iter().any(|key| matches!(key, Key::Stray(Stray::Route(..)))) {
                self.read_stray_routes(device, &mut observed.ours).await?;
            }
        }
        self.read_entries(device, keys, &mut observed).await?;
        self.read_few_routes(keys, &mut observed).await?;
        let asked: BTreeSet<&Key> = keys.iter().collect();
        observed.ours.retain(|key, _| asked.contains(key));
        self.settle_contested(&mut observed);
        observed.foreign.retain(|key| asked.contains(key));
        Ok(observed)
    }

    /// Takes the links anew that `keys` are on; all, where none are known.
    async fn refresh_named(&mut self, keys: &[Key]) -> Result<(), KernelError> {
        if self.links.iter().next().is_none() {
            return self.refresh_links().await;
        }
        let mut names = BTreeSet::from([self.device]);
        names.extend(keys.iter().filter_map(|key| match key {
            Key::Neighbour(link, _) => Some(*link),
            Key::Sysctl(sysctl) => sysctl.link(),
            _ => None,
        }));
        self.look_at_links(&names).await
    }

    /// Takes the named links anew.
    pub(super) async fn look_at_links(&mut self, names: &BTreeSet<LinkName>) -> Result<(), KernelError> {
        let requests: Vec<Request> = names.iter().map(|name| link::by_name(*name).into()).collect();
        let mut found = BTreeMap::new();
        let refusals = self
            .ask(&requests, "links", |index, payload| {
                found.insert(index, Link::read(payload));
            })
            .await?;
        for ((index, name), refusal) in names.iter().enumerate().zip(refusals) {
            match (found.remove(&index).flatten(), refusal) {
                (Some(link), _) => drop(self.links.insert(link)),
                (None, Some(refusal)) if !refusal.says_absent() => {
                    return Err(refused(&format!("link {name}"), refusal));
                }
                (None, _) => {
                    let gone = self.links.named(*name).map(|link| link.index);
                    gone.and_then(|index| self.links.remove(index));
                }
            }
        }
        Ok(())
    }

    /// Sends `requests` in batches and waits for all answers.
    pub(super) async fn ask(
        &mut self,
        requests: &[Request],
        object: &str,
        mut on_object: impl FnMut(usize, &[u8]),
    ) -> Result<Vec<Option<Refusal>>, KernelError> {
        let mut refusals = Vec::with_capacity(requests.len());
        for chunk in requests.chunks(BATCH) {
            let done = refusals.len();
            self.batch.clear();
            for request in chunk {
                self.batch.push(NLM_F_ACK, request);
            }
            let outcomes = self
                .connection
                .exchange(&mut self.batch, object, |index, payload| on_object(done + index, payload))
                .await?;
            refusals.extend(outcomes);
        }
        Ok(refusals)
    }

    /// FDB entries, neighbours and nexthops.
    async fn read_entries(
        &mut self,
        device: Option<u32>,
        keys: &[Key],
        observed: &mut Observed,
    ) -> Result<(), KernelError> {
        let mut asked: Vec<Key> = Vec::new();
        let mut requests: Vec<Request> = Vec::new();
        for key in keys {
            let request = match key {
                Key::Fdb(mac) => device.map(|device| fdb::get(device, *mac).into()),
                Key::Neighbour(link, address) => {
                    self.links.named(*link).map(|link| neighbour::get(link.index, *address).into())
                }
                Key::Nexthop(id) => Some(nexthop::Request::Get(*id).into()),
                _ => None,
            };
            if let Some(request) = request {
                asked.push(*key);
                requests.push(request);
            }
        }
        let refusals = self
            .ask(&requests, "objects asked for", |index, payload| {
                answer(asked[index], payload, device, observed);
            })
            .await?;
        for (key, refusal) in asked.iter().zip(refusals) {
            if let Some(refusal) = refusal.filter(|refusal| !refusal.says_absent()) {
                return Err(refused(&key.to_string(), refusal));
            }
        }
        Ok(())
    }

    async fn read_few_routes(&mut self, keys: &[Key], observed: &mut Observed) -> Result<(), KernelError> {
        let routes: Vec<Key> = keys.iter().filter(|key| matches!(key, Key::Route(..))).copied().collect();
        let looked_up = self.look_up(&routes).await?;
        self.name_links(&looked_up).await?;
        for (key, found) in &looked_up.found {
            if found.marked() {
                observed.ours.insert(*key, found.seen(|index| self.links.name(index)));
            } else {
                observed.foreign.insert(*key);
            }
        }
        for family in Family::ALL {
            let of = |key: &&Key| matches!(key, Key::Route(to, _) if Family::of(to.ip()) == family);
            if looked_up.hidden.iter().any(|key| of(&key)) {
                let mut all = SeenObjects::new();
                self.read_routes(family, &mut all).await?;
                all.retain(|key, _| looked_up.hidden.contains(key));
                observed.ours.extend(all);
            }
        }
        Ok(())
    }

    /// A route may lead to a link that came after the last reading of all.
    async fn name_links(&mut self, looked_up: &LookedUp) -> Result<(), KernelError> {
        let unknown = |found: &Found| found.link.is_some_and(|index| self.links.get(index).is_none());
        if looked_up.found.values().any(unknown) { self.refresh_links().await } else { Ok(()) }
    }

    /// Looks up the entries at `keys`, all routes, by asking where packets to their first address go.
    pub(super) async fn look_up(&mut self, keys: &[Key]) -> Result<LookedUp, KernelError> {
        let mut looked_up = LookedUp::default();
        let mut asked = Vec::new();
        let mut requests: Vec<Request> = Vec::new();
        for key in keys {
            match key {
                // Lookups never tell of these: they answer with the error that packets would get.
                Key::Route(_, UNREACHABLE_METRIC) => drop(looked_up.hidden.insert(*key)),
                Key::Route(to, _) => {
                    asked.push(*key);
                    requests.push(route::lookup_entry(to.ip()).into());
                }
                _ => {}
            }
        }
        let mut answers: BTreeMap<usize, Option<Found>> = BTreeMap::new();
        let refusals = self
            .ask(&requests, "routes asked for", |index, payload| {
                answers.insert(index, Found::read(payload));
            })
            .await?;
        for ((index, key), refusal) in asked.into_iter().enumerate().zip(refusals) {
            looked_up.judge(key, answers.remove(&index).flatten(), refusal)?;
        }
        Ok(looked_up)
    }
}

impl LookedUp {
    fn judge(&mut self, key: Key, found: Option<Found>, refusal: Option<Refusal>) -> Result<(), KernelError> {
        let Key::Route(to, metric) = key else { return Ok(()) };
        match (found, refusal) {
            (_, Some(refusal)) if !refusal.says_unreachable() => return Err(refused(&key.to_string(), refusal)),
            // No route, or one of those that answer with an error: in either case not ours, which never do.
            (_, Some(_)) => {}
            (Some(found), None) if found.in_main && found.to == to && found.metric == metric => {
                self.found.insert(key, found);
            }
            // The longest match in table main is shorter: nothing is in this place.
            (Some(found), None) if found.in_main && found.to.prefix() < to.prefix() => {}
            (_, None) => drop(self.hidden.insert(key)),
        }
        Ok(())
    }
}

/// Adds the object that came for `key`.
fn answer(key: Key, payload: &[u8], device: Option<u32>, observed: &mut Observed) {
    let seen = match key {
        Key::Fdb(_) => Entry::read(payload).map(|entry| entry.seen()),
        Key::Neighbour(..) => Neighbour::read(payload).and_then(|n| n.mac).map(|mac| Seen::As(Value::Neighbour(mac))),
        Key::Nexthop(_) => {
            let Some(nexthop) = Nexthop::read(payload) else { return };
            if !nexthop.marked && NEXTHOP_IDS.contains(&nexthop.id) {
                observed.foreign.insert(key);
            }
            nexthop.marked.then(|| nexthop.seen(device))
        }
        _ => None,
    };
    observed.ours.extend(seen.map(|seen| (key, seen)));
}
