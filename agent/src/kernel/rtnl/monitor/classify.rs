//! From a message of the kernel to what it means for us.

use weft_core::{
    kernel::{Key, METRIC_V4, METRIC_V6, NEXTHOP_IDS, Seen, UNREACHABLE_METRIC, Value},
    types::Family,
};

use super::Monitor;
use crate::kernel::{
    Event,
    rtnl::{
        address::Address,
        fdb::Entry,
        link::Link,
        neighbour::Neighbour,
        nexthop::{Nexthop, RTM_DELNEXTHOP, RTM_NEWNEXTHOP},
        route::Found,
        wire::{Frame, attributes, number},
    },
};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_NEWNETCONF: u16 = 80;
const AF_UNSPEC: u8 = 0;
const AF_BRIDGE: u8 = 7;
/// Length of `struct netconfmsg`, padded.
const NETCONF_HEADER: usize = 4;
const NETCONFA_IFINDEX: u16 = 1;
/// `NETCONFA_IFINDEX_ALL`.
const ALL: u32 = u32::MAX;

impl Monitor {
    /// The events that a message means; `own` where this agent caused it.
    pub(super) fn classify(&mut self, frame: &Frame<'_>, own: bool) -> Vec<Event> {
        let family = frame.payload.first().copied().unwrap_or_default();
        let event = match frame.kind {
            // Bridges report their ports with little more than an index.
            RTM_NEWLINK | RTM_DELLINK if family != AF_UNSPEC => None,
            RTM_NEWLINK => self.link(frame.payload),
            RTM_DELLINK => self.link_gone(frame.payload),
            RTM_NEWADDR | RTM_DELADDR => return self.address(frame.payload, frame.kind == RTM_NEWADDR, own),
            RTM_NEWNEIGH | RTM_DELNEIGH if family == AF_BRIDGE => self.fdb(frame.payload, frame.kind == RTM_NEWNEIGH),
            RTM_NEWNEIGH | RTM_DELNEIGH if !own => self.neighbour(frame.payload, frame.kind == RTM_NEWNEIGH),
            RTM_NEWROUTE | RTM_DELROUTE if !own => self.route(frame.payload, frame.kind == RTM_NEWROUTE),
            RTM_NEWNETCONF => self.setting(frame.payload),
            RTM_NEWNEXTHOP | RTM_DELNEXTHOP if !own => {
                return self.nexthop(frame.payload, frame.kind == RTM_NEWNEXTHOP);
            }
            _ => None,
        };
        event.into_iter().collect()
    }

    fn is_ours(&self, link: &Link) -> bool {
        link.name == self.device || link.device().is_some() || link.is_pod()
    }

    fn index(&self) -> Option<u32> {
        self.links.device(self.device).map(|link| link.index)
    }

    /// A link going down takes routes and nexthops with it that nobody reports: every change of ours means a look, but of
    /// pods' links a look at that pod only, since they come and go all the time.
    fn link(&mut self, payload: &[u8]) -> Option<Event> {
        let link = Link::read(payload)?;
        let before = self.links.insert(link.clone());
        if before.as_ref() == Some(&link) {
            return None;
        }
        if link.is_of_pod() && before.as_ref().is_none_or(Link::is_of_pod) {
            return Some(Event::PodLink(link.name));
        }
        let ours = self.is_ours(&link) || before.is_some_and(|before| self.is_ours(&before));
        Some(if ours { Event::Look } else { Event::Underlay })
    }

    fn link_gone(&mut self, payload: &[u8]) -> Option<Event> {
        let link = Link::read(payload)?;
        let ours = self.is_ours(&link);
        self.links.remove(link.index);
        if link.is_of_pod() {
            return Some(Event::PodLink(link.name));
        }
        Some(if ours { Event::Look } else { Event::Underlay })
    }

    /// With an address of ours go the IPv4 routes that name it as source, without a word.
    fn address(&self, payload: &[u8], present: bool, own: bool) -> Vec<Event> {
        let Some(address) = Address::read(payload) else { return Vec::new() };
        if Some(address.link) != self.index() {
            let pod = self.links.get(address.link).is_some_and(Link::is_of_pod);
            return if pod { Vec::new() } else { vec![Event::Underlay] };
        }
        let (key, seen) = address.on_device();
        let object = Event::Object(key, present.then_some(seen));
        match (own, present) {
            (true, _) => Vec::new(),
            (false, true) => vec![object],
            (false, false) => vec![object, Event::Look],
        }
    }

    fn fdb(&self, payload: &[u8], present: bool) -> Option<Event> {
        let entry = Entry::read(payload).filter(|entry| Some(entry.link) == self.index())?;
        let own = self.echoes.take(entry.mac, present.then_some(entry.remote));
        (!own).then(|| Event::Object(Key::Fdb(entry.mac), present.then(|| entry.seen())))
    }

    fn neighbour(&self, payload: &[u8], present: bool) -> Option<Event> {
        let neighbour = Neighbour::read(payload)?;
        let link = self.links.get(neighbour.link).filter(|link| self.is_ours(link))?;
        let seen = neighbour.mac.filter(|_| present).map(|mac| Seen::As(Value::Neighbour(mac)));
        Some(Event::Object(Key::Neighbour(link.name, neighbour.address), seen))
    }

    fn route(&self, payload: &[u8], present: bool) -> Option<Event> {
        let route = Found::read(payload).filter(|route| route.in_main)?;
        let stray = self.index().and_then(|device| route.stray(device, |index| self.links.name(index)));
        if let Some((key, seen)) = stray {
            return Some(Event::Object(key, present.then_some(seen)));
        }
        if !route.marked() && route.names_underlay() {
            return Some(Event::Underlay);
        }
        let ordinary = if Family::of(route.to.ip()) == Family::V4 { METRIC_V4 } else { METRIC_V6 };
        if route.metric != ordinary && route.metric != UNREACHABLE_METRIC {
            return None;
        }
        let seen = (present && route.marked()).then(|| route.seen(|index| self.links.name(index)));
        Some(Event::Object(Key::Route(route.to, route.metric), seen))
    }

    /// With a nexthop go its routes, those of IPv4 without a word.
    fn nexthop(&self, payload: &[u8], present: bool) -> Vec<Event> {
        let Some(nexthop) = Nexthop::read(payload).filter(|nexthop| NEXTHOP_IDS.contains(&nexthop.id)) else {
            return Vec::new();
        };
        let seen = (present && nexthop.marked).then(|| nexthop.seen(self.index()));
        let object = Event::Object(Key::Nexthop(nexthop.id), seen);
        if present { vec![object] } else { vec![object, Event::Look] }
    }

    /// Forwarding and rp_filter: of all links, of one of ours, or of what may be the underlay.
    fn setting(&self, payload: &[u8]) -> Option<Event> {
        let mut of = attributes(payload, NETCONF_HEADER).filter(|(kind, _)| *kind == NETCONFA_IFINDEX);
        let index = of.next().and_then(|(_, value)| number(value))?;
        let link = self.links.get(index);
        if let Some(pod) = link.filter(|link| link.is_of_pod()) {
            return Some(Event::PodLink(pod.name));
        }
        let is_ours = index == ALL || link.is_some_and(|link| self.is_ours(link));
        match link {
            _ if is_ours => Some(Event::Look),
            Some(_) => Some(Event::Underlay),
            None => None,
        }
    }
}
