//! What is kept on disk, as typed values and back.
//!
//! Owns the stored form, which has messages and numbers of its own, and how it maps to the wire's, whose checks count
//! for both. A change of the wire must never change it: the mapping names every field, and files of every version are
//! kept as tests.

use weft_core::{membership::Member, settings::Settings, types::Revision};

use crate::{convert::ConvertError, v1 as wire};

/// `weft.stored.v1` as generated from the .proto file, where every field is documented.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod v1 {
    tonic::include_proto!("weft.stored.v1");
}

impl From<Revision> for v1::Revision {
    fn from(revision: Revision) -> Self {
        Self { epoch: revision.epoch, sequence: revision.sequence }
    }
}

impl From<v1::Revision> for Revision {
    fn from(stored: v1::Revision) -> Self {
        Self::new(stored.epoch, stored.sequence)
    }
}

impl From<&Member> for v1::Member {
    fn from(member: &Member) -> Self {
        let wire::Member { name, incarnation, pod_cidrs, mac, underlay_addresses, underlay_mtu, more } = member.into();
        let (pod_cidrs, underlay_addresses) = (stored_cidrs(pod_cidrs), stored_cidrs(underlay_addresses));
        Self { name, incarnation, pod_cidrs, mac, underlay_addresses, underlay_mtu, more }
    }
}

impl TryFrom<v1::Member> for Member {
    type Error = ConvertError;

    fn try_from(stored: v1::Member) -> Result<Self, ConvertError> {
        let v1::Member { name, incarnation, pod_cidrs, mac, underlay_addresses, underlay_mtu, more } = stored;
        let (pod_cidrs, underlay_addresses) = (wire_cidrs(pod_cidrs), wire_cidrs(underlay_addresses));
        wire::Member { name, incarnation, pod_cidrs, mac, underlay_addresses, underlay_mtu, more }.try_into()
    }
}

impl From<&Settings> for v1::Settings {
    fn from(settings: &Settings) -> Self {
        let wire = wire::Settings::from(settings);
        let mode = match wire.mode() {
            wire::Mode::Unspecified => v1::Mode::Unspecified,
            wire::Mode::CrossSubnet => v1::Mode::CrossSubnet,
            wire::Mode::Always => v1::Mode::Always,
            wire::Mode::Never => v1::Mode::Never,
        };
        let outer_family = match wire.outer_family() {
            wire::Family::Unspecified => v1::Family::Unspecified,
            wire::Family::Ipv4 => v1::Family::Ipv4,
            wire::Family::Ipv6 => v1::Family::Ipv6,
        };
        let wire::Settings { pools, mode: _, vni, port, outer_family: _, more } = wire;
        let (pools, mode, outer_family) = (stored_cidrs(pools), mode.into(), outer_family.into());
        Self { pools, mode, vni, port, outer_family, more }
    }
}

impl TryFrom<v1::Settings> for Settings {
    type Error = ConvertError;

    fn try_from(stored: v1::Settings) -> Result<Self, ConvertError> {
        let mode = match stored.mode() {
            v1::Mode::Unspecified => wire::Mode::Unspecified,
            v1::Mode::CrossSubnet => wire::Mode::CrossSubnet,
            v1::Mode::Always => wire::Mode::Always,
            v1::Mode::Never => wire::Mode::Never,
        };
        let outer_family = match stored.outer_family() {
            v1::Family::Unspecified => wire::Family::Unspecified,
            v1::Family::Ipv4 => wire::Family::Ipv4,
            v1::Family::Ipv6 => wire::Family::Ipv6,
        };
        let v1::Settings { pools, mode: _, vni, port, outer_family: _, more } = stored;
        let (pools, mode, outer_family) = (wire_cidrs(pools), mode.into(), outer_family.into());
        wire::Settings { pools, mode, vni, port, outer_family, more }.try_into()
    }
}

fn stored_cidrs(cidrs: Vec<wire::Cidr>) -> Vec<v1::Cidr> {
    cidrs.into_iter().map(|wire::Cidr { address, prefix }| v1::Cidr { address, prefix }).collect()
}

fn wire_cidrs(cidrs: Vec<v1::Cidr>) -> Vec<wire::Cidr> {
    cidrs.into_iter().map(|v1::Cidr { address, prefix }| wire::Cidr { address, prefix }).collect()
}
