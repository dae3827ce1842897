//! End-to-end: the lab as a library, for the demo, the benches and the tests.

pub mod bench;
pub mod cluster;
pub mod command;
pub mod demo;
pub mod kind;
pub mod lab;
pub mod services;
