//! `weft-lab services`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use weft_core::types::Family;

use crate::{
    lab::{harness, print_logs},
    services::{self, Plan},
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// kube-proxy's mode.
    #[arg(long, value_enum, default_value_t = Mode::Ipvs)]
    proxy_mode: Mode,
    /// Families of the Services.
    #[arg(long, value_enum, default_value_t = Families::Ipv4)]
    ip_family: Families,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Ipvs,
    Iptables,
    Nftables,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Families {
    Ipv4,
    Dual,
}

/// Runs the cases inside the sandbox.
pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mode = match arguments.proxy_mode {
        Mode::Ipvs => "ipvs",
        Mode::Iptables => "iptables",
        Mode::Nftables => "nftables",
    };
    let families = match arguments.ip_family {
        Families::Ipv4 => vec![Family::V4],
        Families::Dual => Family::ALL.to_vec(),
    };
    let done = harness::run(async || services::run(&Plan { mode: mode.to_owned(), families }).await);
    if done.is_err() {
        print_logs();
    }
    done.map(|()| ExitCode::SUCCESS)
}
