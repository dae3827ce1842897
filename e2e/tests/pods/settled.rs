//! What a node holds of pods: addresses, interfaces and routes.

use std::{fs, net::IpAddr};

use anyhow::{Result, ensure};
use serde_json::Value;
use weft_e2e::{
    cluster::Agent,
    lab::{Namespace, wait},
};

/// The addresses of a CNI result.
pub(crate) fn addresses(result: &Value) -> Vec<IpAddr> {
    let ips = result["ips"].as_array().into_iter().flatten();
    ips.filter_map(|ip| ip["address"].as_str()?.split('/').next()?.parse().ok()).collect()
}

/// Interfaces of pods on the host, and its routes to them in both families.
fn on_host(net: &Namespace) -> (usize, usize) {
    let read = |file: &'static str| net.enter(move || fs::read_to_string(format!("/proc/thread-self/net/{file}")));
    let count = |text: &str| text.lines().filter(|line| line.contains("wpod") && !line.starts_with("ff00")).count();
    let text = |file| read(file).unwrap_or_default();
    (count(&text("dev")), count(&text("route")) + count(&text("ipv6_route")))
}

/// Waits until the node has exactly these pods.
pub(crate) async fn settled(agent: &Agent, pods: usize) -> Result<()> {
    wait::until(&format!("{pods} pods to be all that is left"), wait::PATIENCE, async || {
        let status = agent.weft().status().await?;
        ensure!(status.pods as usize == pods, "the agent holds {} pods", status.pods);
        ensure!(status.pod_addresses.iter().all(|of| of.held == pods as u64), "{:?}", status.pod_addresses);
        let (links, routes) = on_host(&agent.host().net());
        ensure!((links, routes) == (pods, 2 * pods), "{links} interfaces and {routes} routes");
        Ok(())
    })
    .await
}
