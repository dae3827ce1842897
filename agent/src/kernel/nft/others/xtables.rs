//! Matches and targets of iptables, where it runs on nf_tables.
//!
//! Owns the few whose bytes decide about packets of ours; the layouts are those of the kernel's headers
//! (include/uapi/linux/netfilter/xt_….h). Any other match may be one, and may be none.

use super::{
    super::wire::Parsed,
    packet::At,
    rule::{Effect, Verdict, goes_on_if},
};

/// `XT_CONNTRACK_STATE`.
const STATE: u16 = 1;
/// Where `struct xt_conntrack_mtinfo3` has its flags, those inverted, and the states.
const FLAGS: usize = 146;

/// `NFTA_MATCH_NAME` and `NFTA_MATCH_INFO`.
pub(super) fn judge(data: &Parsed<'_>, packet: &At<'_>) -> Effect {
    let info = data.get(3).unwrap_or_default();
    match data.text(1).as_deref() {
        Some("comment" | "limit") => Effect::GoesOn,
        Some("conntrack") => connection(info, packet),
        Some("addrtype") if data.number(2) == Some(1) => address_types(info, packet),
        Some("udp") if packet.protocol() == 17 => ports(info, packet),
        Some("tcp") if packet.protocol() == 6 => ports(info, packet),
        Some("udp" | "tcp" | "icmp" | "icmp6" | "physdev") => Effect::Differs,
        _ => Effect::Unclear,
    }
}

/// `NFTA_TARGET_NAME`; targets that only write something down go on.
pub(super) fn target(data: &Parsed<'_>) -> Effect {
    match data.text(1).as_deref() {
        Some("REJECT" | "DROP") => Effect::Ends(Verdict::Drop),
        _ => Effect::GoesOn,
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// A match of states alone.
fn connection(info: &[u8], packet: &At<'_>) -> Effect {
    let fields = (half(info, FLAGS), half(info, FLAGS + 2), half(info, FLAGS + 4));
    let (Some(STATE), Some(inverted), Some(states)) = fields else { return Effect::Unclear };
    let is_in = packet.state() & u32::from(states) != 0;
    goes_on_if(is_in == (inverted & STATE == 0))
}

/// `struct xt_addrtype_info_v1`: the types that source and destination may have, and which of both is inverted.
fn address_types(info: &[u8], packet: &At<'_>) -> Effect {
    let (Some(sources), Some(destinations), Some(flags)) = (half(info, 0), half(info, 2), half(info, 4)) else {
        return Effect::Unclear;
    };
    let fits = |types: u16, of_source: bool, inverted: bool| {
        types == 0 || (types >> packet.address_type(of_source) & 1 != 0) != inverted
    };
    // XT_ADDRTYPE_INVERT_SOURCE and XT_ADDRTYPE_INVERT_DEST.
    goes_on_if(fits(sources, true, flags & 1 != 0) && fits(destinations, false, flags & 2 != 0))
}

/// `struct xt_udp` and the beginning of `struct xt_tcp`: ranges of source ports and of destination ports. What follows (flags,
/// and which of it all is inverted) is judged only where it says nothing.
fn ports(info: &[u8], packet: &At<'_>) -> Effect {
    let [source, destination] = packet.ports();
    let (Some(a), Some(b), Some(c), Some(d)) = (half(info, 0), half(info, 2), half(info, 4), half(info, 6)) else {
        return Effect::Unclear;
    };
    let says_more = info.get(8..12).is_some_and(|rest| rest.iter().any(|byte| *byte != 0));
    let is_in = (a..=b).contains(&source) && (c..=d).contains(&destination);
    if says_more { Effect::Unclear } else { goes_on_if(is_in) }
}
