//! Networks that pods go to under their own addresses.
//!
//! Pods reach an address there only if its routers have a route back to the node's pod CIDRs, which only their operators can
//! make; and they never reach a node's own address like that, since the node answers through the tunnel from an address that
//! is no overlay address.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use weft_core::{
    kernel::SERVICE_LINKS,
    masquerade::Unmasqueraded,
    nft::CounterName,
    types::{PerFamily, PodCidr},
};

use super::{Finding, host::Host, warning};
use crate::kernel::nft::Nft;

/// Fewer connections without an answer may be anything.
const ENOUGH: u64 = 3;

/// What the node's counters say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Connections that pods began.
    pub(crate) began: u64,
    /// Packets that came to pods.
    pub(crate) came: u64,
}

impl Counts {
    /// Reads them; none where there is no table.
    pub(crate) async fn read() -> Option<Self> {
        let mut nft = Nft::open().ok()?;
        let began = nft.counter(CounterName::Unmasqueraded).await.ok()?;
        let came = nft.counter(CounterName::FromUnmasqueraded).await.ok()?;
        Some(Self { began, came })
    }
}

/// Whether answers come, judged from one look to the next.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    judged: Counts,
    /// Connections without any answer; 0 while all is well, or nobody tried.
    missing: u64,
}

impl Answers {
    /// Judges once there is enough to judge by; until then the last verdict holds. Counters begin anew with the table.
    pub(crate) fn look(&mut self, now: Counts) {
        if now.began < self.judged.began || now.came < self.judged.came {
            self.judged = Counts::default();
        }
        let (began, came) = (now.began - self.judged.began, now.came - self.judged.came);
        if came > 0 || began >= ENOUGH {
            self.missing = if came > 0 { 0 } else { began };
            self.judged = now;
        }
    }

    /// What there is to say.
    pub(crate) fn finding(&self, list: &Unmasqueraded, cidrs: PerFamily<Option<PodCidr>>) -> Option<Finding> {
        if self.missing == 0 || list.is_empty() {
            return None;
        }
        let cidrs: Vec<String> = cidrs.iter().map(ToString::to_string).collect();
        let text = format!(
            "pods began {} connections to nonMasqueradeCIDRs {} under their own addresses, and not one packet came back: make \
             routes there to this node's pod CIDRs {} by this node, or take these networks out of nonMasqueradeCIDRs",
            self.missing,
            shown(list),
            cidrs.join(" and ")
        );
        Some(warning("NoAnswersToPods", text))
    }
}

/// The node's own addresses that pods of other nodes cannot reach: all but those that every node is told of. Those of Services
/// are everybody's: every node leads its pods there itself.
pub(super) fn check(list: &Unmasqueraded, announced: &[IpAddr], host: &Host) -> Vec<Finding> {
    let is_listed = |address: &IpNetwork| list.networks().iter().any(|network| network.contains(address.ip()));
    let is_reachable = |address: &IpNetwork| {
        let link_local = match address.ip() {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        address.ip().is_loopback() || link_local || announced.contains(&address.ip())
    };
    let is_of_service = |link: u32| SERVICE_LINKS.contains(&host.name(link));
    let found = host.addresses.iter().filter(|(_, address)| is_listed(address) && !is_reachable(address));
    found
        .filter(|(link, _)| !is_of_service(*link))
        .map(|(link, address)| {
            let (link, address) = (host.name(*link), address.ip());
            let text = format!(
                "pods of other nodes cannot reach this node's address {address} of link {link}: it lies in \
                 nonMasqueradeCIDRs and is not the address that nodes know this one by; take it out of \
                 nonMasqueradeCIDRs if pods need it"
            );
            warning("OwnAddressUnmasqueraded", text)
        })
        .collect()
}

fn shown(list: &Unmasqueraded) -> String {
    list.networks().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::host::HostLink;

    fn counts(began: u64, came: u64) -> Counts {
        Counts { began, came }
    }

    #[test]
    fn silence_is_told_until_an_answer_comes() {
        let list = Unmasqueraded::everything();
        let cidrs = PerFamily { v4: Some("10.244.1.0/24".parse().expect("a CIDR")), v6: None };
        let mut answers = Answers::default();
        for (now, is_told) in [
            (counts(2, 0), false),
            (counts(3, 0), true),
            (counts(4, 0), true),
            (counts(5, 1), false),
            (counts(9, 1), true),
            (counts(1, 0), true),
            (counts(2, 1), false),
        ] {
            answers.look(now);
            let finding = answers.finding(&list, cidrs);
            assert_eq!(finding.is_some(), is_told, "{now:?}");
            assert!(finding.is_none_or(|finding| finding.message.contains("10.244.1.0/24")));
        }
    }

    #[test]
    fn own_addresses_are_named_but_for_those_that_nodes_know() {
        let network = |text: &str| text.parse::<IpNetwork>().expect("a network");
        let mut addresses: Vec<_> =
            ["192.0.2.1/24", "172.16.0.9/24", "127.0.0.1/8", "fe80::1/64"].map(|text| (1, network(text))).into();
        addresses.extend([(2, network("10.96.0.10/32")), (3, network("10.96.0.1/32"))]);
        let links = [(1, "eth1"), (2, "nodelocaldns"), (3, "kube-ipvs0")];
        let link = |(index, name): (u32, &str)| HostLink { index, name: name.to_owned(), up: false, vxlan: None };
        let host = Host { addresses, links: links.map(link).into(), ..Host::default() };
        let announced = ["192.0.2.1".parse().expect("an address")];
        let found = check(&Unmasqueraded::everything(), &announced, &host);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].message.contains("172.16.0.9"));
        assert!(check(&Unmasqueraded::of([network("10.0.0.0/8")]), &announced, &host).is_empty());
    }
}
