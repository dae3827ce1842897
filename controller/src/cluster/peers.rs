//! How every node stands.
//!
//! Owns the judgement: what the streams, the acknowledgements and the probes of all the others say together about one
//! node, and since when. Must never call a node gone because it is silent: that is a state of its own.

mod judge;
mod standings;

use std::{collections::HashMap, sync::Arc};

use tokio::sync::watch;
use weft_core::{
    membership::Member,
    standing::{FamilyPath, Peer},
    types::{Family, NodeName, Revision, UnixMs},
};

use super::{Refusal, actor::Actor, paths, sessions::Live};
use crate::{metrics::Figures, store::NodeRecord};
pub(crate) use judge::Probed;
use judge::{Evidence, Judgement};
pub(crate) use standings::NodeStanding;

/// The peer list as it was last made.
#[derive(Debug)]
pub(super) struct PeerTable {
    standings: HashMap<NodeName, Standing>,
    list: Option<Arc<Vec<Peer>>>,
    is_stale: bool,
    /// Why the newest facts of those who were turned away for them were not taken.
    refused: HashMap<NodeName, Refusal>,
    version: watch::Sender<u64>,
}

#[derive(Debug, Clone)]
struct Standing {
    judgement: Judgement,
    since: UnixMs,
    probed: Probed,
}

impl PeerTable {
    pub(super) fn new(version: watch::Sender<u64>) -> Self {
        Self { standings: HashMap::new(), list: None, is_stale: true, refused: HashMap::new(), version }
    }

    /// Something changed that the list may show.
    pub(super) const fn touch(&mut self) {
        self.is_stale = true;
    }

    /// An agent was turned away for what it says of its node.
    pub(super) fn refuse(&mut self, node: &NodeName, refusal: &Refusal) {
        if self.refused.insert(node.clone(), refusal.clone()).as_ref() != Some(refusal) {
            self.touch();
        }
    }

    /// Whose address another member claims in vain: the refusal of that one, by holder.
    fn claims(&self) -> HashMap<&NodeName, &Refusal> {
        self.refused.values().filter_map(|refusal| Some((refusal.holder()?, refusal))).collect()
    }

    /// An agent is let in.
    pub(super) fn accept(&mut self, node: &NodeName) {
        self.refused.remove(node);
        self.touch();
    }
}

impl Actor {
    /// Judges anew where something changed, so that "since when" is right whenever somebody asks.
    pub(super) fn refresh_peers(&mut self) {
        // A lag turns into a state by mere passing of time.
        let lagging = |live: &Live| self.sessions.behind_since(live).is_some() || live.acknowledged.is_none();
        if !self.peers.is_stale && !self.sessions.iter().any(|(_, live)| lagging(live)) {
            return;
        }
        let now_ms = self.clock.unix();
        let evidence = Evidence::gather(&self.sessions);
        let claims = self.peers.claims();
        let needed = self.publisher.settings().generation();
        let mut standings = HashMap::with_capacity(self.registry.nodes().len());
        for (name, node) in self.registry.nodes() {
            let judgement = evidence.judge(node, &self.sessions, self.clock.now());
            let judgement = judgement.refused(self.peers.refused.get(name));
            let judgement = judgement.given(node, self.registry.admission().problem(name)).following(node, needed);
            let judgement = judgement.claimed(claims.get(name).copied());
            let before = self.peers.standings.get(name);
            let is_same =
                |old: &&Standing| old.judgement.state == judgement.state && old.judgement.reason == judgement.reason;
            let since = before.filter(is_same).map_or(judgement.since.unwrap_or(now_ms), |old| old.since);
            standings.insert(name.clone(), Standing { judgement, since, probed: evidence.probed(name) });
        }
        self.peers.refused.retain(|name, _| standings.contains_key(name));
        let is_news = self.peers.is_stale || !same_states(&standings, &self.peers.standings);
        self.peers.standings = standings;
        self.peers.is_stale = false;
        if is_news {
            self.peers.list = None;
            self.peers.version.send_modify(|version| *version += 1);
        }
        let figures = Figures {
            members: self.registry.nodes().len(),
            connected: self.sessions.len(),
            revision: self.publisher.revision(),
            pools: &self.registry.allocator().usage(),
        };
        self.metrics.set_cluster(&figures, self.peers.standings.values().map(|standing| standing.judgement.state));
    }

    /// The peer list now.
    pub(super) fn peer_list(&mut self) -> Arc<Vec<Peer>> {
        self.refresh_peers();
        if let Some(list) = &self.peers.list {
            return Arc::clone(list);
        }
        let list = Arc::new(self.build_list());
        self.peers.list = Some(Arc::clone(&list));
        list
    }

    fn build_list(&self) -> Vec<Peer> {
        let members: Vec<Member> = self.registry.announced().collect();
        let members: Vec<&Member> = members.iter().collect();
        let settings = &self.rules.settings;
        let reach = Family::ALL.map(|family| (family, paths::count(&members, family, settings)));
        let row = |(name, node): (&NodeName, &NodeRecord)| {
            let path = |(family, counts): &(Family, HashMap<&NodeName, paths::Reach>)| {
                node.pod_cidrs.get(*family).as_ref()?;
                let reach = counts.get(name).copied().unwrap_or_default();
                let paths::Reach { direct, tunnel, unreached } = reach;
                Some(FamilyPath { family: *family, way: None, direct, tunnel, unreached, rtt: None })
            };
            self.row(node, reach.iter().filter_map(path).collect())
        };
        self.registry.nodes().iter().map(row).collect()
    }

    fn row(&self, node: &NodeRecord, paths: Vec<FamilyPath>) -> Peer {
        let facts = node.facts.as_ref();
        let standing = self.peers.standings.get(&node.name);
        let judgement = standing.map(|standing| standing.judgement.clone()).unwrap_or_default();
        let newest = self.publisher.published();
        let acknowledged = self.sessions.get(&node.name).and_then(|live| live.acknowledged);
        Peer {
            node: node.name.clone(),
            pod_cidrs: node.pod_cidrs,
            underlay: node.underlay(),
            paths,
            state: judgement.state,
            reason: judgement.reason,
            message: judgement.message,
            since: standing.map(|standing| standing.since),
            revision_lag: newest - acknowledged.unwrap_or(0).min(newest),
            mac: node.endpoint.mac(),
            agent_version: facts.map(|facts| facts.agent_version.clone()),
            underlay_mtu: facts.map(|facts| facts.underlay_mtu),
            applied: acknowledged.map(|sequence| Revision::new(self.epoch, sequence)),
        }
    }
}

/// True where nobody's state or reason differs.
fn same_states(new: &HashMap<NodeName, Standing>, old: &HashMap<NodeName, Standing>) -> bool {
    let is_same = |(name, standing): (&NodeName, &Standing)| {
        let (new, old) = (&standing.judgement, old.get(name).map(|old| &old.judgement));
        old.is_some_and(|old| old.state == new.state && old.reason == new.reason)
    };
    new.len() == old.len() && new.iter().all(is_same)
}
