//! Resident memory of the real agent, which starts from a membership on its disk.

use std::fs;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;
use weft_agent::last_good::LastGood;
use weft_core::{
    membership::Log,
    types::{Family, UnderlayAddress},
};

use super::world::{member, settings, state_dir};
use crate::lab::{Lab, UPLINK, binaries, wait};

/// Mebibytes.
pub(super) struct Memory {
    pub(super) now: f64,
    pub(super) peak: f64,
}

/// Starts an agent with `peers` peers, waits until its kernel was read back complete, and reads its memory.
pub(super) async fn measure(lab: &Lab, peers: u32) -> Result<Memory> {
    let host = lab.host("a1");
    let mut me = member(1, &[Family::V4]);
    me.underlay.v4 = Some(UnderlayAddress::new(host.address(Family::V4), 24)?);
    let mut log = Log::new(7, settings(), Vec::new());
    log.upsert(me);
    for n in 2..peers + 2 {
        log.upsert(member(n, &[Family::V4]));
    }
    let dir = state_dir(lab)?;
    LastGood::in_dir(&dir).save(&log.snapshot())?;
    drop(log);
    let socket = dir.join("agent.sock");
    let mut command = Command::new(binaries::find("weft-agent")?);
    command.args(["run", "--node", "node-00001", "--controller", "127.0.0.1:1", "--no-cni", "--metrics-listen", "off"]);
    command.args(["--interface", UPLINK]).arg("--state-dir").arg(&dir).arg("--socket").arg(&socket);
    let agent = host.spawn("bench-agent", command)?;
    let weft = binaries::find("weft")?;
    wait::until("the agent to be ready", wait::PATIENCE, async || {
        let mut status = Command::new(&weft);
        status.arg("--socket").arg(&socket).arg("status");
        let answer = host.output(status, &[]).await?;
        ensure!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
        Ok(())
    })
    .await?;
    let id = agent.id().context("the agent has ended")?;
    let text = fs::read_to_string(format!("/proc/{id}/status"))?;
    let field = |name: &str| -> Result<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
        let kib: f64 = line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib / 1024.0)
    };
    let memory = Memory { now: field("VmRSS")?, peak: field("VmHWM")? };
    agent.kill().await?;
    Ok(memory)
}
