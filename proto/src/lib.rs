//! Weft's wire contract and stored form: the generated code of `weft.v1` and `weft.stored.v1`, and its conversion to and from
//! typed values.
//!
//! Owns the edge between bytes and types: what passes [`convert`] is valid; and how a channel to a server of these services
//! is opened (feature `client`), how a standby names the leader, that a certificate has
//! ended, and the reasons that both ends act on. Must never hold behaviour.

#[cfg(feature = "client")]
pub mod connect;
pub mod convert;
pub mod ended;
pub mod leader;
pub mod stored;

/// `weft.v1` as generated from the .proto files, where every field is documented.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod v1 {
    tonic::include_proto!("weft.v1");
}
