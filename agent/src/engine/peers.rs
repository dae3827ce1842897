//! The peer list as this node's kernel holds it.

use std::time::{Duration, SystemTime};

use weft_core::{
    desired,
    kernel::Key,
    membership::{Member, Path},
    settings::Settings,
    standing::{FamilyPath, Peer, Reason, State, Way},
    types::Family,
};

use super::{Engine, EngineError};
use crate::{
    kernel::{Kernel, Scope},
    probe::Verdict,
};

impl<K: Kernel> Engine<K> {
    /// Reads the kernel and says of every member whether it is programmed as it should be and answers.
    pub(super) async fn peers(&mut self) -> Result<Vec<Peer>, EngineError> {
        let Some((settings, me, local)) = self.context() else {
            let problem = self.status.problem.as_ref().map(|problem| problem.message.clone());
            return Err(problem.map_or(EngineError::NoMembership, EngineError::NotProgrammed));
        };
        let observed = self.kernel.read(Scope::All { wanted: self.holdings.desired() }).await?;
        let plan = self.holdings.plan(&observed);
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

    fn judge_self(&self, row: &mut Peer, me: &Member) {
        let families = Family::ALL.into_iter().filter(|family| me.pod_cidrs.get(*family).is_some());
        row.paths = families.map(|family| path(family, Way::Local, None)).collect();
        match &self.status.problem {
            Some(problem) => set(row, State::Degraded, Some(problem.reason.clone()), &problem.message, self.since),
            None => set(row, State::Ready, None, "", self.since),
        }
    }

    fn judge(&self, row: &mut Peer, settings: &Settings, me: &Member, member: &Member, lacking: &[String]) {
        let (mut lost, mut off, mut well_since) = (None, Vec::new(), self.since);
        for family in Family::ALL.into_iter().filter(|family| member.pod_cidrs.get(*family).is_some()) {
            let probe = self.findings.with(|table| table.get(&member.name, family));
            let way = me.path(member, family, settings);
            if way == Path::None {
                off.push(family.to_string());
            }
            row.paths.push(path(family, Way::By(way), probe.rtt));
            if let Verdict::Lost(since) = probe.verdict() {
                lost.get_or_insert((family, since));
            }
            well_since = well_since.max(probe.answers_since.unwrap_or(self.since));
        }
        if member.underlay.is_empty() {
            let message = "its agent has not reported an underlay address yet, or lost it to another node";
            set(row, State::Pending, Some(Reason::NoUnderlayAddress), message, self.since);
        } else if !lacking.is_empty() {
            let message = format!("this node's kernel lacks or has altered: {}", lacking.join(", "));
            set(row, State::Degraded, Some(Reason::KernelDiffers), &message, self.since);
        } else if !off.is_empty() {
            let message = format!("no way to it in {}: no common subnet and no outer address", off.join(" and "));
            set(row, State::Unreachable, Some(Reason::NoPath), &message, self.since);
        } else if let Some((family, since)) = lost {
            let message =
                format!("its VTEP does not answer {family} probes; see its node, the router and the firewalls between");
            set(row, State::Unreachable, Some(Reason::ProbeLost), &message, since);
        } else {
            set(row, State::Ready, None, "", well_since);
        }
    }
}

fn row(member: &Member) -> Peer {
    Peer {
        node: member.name.clone(),
        pod_cidrs: member.pod_cidrs,
        underlay: member.underlay,
        paths: Vec::new(),
        state: State::default(),
        reason: None,
        message: String::new(),
        since: None,
        revision_lag: 0,
        mac: member.endpoint.mac(),
        agent_version: None,
        underlay_mtu: Some(member.underlay_mtu),
        applied: None,
    }
}

fn path(family: Family, way: Way, rtt: Option<Duration>) -> FamilyPath {
    FamilyPath { family, way: Some(way), direct: 0, tunnel: 0, unreached: 0, rtt }
}

fn set(row: &mut Peer, state: State, reason: Option<Reason>, message: &str, since: SystemTime) {
    row.state = state;
    row.reason = reason;
    message.clone_into(&mut row.message);
    row.since = Some(since.into());
}
