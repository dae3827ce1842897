//! The same questions with other switches: reverse path filtering, what kube-proxy knows of pods, and what strictARP sets.

use anyhow::{Result, ensure};

use super::{
    super::{
        kube_proxy::{Local, Settings},
        report::Report,
        scene::{HERE, Scene, THERE},
    },
    reach,
};
use crate::lab::{UPLINK, wait};

/// Weft's device.
const DEVICE: &str = "weft0";
/// What a lab begins with.
const STRICT: &str = "1";

/// With each value on both nodes, for all links that are there or come; the agent's own stay the agent's.
pub(in super::super) async fn rp_filter(scene: &Scene, report: &mut Report) -> Result<()> {
    for value in ["0", "2", STRICT] {
        report
            .case(&format!("rp_filter {value} on both nodes"), async || {
                set_rp_filter(scene, value)?;
                let count = reach::all(scene).await?;
                let left = rp_filter_of(scene, DEVICE).await?;
                Ok(format!(
                    "{count} questions are answered as before; the agents have {DEVICE} at {}",
                    left.join(" and ")
                ))
            })
            .await;
    }
    // Whatever failed.
    set_rp_filter(scene, STRICT)
}

fn set_rp_filter(scene: &Scene, value: &str) -> Result<()> {
    for node in [HERE, THERE] {
        for link in ["all", "default", UPLINK] {
            scene.cluster.lab().host(node).net().sysctl(&format!("ipv4/conf/{link}/rp_filter"), value)?;
        }
    }
    Ok(())
}

async fn rp_filter_of(scene: &Scene, link: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for node in [HERE, THERE] {
        found.push(read(scene, node, &format!("{link}/rp_filter")).await?);
    }
    Ok(found)
}

async fn read(scene: &Scene, node: &str, path: &str) -> Result<String> {
    let path = format!("/proc/sys/net/ipv4/conf/{path}");
    Ok(scene.cluster.lab().host(node).run(&["cat", &path]).await?.trim().to_owned())
}

/// Whatever kube-proxy knows of pods, who sees whom is the same.
pub(in super::super) async fn pods_traffic(scene: &Scene, report: &mut Report, settings: &Settings) -> Result<()> {
    for (what, local) in
        [("without clusterCIDR", Local::Nothing), ("detectLocalMode InterfaceNamePrefix", Local::PodLinks)]
    {
        scene.stop_proxies().await?;
        scene.start_proxies(&Settings { local, ..settings.clone() }).await?;
        report
            .case(what, async || {
                scene.synced().await?;
                Ok(format!("{} questions are answered as before", reach::all(scene).await?))
            })
            .await;
    }
    Ok(())
}

/// kube-proxy sets it and never takes it back, so this comes last. All that was learned of neighbours is forgotten: it has to
/// be asked for again.
pub(in super::super) async fn strict_arp(scene: &Scene, report: &mut Report, settings: &Settings) -> Result<()> {
    for node in [HERE, THERE] {
        let arp_ignore = read(scene, node, "all/arp_ignore").await?;
        ensure!(arp_ignore == "0", "{node} has arp_ignore {arp_ignore} without strictARP");
    }
    scene.stop_proxies().await?;
    scene.start_proxies(&Settings { strict_arp: true, ..settings.clone() }).await?;
    report
        .case("strictARP, with no neighbour known any more", async || {
            for node in [HERE, THERE] {
                wait::until("kube-proxy to set its switches", wait::PATIENCE, async || {
                    let found =
                        [read(scene, node, "all/arp_ignore").await?, read(scene, node, "all/arp_announce").await?];
                    ensure!(found == ["1", "2"], "arp_ignore and arp_announce of {node} are {found:?}");
                    Ok(())
                })
                .await?;
                scene.cluster.lab().host(node).run(&["ip", "neigh", "flush", "dev", UPLINK]).await?;
            }
            for pod in [&scene.client, &scene.near, &scene.far] {
                flush(pod.net())?;
            }
            let count = reach::all(scene).await?;
            let pod = scene.cluster.pod(HERE, "late").await?;
            let answer = scene.ask(pod.net(), scene.at(&scene.services.far, scene.families[0])).await?;
            ensure!(answer.tunnelled, "{answer}");
            pod.delete().await?;
            Ok(format!("{count} questions are answered as before, and so are those of a new pod"))
        })
        .await;
    Ok(())
}

fn flush(net: &crate::lab::Namespace) -> Result<()> {
    net.enter(|| std::process::Command::new("ip").args(["neigh", "flush", "all"]).status())?;
    Ok(())
}
