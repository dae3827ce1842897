//! The container runtime's side of CNI: it finds the configuration, runs each plugin in turn and keeps the result.
//!
//! Owns what containerd and CRI-O do through libcni (CNI specification 1.0.0, sections 3 and 4). Must never help the
//! plugin: it gets what the specification says and nothing else.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::process::Command;

use super::Agent;
use crate::lab::wait;

/// One attachment of a pod.
#[derive(Debug, Clone)]
pub(super) struct Attachment {
    /// CNI_CONTAINERID.
    pub(super) container: String,
    /// CNI_NETNS.
    pub(super) namespace: String,
    /// CNI_IFNAME.
    pub(super) interface: String,
    /// CNI_ARGS.
    pub(super) arguments: String,
}

/// The configuration a runtime would choose: the first by name. Waits for it, as a kubelet does.
pub(super) async fn configuration(agent: &Agent) -> Result<Value> {
    let directory = agent.cni_configuration();
    let what = format!("a CNI configuration in {}", directory.display());
    let path = wait::until(&what, wait::PATIENCE, async || {
        agent.alive().await?;
        let entries = fs::read_dir(&directory)?.flatten().map(|entry| entry.path());
        let mut lists: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == "conflist")).collect();
        lists.sort();
        lists.into_iter().next().context("none yet")
    })
    .await?;
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", path.display()))
}

/// ADD: all plugins in order, each with the result of the one before. Returns the last result.
pub(super) async fn add(agent: &Agent, list: &Value, attachment: &Attachment) -> Result<Value> {
    let mut result = None;
    for plugin in plugins(list)? {
        let output = run(agent, "ADD", attachment, &request(list, plugin, result.as_ref())).await?;
        result = Some(serde_json::from_slice(&output).context("the result of ADD is not JSON")?);
    }
    result.context("the CNI configuration lists no plugin")
}

/// DEL: all plugins in reverse order, with the result that was kept.
pub(super) async fn delete(agent: &Agent, list: &Value, attachment: &Attachment, result: &Value) -> Result<()> {
    for plugin in plugins(list)?.iter().rev() {
        run(agent, "DEL", attachment, &request(list, plugin, Some(result))).await?;
    }
    Ok(())
}

/// CHECK: all plugins in order, with the result that was kept.
pub(super) async fn check(agent: &Agent, list: &Value, attachment: &Attachment, result: &Value) -> Result<()> {
    for plugin in plugins(list)? {
        run(agent, "CHECK", attachment, &request(list, plugin, Some(result))).await?;
    }
    Ok(())
}

fn plugins(list: &Value) -> Result<&Vec<Value>> {
    list["plugins"].as_array().context("the CNI configuration has no list of plugins")
}

/// A plugin's own part, with the list's name and version and the previous result.
fn request(list: &Value, plugin: &Value, previous: Option<&Value>) -> Value {
    let mut request = plugin.clone();
    for field in ["name", "cniVersion"] {
        request[field] = list[field].clone();
    }
    if let Some(previous) = previous {
        request["prevResult"] = previous.clone();
    }
    request
}

async fn run(agent: &Agent, verb: &str, attachment: &Attachment, request: &Value) -> Result<Vec<u8>> {
    let programs = agent.cni_programs();
    let name = request["type"].as_str().context("a plugin without a type")?;
    let mut command = Command::new(programs.join(name));
    command.env("CNI_COMMAND", verb).env("CNI_CONTAINERID", &attachment.container);
    command.env("CNI_NETNS", &attachment.namespace).env("CNI_IFNAME", &attachment.interface);
    command.env("CNI_ARGS", &attachment.arguments).env("CNI_PATH", Path::new(&programs));
    let done = agent.host().output(command, json!(request).to_string().as_bytes()).await?;
    if !done.status.success() {
        // A plugin's error is JSON on its standard output.
        let (error, log) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        bail!(
            "CNI {verb} of {} on {} failed: {} {}",
            attachment.container,
            agent.host().name(),
            error.trim(),
            log.trim()
        );
    }
    Ok(done.stdout)
}
