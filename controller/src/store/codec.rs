//! Records as bytes.
//!
//! Owns the binary form: a format byte, eight octets of a SHA-256 over table, key and payload, and the payload in
//! messages of `weft.stored.v1`. The checksum ties a value to its place, so that neither a flipped bit nor a value at the wrong key is
//! taken for a record. Must never guess: what cannot be read is an error that names the record.

mod error;

use prost::Message;
use sha2::{Digest, Sha256};
use weft_core::{
    membership::Member,
    settings::Settings,
    types::{PerFamily, UNDERLAY_MTUS, UnixMs},
};
use weft_proto::stored::v1::{self, Node, Number, Owner, Token};

use self::error::Fault;
pub(super) use self::error::RecordError;
use super::{Binding, Life, NodeFacts, NodeRecord, Quarantined, Stored, TokenId, TokenRecord, Write};

/// The kinds of records, each a table of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    Meta,
    Nodes,
    Tokens,
    Quarantine,
    Lives,
}

impl Table {
    pub(super) const ALL: [Self; 5] = [Self::Meta, Self::Nodes, Self::Tokens, Self::Quarantine, Self::Lives];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Nodes => "nodes",
            Self::Tokens => "tokens",
            Self::Quarantine => "quarantine",
            Self::Lives => "lives",
        }
    }
}

/// Key of the schema version in table `meta`.
pub(super) const SCHEMA: &str = "schema";
const EPOCH: &str = "epoch";
const SETTINGS: &str = "settings";
const FORMAT: u8 = 1;
const HEADER: usize = 9;

/// What to do to one record.
pub(super) struct Put {
    pub(super) table: Table,
    pub(super) key: String,
    /// Absent: remove it.
    pub(super) value: Option<Vec<u8>>,
}

fn seal(table: Table, key: &str, payload: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(HEADER + payload.len());
    sealed.push(FORMAT);
    sealed.extend_from_slice(&checksum(table, key, payload));
    sealed.extend_from_slice(payload);
    sealed
}

fn checksum(table: Table, key: &str, payload: &[u8]) -> [u8; 8] {
    let mut hash = Sha256::new();
    for part in [table.name().as_bytes(), key.as_bytes()] {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.update([FORMAT]);
    hash.update(payload);
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize()[..8]);
    first
}

fn open<M: Message + Default>(table: Table, key: &str, sealed: &[u8]) -> Result<M, Fault> {
    let (header, payload) = sealed.split_at_checked(HEADER).ok_or(Fault::Short)?;
    if header[0] != FORMAT {
        return Err(Fault::Format(header[0]));
    }
    if header[1..] != checksum(table, key, payload) {
        return Err(Fault::Checksum);
    }
    Ok(M::decode(payload)?)
}

/// The schema version as a record of its own, readable by every version to come.
pub(super) fn schema(version: u32) -> Put {
    put(Table::Meta, SCHEMA, &number(version.into()))
}

/// Reads [`schema`] back.
pub(super) fn read_schema(sealed: &[u8]) -> Result<u32, RecordError> {
    let version = open::<Number>(Table::Meta, SCHEMA, sealed)
        .and_then(|number| u32::try_from(number.value).map_err(|_| Fault::Schema(number.value)));
    version.map_err(|fault| RecordError { table: Table::Meta, key: SCHEMA.to_owned(), fault })
}

fn put(table: Table, key: &str, message: &impl Message) -> Put {
    Put { table, key: key.to_owned(), value: Some(seal(table, key, &message.encode_to_vec())) }
}

const fn number(value: u64) -> Number {
    Number { value, ended_unix: 0 }
}

fn remove(table: Table, key: String) -> Put {
    Put { table, key, value: None }
}

/// A change as the record it touches.
pub(super) fn encode(write: &Write) -> Put {
    match write {
        Write::Epoch(epoch) => put(Table::Meta, EPOCH, &number(*epoch)),
        Write::Settings(settings) => put(Table::Meta, SETTINGS, &v1::Settings::from(settings)),
        Write::Node(node) => put(Table::Nodes, node.name.as_str(), &node_message(node)),
        Write::RemoveNode(name) => remove(Table::Nodes, name.as_str().to_owned()),
        Write::Token(token) => put(Table::Tokens, &token.id.to_string(), &token_message(token)),
        Write::RemoveToken(id) => remove(Table::Tokens, id.to_string()),
        Write::Quarantine(entry) => {
            put(Table::Quarantine, &entry.cidr.to_string(), &Owner { node: entry.owner.as_str().to_owned() })
        }
        Write::RemoveQuarantine(cidr) => remove(Table::Quarantine, cidr.to_string()),
        Write::Life(Life { node, incarnation, ended_unix }) => {
            put(Table::Lives, node.as_str(), &Number { value: *incarnation, ended_unix: ended_unix.unwrap_or(0) })
        }
        Write::RemoveLife(name) => remove(Table::Lives, name.as_str().to_owned()),
    }
}

/// A node whose agent has not reported is a member without addresses and with an MTU of 0 there, as version 0.1 has it.
fn node_message(node: &NodeRecord) -> Node {
    let reported = node.facts.clone();
    let facts = reported.unwrap_or(NodeFacts {
        underlay: PerFamily::default(),
        underlay_mtu: 0,
        agent_version: String::new(),
        generation: 0,
    });
    let NodeFacts { agent_version, generation, .. } = facts.clone();
    let member = NodeRecord { facts: Some(facts), ..node.clone() }.member();
    Node {
        member: member.as_ref().map(Into::into),
        agent_version,
        generation,
        joined_unix_ms: node.joined.0,
        node_uid: node.node_uid.clone(),
    }
}

fn token_message(token: &TokenRecord) -> Token {
    let (bound_key_hash, bound_incarnation) =
        token.bound.as_ref().map_or((Vec::new(), 0), |bound| (bound.key_hash.to_vec(), bound.incarnation));
    Token {
        secret_hash: token.secret_hash.to_vec(),
        node: token.node.as_str().to_owned(),
        expires_unix: token.expires_unix,
        bound_key_hash,
        bound_incarnation,
    }
}

/// Reads one record into `stored`.
pub(super) fn decode(table: Table, key: &str, sealed: &[u8], stored: &mut Stored) -> Result<(), RecordError> {
    read(table, key, sealed, stored).map_err(|fault| RecordError { table, key: key.to_owned(), fault })
}

fn read(table: Table, key: &str, sealed: &[u8], stored: &mut Stored) -> Result<(), Fault> {
    match (table, key) {
        (Table::Meta, SCHEMA) => {}
        (Table::Meta, EPOCH) => stored.epoch = open::<Number>(table, key, sealed)?.value,
        (Table::Meta, SETTINGS) => {
            stored.settings = Some(Settings::try_from(open::<v1::Settings>(table, key, sealed)?)?);
        }
        (Table::Meta, _) => return Err(Fault::Unknown),
        (Table::Nodes, _) => stored.nodes.push(node(key, open(table, key, sealed)?)?),
        (Table::Tokens, _) => {
            stored.tokens.push(token(key, &open(table, key, sealed)?)?);
        }
        (Table::Quarantine, _) => stored
            .quarantine
            .push(Quarantined { cidr: key.parse()?, owner: open::<Owner>(table, key, sealed)?.node.parse()? }),
        (Table::Lives, _) => {
            let Number { value: incarnation, ended_unix } = open(table, key, sealed)?;
            stored.lives.push(Life {
                node: key.parse()?,
                incarnation,
                ended_unix: Some(ended_unix).filter(|ended| *ended != 0),
            });
        }
    }
    Ok(())
}

fn node(key: &str, wire: Node) -> Result<NodeRecord, Fault> {
    let mut member = wire.member.ok_or(Fault::NoMember)?;
    let has_reported = member.underlay_mtu != 0;
    if !has_reported {
        // No member yet: it is read as one, and the rest of it counts.
        member.underlay_mtu = *UNDERLAY_MTUS.start();
    }
    let member = Member::try_from(member)?;
    if member.name.as_str() != key {
        return Err(Fault::OtherNode(member.name));
    }
    let Node { agent_version, joined_unix_ms, node_uid, generation, .. } = wire;
    let facts = NodeFacts { underlay: member.underlay, underlay_mtu: member.underlay_mtu, agent_version, generation };
    Ok(NodeRecord {
        name: member.name,
        incarnation: member.incarnation,
        pod_cidrs: member.pod_cidrs,
        endpoint: member.endpoint,
        more: member.more,
        facts: has_reported.then_some(facts),
        joined: UnixMs(joined_unix_ms),
        node_uid,
    })
}

fn token(key: &str, wire: &Token) -> Result<TokenRecord, Fault> {
    let hash = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).map_err(|_| Fault::Hash(bytes.len()));
    let bound = match wire.bound_key_hash.as_slice() {
        [] => None,
        bytes => Some(Binding { key_hash: hash(bytes)?, incarnation: wire.bound_incarnation }),
    };
    Ok(TokenRecord {
        id: key.parse::<TokenId>().map_err(|()| Fault::KeyOfToken)?,
        secret_hash: hash(&wire.secret_hash)?,
        node: wire.node.parse()?,
        expires_unix: wire.expires_unix,
        bound,
    })
}

#[cfg(test)]
mod tests;
