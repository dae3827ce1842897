//! Packets that must get through this host.
//!
//! Owns which they are: the tunnel's both ways, and those of pods to and from pods of other nodes, by every link that they can
//! take. Must never leave out a direction: firewalls mostly care for what comes in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weft_core::{
    settings::{Mode, Settings},
    types::{Family, PodCidr},
};

use super::super::{Input, link_index};
use crate::kernel::nft::{Packet, Path};

/// A name as pods' links have them; no host has this one.
const POD_LINK: &str = "wpod00000000000";
/// `IPPROTO_TCP` and `IPPROTO_UDP`.
const TCP: u8 = 6;
const UDP: u8 = 17;
/// A port that nobody made a rule for.
const ANY_PORT: u16 = 45_671;

/// One of them.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) packet: Packet,
    /// An outer packet of the tunnel; else one of a pod.
    pub(super) is_tunnel: bool,
    /// The link to the other nodes that it takes.
    pub(super) link: String,
}

/// All that can be told before the settings are known is nothing: there is no pool to ask for.
pub(super) fn samples(input: &Input) -> Vec<Sample> {
    let Some(settings) = &input.settings else { return Vec::new() };
    let underlay = input.interface.map(|name| name.to_string());
    let mut samples = Vec::new();
    if let Some(link) = &underlay {
        samples.extend(tunnel(settings, input, link));
    }
    let device = input.device.to_string();
    let direct = underlay.filter(|_| settings.mode == Mode::CrossSubnet);
    for link in [Some(device), direct].into_iter().flatten() {
        samples.extend(settings.pools.iter().flat_map(|pool| forwarded(pool, &link)));
    }
    samples
}

/// From another node, and to one.
fn tunnel(settings: &Settings, input: &Input, link: &str) -> Vec<Sample> {
    let other: IpAddr = match settings.outer() {
        Family::V4 => Ipv4Addr::new(198, 51, 100, 7).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7).into(),
    };
    let own = input.announced.iter().copied().find(|address| Family::of(*address) == settings.outer());
    let own = own.unwrap_or(other);
    let by = named(link);
    let packet = Packet {
        path: Path::In,
        by: Some(by.clone()),
        to: None,
        source: other,
        source_is_known: false,
        destination: own,
        protocol: UDP,
        port: settings.encapsulation.port(),
        untracked: true,
    };
    let answer = Packet {
        path: Path::Out,
        by: None,
        to: Some(by),
        source: own,
        source_is_known: true,
        destination: other,
        ..packet.clone()
    };
    [packet, answer].map(|packet| Sample { packet, is_tunnel: true, link: link.to_owned() }).into()
}

/// From a pod here to one elsewhere, and from there to here.
fn forwarded(pool: &PodCidr, link: &str) -> Vec<Sample> {
    let size = 1_u128 << u32::from(pool.family().bits() - pool.prefix()).min(64);
    let [a, b] = [2, size - 2].map(|offset| pool.nth(offset).unwrap_or(pool.vtep()));
    let pod = Some((POD_LINK.to_owned(), Some(u32::MAX)));
    let out = Packet {
        path: Path::Through,
        by: pod.clone(),
        to: Some(named(link)),
        source: a,
        source_is_known: true,
        destination: b,
        protocol: TCP,
        port: ANY_PORT,
        untracked: false,
    };
    let into = Packet { by: Some(named(link)), to: pod, ..out.clone() };
    [out, into].map(|packet| Sample { packet, is_tunnel: false, link: link.to_owned() }).into()
}

/// A link with its index, where it is there.
fn named(link: &str) -> (String, Option<u32>) {
    (link.to_owned(), link_index(link))
}
