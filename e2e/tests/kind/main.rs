//! Weft on a real Kubernetes cluster of two subnets, installed by its chart: `./dev e2e`.
//!
//! Each module is a part of `./dev e2e [--all]`; each test finds the cluster well and leaves it as it was.

mod allocators;
mod dual_stack;
mod firewall;
mod helm_test;
mod hooks;
mod identity;
mod interrupted;
mod journey;
mod kube_proxy;
mod life;
mod listing;
mod local_dns;
mod moved;
mod mtu;
mod nodes;
mod one_node;
mod outage;
mod parent;
mod plugin;
mod pools;
mod ports;
mod readiness;
mod reboot;
mod rendered;
mod replaced;
mod same_subnet;
mod selectors;
mod services;
mod streams;
mod traffic;
mod uninstall;
mod upgrade;
