//! Single nf_tables expressions: what one of them does, and its attributes.
//!
//! Encodes as the kernel dumps, with register 1 for every comparison, and reads back strictly: an expression with anything
//! more or less than what [`Step::encode`] writes is [`Step::Foreign`]. Layout:
//! include/uapi/linux/netfilter/nf_tables.h.

use super::wire::{Attributes, Malformed, Parsed};

/// `NFT_REG_VERDICT`.
const VERDICT: u32 = 0;
/// `NFT_REG_1`.
pub(super) const FIRST: u32 = 1;
/// `NFT_REG_2`.
pub(super) const SECOND: u32 = 2;
/// `NFT_OBJECT_COUNTER`.
pub(super) const COUNTER: u32 = 1;
/// `NFTA_EXPR_NAME` and `NFTA_EXPR_DATA`.
const NAME: u16 = 1;
const DATA: u16 = 2;
/// `NFTA_DATA_VALUE` and `NFTA_DATA_VERDICT`.
pub(super) const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
/// `NFT_FIB_RESULT_OIF`.
const FIB_OIF: u32 = 1;
/// `NFTA_FIB_F_SADDR`, `NFTA_FIB_F_IIF` and `NFTA_FIB_F_PRESENT`.
const FIB_REVERSE: u32 = 1 | 1 << 3 | 1 << 5;
/// `NFT_CMP_EQ` and `NFT_CMP_NEQ`.
const EQUAL: u32 = 0;
const DIFFERS: u32 = 1;

/// What one nf_tables expression does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Loads a meta key (`NFT_META_…`).
    Meta(u32),
    /// Loads bytes of the packet.
    Payload {
        /// Into this register.
        register: u32,
        /// `NFT_PAYLOAD_…_HEADER`.
        base: u32,
        /// In bytes from there.
        offset: u32,
        /// In bytes.
        length: u32,
    },
    /// Keeps these bits of a register.
    Mask {
        /// The register.
        register: u32,
        /// What is kept of it.
        mask: Vec<u8>,
    },
    /// Goes on where the register equals this.
    Equal(Vec<u8>),
    /// Goes on where it does not.
    Differs(Vec<u8>),
    /// Goes on where the register is in the set, or is not.
    Lookup {
        /// Name of the set.
        set: String,
        /// `NFT_LOOKUP_F_INV`.
        negated: bool,
    },
    /// Looks up where packets to the source would leave by the link it came by: loads whether they do.
    ReversePath,
    /// Loads a constant into a register.
    Value(u32, Vec<u8>),
    /// Ends with a verdict (`NF_DROP`, `NF_ACCEPT`).
    Verdict(u32),
    /// Counts with a named counter.
    Counter(String),
    /// Leaves the packet untracked.
    Notrack,
    /// Masquerades; where `ports`, from the port in register 1 to that in register 2.
    Masquerade {
        /// `NF_NAT_RANGE_…`.
        flags: u32,
        /// The port registers are given.
        ports: bool,
    },
    /// Anything else.
    Foreign(String),
}

impl Step {
    /// The expression as an element of `NFTA_RULE_EXPRESSIONS`.
    pub(super) fn encode(&self) -> Attributes {
        let new = Attributes::new;
        let data = match self {
            Self::Meta(key) => new().number(2, *key).number(1, FIRST),
            Self::Payload { register, base, offset, length } => {
                new().number(1, *register).number(2, *base).number(3, *offset).number(4, *length)
            }
            Self::Mask { register, mask } => masking(*register, mask),
            Self::Equal(value) => comparison(EQUAL, value),
            Self::Differs(value) => comparison(DIFFERS, value),
            Self::Lookup { set, negated } => new().text(1, set).number(2, FIRST).number(5, u32::from(*negated)),
            Self::ReversePath => new().number(1, FIRST).number(2, FIB_OIF).number(3, FIB_REVERSE),
            Self::Value(register, value) => new().number(1, *register).nest(2, &new().bytes(DATA_VALUE, value)),
            Self::Verdict(code) => {
                let verdict = new().nest(DATA_VERDICT, &new().number(1, *code));
                new().number(1, VERDICT).nest(2, &verdict)
            }
            Self::Counter(counter) => new().number(1, COUNTER).text(2, counter),
            Self::Notrack => new(),
            Self::Masquerade { flags, ports: false } => new().number(1, *flags),
            Self::Masquerade { flags, ports: true } => new().number(1, *flags).number(2, FIRST).number(3, SECOND),
            // Its name is none the kernel knows: it refuses the rule, and so the transaction.
            Self::Foreign(_) => new(),
        };
        new().text(NAME, self.name()).nest(DATA, &data)
    }

    /// `NFTA_EXPR_NAME`.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Meta(_) => "meta",
            Self::Payload { .. } => "payload",
            Self::Mask { .. } => "bitwise",
            Self::Equal(_) | Self::Differs(_) => "cmp",
            Self::Lookup { .. } => "lookup",
            Self::ReversePath => "fib",
            Self::Value(..) | Self::Verdict(_) => "immediate",
            Self::Counter(_) => "objref",
            Self::Notrack => "notrack",
            Self::Masquerade { .. } => "masq",
            Self::Foreign(name) => name,
        }
    }

    /// Reads an element of `NFTA_RULE_EXPRESSIONS`.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let expression = Parsed::new(bytes)?;
        let name = expression.text(NAME).ok_or(Malformed)?;
        let data = expression.nest(DATA)?;
        let step = match name.as_str() {
            "meta" => Self::meta(&data),
            "payload" => Self::payload(&data),
            "bitwise" => Self::mask(&data)?,
            "cmp" => Self::compare(&data)?,
            "lookup" => Self::lookup(&data),
            "fib" => Self::reverse_path(&data),
            "immediate" => Self::immediate(&data)?,
            "objref" => Self::counter(&data),
            "notrack" => Some(Self::Notrack),
            "masq" => Self::masquerade(&data),
            _ => None,
        };
        Ok(step.unwrap_or(Self::Foreign(name)))
    }

    fn meta(data: &Parsed<'_>) -> Option<Self> {
        let ours = data.is_exactly(&[1, 2], 3) && data.number(1)? == FIRST;
        ours.then_some(Self::Meta(data.number(2)?))
    }

    fn payload(data: &Parsed<'_>) -> Option<Self> {
        let [register, base, offset, length] = [1, 2, 3, 4].map(|kind| data.number(kind));
        let step = Self::Payload { register: register?, base: base?, offset: offset?, length: length? };
        data.is_exactly(&[1, 2, 3, 4], 8).then_some(step)
    }

    /// Kernels before 5.6 say nothing of the operation (`NFTA_BITWISE_OP`), later ones that it is `NFT_BITWISE_BOOL`.
    fn mask(data: &Parsed<'_>) -> Result<Option<Self>, Malformed> {
        let known = data.is_exactly(&[1, 2, 3, 4, 5], 7) || data.is_exactly(&[1, 2, 3, 4, 5, 6], 7);
        let (Some(register), Some(mask)) = (data.number(1), data.nest(4)?.get(DATA_VALUE)) else { return Ok(None) };
        let in_place = data.number(2) == Some(register) && data.number(3) == u32::try_from(mask.len()).ok();
        let plain = data.nest(5)?.get(DATA_VALUE).is_some_and(|xor| xor.iter().all(|byte| *byte == 0));
        let ours = known && in_place && plain && data.number(6).unwrap_or_default() == 0;
        Ok(ours.then(|| Self::Mask { register, mask: mask.to_vec() }))
    }

    fn compare(data: &Parsed<'_>) -> Result<Option<Self>, Malformed> {
        let ours = data.is_exactly(&[1, 2, 3], 3) && data.number(1) == Some(FIRST);
        let value = data.nest(3)?.get(DATA_VALUE).map(<[u8]>::to_vec).filter(|_| ours);
        Ok(match data.number(2) {
            Some(EQUAL) => value.map(Self::Equal),
            Some(DIFFERS) => value.map(Self::Differs),
            _ => None,
        })
    }

    fn lookup(data: &Parsed<'_>) -> Option<Self> {
        let ours = data.is_exactly(&[1, 2, 5], 5) && data.number(2)? == FIRST && data.number(5)? <= 1;
        ours.then_some(Self::Lookup { set: data.text(1)?, negated: data.number(5)? == 1 })
    }

    fn reverse_path(data: &Parsed<'_>) -> Option<Self> {
        let ours = data.is_exactly(&[1, 2, 3], 3) && data.number(1)? == FIRST;
        (ours && data.number(2)? == FIB_OIF && data.number(3)? == FIB_REVERSE).then_some(Self::ReversePath)
    }

    fn immediate(data: &Parsed<'_>) -> Result<Option<Self>, Malformed> {
        let Some(register) = data.number(1).filter(|_| data.is_exactly(&[1, 2], 2)) else { return Ok(None) };
        let content = data.nest(2)?;
        if register != VERDICT {
            return Ok(content.get(DATA_VALUE).map(|value| Self::Value(register, value.to_vec())));
        }
        let verdict = content.nest(DATA_VERDICT)?;
        let code = verdict.number(1).filter(|_| verdict.is_exactly(&[1], 3));
        Ok(code.map(Self::Verdict))
    }

    fn counter(data: &Parsed<'_>) -> Option<Self> {
        let ours = data.is_exactly(&[1, 2], 5) && data.number(1)? == COUNTER;
        ours.then_some(Self::Counter(data.text(2)?))
    }

    fn masquerade(data: &Parsed<'_>) -> Option<Self> {
        let flags = data.number(1)?;
        if data.is_exactly(&[1], 3) {
            return Some(Self::Masquerade { flags, ports: false });
        }
        let ours = data.is_exactly(&[1, 2, 3], 3) && data.number(2)? == FIRST && data.number(3)? == SECOND;
        ours.then_some(Self::Masquerade { flags, ports: true })
    }
}

/// The attributes of an AND in place.
fn masking(register: u32, mask: &[u8]) -> Attributes {
    let value = |bytes: &[u8]| Attributes::new().bytes(DATA_VALUE, bytes);
    let length = u32::try_from(mask.len()).expect("an address has 16 bytes at most");
    let registers = Attributes::new().number(1, register).number(2, register).number(3, length);
    registers.nest(4, &value(mask)).nest(5, &value(&vec![0; mask.len()]))
}

/// The attributes of a comparison with the first register.
fn comparison(operator: u32, value: &[u8]) -> Attributes {
    let value = Attributes::new().bytes(DATA_VALUE, value);
    Attributes::new().number(1, FIRST).number(2, operator).nest(3, &value)
}
