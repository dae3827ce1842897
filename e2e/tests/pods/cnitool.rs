//! Pods attached by cnitool, the CNI project's own runtime, from the configuration that the agent installs.
//!
//! Needs cnitool and root: `./dev containerd` builds it and runs this.

use anyhow::{Context, Result, ensure};
use rustix::mount::{MountFlags, mount};
use tokio::process::Command;
use weft_core::types::Family;
use weft_e2e::{
    bench::pods::cnitool,
    cluster::{Agent, Cluster},
    lab::{LabSpec, Namespace, wait},
    lab_test,
};

/// Runs cnitool on the agent's node; what it prints, or its error.
async fn tool(agent: &Agent, verb: &str, net: &Namespace) -> Result<String> {
    let program = cnitool()?;
    ensure!(program.is_file(), "{} is missing: run `./dev containerd`", program.display());
    let mut command = Command::new(program);
    command.args([verb, "weft"]).arg(net.path());
    command.env("CNI_PATH", agent.cni_programs()).env("NETCONFPATH", agent.cni_configuration());
    let done = agent.host().output(command, &[]).await?;
    let (text, error) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    ensure!(done.status.success(), "cnitool {verb}: {} {}", text.trim(), error.trim());
    Ok(text.into_owned())
}

lab_test!(
    #[ignore = "needs root and cnitool: ./dev containerd"]
    cnitool_attaches_checks_and_detaches,
    async || {
        // libcni's cache has a fixed place.
        mount("weft-lab", "/var/lib", "tmpfs", MountFlags::empty(), None)?;
        let cluster = Cluster::start(LabSpec::default().hosts(1)).await?;
        let (agent, there) = (cluster.agent("a1"), cluster.pod("b1", "there").await?);
        let net = Namespace::create("by-cnitool")?;
        net.set_defaults(false).await?;
        wait::until("STATUS to be well", wait::PATIENCE, async || tool(&agent, "status", &net).await).await?;
        for end in ["del", "gc"] {
            let result: serde_json::Value = serde_json::from_str(&tool(&agent, "add", &net).await?)?;
            for ip in result["ips"].as_array().into_iter().flatten() {
                there.reaches(ip["address"].as_str().unwrap_or_default().parse::<ipnetwork::IpNetwork>()?.ip()).await?;
            }
            ensure!(result["ips"].as_array().map(Vec::len) == Some(Family::ALL.len()), "{result}");
            tool(&agent, "check", &net).await?;
            let ended = tool(&agent, end, &net).await;
            if end == "gc" {
                // It sends DEL for what its cache has, then a GC without a list: that must not free what others have.
                let error = format!("{:#}", ended.err().context("a GC without valid attachments was taken")?);
                ensure!(error.contains("cni.dev/valid-attachments"), "{error}");
            } else {
                ended?;
            }
            let status = agent.weft().status().await?;
            ensure!(status.pods == 0, "after {end} the agent holds {} pods", status.pods);
            ensure!(tool(&agent, "check", &net).await.is_err(), "CHECK finds a pod after {end}");
        }
        Ok(())
    }
);
