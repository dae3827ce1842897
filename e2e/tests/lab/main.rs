//! Whole clusters in namespaces of their own: `./dev test` runs them, as root and as anybody else.
//!
//! Each module is a part that can be run alone, such as `cargo test -p weft-e2e --test lab drift::`. What pods and their
//! runtimes are about is in the program `pods`.

mod bare;
mod crowds;
mod drift;
mod ends;
mod fleet;
mod full_disk;
mod hostile;
mod leaving;
mod membership;
mod netem;
mod outage;
mod outside;
mod peers;
mod reach;
mod rogue;
mod two_nics;
mod weekend;
