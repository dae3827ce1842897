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
    #[error("node {node} is not a member: it has to join with {}", token(node))]
    UnknownNode {
        /// Which node.
        node: NodeName,
    },
    /// A certificate of an earlier life.
    #[error(
        "the certificate of node {node} is of incarnation {held}, and {current} has begun since: join again with {}",
        token(node)
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
    #[error(
        "the certificate of node {node} has ended: renew it, or if that is refused join again with {}",
        token(node)
    )]
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
    /// Other nodes would send to the controller what is for that node.
    #[error(
        "underlay address {address} of node {node} is the controller's own: name another link for its agent (--interface), or if this is the controller's host, have the agent connect from that address"
    )]
    AddressOfController {
        /// The address.
        address: IpAddr,
        /// Who claims it.
        node: NodeName,
    },
    /// Other nodes would send to a router what is for that node.
    #[error(
        "underlay address {address} of node {node} is a router's, as node {reporter} says: give one of the two another address, or have the agent of {node} connect from that address"
    )]
    AddressOfGateway {
        /// The address.
        address: IpAddr,
        /// Who claims it.
        node: NodeName,
        /// Who has routes by it.
        reporter: NodeName,
    },
    /// No stream comes from there, and it lies where no address of a member is known to be.
    #[error(
        "underlay address {address} of node {node} is not proven: its agent connects from {from}, and {}; have it connect from that address, or if the controller cannot see it (NAT, a load balancer, a network of its own), add the nodes' networks to the controller's underlayNetworks",
        expected(networks)
    )]
    AddressUnproven {
        /// The address.
        address: IpAddr,
        /// Who claims it.
        node: NodeName,
        /// Where its stream comes from.
        from: IpAddr,
        /// The networks that the operator named, in one text.
        networks: String,
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
    /// No host can have it.
    #[error(
        "underlay address {underlay} of node {node} is the {what} of its own prefix, which no host can have: give the node's link another address or prefix"
    )]
    AddressOfNoHost {
        /// The address with its on-link prefix.
        underlay: IpNetwork,
        /// Who reports it.
        node: NodeName,
        /// What it is instead.
        what: &'static str,
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
    #[error("node {node} was deleted: it has to join with {}", token(node))]
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
    /// In Kubernetes: its Node object was not seen, or not taken in, by this controller yet.
    #[error(
        "node {node} is not known yet: there is no Node object of that name, or this controller has not taken it in yet; try again"
    )]
    NodeUnseen {
        /// Which node.
        node: NodeName,
    },
    /// In Kubernetes: what it says belongs to an earlier Node object of the same name.
    #[error(
        "node {node} was re-created since: its UID was {uid}, and is {current} now; delete its agent's pod, so that it gets a token of the new one"
    )]
    NodeReplaced {
        /// Which node.
        node: NodeName,
        /// The UID that was named.
        uid: String,
        /// The UID it has.
        current: String,
    },
    /// A Node object that cannot be used.
    #[error("Node {node} is refused: {detail}")]
    NodeInvalid {
        /// Which node.
        node: NodeName,
        /// What is wrong with it, and what to do.
        detail: String,
    },
    /// A pod CIDR that another allocator gave, and that is not of ours.
    #[error(
        "pod CIDR {cidr} of Node {node} is in none of the pools ({pools}): add a pool that covers it, or re-create the Node without it"
    )]
    CidrOutsidePools {
        /// Which node.
        node: NodeName,
        /// Its pod CIDR.
        cidr: PodCidr,
        /// The pools, in one text.
        pools: String,
    },
    /// A pod CIDR that another allocator gave, and that another node has.
    #[error(
        "pod CIDR {cidr} of Node {node} overlaps {held} of node {holder}: a Node's pod CIDRs cannot be changed, so re-create one of the two"
    )]
    CidrTaken {
        /// Which node.
        node: NodeName,
        /// Its pod CIDR.
        cidr: PodCidr,
        /// Who has it.
        holder: NodeName,
        /// What that node has.
        held: PodCidr,
    },
    /// Another allocator has not given it pod CIDRs yet.
    #[error(
        "Node {node} has no pod CIDR yet, and kube-controller-manager allocates them in this cluster (some Nodes have pod CIDRs that Weft did not give): if it does not, set nodeCidrs to weft"
    )]
    CidrsAwaited {
        /// Which node.
        node: NodeName,
    },
    /// Somebody gives pod CIDRs that are in none of our pools.
    #[error(
        "Node {node} has no pod CIDR yet, and who gives them is not known: every Node that has one has it from outside the pools ({pools}), such as {cidr} of {other}: configure pools that cover them where kube-controller-manager allocates, else set nodeCidrs to weft"
    )]
    AllocatorUnknown {
        /// Which node.
        node: NodeName,
        /// A node that has one.
        other: NodeName,
        /// What that has.
        cidr: PodCidr,
        /// The pools, in one text.
        pools: String,
    },
    /// An agent reports an address that Kubernetes does not know as its node's.
    #[error(
        "underlay address {address} of node {node} is not among the addresses of its Node object ({known}): choose another underlay link for its agent, or correct the kubelet's --node-ip"
    )]
    AddressNotOfNode {
        /// Which node.
        node: NodeName,
        /// What its agent reports.
        address: IpAddr,
        /// What the Node object says, in one text.
        known: String,
    },
    /// Membership follows the Node objects.
    #[error(
        "nodes come and go with their Node objects here, so there are no join tokens and node {node} cannot be deleted apart from its Node: use kubectl delete node {node}"
    )]
    NodesOfKubernetes {
        /// Which node.
        node: NodeName,
    },
    /// The controller is on its way out.
    #[error("the controller is stopping: connect again, to another controller or to this one when it is back")]
    Stopping,
}

impl Refusal {
    /// The member that has what was claimed.
    pub(super) const fn holder(&self) -> Option<&NodeName> {
        match self {
            Self::AddressTaken { holder, .. } | Self::AddressHeld { holder, .. } => Some(holder),
            _ => None,
        }
    }

    /// True where an agent is turned away for an address that it reports, which a hand must mend.
    pub(super) const fn is_about_addresses(&self) -> bool {
        matches!(
            self,
            Self::AddressNotOfNode { .. }
                | Self::AddressInPool { .. }
                | Self::AddressOfNoHost { .. }
                | Self::AddressTaken { .. }
                | Self::AddressHeld { .. }
                | Self::AddressOfController { .. }
                | Self::AddressOfGateway { .. }
                | Self::AddressUnproven { .. }
        )
    }

    /// One CamelCase word for events and conditions.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::PoolsExhausted { .. } => "PoolsExhausted",
            Self::NodeInvalid { .. } => "NodeInvalid",
            Self::CidrOutsidePools { .. } => "CidrOutsidePools",
            Self::CidrTaken { .. } => "CidrTaken",
            Self::CidrsAwaited { .. } => "CidrsAwaited",
            Self::AllocatorUnknown { .. } => "AllocatorUnknown",
            Self::AddressNotOfNode { .. } => "AddressNotOfNode",
            Self::AddressInPool { .. } => "AddressInPool",
            Self::AddressOfNoHost { .. } => "AddressOfNoHost",
            Self::AddressTaken { .. }
            | Self::AddressHeld { .. }
            | Self::AddressOfController { .. }
            | Self::AddressOfGateway { .. } => "AddressConflict",
            Self::AddressUnproven { .. } => "AddressUnproven",
            Self::Store(_) => "StoreFailed",
            _ => "Refused",
        }
    }

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
            Self::AddressOfController { .. } => "address_of_controller",
            Self::AddressOfGateway { .. } => "address_of_gateway",
            Self::AddressUnproven { .. } => "address_unproven",
            Self::AddressInPool { .. } => "address_in_pool",
            Self::AddressOfNoHost { .. } => "address_of_no_host",
            Self::PoolsExhausted { .. } => "pools_exhausted",
            Self::Store(_) => "store",
            Self::Replaced { .. } => "replaced",
            Self::NotAcknowledged { .. } => "not_acknowledged",
            Self::Deleted { .. } => "deleted",
            Self::NodeUnseen { .. } => "node_unseen",
            Self::NodeReplaced { .. } => "node_replaced",
            Self::NodeInvalid { .. } => "node_invalid",
            Self::CidrOutsidePools { .. } => "cidr_outside_pools",
            Self::CidrTaken { .. } => "cidr_taken",
            Self::CidrsAwaited { .. } => "cidrs_awaited",
            Self::AllocatorUnknown { .. } => "allocator_unknown",
            Self::AddressNotOfNode { .. } => "address_not_of_node",
            Self::NodesOfKubernetes { .. } => "nodes_of_kubernetes",
            Self::CleaningUp { .. } => "cleaning_up",
            Self::CalledOff { .. } => "called_off",
            Self::Stopping => "stopping",
        }
    }
}

/// Why an unproven address is not where it should be.
fn expected(networks: &str) -> String {
    if networks.is_empty() {
        "no member has proven an address of the same subnet".to_owned()
    } else {
        format!("it is in none of the underlayNetworks ({networks})")
    }
}

/// What a node joins with: on Kubernetes its agent has that token, and joins by itself.
fn token(node: &NodeName) -> String {
    format!("a token, which is the ServiceAccount's on Kubernetes, else one from `weft token create {node}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_to_join_again_is_told_with_what_on_either_store() {
        let node: NodeName = "edge-1".parse().expect("a name");
        let refusals = [
            Refusal::UnknownNode { node: node.clone() },
            Refusal::StaleIdentity { node: node.clone(), held: 1, current: 2 },
            Refusal::CertificateEnded { node: node.clone() },
            Refusal::Deleted { node },
        ];
        for refusal in refusals {
            let told = refusal.to_string();
            assert!(told.contains("ServiceAccount") && told.contains("`weft token create edge-1`"), "{told}");
        }
    }
}
