//! Members and the facts that nodes report.

use std::net::IpAddr;

use weft_core::{
    encap::Endpoint,
    membership::{Member, More},
    standing::{Facts, GATEWAYS},
    types::{Mac, NodeName, PerFamily, PodCidr, UNDERLAY_MTUS, UnderlayAddress},
};

use super::{
    ConvertError,
    addresses::{address, octets, per_family, to_cidr},
};
use crate::v1;

/// The longest version text that is kept.
const LONGEST_VERSION: usize = 64;

impl TryFrom<v1::Facts> for Facts {
    type Error = ConvertError;

    fn try_from(wire: v1::Facts) -> Result<Self, ConvertError> {
        let underlay = underlay(&wire.underlay_addresses)?;
        if !UNDERLAY_MTUS.contains(&wire.underlay_mtu) {
            let (least, most) = (UNDERLAY_MTUS.start(), UNDERLAY_MTUS.end());
            let message = format!("{} is not between {least} and {most} bytes", wire.underlay_mtu);
            return Err(ConvertError::new("underlay_mtu", message));
        }
        if wire.agent_version.len() > LONGEST_VERSION || wire.agent_version.chars().any(char::is_control) {
            let message = format!("is not a printable text of at most {LONGEST_VERSION} bytes");
            return Err(ConvertError::new("agent_version", message));
        }
        let gateways = gateways(&wire.gateways)?;
        let v1::Facts { underlay_mtu, agent_version, generation, .. } = wire;
        Ok(Self { underlay, underlay_mtu, gateways, agent_version, generation })
    }
}

impl From<&Facts> for v1::Facts {
    fn from(facts: &Facts) -> Self {
        Self {
            underlay_addresses: facts.underlay.iter().map(|address| to_cidr(address.network())).collect(),
            underlay_mtu: facts.underlay_mtu,
            gateways: facts.gateways.iter().map(octets).collect(),
            agent_version: facts.agent_version.clone(),
            generation: facts.generation,
        }
    }
}

impl TryFrom<v1::Member> for Member {
    type Error = ConvertError;

    fn try_from(wire: v1::Member) -> Result<Self, ConvertError> {
        let most = *UNDERLAY_MTUS.end();
        // Less than a new node may report: version 0.1 let members in with less.
        if wire.underlay_mtu == 0 || wire.underlay_mtu > most {
            return Err(ConvertError::new(
                "underlay_mtu",
                format!("{} is not between 1 and {most}", wire.underlay_mtu),
            ));
        }
        Ok(Self {
            name: NodeName::new(&wire.name).map_err(|error| ConvertError::new("name", error))?,
            incarnation: wire.incarnation,
            pod_cidrs: per_family("pod_cidrs", &wire.pod_cidrs, PodCidr::new)?,
            endpoint: Endpoint::of(
                Mac::try_from(wire.mac.as_slice()).map_err(|error| ConvertError::new("mac", error))?,
            ),
            underlay: underlay(&wire.underlay_addresses)?,
            underlay_mtu: wire.underlay_mtu,
            more: More::new(wire.more),
        })
    }
}

impl From<&Member> for v1::Member {
    fn from(member: &Member) -> Self {
        Self {
            name: member.name.to_string(),
            incarnation: member.incarnation,
            pod_cidrs: member.pod_cidrs.iter().map(|cidr| to_cidr(cidr.network())).collect(),
            mac: member.endpoint.mac().octets().to_vec(),
            underlay_addresses: member.underlay.iter().map(|address| to_cidr(address.network())).collect(),
            underlay_mtu: member.underlay_mtu,
            more: member.more.octets().to_vec(),
        }
    }
}

fn gateways(wire: &[Vec<u8>]) -> Result<Vec<IpAddr>, ConvertError> {
    if wire.len() > GATEWAYS {
        return Err(ConvertError::new("gateways", format!("{} are more than {GATEWAYS}", wire.len())));
    }
    wire.iter().map(|octets| address("gateways", octets)).collect()
}

fn underlay(wire: &[v1::Cidr]) -> Result<PerFamily<Option<UnderlayAddress>>, ConvertError> {
    per_family("underlay_addresses", wire, |network| UnderlayAddress::new(network.ip(), network.prefix()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> v1::Member {
        let network = |text: &str| to_cidr(text.parse().expect("a network"));
        v1::Member {
            name: "node-1".to_owned(),
            incarnation: 3,
            pod_cidrs: vec![network("10.244.1.0/24"), network("fd00:244:0:1::/64")],
            mac: vec![2, 0x57, 0, 0, 0, 1],
            underlay_addresses: vec![network("192.0.2.7/24")],
            underlay_mtu: 1500,
            more: vec![0xff, 1, 2],
        }
    }

    #[test]
    fn survives_the_round_trip() {
        let member = Member::try_from(wire()).expect("a valid member");
        assert_eq!(v1::Member::from(&member), wire());
    }

    #[test]
    fn names_the_field_that_is_wrong() {
        type Spoil = fn(&mut v1::Member);
        let cases: [(&str, Spoil); 8] = [
            ("name", |m| m.name = "../etc".to_owned()),
            ("mac", |m| m.mac = vec![1; 6]),
            ("mac", |m| m.mac = vec![2; 5]),
            ("underlay_mtu", |m| m.underlay_mtu = 0),
            ("underlay_mtu", |m| m.underlay_mtu = 65_537),
            ("pod_cidrs", |m| m.pod_cidrs[0].prefix = 99),
            ("pod_cidrs", |m| m.pod_cidrs[1] = m.pod_cidrs[0].clone()),
            ("underlay_addresses", |m| m.underlay_addresses[0].address = vec![127, 0, 0, 1]),
        ];
        for (field, spoil) in cases {
            let mut message = wire();
            spoil(&mut message);
            assert_eq!(Member::try_from(message).expect_err(field).field, field);
        }
    }
}
