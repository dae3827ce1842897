//! What nobody but a node itself may change.
//!
//! Owns who stands by: nodes whose machine does not lie, that are connected on a stream from the address that they have, and
//! that have said all. A step of the controller in which such a node says nothing, and in which nobody orders anything about
//! it, leaves it as it is, whatever others say. Owns as well what no node at all may get, and how much one may change.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use weft_core::{
    membership::Member,
    types::{NodeName, PodCidr},
};

use super::{
    Checked, hold,
    lies::ROUTER,
    server::{OWN, Server},
    world::World,
};
use crate::{cluster::Command, store::NodeRecord};

/// Changes of facts at once, and the time in milliseconds in which there may be one more.
const BURST: u64 = 5;
const EVERY_MS: u64 = 5000;

/// One that stands by.
#[derive(Debug)]
struct Bystander {
    record: NodeRecord,
    session: u64,
}

/// All of them as of the last step.
#[derive(Debug, Default)]
pub(super) struct Bystanders {
    standing: BTreeMap<NodeName, Bystander>,
    /// Every node's address.
    addresses: BTreeMap<NodeName, IpAddr>,
    /// How often each node's facts were written before this term, and when that began.
    written: (BTreeMap<NodeName, u64>, u64),
}

/// Whom a step is about.
#[derive(Debug, Default)]
pub(super) struct Acted {
    /// They said something, or the operator said something of them.
    pub(super) spoke: BTreeSet<NodeName>,
    /// Their streams may end, since they are late.
    pub(super) late: BTreeSet<NodeName>,
}

impl Acted {
    pub(super) fn by(commands: &[Command]) -> Self {
        Self { spoke: commands.iter().filter_map(about).cloned().collect(), late: BTreeSet::new() }
    }
}

fn about(command: &Command) -> Option<&NodeName> {
    match command {
        Command::Join(ask, _) => Some(&ask.node),
        Command::Connect(ask, ..) => Some(&ask.identity.name),
        Command::AddToken(token, _) => Some(&token.node),
        Command::Report(node, ..)
        | Command::Disconnect(node, _)
        | Command::DeleteNode(node, _)
        | Command::Renewed(node, ..) => Some(node),
        _ => None,
    }
}

impl World {
    /// A term begins: nobody is connected, and what was written so far is of earlier ones.
    pub(super) fn forget_bystanders(&mut self) {
        let written = self.disk.ledger(|ledger| ledger.told.clone());
        self.bystanders = Bystanders { written: (written, self.clock.elapsed()), ..Bystanders::default() };
    }

    /// After a step that was about some.
    pub(super) fn check_bystanders(&mut self, acted: &Acted) -> Checked {
        let Some(server) = &self.server else { return Ok(()) };
        let content = self.past.at(server.actor.publisher.fanout().revision());
        let left = self.bystanders.standing.iter().filter(|(name, _)| !acted.spoke.contains(*name));
        let mut untouched = 0;
        for (name, before) in left {
            untouched += u64::from(!acted.spoke.is_empty());
            let now = server.actor.registry.nodes().get(name);
            hold!(now == Some(&before.record), "{name} has said nothing, and {:?} became {now:?}", before.record);
            let announced = content.and_then(|content| content.members.iter().find(|member| member.name == *name));
            hold!(
                announced.map(|member| Member::clone(member)) == before.record.member(),
                "{name} has said nothing, and is announced as {announced:?}"
            );
            let session = server.actor.sessions.get(name).map(|live| live.id);
            hold!(
                session == Some(before.session) || acted.late.contains(name),
                "{name} has said nothing, is not late, and its stream is ended"
            );
        }
        self.check_addresses(server, acted)?;
        self.check_pace()?;
        self.counts.bystanders += untouched;
        self.note_bystanders();
        Ok(())
    }

    /// What a node can have without proof is no router's, not the controller's, and a host's in the underlay.
    fn check_addresses(&self, server: &Server, acted: &Acted) -> Checked {
        for (name, node) in server.actor.registry.nodes() {
            let Some(underlay) = node.underlay().v4 else { continue };
            let (address, network) = (underlay.address(), underlay.network());
            let in_pool = server.actor.registry.nodes().values().flat_map(|node| node.pod_cidrs.iter());
            let in_pool =
                in_pool.chain(self.rules.settings.pools.iter()).any(|cidr: &PodCidr| cidr.network().contains(address));
            let is_strange =
                address == OWN || address == network.network() || address == network.broadcast() || in_pool;
            hold!(!is_strange, "{name} has the address {address}");
            let is_new = self.bystanders.addresses.get(name) != Some(&address);
            if is_new && matches!(address, IpAddr::V4(address) if address.octets()[3] == ROUTER) {
                let is_on_link =
                    |by: &Bystander| by.record.underlay().v4.is_some_and(|at| at.network().contains(address));
                let mut left = self.bystanders.standing.iter().filter(|(name, _)| !acted.spoke.contains(*name));
                let reporter = left.find(|(_, by)| is_on_link(by)).map(|(name, _)| name);
                hold!(reporter.is_none(), "{name} has {address}, which is a router's, as {reporter:?} says");
            }
        }
        Ok(())
    }

    /// Whatever a node says fifty times a second, few of it is written and told to everybody.
    fn check_pace(&self) -> Checked {
        let (before, began) = &self.bystanders.written;
        let most = BURST + (self.clock.elapsed() - began) / EVERY_MS;
        self.disk.ledger(|ledger| {
            for (name, all) in &ledger.told {
                let count = all - before.get(name).copied().unwrap_or(0);
                hold!(count <= most, "the facts of {name} were written {count} times, and {most} are allowed");
            }
            Ok(())
        })
    }

    fn note_bystanders(&mut self) {
        let Some(server) = &self.server else { return };
        let nodes = server.actor.registry.nodes();
        let address = |node: &NodeRecord| node.underlay().v4.map(|underlay| underlay.address());
        let sources: BTreeMap<u64, IpAddr> = server
            .ends
            .iter()
            .filter_map(|(link, end)| Some((end.session.as_ref()?.id, self.links.get(link)?.source)))
            .collect();
        let standing = server.actor.sessions.iter().filter_map(|(name, live)| {
            let record = nodes.get(name).filter(|_| live.untaken.is_none() && self.is_honest(name))?;
            let is_proven = address(record).is_some() && address(record).as_ref() == sources.get(&live.id);
            is_proven.then(|| (name.clone(), Bystander { record: record.clone(), session: live.id }))
        });
        self.bystanders.standing = standing.collect();
        self.bystanders.addresses =
            nodes.iter().filter_map(|(name, node)| Some((name.clone(), address(node)?))).collect();
    }
}
