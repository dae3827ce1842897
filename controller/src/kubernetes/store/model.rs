//! What the objects say, as records, and the other way round.
//!
//! Owns the mapping: which Vtep and which claims there must be, given the records. Pure: no requests here, so that every
//! half of a commit can be tried in a test. Must never say two things for one name.

use std::collections::{BTreeMap, BTreeSet};

use weft_api::{PodCidrClaimSpec, VtepSpec, VtepUnderlay};
use weft_core::types::{NodeName, PodCidr};

use crate::store::{Held, Life, NodeRecord, Quarantined, Stored, Write};

/// Objects that may have to be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Touched {
    pub(super) vteps: BTreeSet<NodeName>,
    pub(super) claims: BTreeSet<PodCidr>,
}

/// The records, with what of the objects they come from.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Model {
    /// The members.
    pub(super) nodes: BTreeMap<NodeName, NodeRecord>,
    /// Who uses a CIDR, by the members.
    pub(super) users: BTreeMap<PodCidr, NodeName>,
    /// What departed nodes' objects say until they are removed.
    pub(super) departed: BTreeMap<NodeName, VtepSpec>,
    /// CIDRs that nobody uses and that are not free: whose, in which life, and whether let go.
    pub(super) kept: BTreeMap<PodCidr, PodCidrClaimSpec>,
}

impl Model {
    /// The records, as the cluster wants them.
    pub(super) fn stored(&self) -> Stored {
        let owner = |claim: &PodCidrClaimSpec| claim.node.parse().expect("checked when it was read or made");
        let kept = |is_released: bool| self.kept.iter().filter(move |(_, claim)| claim.released == is_released);
        Stored {
            nodes: self.nodes.values().cloned().collect(),
            lives: self
                .departed
                .iter()
                .map(|(node, spec)| Life { node: node.clone(), incarnation: spec.incarnation, ended_unix: None })
                .collect(),
            quarantine: kept(true).map(|(cidr, claim)| Quarantined { cidr: *cidr, owner: owner(claim) }).collect(),
            held: kept(false).map(|(cidr, claim)| Held { cidr: *cidr, owner: owner(claim) }).collect(),
            ..Stored::default()
        }
    }

    /// Takes a batch; tells which objects may differ now. Nothing but nodes and CIDRs has objects of its own.
    pub(super) fn apply(&mut self, batch: &[Write]) -> Touched {
        let mut touched = Touched::default();
        let mut parting = BTreeMap::new();
        for write in batch {
            match write {
                Write::Node(node) => {
                    self.remove_node(&node.name, &mut touched);
                    self.departed.remove(&node.name);
                    self.add_node(node.clone(), &mut touched);
                }
                Write::RemoveNode(name) => {
                    parting.extend(self.remove_node(name, &mut touched).map(|node| (name.clone(), vtep(&node))));
                }
                Write::Life(life) => {
                    let known = parting.remove(&life.node).or_else(|| self.departed.remove(&life.node));
                    let known = known.unwrap_or_default();
                    let spec = VtepSpec { incarnation: life.incarnation, departed: true, ..known };
                    self.departed.insert(life.node.clone(), spec);
                    touched.vteps.insert(life.node.clone());
                }
                Write::RemoveLife(name) => {
                    self.departed.remove(name);
                    touched.vteps.insert(name.clone());
                }
                Write::Quarantine(Quarantined { cidr, owner }) => {
                    let claim = claim(*cidr, owner, self.incarnation(owner, &parting), true);
                    self.kept.insert(*cidr, claim);
                    touched.claims.insert(*cidr);
                }
                Write::RemoveQuarantine(cidr) => {
                    self.kept.remove(cidr);
                    touched.claims.insert(*cidr);
                }
                Write::Epoch(_) | Write::Settings(_) | Write::Token(_) | Write::RemoveToken(_) => {}
            }
        }
        touched
    }

    fn add_node(&mut self, node: NodeRecord, touched: &mut Touched) {
        let name = node.name.clone();
        for cidr in node.pod_cidrs.iter() {
            self.users.insert(*cidr, name.clone());
            if self.kept.get(cidr).is_some_and(|claim| !claim.released) {
                self.kept.remove(cidr);
            }
            touched.claims.insert(*cidr);
        }
        touched.vteps.insert(name.clone());
        self.nodes.insert(name, node);
    }

    fn remove_node(&mut self, name: &NodeName, touched: &mut Touched) -> Option<NodeRecord> {
        touched.vteps.insert(name.clone());
        let node = self.nodes.remove(name)?;
        for cidr in node.pod_cidrs.iter() {
            if self.users.get(cidr) == Some(name) {
                self.users.remove(cidr);
            }
            touched.claims.insert(*cidr);
        }
        Some(node)
    }

    fn incarnation(&self, name: &NodeName, parting: &BTreeMap<NodeName, VtepSpec>) -> u64 {
        let live = self.nodes.get(name).map(|node| node.incarnation);
        let ended = || parting.get(name).or_else(|| self.departed.get(name)).map(|spec| spec.incarnation);
        live.or_else(ended).unwrap_or(0)
    }

    /// The Vtep that there must be of a name.
    pub(super) fn vtep(&self, name: &NodeName) -> Option<VtepSpec> {
        self.nodes.get(name).map(vtep).or_else(|| self.departed.get(name).cloned())
    }

    /// The claim that there must be of a CIDR. Who uses it counts more than who had it.
    pub(super) fn claim(&self, cidr: &PodCidr) -> Option<PodCidrClaimSpec> {
        let user = self.users.get(cidr).and_then(|name| self.nodes.get(name));
        let used = user.map(|node| claim(*cidr, &node.name, node.incarnation, false));
        used.or_else(|| self.kept.get(cidr).cloned())
    }
}

pub(super) fn claim(cidr: PodCidr, owner: &NodeName, incarnation: u64, released: bool) -> PodCidrClaimSpec {
    PodCidrClaimSpec { cidr: cidr.to_string(), node: owner.to_string(), incarnation, released }
}

fn vtep(node: &NodeRecord) -> VtepSpec {
    let facts = node.facts.as_ref();
    VtepSpec {
        node_uid: node.node_uid.clone().unwrap_or_default(),
        incarnation: node.incarnation,
        pod_cidrs: node.pod_cidrs.iter().map(ToString::to_string).collect(),
        mac: node.endpoint.mac().to_string(),
        underlay: node.underlay().iter().map(|address| VtepUnderlay { address: address.to_string() }).collect(),
        // 0 and nothing until the agent has reported, as version 0.1 has it.
        underlay_mtu: facts.map_or(0, |facts| facts.underlay_mtu),
        agent_version: facts.map(|facts| facts.agent_version.clone()).unwrap_or_default(),
        agent_generation: facts.map_or(0, |facts| facts.generation),
        joined_unix_ms: node.joined.0,
        departed: false,
    }
}
