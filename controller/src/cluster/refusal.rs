//! Why the cluster said no.
//!
//! Owns the sentences that agents and operators read: each names the object, the value and the remedy. Must never hold
//! a secret.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use weft_core::types::{NodeName, PodCidr};

/// Why something was refused, or why a stream had to end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such token, or its secret is wrong: one sentence for both, so that ids cannot be tried out.
    #[error("the join token is not known here: make one with `weft token create {node}`")]
    TokenUnknown {
        /// Who wanted to join.
        node: NodeName,
    },
    /// Its time is over.
    #[error("the join token for node {node} has expired: make a new one with `weft token create {node}`")]
    TokenExpired {
        /// Who wanted to join.
        node: NodeName,
    },
    /// It is for another node.
    #[error("the join token is not for node {node}: make one with `weft token create {node}`")]
    TokenOtherNode {
        /// Who wanted to join.
        node: NodeName,
    },
    /// Somebody used it before with another key.
    #[error(
        "the join token for node {node} was used before with another key: if that was not this node, delete it with `weft node delete {node}`; then make a new token"
    )]
    TokenUsed {
        /// Who wanted to join.
        node: NodeName,
    },
    /// The token's CA is not this one.
    #[error("the join token belongs to another cluster: make one here with `weft token create {node}`")]
    TokenOtherCluster {
        /// Who wanted to join.
        node: NodeName,
    },
    /// Not a member.
    #[error("node {node} is not a member: it has to join with a token from `weft token create {node}`")]
    UnknownNode {
        /// Which node.
        node: NodeName,
    },
    /// A certificate of an earlier life.
    #[error(
        "the certificate of node {node} is of incarnation {held}, and {current} has begun since: join again with a token from `weft token create {node}`"
    )]
    StaleIdentity {
        /// Which node.
        node: NodeName,
        /// The life in the certificate.
        held: u64,
        /// The life that goes on.
        current: u64,
    },
    /// The certificate's time is over.
    #[error("the certificate of node {node} has ended: join again with a token from `weft token create {node}`")]
    CertificateEnded {
        /// Which node.
        node: NodeName,
    },
    /// Another member reports it over a live stream.
    #[error(
        "underlay address {address} of node {node} is reported by connected node {holder} too: give one of them another address, or stop its agent"
    )]
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// Who claims it.
        node: NodeName,
        /// Who has it.
        holder: NodeName,
    },
    /// A disconnected member holds it, and the claimant does not connect from it.
    #[error(
        "underlay address {address} of node {node} is held by node {holder}, which is not connected: connect from that address to take it over, or delete the other with `weft node delete {holder}`"
    )]
    AddressHeld {
        /// The address.
        address: IpAddr,
        /// Who claims it.
        node: NodeName,
        /// Who has it.
        holder: NodeName,
    },
    /// Underlay and overlay would be one.
    #[error(
        "underlay network {underlay} of node {node} overlaps pool {pool}: pods and nodes need networks of their own, so choose another pool or address"
    )]
    AddressInPool {
        /// The address with its on-link prefix.
        underlay: IpNetwork,
        /// Who has it.
        node: NodeName,
        /// The pool.
        pool: PodCidr,
    },
    /// No pod CIDR is left.
    #[error("node {node} cannot join: {detail}")]
    PoolsExhausted {
        /// Who wanted to join.
        node: NodeName,
        /// Which pools, and what to do.
        detail: String,
    },
    /// The store did not confirm.
    #[error("nothing was changed for certain, try again: {0}")]
    Store(String),
    /// A newer stream of the same node took its place.
    #[error("a newer stream of node {node} took the place of this one: run one agent per node")]
    Replaced {
        /// Which node.
        node: NodeName,
    },
    /// Too long without an acknowledgement.
    #[error(
        "node {node} has not acknowledged revision {sequence} in time: look at its agent's log, it will be told everything again when it reconnects"
    )]
    NotAcknowledged {
        /// Which node.
        node: NodeName,
        /// The sequence.
        sequence: u64,
    },
    /// The node was deleted while its stream was open.
    #[error("node {node} was deleted: it has to join with a token from `weft token create {node}`")]
    Deleted {
        /// Which node.
        node: NodeName,
    },
    /// Weft is being removed from the cluster.
    #[error(
        "node {node} is not taken in: Weft is being uninstalled; to keep it, remove the annotation {annotation} from ConfigMap {config_map}",
        annotation = weft_api::names::UNINSTALL_ANNOTATION,
        config_map = weft_api::names::CLUSTER,
    )]
    CleaningUp {
        /// Which node.
        node: NodeName,
    },
    /// The clean-up of the cluster's nodes was called off.
    #[error("the clean-up of node {node} was called off: its agent programs it again")]
    CalledOff {
        /// Which node.
        node: NodeName,
    },
    /// The controller is on its way out.
    #[error("the controller is stopping: connect again, to another controller or to this one when it is back")]
    Stopping,
}

impl Refusal {
    /// One word for metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::TokenUnknown { .. } => "token_unknown",
            Self::TokenExpired { .. } => "token_expired",
            Self::TokenOtherNode { .. } => "token_other_node",
            Self::TokenUsed { .. } => "token_used",
            Self::TokenOtherCluster { .. } => "token_other_cluster",
            Self::UnknownNode { .. } => "unknown_node",
            Self::StaleIdentity { .. } => "stale_identity",
            Self::CertificateEnded { .. } => "certificate_ended",
            Self::AddressTaken { .. } => "address_taken",
            Self::AddressHeld { .. } => "address_held",
            Self::AddressInPool { .. } => "address_in_pool",
            Self::PoolsExhausted { .. } => "pools_exhausted",
            Self::Store(_) => "store",
            Self::Replaced { .. } => "replaced",
            Self::NotAcknowledged { .. } => "not_acknowledged",
            Self::Deleted { .. } => "deleted",
            Self::CleaningUp { .. } => "cleaning_up",
            Self::CalledOff { .. } => "called_off",
            Self::Stopping => "stopping",
        }
    }
}
