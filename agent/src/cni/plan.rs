//! What a pod's wiring is to look like: the agent's answer, checked.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::Map;
use weft_core::{
    kernel::{GATEWAY_V4, GATEWAY_V6},
    types::{Family, LinkName, Mac, PerFamily},
};
use weft_proto::{convert, v1::AllocatePodResponse};

use super::{
    CniError, Code,
    result::{CniResult, Interface, Ip, Route},
};
use crate::pods::AttachmentKey;

/// The wiring of one attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// The host's end.
    pub(super) link: LinkName,
    /// The pod's end.
    pub(super) interface: LinkName,
    /// MAC of the host's end.
    pub(super) host_mac: Mac,
    /// MAC of the pod's end.
    pub(super) pod_mac: Mac,
    /// The pod's addresses.
    pub(super) addresses: PerFamily<Option<IpAddr>>,
    /// MTU of both ends in bytes.
    pub(super) mtu: u32,
}

/// The gateway in pods of a family.
pub(super) const fn gateway(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(GATEWAY_V4),
        Family::V6 => IpAddr::V6(GATEWAY_V6),
    }
}

/// All addresses of a family.
pub(super) fn anywhere(family: Family) -> IpNetwork {
    let text = match family {
        Family::V4 => "0.0.0.0/0",
        Family::V6 => "::/0",
    };
    text.parse().expect("a network")
}

impl Plan {
    /// Checks the agent's answer.
    pub(super) fn read(key: &AttachmentKey, answer: &AllocatePodResponse) -> Result<Self, CniError> {
        let wrong = |why: String| CniError::new(Code::Agent, format!("weft-agent's answer cannot be used: {why}"));
        let mut addresses = PerFamily::default();
        for wire in &answer.addresses {
            let network = convert::cidr("addresses", wire).map_err(|error| wrong(error.to_string()))?;
            *addresses.get_mut(Family::of(network.ip())) = Some(network.ip());
        }
        if addresses.is_empty() {
            return Err(wrong("it holds no address".to_owned()));
        }
        let mac = |octets: &[u8]| Mac::try_from(octets).map_err(|error| wrong(error.to_string()));
        let plan = Self {
            link: LinkName::new(&answer.host_interface).map_err(|error| wrong(error.to_string()))?,
            interface: key.interface(),
            host_mac: mac(&answer.host_mac)?,
            pod_mac: mac(&answer.pod_mac)?,
            addresses,
            mtu: answer.mtu,
        };
        // DEL computes the name; another one would never be deleted.
        if plan.link != key.link() {
            let text =
                format!("it names {} where {} is meant: agent and plugin differ in version", plan.link, key.link());
            return Err(wrong(text));
        }
        Ok(plan)
    }

    /// The families the pod has addresses of.
    pub(super) fn families(&self) -> impl Iterator<Item = Family> {
        self.addresses.iter().map(|address| Family::of(*address))
    }

    /// The result of the ADD.
    pub(super) fn result(&self, sandbox: &str) -> CniResult {
        let interface = |name: LinkName, mac: Mac, sandbox: Option<&str>| Interface {
            name: name.to_string(),
            mac: Some(mac.to_string()),
            mtu: Some(self.mtu),
            sandbox: sandbox.map(str::to_owned),
            other: Map::new(),
        };
        let ip = |address: &IpAddr| Ip {
            version: None,
            address: IpNetwork::from(*address),
            gateway: Some(gateway(Family::of(*address))),
            interface: Some(1),
            other: Map::new(),
        };
        let route = |family| Route { dst: anywhere(family), gw: Some(gateway(family)), other: Map::new() };
        CniResult {
            interfaces: vec![
                interface(self.link, self.host_mac, None),
                interface(self.interface, self.pod_mac, Some(sandbox)),
            ],
            ips: self.addresses.iter().map(ip).collect(),
            routes: self.families().map(route).collect(),
            other: Map::new(),
        }
    }
}
