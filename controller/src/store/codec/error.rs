//! Why a record cannot be read.
//!
//! Owns the sentences: each names the record by table and key. Must never show what a record holds: a token is among them.

use weft_core::types::{CidrError, NodeName, NodeNameError};
use weft_proto::convert::ConvertError;

use super::Table;

/// A record that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("record {key:?} of table {}: {fault}", table.name())]
pub(in crate::store) struct RecordError {
    pub(super) table: Table,
    pub(super) key: String,
    pub(super) fault: Fault,
}

/// What is wrong with it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("it is too short")]
    Short,
    #[error("it has the unknown format {0}")]
    Format(u8),
    #[error("it does not match its checksum")]
    Checksum,
    #[error("it cannot be decoded: {0}")]
    Undecodable(#[from] prost::DecodeError),
    #[error("it is of no kind that this version knows")]
    Unknown,
    #[error("schema version {0} is out of range")]
    Schema(u64),
    #[error("it has no member")]
    NoMember,
    #[error("it holds node {0}")]
    OtherNode(NodeName),
    #[error("its key is no token id")]
    KeyOfToken,
    #[error("a hash in it has {0} octets")]
    Hash(usize),
    #[error(transparent)]
    Value(#[from] ConvertError),
    #[error(transparent)]
    Name(#[from] NodeNameError),
    #[error(transparent)]
    Cidr(#[from] CidrError),
}
