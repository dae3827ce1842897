//! Weft's Kubernetes resources.
//!
//! Owns their types, from which the schemas in the chart are made, and the names of the objects that controller, chart
//! and command line share. Must never talk to an API server: whoever has a client does.

mod claim;
mod cluster;
pub mod names;
mod schema;
mod vtep;

pub use claim::{ClaimNameError, PodCidrClaim, PodCidrClaimSpec, claim_cidr, claim_name};
pub use cluster::{Allocation, AllocationPool, Uninstall, UninstallRequest, UninstallState, Waiting};
pub use schema::crds_yaml;
pub use vtep::{
    ConditionType, FamilyReach, PeerReport, RevisionStatus, Vtep, VtepSpec, VtepState, VtepStatus, VtepUnderlay,
};
