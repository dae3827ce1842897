//! The plugin, run by itself on an agent's host.

use std::{fs, process::Output};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tokio::process::Command;
use weft_e2e::{
    cluster::Agent,
    lab::{Namespace, wait},
};

/// Runs one verb for the attachment `eth0` of a container that is called as its namespace; `fault` names the step at which the
/// plugin kills itself, or nothing.
pub(crate) async fn plugin(agent: &Agent, verb: &str, net: &Namespace, fault: &str) -> Result<Output> {
    let file = agent.cni_configuration().join("10-weft.conflist");
    let text = wait::until("the CNI configuration", wait::PATIENCE, async || Ok(fs::read(&file)?)).await?;
    let list: Value = serde_json::from_slice(&text)?;
    let mut config = list["plugins"][0].clone();
    (config["name"], config["cniVersion"]) = (list["name"].clone(), json!("1.1.0"));
    let mut command = Command::new(agent.cni_programs().join("weft-cni"));
    command.env("CNI_COMMAND", verb).env("CNI_CONTAINERID", net.name()).env("CNI_IFNAME", "eth0");
    command.env("CNI_NETNS", net.path()).env("CNI_PATH", agent.cni_programs()).env("WEFT_FAULT", fault);
    agent.host().output(command, config.to_string().as_bytes()).await
}

/// The result of a verb that has to succeed.
pub(crate) async fn succeeds(agent: &Agent, verb: &str, net: &Namespace) -> Result<Value> {
    let done = plugin(agent, verb, net, "").await?;
    let text = String::from_utf8_lossy(&done.stdout);
    ensure!(done.status.success(), "{verb} of {}: {text}", net.name());
    Ok(if text.trim().is_empty() { Value::Null } else { serde_json::from_str(&text)? })
}
