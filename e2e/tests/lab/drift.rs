//! The drift matrix: foreign hands delete and alter everything of Weft's on a node, and the agent puts it back.
//!
//! Owns the proof by content: a row is over when the kernel holds line for line what it held before, Weft's and
//! everybody else's, and pods' packets flow. Each row prints how long that took; none judges it by a clock. But no wait
//! is as long as the pause between two full looks, so that what only the regular look finds fails.

mod advertised;
mod attributes;
mod foreign;
mod hands;
mod matrix;
mod netlink;
mod overflow;
mod picture;
mod random;
mod scene;
mod underlay;
mod vpn;
