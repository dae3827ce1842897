//! End-to-end: the lab as a library, for the demo, the benches and the tests.

pub mod lab;
