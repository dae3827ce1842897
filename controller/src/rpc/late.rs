//! What is granted to a connection whose certificate has ended.
//!
//! Owns that: one renewal for the same key while the grace lasts, and nothing else. TLS sees to it at the handshake only, and
//! not even then where it resumes a session, so it is asked at each request. Must never look into the cluster: whether the
//! node may go on is the registry's to say.

use tonic::Status;

use super::status;
use crate::{
    cluster::{NodeIdentity, Refusal},
    pki::PublicKey,
    tls::{Caller, Grace},
};

/// Refuses whatever is no renewal to a node whose certificate has ended.
pub(super) fn refuse(caller: &Caller, now_unix: i64) -> Result<(), Status> {
    match status::node(caller) {
        Ok(node) if node.ends_unix <= now_unix => Err(Refusal::CertificateEnded { node: node.name }.into()),
        _ => Ok(()),
    }
}

/// A node that asks for a certificate for `key`.
#[derive(Debug)]
pub(super) struct Renewing {
    /// As if its certificate ended with the grace.
    pub(super) identity: NodeIdentity,
    /// Its certificate has ended before.
    pub(super) is_late: bool,
}

/// Says who asks for a renewal, unless its connection is not good for one.
pub(super) fn renewing(caller: &Caller, key: &PublicKey, grace: Grace, now_unix: i64) -> Result<Renewing, Status> {
    let mut identity = status::node(caller)?;
    let is_late = identity.ends_unix <= now_unix;
    if is_late {
        check(caller, key, &identity)?;
        identity.ends_unix = grace.until(identity.ends_unix);
    }
    Ok(Renewing { identity, is_late })
}

fn check(caller: &Caller, key: &PublicKey, identity: &NodeIdentity) -> Result<(), Status> {
    let node = &identity.name;
    if caller.identity.as_ref().is_none_or(|identity| identity.key_hash != key.hash()) {
        return Err(Status::permission_denied(format!(
            "the certificate of node {node} has ended and is renewed for its own key only: ask with that key, or join again with a \
             token"
        )));
    }
    if !caller.renewal.take() {
        return Err(Status::failed_precondition(format!(
            "the certificate of node {node} has ended, and its connection is good for one renewal: connect anew with the new one"
        )));
    }
    Ok(())
}
