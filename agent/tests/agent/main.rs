//! The agent's loops over what fails on demand: a kernel, and controllers. They need nothing of the machine.

mod engine;
mod login;
