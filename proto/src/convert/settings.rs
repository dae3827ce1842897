//! The cluster's settings.

use prost::Message as _;
use weft_core::{
    encap::Encapsulation,
    masquerade::{MOST, Unmasqueraded, UnmasqueradedError},
    membership::More,
    settings::{Mode, Settings},
    types::{Family, PodCidr, Vni},
};

use super::{
    ConvertError,
    addresses::{cidr, to_cidr},
};
use crate::v1;

impl TryFrom<v1::Settings> for Settings {
    type Error = ConvertError;

    fn try_from(wire: v1::Settings) -> Result<Self, ConvertError> {
        let outer = match wire.outer_family() {
            v1::Family::Ipv4 => Family::V4,
            v1::Family::Ipv6 => Family::V6,
            v1::Family::Unspecified => return Err(ConvertError::missing("outer_family")),
        };
        let mode = match wire.mode() {
            v1::Mode::CrossSubnet => Mode::CrossSubnet,
            v1::Mode::Always => Mode::Always,
            v1::Mode::Never => Mode::Never,
            v1::Mode::Unspecified => return Err(ConvertError::missing("mode")),
        };
        let port = u16::try_from(wire.port).ok().filter(|port| *port != 0);
        let port =
            port.ok_or_else(|| ConvertError::new("port", format!("{} is not between 1 and 65535", wire.port)))?;
        let vni = Vni::new(wire.vni).map_err(|error| ConvertError::new("vni", error))?;
        Ok(Self {
            pools: pools(&wire.pools)?,
            mode,
            encapsulation: Encapsulation::Vxlan { vni, port, outer },
            more: More::new(wire.more),
        })
    }
}

fn pools(wire: &[v1::Cidr]) -> Result<Vec<PodCidr>, ConvertError> {
    let pool = |entry| PodCidr::new(cidr("pools", entry)?).map_err(|error| ConvertError::new("pools", error));
    let mut pools = wire.iter().map(pool).collect::<Result<Vec<_>, _>>()?;
    pools.sort();
    // Sorted networks overlap only with a neighbour: a wide one sorts before all it contains.
    match pools.windows(2).find(|pair| pair[0].overlaps(&pair[1])) {
        Some(pair) => Err(ConvertError::new("pools", format!("{} and {} overlap", pair[0], pair[1]))),
        None => Ok(pools),
    }
}

impl From<&Settings> for v1::Settings {
    fn from(settings: &Settings) -> Self {
        let mode = match settings.mode {
            Mode::CrossSubnet => v1::Mode::CrossSubnet,
            Mode::Always => v1::Mode::Always,
            Mode::Never => v1::Mode::Never,
        };
        let Encapsulation::Vxlan { vni, port, outer } = settings.encapsulation;
        Self {
            pools: settings.pools.iter().map(|pool| to_cidr(pool.network())).collect(),
            mode: mode.into(),
            vni: vni.get(),
            port: port.into(),
            outer_family: v1::Family::from(outer).into(),
            more: settings.more.octets().to_vec(),
        }
    }
}

/// The settings beyond those of version 0.1, for announcing them: empty where they say nothing.
pub fn to_settings_more(unmasqueraded: &Unmasqueraded) -> More {
    let non_masquerade_cidrs = unmasqueraded.networks().iter().map(|network| to_cidr(*network)).collect();
    More::new(v1::SettingsMore { non_masquerade_cidrs }.encode_to_vec())
}

/// Reads them. What a later version says beside them is passed over.
///
/// # Errors
/// Where the octets are no such message, or one of its networks is none.
pub fn settings_more(more: &More) -> Result<Unmasqueraded, ConvertError> {
    let wire = v1::SettingsMore::decode(more.octets()).map_err(|error| ConvertError::new("more", error))?;
    let entries = &wire.non_masquerade_cidrs;
    if entries.len() > MOST {
        return Err(ConvertError::new("non_masquerade_cidrs", UnmasqueradedError::TooMany(entries.len())));
    }
    let networks = entries.iter().map(|entry| cidr("non_masquerade_cidrs", entry));
    Ok(Unmasqueraded::of(networks.collect::<Result<Vec<_>, _>>()?))
}
