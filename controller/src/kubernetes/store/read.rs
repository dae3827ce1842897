//! From objects to records.
//!
//! Owns what a half of a commit, or a hand's edit, is taken for. Every object is checked by itself, and one that cannot
//! be read is told and left out, while whatever it may stand for stays its node's: a Vtep that cannot be read makes its
//! node's CIDRs held, a claim that cannot be read keeps its CIDR from everybody. Must never take an object that is
//! missing or broken for a free CIDR or a node that left.

use std::collections::BTreeMap;

use k8s_openapi::serde_json::{self, Value};
use weft_api::{PodCidrClaimSpec, VtepSpec, claim_cidr};
use weft_core::{
    encap::Endpoint,
    membership::More,
    types::{CidrError, Family, MacError, NodeName, PerFamily, PodCidr, UnderlayAddress, UnderlayError, UnixMs},
};

use super::model::{Model, Touched, claim};
use crate::store::{NodeFacts, NodeRecord, Write};

/// An object as the API server has it.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) spec: Value,
}

/// An object, or a part of one, that cannot be taken as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unreadable {
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) detail: String,
}

/// What the objects come down to.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) model: Model,
    /// Objects that are not as they should be, given the model: to be written with the next batch.
    pub(super) unfinished: Touched,
    pub(super) unreadable: Vec<Unreadable>,
    /// Nodes whose Vtep cannot be read.
    pub(super) nodes: Vec<NodeName>,
}

type Claims = BTreeMap<PodCidr, PodCidrClaimSpec>;

/// Reads all objects.
pub(super) fn read(vteps: &[Found], claims: &[Found]) -> Reading {
    let mut reading = Reading::default();
    let claims: Claims = claims.iter().filter_map(|found| reading.claim(found)).collect();
    for found in vteps {
        reading.vtep(found, &claims);
    }
    for (cidr, spec) in claims {
        reading.settle(cidr, spec);
    }
    reading
}

impl Reading {
    fn tell(&mut self, kind: &'static str, name: &str, detail: String) {
        self.unreadable.push(Unreadable { kind, name: name.to_owned(), detail });
    }

    fn claim(&mut self, found: &Found) -> Option<(PodCidr, PodCidrClaimSpec)> {
        // The name counts: it is what makes a claim exclusive.
        let cidr = match claim_cidr(&found.name).map(PodCidr::new) {
            Some(Ok(cidr)) => cidr,
            Some(Err(error)) => return self.no_claim(&found.name, &error.to_string()),
            None => return self.no_claim(&found.name, "its name spells no CIDR"),
        };
        let spec: Result<PodCidrClaimSpec, _> = serde_json::from_value(found.spec.clone());
        let problem = match &spec {
            Err(error) => Some(error.to_string()),
            Ok(spec) => spec.node.parse::<NodeName>().err().map(|error| error.to_string()),
        };
        if let Some(problem) = problem {
            let detail = format!("{problem}; its CIDR is kept from everybody until all agents have let go of it");
            self.tell("PodCidrClaim", &found.name, detail);
            self.unfinished.claims.insert(cidr);
            let nobody = "unknown".parse().expect("a name");
            return Some((cidr, claim(cidr, &nobody, 0, true)));
        }
        let spec = spec.ok()?;
        if spec.cidr != cidr.to_string() {
            self.tell(
                "PodCidrClaim",
                &found.name,
                format!("says CIDR {:?}, and is named after {cidr}: the name counts", spec.cidr),
            );
            self.unfinished.claims.insert(cidr);
        }
        Some((cidr, PodCidrClaimSpec { cidr: cidr.to_string(), ..spec }))
    }

    fn no_claim<T>(&mut self, name: &str, problem: &str) -> Option<T> {
        self.tell("PodCidrClaim", name, format!("{problem}; it is ignored: delete it"));
        None
    }

    fn vtep(&mut self, found: &Found, claims: &Claims) {
        let name = match found.name.parse::<NodeName>() {
            Ok(name) => name,
            Err(error) => return self.tell("Vtep", &found.name, error.to_string()),
        };
        let spec: VtepSpec = match serde_json::from_value(found.spec.clone()) {
            Ok(spec) => spec,
            Err(error) => return self.no_vtep(name, &error.to_string()),
        };
        if spec.departed {
            self.model.departed.insert(name, spec);
            return;
        }
        match record(&name, &spec) {
            Err(problem) => self.no_vtep(name, &problem.to_string()),
            Ok(mut node) => {
                self.drop_foreign(&mut node, claims);
                let taken = self.model.apply(&[Write::Node(node)]);
                // Those without a claim get one.
                self.unfinished.claims.extend(taken.claims.into_iter().filter(|cidr| !claims.contains_key(cidr)));
            }
        }
    }

    /// Of two Vteps with one CIDR that which the claim names has it, or else the first.
    fn drop_foreign(&mut self, node: &mut NodeRecord, claims: &Claims) {
        let name = node.name.clone();
        for family in Family::ALL {
            let Some(cidr) = *node.pod_cidrs.get(family) else { continue };
            let Some(other) = self.model.users.get(&cidr).cloned() else { continue };
            let is_mine = claims.get(&cidr).is_some_and(|claim| claim.node == name.as_str());
            let loser = if is_mine { &other } else { &name };
            self.tell("Vtep", loser.as_str(), format!("lists pod CIDR {cidr}, which another node has: it is left out"));
            self.unfinished.vteps.insert(loser.clone());
            if is_mine {
                let mut loser = self.model.nodes[&other].clone();
                *loser.pod_cidrs.get_mut(family) = None;
                self.model.apply(&[Write::Node(loser)]);
            } else {
                *node.pod_cidrs.get_mut(family) = None;
            }
        }
    }

    fn no_vtep(&mut self, name: NodeName, problem: &str) {
        let detail =
            format!("{problem}; the node stays a member as it was last known, and its object is written again");
        self.tell("Vtep", name.as_str(), detail);
        self.nodes.push(name);
    }

    /// What a claim means, given the members.
    fn settle(&mut self, cidr: PodCidr, spec: PodCidrClaimSpec) {
        let owner: NodeName = spec.node.parse().expect("checked when it was read");
        if let Some(wanted) = self.model.claim(&cidr) {
            // A member lists it. Whatever else was on its way was never announced.
            if wanted != spec {
                self.unfinished.claims.insert(cidr);
            }
            return;
        }
        let has_another = |node: &NodeRecord| node.pod_cidrs.get(cidr.family()).is_some();
        let is_lost = !spec.released && self.model.nodes.get(&owner).is_some_and(has_another);
        if is_lost {
            self.unfinished.claims.insert(cidr);
        }
        self.model.kept.insert(cidr, PodCidrClaimSpec { released: spec.released || is_lost, ..spec });
    }
}

/// Why a Vtep's spec is no record.
#[derive(Debug, thiserror::Error)]
enum SpecError {
    #[error(transparent)]
    Cidr(#[from] CidrError),
    #[error(transparent)]
    Underlay(#[from] UnderlayError),
    #[error(transparent)]
    Mac(#[from] MacError),
    #[error("spec.{list} has two of {family}")]
    Two { list: &'static str, family: Family },
}

fn record(name: &NodeName, spec: &VtepSpec) -> Result<NodeRecord, SpecError> {
    let mut pod_cidrs: PerFamily<Option<PodCidr>> = PerFamily::default();
    for text in &spec.pod_cidrs {
        let cidr: PodCidr = text.parse()?;
        if pod_cidrs.get_mut(cidr.family()).replace(cidr).is_some() {
            return Err(SpecError::Two { list: "podCIDRs", family: cidr.family() });
        }
    }
    let mut underlay: PerFamily<Option<UnderlayAddress>> = PerFamily::default();
    for entry in &spec.underlay {
        let address: UnderlayAddress = entry.address.parse()?;
        if underlay.get_mut(address.family()).replace(address).is_some() {
            return Err(SpecError::Two { list: "underlay", family: address.family() });
        }
    }
    let mac = spec.mac.parse()?;
    let facts = NodeFacts {
        underlay,
        underlay_mtu: spec.underlay_mtu,
        agent_version: spec.agent_version.clone(),
        generation: spec.agent_generation,
    };
    Ok(NodeRecord {
        name: name.clone(),
        incarnation: spec.incarnation,
        pod_cidrs,
        endpoint: Endpoint::of(mac),
        more: More::default(),
        facts: (spec.underlay_mtu != 0).then_some(facts),
        joined: UnixMs(spec.joined_unix_ms),
        node_uid: (!spec.node_uid.is_empty()).then(|| spec.node_uid.clone()),
    })
}

#[cfg(test)]
mod tests;
