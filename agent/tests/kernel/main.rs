//! The agent's hands on a real kernel, each test in network namespaces of its own, as root and as anybody else.
//!
//! Each module is a part that can be run alone, such as `cargo test -p weft-agent --test kernel nft::`.

mod contract;
mod foreign;
mod netns;
mod nft;
mod nft_packets;
mod packets;
mod preflight;
mod table;
