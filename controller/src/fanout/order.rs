//! In which order the changes of a batch are told.
//!
//! Owns that whoever loses an underlay address is told of before whoever gets it: an agent of version 0.1 takes the last
//! word about an address for the whole truth. Must never leave a change out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use weft_core::{
    membership::{Log, Member},
    types::NodeName,
};

/// Members as they are from now on; none for those that have departed.
pub(crate) type Changes = BTreeMap<NodeName, Option<Member>>;

/// The changes in the order in which they are told: losers first, and by name if nobody loses anything. Of members that
/// exchange their addresses one has to be the first.
pub(super) fn losers_first(log: &Log, changes: &Changes) -> Vec<NodeName> {
    let holders = changes.keys().filter_map(|name| log.get(name));
    let holders = holders.flat_map(|member| addresses(member).map(|address| (address, &member.name))).collect();
    let mut order = Order { changes, holders, seen: BTreeSet::new(), names: Vec::new() };
    changes.keys().for_each(|name| order.visit(name));
    order.names
}

struct Order<'a> {
    changes: &'a Changes,
    /// Who was told to have an address so far.
    holders: BTreeMap<IpAddr, &'a NodeName>,
    seen: BTreeSet<&'a NodeName>,
    names: Vec<NodeName>,
}

impl<'a> Order<'a> {
    fn visit(&mut self, name: &'a NodeName) {
        if !self.seen.insert(name) {
            return;
        }
        let gets = self.changes.get(name).and_then(Option::as_ref);
        let losers: Vec<_> =
            gets.into_iter().flat_map(addresses).filter_map(|at| self.holders.get(&at).copied()).collect();
        losers.into_iter().for_each(|loser| self.visit(loser));
        self.names.push(name.clone());
    }
}

fn addresses(member: &Member) -> impl Iterator<Item = IpAddr> {
    member.underlay.iter().map(|underlay| underlay.address())
}

#[cfg(test)]
mod tests {
    use weft_core::types::PerFamily;

    use super::*;
    use crate::fanout::tests::{fanout, member};

    fn told(changes: Vec<Member>) -> Vec<String> {
        let fanout = fanout(4);
        let changes = changes.into_iter().map(|member| (member.name.clone(), Some(member))).collect();
        losers_first(&fanout.lock().log, &changes).iter().map(ToString::to_string).collect()
    }

    fn at(n: u32, of: u32) -> Member {
        Member { underlay: member(of).underlay, ..member(n) }
    }

    #[test]
    fn whoever_loses_an_address_is_told_of_before_whoever_gets_it() {
        let nowhere = Member { underlay: PerFamily::default(), ..member(4) };
        let chain = vec![at(1, 2), at(2, 4), member(3), nowhere];
        assert_eq!(told(chain), ["node-00004", "node-00002", "node-00001", "node-00003"]);
    }

    #[test]
    fn those_who_exchange_addresses_are_all_told_of() {
        assert_eq!(told(vec![at(1, 2), at(2, 1), member(3)]), ["node-00002", "node-00001", "node-00003"]);
    }
}
