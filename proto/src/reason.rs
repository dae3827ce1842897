//! Reasons of a node that both ends act on.
//!
//! Owns their spelling. Must never hold one that only people read: those stand where they are found.

/// Some pods of the node have addresses outside its present pod CIDRs. Nothing of the node's own network is wrong, and new pods
/// are the remedy.
pub const PODS_OUTSIDE_CIDR: &str = "PodsOutsideCidr";
