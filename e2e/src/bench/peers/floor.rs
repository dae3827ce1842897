//! The floor: iproute2 in batches.

use std::{fmt::Write, fs, time::Instant};

use anyhow::{Context, Result};

use super::world::{device, member};
use crate::lab::{Lab, sandbox};

/// Creates FDB entries, neighbours, nexthops and routes of `peers` peers; milliseconds of the two commands alone.
pub(super) async fn cold(lab: &Lab, peers: u32) -> Result<f64> {
    let host = lab.host("a1");
    let local = host.address(weft_core::types::Family::V4).to_string();
    host.run(&[
        "ip",
        "link",
        "add",
        "weft0",
        "type",
        "vxlan",
        "id",
        "87",
        "dstport",
        "4789",
        "local",
        &local,
        "nolearning",
    ])
    .await?;
    host.run(&["ip", "link", "set", "weft0", "up"]).await?;
    let (forwarding, rest) = batches(peers)?;
    let began = Instant::now();
    host.run(&["bridge", "-batch", &forwarding]).await?;
    host.run(&["ip", "-batch", &rest]).await?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

/// Two files of commands.
fn batches(peers: u32) -> Result<(String, String)> {
    let (mut forwarding, mut rest) = (String::new(), String::new());
    for n in 2..peers + 2 {
        let peer = member(n, &[weft_core::types::Family::V4]);
        let (cidr, at) = (peer.pod_cidrs.v4.context("has one")?, peer.underlay.v4.context("has one")?.address());
        let (mac, vtep, device) = (peer.endpoint.mac(), cidr.vtep(), device());
        writeln!(forwarding, "fdb add {mac} dev {device} dst {at} self permanent")?;
        writeln!(rest, "neigh add {vtep} lladdr {mac} dev {device} nud permanent")?;
        writeln!(rest, "nexthop add id {n} via {vtep} dev {device} onlink")?;
        writeln!(rest, "route add {cidr} nhid {n}")?;
    }
    let write = |name: &str, text: &str| -> Result<String> {
        let path = format!("{}/{name}", sandbox::STATE);
        fs::write(&path, text).with_context(|| format!("cannot write {path}"))?;
        Ok(path)
    };
    Ok((write("floor-bridge", &forwarding)?, write("floor-ip", &rest)?))
}
