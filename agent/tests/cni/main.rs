//! What pods get of the agent and its plugin, on a real kernel and a real disk, and that docs/cni.md tells it truly.

mod agent;
mod disk;
mod docs;
mod keeper;
mod lab;
mod pods;
mod verbs;
