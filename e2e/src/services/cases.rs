//! The cases.
//!
//! Each part asks and says what it saw; what has to be seen is written beside the question.

mod agents;
mod backends;
mod reach;
mod switches;
mod tables;

pub(super) use agents::{Before, misplaced, restarted, undisturbed};
pub(super) use backends::backend_goes;
pub(super) use reach::{cluster_ip, node_port};
pub(super) use switches::{pods_traffic, rp_filter, strict_arp};
pub(super) use tables::{filled, tables};
