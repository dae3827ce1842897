//! The VXLAN device as it should be, and the MTU inside the tunnel.

use std::net::IpAddr;

use super::Local;
use crate::{
    kernel::Device,
    membership::Member,
    settings::{Mode, Settings},
};

/// The smallest MTU that IPv6 works with (RFC 8200, section 5); below it the kernel switches IPv6 off on a link.
const MIN_MTU_V6: u32 = 1280;
/// The smallest MTU that IPv4 works with (RFC 791).
const MIN_MTU_V4: u32 = 68;

/// The device, or none where nothing is ever encapsulated or no address could carry outer packets.
pub(super) fn device(settings: &Settings, me: &Member, local: &Local) -> Option<Device> {
    if settings.mode == Mode::Never {
        return None;
    }
    Some(Device {
        name: local.device,
        mac: me.mac,
        vni: settings.vni,
        port: settings.port,
        local: outer_address(settings, me, local)?,
        mtu: mtu(settings, me, own_mtu(me, local)),
        up: true,
    })
}

/// The MTU of pods' interfaces: what fits into the tunnel, so that no path inside the cluster needs to be discovered; that
/// of the underlay in mode `never`.
pub fn pod_mtu(settings: &Settings, me: &Member, local: &Local) -> u32 {
    match settings.mode {
        Mode::Never => own_mtu(me, local),
        Mode::CrossSubnet | Mode::Always => mtu(settings, me, own_mtu(me, local)),
    }
}

/// The largest packet that this node sends to another: what it found itself, and no more than is announced of it, which the
/// controller may have lowered for the whole cluster.
pub(super) fn own_mtu(me: &Member, local: &Local) -> u32 {
    me.underlay_mtu.min(local.mtu())
}

/// The largest packet to a peer: that of the narrower end.
pub(super) fn mtu_towards(me: &Member, local: &Local, peer: &Member) -> u32 {
    own_mtu(me, local).min(peer.underlay_mtu)
}

/// The own underlay address of the outer family: the registered one, as that is where peers send to and whom they take
/// packets from; before the first registration the one that the link has.
pub(super) fn outer_address(settings: &Settings, me: &Member, local: &Local) -> Option<IpAddr> {
    let registered = me.underlay.get(settings.outer).as_ref();
    registered.or(local.underlay.addresses.get(settings.outer).as_ref()).map(|address| address.address())
}

/// The largest inner IP packet for an underlay MTU. Where that is less than IPv6 can do with and there are IPv6 pods, outer
/// packets are fragmented instead: DF is unset.
pub(super) fn mtu(settings: &Settings, me: &Member, underlay_mtu: u32) -> u32 {
    let floor = if me.pod_cidrs.v6.is_some() { MIN_MTU_V6 } else { MIN_MTU_V4 };
    underlay_mtu.saturating_sub(settings.overhead()).max(floor)
}
