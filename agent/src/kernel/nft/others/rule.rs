//! One rule of another table, and whether a packet matches it.
//!
//! Owns what single expressions mean (include/uapi/linux/netfilter/nf_tables.h and the few of xtables that its users run on
//! nf_tables). Must never take what it cannot read for a match, nor for none.

use super::{
    DROP,
    packet::{At, Bytes, known},
    sets::{Found, Sets},
    xtables,
};
use crate::kernel::nft::{
    socket::Fault,
    step::DATA_VALUE,
    wire::{Malformed, Parsed},
};

/// What a rule does to a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing: the next rule's turn.
    Passes,
    /// This.
    Does(Verdict),
    /// This, or nothing: something of it cannot be judged.
    MayDo(Verdict),
}

/// How a rule ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    Drop,
    Jump(String),
    Goto(String),
    Return,
}

/// What is known after an expression.
pub(super) enum Effect {
    /// The rule goes on.
    GoesOn,
    /// The packet does not match.
    Differs,
    /// It may match.
    Unclear,
    /// The rule ends.
    Ends(Verdict),
}

/// All registers as bytes, `NFT_REG32_00` first.
type Registers = [Option<u8>; 64];

/// Runs the expressions of a rule.
pub(super) fn run(expressions: &Parsed<'_>, packet: &At<'_>, sets: &mut Sets<'_>) -> Result<Outcome, Fault> {
    let mut registers: Registers = [None; 64];
    let mut unclear = false;
    for (_, bytes) in expressions.iter() {
        let expression = Parsed::new(bytes)?;
        let (name, data) = (expression.text(1).ok_or(Malformed)?, expression.nest(2)?);
        match effect(&name, &data, packet, &mut registers, sets)? {
            Effect::GoesOn => {}
            Effect::Differs => return Ok(Outcome::Passes),
            Effect::Unclear => unclear = true,
            Effect::Ends(verdict) if unclear => return Ok(Outcome::MayDo(verdict)),
            Effect::Ends(verdict) => return Ok(Outcome::Does(verdict)),
        }
    }
    Ok(Outcome::Passes)
}

fn effect(
    name: &str,
    data: &Parsed<'_>,
    packet: &At<'_>,
    registers: &mut Registers,
    sets: &mut Sets<'_>,
) -> Result<Effect, Fault> {
    let loaded = match name {
        "meta" if data.get(3).is_none() => data.number(2).and_then(|key| packet.meta(key)),
        "ct" if data.get(4).is_none() => data.number(2).and_then(|key| packet.connection(key)),
        "payload" if data.get(5).is_none() => payload(data, packet),
        "fib" => fib(data, packet),
        "bitwise" => return bitwise(data, registers).map_err(Fault::from),
        "cmp" => return compare(data, registers).map_err(Fault::from),
        "range" => return range(data, registers).map_err(Fault::from),
        "immediate" => return immediate(data, registers).map_err(Fault::from),
        "lookup" => return look_up(data, registers, sets),
        "limit" => {
            return Ok(if data.number(5).unwrap_or_default() & 1 == 0 { Effect::GoesOn } else { Effect::Differs });
        }
        "counter" | "log" | "last" | "objref" | "notrack" | "flow_offload" | "meta" | "ct" | "payload" | "quota" => {
            return Ok(Effect::GoesOn);
        }
        "reject" => return Ok(Effect::Ends(Verdict::Drop)),
        "target" => return Ok(xtables::target(data)),
        "match" => return Ok(xtables::judge(data, packet)),
        _ => return Ok(Effect::Unclear),
    };
    store(registers, data.number(1), loaded.unwrap_or_else(|| vec![None; 16]));
    Ok(Effect::GoesOn)
}

/// The place of a register: four of 16 bytes, or sixteen of four in the same place.
fn place(register: Option<u32>) -> Option<usize> {
    match register? {
        register @ 1..=4 => usize::try_from(16 * (register - 1)).ok(),
        register @ 8..=23 => usize::try_from(4 * (register - 8)).ok(),
        _ => None,
    }
}

fn store(registers: &mut Registers, register: Option<u32>, bytes: Bytes) {
    let Some(at) = place(register) else { return };
    // The kernel fills a register of four bytes up with zeros.
    let filled = bytes.len().next_multiple_of(4);
    let bytes = bytes.into_iter().chain(std::iter::repeat(Some(0))).take(filled);
    registers.iter_mut().skip(at).zip(bytes).for_each(|(register, byte)| *register = byte);
}

/// So many bytes of a register; unknown ones where there is none of this number.
fn load(registers: &Registers, register: Option<u32>, length: usize) -> Bytes {
    let bytes = place(register).and_then(|at| registers.get(at..at.checked_add(length)?));
    bytes.map_or_else(|| vec![None; length.min(64)], <[Option<u8>]>::to_vec)
}

fn payload(data: &Parsed<'_>, packet: &At<'_>) -> Option<Bytes> {
    let number = |kind: u16| data.number(kind).and_then(|number| usize::try_from(number).ok());
    let length = number(4)?.min(64);
    Some(packet.payload(data.number(2)?, number(3)?, length).unwrap_or_else(|| vec![None; length]))
}

/// `NFT_FIB_RESULT_ADDRTYPE` of the source (1) or the destination (2).
fn fib(data: &Parsed<'_>, packet: &At<'_>) -> Option<Bytes> {
    let flags = data.number(3)?;
    (data.number(2)? == 3).then(|| known(&packet.address_type(flags & 1 != 0).to_ne_bytes()))
}

/// `NFT_BITWISE_MASK_XOR`; shifts and the like leave nothing known.
fn bitwise(data: &Parsed<'_>, registers: &mut Registers) -> Result<Effect, Malformed> {
    let length = data.number(3).and_then(|length| usize::try_from(length).ok()).unwrap_or_default().min(64);
    let mask = data.nest(4)?.get(DATA_VALUE).map(<[u8]>::to_vec);
    let flip = data.nest(5)?.get(DATA_VALUE).map(<[u8]>::to_vec);
    let bytes = load(registers, data.number(1), length);
    let masked = match (mask, flip) {
        (Some(mask), Some(flip)) if data.number(6).unwrap_or_default() == 0 => {
            let of = |(byte, (mask, flip)): (Option<u8>, (u8, u8))| match mask {
                0 => Some(flip),
                _ => byte.map(|byte| byte & mask ^ flip),
            };
            bytes.into_iter().zip(mask.into_iter().zip(flip)).map(of).collect()
        }
        _ => vec![None; length],
    };
    store(registers, data.number(2), masked);
    Ok(Effect::GoesOn)
}

/// `NFT_CMP_EQ` and so on. Bytes that are known to differ settle it.
fn compare(data: &Parsed<'_>, registers: &Registers) -> Result<Effect, Malformed> {
    let wanted = data.nest(3)?.get(DATA_VALUE).ok_or(Malformed)?.to_vec();
    let found = load(registers, data.number(1), wanted.len());
    let whole: Option<Vec<u8>> = found.iter().copied().collect();
    let differs = found.iter().zip(&wanted).any(|(found, wanted)| found.is_some_and(|found| found != *wanted));
    Ok(match (data.number(2), whole) {
        (Some(0), _) if differs => Effect::Differs,
        (Some(1), _) if differs => Effect::GoesOn,
        (_, None) => Effect::Unclear,
        (Some(0), _) => Effect::GoesOn,
        (Some(1), _) => Effect::Differs,
        (Some(2), Some(found)) => goes_on_if(found < wanted),
        (Some(3), Some(found)) => goes_on_if(found <= wanted),
        (Some(4), Some(found)) => goes_on_if(found > wanted),
        (Some(5), Some(found)) => goes_on_if(found >= wanted),
        _ => Effect::Unclear,
    })
}

fn range(data: &Parsed<'_>, registers: &Registers) -> Result<Effect, Malformed> {
    let (from, to) = (data.nest(3)?, data.nest(4)?);
    let from = from.get(DATA_VALUE).ok_or(Malformed)?;
    let to = to.get(DATA_VALUE).ok_or(Malformed)?;
    let found: Option<Vec<u8>> = load(registers, data.number(1), from.len()).into_iter().collect();
    let Some(found) = found else { return Ok(Effect::Unclear) };
    let is_inside = (from..=to).contains(&found.as_slice());
    Ok(goes_on_if(is_inside == (data.number(2).unwrap_or_default() == 0)))
}

pub(super) const fn goes_on_if(matches: bool) -> Effect {
    if matches { Effect::GoesOn } else { Effect::Differs }
}

fn immediate(data: &Parsed<'_>, registers: &mut Registers) -> Result<Effect, Malformed> {
    let content = data.nest(2)?;
    if data.number(1) != Some(0) {
        store(registers, data.number(1), content.get(DATA_VALUE).map(known).unwrap_or_default());
        return Ok(Effect::GoesOn);
    }
    Ok(verdict(&content.nest(2)?))
}

/// `NFTA_VERDICT_CODE` and `NFTA_VERDICT_CHAIN`.
fn verdict(verdict: &Parsed<'_>) -> Effect {
    let chain = verdict.text(2).unwrap_or_default();
    match verdict.number(1).map(u32::cast_signed) {
        Some(-3) => Effect::Ends(Verdict::Jump(chain)),
        Some(-4) => Effect::Ends(Verdict::Goto(chain)),
        Some(-5) => Effect::Ends(Verdict::Return),
        Some(-1) => Effect::GoesOn,
        Some(-2) => Effect::Differs,
        Some(code) if code.cast_unsigned() == DROP => Effect::Ends(Verdict::Drop),
        // NF_ACCEPT; and what is queued, some program decides.
        _ => Effect::Ends(Verdict::Accept),
    }
}

fn look_up(data: &Parsed<'_>, registers: &mut Registers, sets: &mut Sets<'_>) -> Result<Effect, Fault> {
    let name = data.text(1).ok_or(Malformed)?;
    let is_negated = data.number(5).unwrap_or_default() & 1 != 0;
    let Some(length) = sets.key_length(&name)? else { return Ok(Effect::Unclear) };
    let key: Option<Vec<u8>> = load(registers, data.number(2), length).into_iter().collect();
    let Some(key) = key else { return Ok(Effect::Unclear) };
    let found = sets.find(&name, &key)?;
    match (found, data.number(3)) {
        (Found::Nothing, None) => Ok(goes_on_if(is_negated)),
        (Found::Nothing, Some(_)) => Ok(Effect::Differs),
        (Found::Element(_), None) => Ok(goes_on_if(!is_negated)),
        // A verdict map.
        (Found::Element(content), Some(0)) => Ok(verdict(&Parsed::new(&content)?.nest(2)?)),
        (Found::Element(content), register) => {
            let value = Parsed::new(&content)?.get(DATA_VALUE).map(known);
            store(registers, register, value.unwrap_or_else(|| vec![None; 16]));
            Ok(Effect::GoesOn)
        }
    }
}
