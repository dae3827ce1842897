//! CHECK: what the runtime was told, what the agent holds, and what both ends of the pair really are.
//!
//! Finds every difference, not the first one; must never repair: a runtime that hears of one re-creates the pod.

mod pod;

use std::path::Path;

use weft_core::types::Mac;
use weft_proto::v1::AllocatePodResponse;

use super::{CniError, Code, agent::Agent, config::Config, plan, result::CniResult};
use crate::{
    kernel::rtnl::link::Link,
    veth::{self, AttachmentKey, Netlink, Netns, Pair},
};

/// Differences, as sentences.
type Problems = Vec<String>;

/// Compares; code 103 with all differences in the details.
pub(super) fn check(config: Config, key: &AttachmentKey, netns: &Path) -> Result<(), CniError> {
    let previous = config.previous.ok_or_else(|| {
        CniError::new(Code::InvalidConfig, "prevResult is missing: CHECK needs what the ADD answered")
    })?;
    let netns = Netns::open(netns)?;
    let answer = Agent::connect(&config.socket)?.check(key)?;
    let mut problems = answer.problems;
    let pair = plan::read(key, &answer.allocation.unwrap_or_else(AllocatePodResponse::default))?;
    problems.extend(against_result(&pair, &previous));
    let mut host = Netlink::open()?;
    problems.extend(host_end(&mut host, &pair)?);
    problems.extend(netns.inside(|| pod::check(&pair, &expected_mtus(&pair, &previous)))?);
    if problems.is_empty() {
        return Ok(());
    }
    let text = format!("{key}: {} of its parts are not as they should be; re-create the pod", problems.len());
    Err(problems.iter().fold(CniError::new(Code::CheckFailed, text), CniError::because))
}

/// True if both ends of the pair are as an ADD leaves them, with the pod's end in this namespace.
pub(super) fn stands(host: &mut Netlink, pair: &Pair, netns: &Netns) -> Result<bool, CniError> {
    Ok(host_end(host, pair)?.is_empty() && netns.inside(|| pod::check(pair, &[pair.mtu]))?.is_empty())
}

/// The result of the ADD, which plugins behind us in the chain may have added to.
fn against_result(pair: &Pair, previous: &CniResult) -> Problems {
    let mut problems = Vec::new();
    for (name, mac, in_pod) in [(pair.link, pair.host_mac, false), (pair.interface, pair.pod_mac, true)] {
        let named = |interface: &&super::result::Interface| {
            interface.name == name.as_str()
                && interface.sandbox.as_deref().is_some_and(|path| !path.is_empty()) == in_pod
        };
        match previous.interfaces.iter().find(named) {
            None => problems.push(format!("prevResult has no interface {name}")),
            Some(interface)
                if interface.mac.as_ref().is_some_and(|given| !given.eq_ignore_ascii_case(&mac.to_string())) =>
            {
                let given = interface.mac.clone().unwrap_or_default();
                problems.push(format!("prevResult has MAC {given} for {name}, allocated is {mac}"));
            }
            Some(_) => {}
        }
    }
    for address in pair.addresses.iter() {
        if !previous.ips.iter().any(|ip| ip.address.ip() == *address) {
            problems.push(format!("prevResult lacks {address}, which is allocated"));
        }
    }
    let on_ours = |ip: &&super::result::Ip| {
        let interface = ip.interface.and_then(|at| previous.interfaces.get(at));
        interface.is_some_and(|interface| interface.name == pair.interface.as_str())
    };
    for ip in previous.ips.iter().filter(on_ours) {
        if !pair.addresses.iter().any(|address| ip.address.ip() == *address) {
            problems.push(format!("prevResult has {} on {}, which is not allocated to it", ip.address, pair.interface));
        }
    }
    problems
}

/// The node's, which running pods follow. A plugin behind us may have lowered it, and a result of 1.1.0 says so.
fn expected_mtus(pair: &Pair, previous: &CniResult) -> Vec<u32> {
    let named = previous.interfaces.iter().find(|interface| interface.name == pair.interface.as_str());
    let lowered = named.and_then(|interface| interface.mtu).filter(|mtu| *mtu < pair.mtu);
    [Some(pair.mtu), lowered].into_iter().flatten().collect()
}

fn host_end(host: &mut Netlink, pair: &Pair) -> Result<Problems, CniError> {
    let Some(link) = host.link(pair.link.as_str())? else {
        return Ok(vec![format!("interface {} is missing on the host", pair.link)]);
    };
    if !veth::is_ours(&link, pair.host_mac) {
        return Ok(vec![format!("interface {} on the host is not Weft's", pair.link)]);
    }
    Ok(end(&link, &format!("interface {} on the host", pair.link), pair.host_mac, &[pair.mtu]))
}

/// State, MAC and MTU of one end; of `mtus` the first is meant, the others pass.
fn end(link: &Link, what: &str, mac: Mac, mtus: &[u32]) -> Problems {
    let mut problems = Vec::new();
    if !link.up {
        problems.push(format!("{what} is down"));
    }
    if !mtus.contains(&link.mtu) {
        let mtu = mtus.first().copied().unwrap_or_default();
        problems.push(format!("{what} has MTU {} instead of {mtu}", link.mtu));
    }
    match link.mac {
        Some(found) if found != mac => problems.push(format!("{what} has MAC {found} instead of {mac}")),
        None => problems.push(format!("{what} has no MAC that a host can have instead of {mac}")),
        _ => {}
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> Pair {
        let key = AttachmentKey::new("a", "eth0").expect("valid");
        Pair {
            link: key.link(),
            interface: key.interface(),
            host_mac: key.host_mac(),
            pod_mac: key.pod_mac(),
            addresses: weft_core::types::PerFamily { v4: Some([10, 1, 0, 5].into()), v6: None },
            mtu: 1450,
        }
    }

    #[test]
    fn every_difference_of_the_result_is_named() {
        let good = plan::result(&pair(), "/x");
        assert_eq!(against_result(&pair(), &good), Problems::new());
        let mut bad = good.clone();
        bad.interfaces.remove(0);
        assert!(against_result(&pair(), &bad).iter().any(|text| text.contains("no interface wpod")));
        let mut bad = good.clone();
        bad.interfaces[1].mac = Some("02:00:00:00:00:01".to_owned());
        assert!(against_result(&pair(), &bad)[0].contains("02:00:00:00:00:01"));
        let mut bad = good;
        bad.ips[0].address = "10.1.0.6/32".parse().expect("an address");
        assert_eq!(against_result(&pair(), &bad).len(), 2, "the missing and the surplus address");
    }

    #[test]
    fn a_lower_mtu_of_the_chain_counts() {
        let mut previous = plan::result(&pair(), "/x");
        previous.interfaces[1].mtu = Some(1400);
        assert_eq!(expected_mtus(&pair(), &previous), [1450, 1400]);
        previous.interfaces[1].mtu = Some(1500);
        assert_eq!(expected_mtus(&pair(), &previous), [1450], "the pod was made when the node's was larger");
    }
}
