//! The agent's answer, checked: what the pair is to look like, and what the runtime hears of it. Must never decide an address.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::Map;
use weft_core::types::{Family, LinkName, Mac, PerFamily};
use weft_proto::{convert, v1::AllocatePodResponse};

use super::{
    CniError, Code,
    result::{CniResult, Interface, Ip, Route},
};
use crate::veth::{AttachmentKey, Pair, gateway};

/// All addresses of a family.
pub(super) fn anywhere(family: Family) -> IpNetwork {
    let text = match family {
        Family::V4 => "0.0.0.0/0",
        Family::V6 => "::/0",
    };
    text.parse().expect("a network")
}

/// Checks the agent's answer.
pub(super) fn read(key: &AttachmentKey, answer: &AllocatePodResponse) -> Result<Pair, CniError> {
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
    let pair = Pair {
        link: LinkName::new(&answer.host_interface).map_err(|error| wrong(error.to_string()))?,
        interface: key.interface(),
        host_mac: mac(&answer.host_mac)?,
        pod_mac: mac(&answer.pod_mac)?,
        addresses,
        mtu: answer.mtu,
    };
    // DEL computes the name; another one would never be deleted.
    if pair.link != key.link() {
        let text = format!("it names {} where {} is meant: agent and plugin differ in version", pair.link, key.link());
        return Err(wrong(text));
    }
    Ok(pair)
}

/// The result of the ADD.
pub(super) fn result(pair: &Pair, sandbox: &str) -> CniResult {
    let interface = |name: LinkName, mac: Mac, sandbox: Option<&str>| Interface {
        name: name.to_string(),
        mac: Some(mac.to_string()),
        mtu: Some(pair.mtu),
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
            interface(pair.link, pair.host_mac, None),
            interface(pair.interface, pair.pod_mac, Some(sandbox)),
        ],
        ips: pair.addresses.iter().map(ip).collect(),
        routes: pair.families().map(route).collect(),
        other: Map::new(),
    }
}
