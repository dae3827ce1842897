//! The table as a whole: what each concern contributes to which chain.
//!
//! Owns the chains and the order of the contributions in them. Must never hold a rule: each concern has a module of its own.

mod masquerade;
mod pods;
mod tunnel;

use super::{Chain, ChainKind, Hook, Rule, Ruleset};
use crate::{masquerade::Unmasqueraded, membership::Prefixes, settings::Settings, types::LinkName};

/// Before connection tracking, after defragmentation (`NF_IP_PRI_RAW`).
const RAW: i32 = -300;
/// `NF_IP_PRI_FILTER`, a little earlier so that another table's accept does not matter and its drop is not hidden.
const FILTER: i32 = -10;
/// A little before `NF_IP_PRI_NAT_SRC`, so that a Service's own masquerade (kube-proxy) does not see what is ours.
const SOURCE_NAT: i32 = 90;

/// Rules of one concern at one place.
struct Contribution {
    place: Place,
    rules: Vec<Rule>,
}

/// A chain of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

impl Place {
    /// All, in the order of [`Chain::place`].
    const ALL: [Self; 5] = [Self::Prerouting, Self::Input, Self::Forward, Self::Output, Self::Postrouting];

    fn chain(self, rules: Vec<Rule>) -> Chain {
        let (name, kind, hook, priority) = match self {
            Self::Prerouting => ("prerouting", ChainKind::Filter, Hook::Prerouting, RAW),
            Self::Input => ("input", ChainKind::Filter, Hook::Input, FILTER),
            Self::Forward => ("forward", ChainKind::Filter, Hook::Forward, FILTER),
            Self::Output => ("output", ChainKind::Filter, Hook::Output, RAW),
            Self::Postrouting => ("postrouting", ChainKind::Nat, Hook::Postrouting, SOURCE_NAT),
        };
        Chain { name: name.to_owned(), kind, hook, priority, rules }
    }
}

/// The chains for a node whose end of the tunnel is `device`, and whose pods keep their addresses towards `unmasqueraded`;
/// `prefixes` are those of the members' pod CIDRs.
pub fn ruleset(settings: &Settings, device: LinkName, unmasqueraded: &Unmasqueraded, prefixes: &Prefixes) -> Ruleset {
    let concerns =
        [pods::rules(), tunnel::rules(settings, prefixes), masquerade::rules(settings, device, unmasqueraded)];
    let contributions: Vec<Contribution> = concerns.into_iter().flatten().collect();
    let at = |place| contributions.iter().filter(move |one| one.place == place).flat_map(|one| one.rules.clone());
    Ruleset { chains: Place::ALL.map(|place| place.chain(at(place).collect())).into() }
}
