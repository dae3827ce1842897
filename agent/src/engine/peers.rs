//! The peer list as this node's kernel holds it.

use std::time::SystemTime;

use weft_core::{
    desired,
    diff::diff,
    kernel::Key,
    membership::{Member, Path},
    settings::Settings,
    types::Family,
};
use weft_proto::{convert::to_cidr, v1};

use super::{Engine, standing::unix_ms};
use crate::{
    kernel::{Kernel, Scope},
    probe::Verdict,
};

impl<K: Kernel> Engine<K> {
    /// Reads the kernel and says of every member whether it is programmed as it should be and answers.
    pub(super) async fn peers(&mut self) -> Result<Vec<v1::Peer>, String> {
        let Some((settings, me, local)) = self.context() else {
            let problem = self.status.problem.as_ref().map(|problem| problem.message.clone());
            return Err(problem.unwrap_or_else(|| "the node has no membership yet".to_owned()));
        };
        let scope = Scope::All { wanted: &self.desired };
        let observed = self.kernel.read(scope).await.map_err(|error| error.to_string())?;
        let plan = diff(&observed, &self.desired, &|_| true, local.device);
        let wrong: std::collections::BTreeSet<Key> =
            plan.ops.iter().map(|op| *op.key()).chain(plan.conflicts.iter().copied()).collect();
        if !plan.ops.is_empty() {
            self.distrust();
        }
        let members: Vec<_> = self.view.members().collect();
        let rows = members.iter().map(|member| {
            let mut row = row(member);
            if member.name == me.name {
                self.judge_self(&mut row, &me);
            } else {
                let keys = desired::peer_keys(&settings, &local, member, &self.ids);
                let mut lacking: Vec<_> = keys.intersection(&wrong).map(Key::to_string).collect();
                if wrong.contains(&Key::Device) {
                    lacking.insert(0, Key::Device.to_string());
                }
                self.judge(&mut row, &settings, &me, member, &lacking);
            }
            row
        });
        Ok(rows.collect())
    }

    fn judge_self(&self, row: &mut v1::Peer, me: &Member) {
        let families = Family::ALL.into_iter().filter(|family| me.pod_cidrs.get(*family).is_some());
        row.paths = families.map(|family| path(family, v1::Path::Local, 0)).collect();
        match &self.status.problem {
            Some(problem) => set(row, v1::PeerState::Degraded, problem.reason, &problem.message, self.since),
            None => set(row, v1::PeerState::Ready, "", "", self.since),
        }
    }

    fn judge(&self, row: &mut v1::Peer, settings: &Settings, me: &Member, member: &Member, lacking: &[String]) {
        let (mut lost, mut off, mut well_since) = (None, Vec::new(), self.since);
        for family in Family::ALL.into_iter().filter(|family| member.pod_cidrs.get(*family).is_some()) {
            let probe = self.findings.with(|table| table.get(&member.name, family));
            let rtt = probe.rtt.map_or(0, |rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX));
            let way = match me.path(member, family, settings) {
                Path::Vxlan => v1::Path::Vxlan,
                Path::Direct => v1::Path::Direct,
                Path::None => {
                    off.push(family.to_string());
                    v1::Path::None
                }
            };
            row.paths.push(path(family, way, rtt));
            if let Verdict::Lost(since) = probe.verdict() {
                lost.get_or_insert((family, since));
            }
            well_since = well_since.max(probe.answers_since.unwrap_or(self.since));
        }
        if member.underlay.is_empty() {
            let message = "its agent has not reported an underlay address yet, or lost it to another node";
            set(row, v1::PeerState::Pending, "NoUnderlayAddress", message, self.since);
        } else if !lacking.is_empty() {
            let message = format!("this node's kernel lacks or has altered: {}", lacking.join(", "));
            set(row, v1::PeerState::Degraded, "KernelDiffers", &message, self.since);
        } else if !off.is_empty() {
            let message = format!("no way to it in {}: no common subnet and no outer address", off.join(" and "));
            set(row, v1::PeerState::Unreachable, "NoPath", &message, self.since);
        } else if let Some((family, since)) = lost {
            let message =
                format!("its VTEP does not answer {family} probes; see its node, the router and the firewalls between");
            set(row, v1::PeerState::Unreachable, "ProbeLost", &message, since);
        } else {
            set(row, v1::PeerState::Ready, "", "", well_since);
        }
    }
}

fn row(member: &Member) -> v1::Peer {
    v1::Peer {
        node: member.name.to_string(),
        pod_cidrs: member.pod_cidrs.iter().map(|cidr| to_cidr(cidr.network())).collect(),
        underlay_addresses: member.underlay.iter().map(|address| to_cidr(address.network())).collect(),
        mac: member.mac.octets().to_vec(),
        underlay_mtu: member.underlay_mtu,
        ..Default::default()
    }
}

fn path(family: Family, path: v1::Path, rtt_us: u64) -> v1::FamilyPath {
    v1::FamilyPath { family: v1::Family::from(family).into(), path: path.into(), rtt_us, ..Default::default() }
}

fn set(row: &mut v1::Peer, state: v1::PeerState, reason: &str, message: &str, since: SystemTime) {
    row.state = state.into();
    reason.clone_into(&mut row.reason);
    message.clone_into(&mut row.message);
    row.since_unix_ms = unix_ms(since);
}
