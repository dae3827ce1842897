//! The data plane outlives everything: 1,000 packets a second across the router while programs die and return.

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::{apps::v1::Deployment, core::v1};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use weft_api::{VtepState, names};
use weft_e2e::{kind::Kind, kind_test};

use crate::streams::Streams;

/// The controllers' objects.
async fn scale(kind: &Kind, replicas: i32) -> Result<()> {
    let deployments = kind.own::<Deployment>();
    let change = json!({ "spec": { "replicas": replicas } });
    deployments.patch(names::CONTROLLER, &PatchParams::default(), &Patch::Merge(change)).await?;
    Ok(())
}

kind_test!(killing_the_leader_loses_no_packet, async |kind: &Kind| {
    let streams = Streams::start(kind, "leader").await?;
    let before = kind.leader().await?;
    kind.kill(&before).await?;
    let after = kind.leader_other_than(&before).await?;
    println!("{before} led, {after} leads");
    kind.settled().await?;
    streams.expect_no_loss().await
});

kind_test!(killing_the_leader_with_sigkill_loses_no_packet, async |kind: &Kind| {
    let streams = Streams::start(kind, "sigkill").await?;
    let pods = kind.own::<v1::Pod>();
    let before = kind.leader().await?;
    let node = pods.get(&before).await?.spec.and_then(|spec| spec.node_name).context("it is on no node")?;
    // It cannot give the Lease back; the same pod's next life or the other pod takes it when it has run out.
    let lives = kind.lives(&[names::CONTROLLER]).await?;
    kind.node(&node).run(&["pkill", "-KILL", "-x", names::CONTROLLER]).await?;
    kind.reborn(lives.into_iter().filter(|(pod, _)| *pod == before).collect()).await?;
    kind.settled().await?;
    kind.leader().await?;
    streams.expect_no_loss().await
});

kind_test!(without_any_controller_no_packet_is_lost_and_all_is_well_when_they_return, async |kind: &Kind| {
    let streams = Streams::start(kind, "controllers").await?;
    let replicas = kind.pods_of(names::CONTROLLER).await?.len();
    scale(kind, 0).await?;
    for pod in kind.pods_of(names::CONTROLLER).await? {
        weft_e2e::kind::wait::gone(&kind.own::<v1::Pod>(), &pod.name_any(), weft_e2e::kind::wait::PATIENCE).await?;
    }
    streams.pass().await;
    scale(kind, i32::try_from(replicas)?).await?;
    kind.settled().await?;
    streams.expect_no_loss().await
});

// The controllers have nowhere to go until one of them comes back.
kind_test!(draining_the_nodes_of_both_controllers_at_once_loses_no_packet, async |kind: &Kind| {
    let streams = Streams::start(kind, "drained").await?;
    let pods = kind.pods_of(names::CONTROLLER).await?;
    let nodes: std::collections::BTreeSet<String> = pods.into_iter().filter_map(|pod| pod.spec?.node_name).collect();
    let drained = async {
        for node in &nodes {
            kind.kubectl(&["cordon", node]).await?;
        }
        for node in &nodes {
            let selector = format!("app.kubernetes.io/component={}", names::CONTROLLER.trim_start_matches("weft-"));
            let words = ["drain", node, "--ignore-daemonsets", "--timeout=60s", "--pod-selector", &selector];
            kind.kubectl(&words).await?;
        }
        streams.pass().await;
        anyhow::Ok(())
    };
    let drained = drained.await;
    for node in &nodes {
        kind.kubectl(&["uncordon", node]).await?;
    }
    drained?;
    kind.settled().await?;
    streams.expect_no_loss().await
});

kind_test!(restarting_every_agent_at_once_loses_no_packet, async |kind: &Kind| {
    let streams = Streams::start(kind, "agents").await?;
    let agents: Vec<_> = kind.pods_of(names::AGENT).await?.iter().map(ResourceExt::name_any).collect();
    for agent in &agents {
        kind.kill(agent).await?;
    }
    kind.replaced(names::AGENT, &agents).await?;
    kind.settled().await?;
    streams.expect_no_loss().await
});

kind_test!(killing_every_program_at_once_loses_no_packet, async |kind: &Kind| {
    let streams = Streams::start(kind, "everything").await?;
    let lives = kind.lives(&[names::CONTROLLER, names::AGENT]).await?;
    for node in kind.nodes() {
        node.sh("pkill -KILL -x weft-agent; pkill -KILL -x weft-controller; true").await?;
    }
    streams.pass().await;
    kind.reborn(lives).await?;
    kind.settled().await?;
    for node in kind.nodes() {
        kind.told(node.name(), &[VtepState::Ready]).await?;
    }
    streams.expect_no_loss().await
});

kind_test!(a_standby_names_the_leader_and_serves_nobody, async |kind: &Kind| {
    let leader = kind.leader().await?;
    let pods: Api<v1::Pod> = kind.own();
    let listed = kind.pods_of(names::CONTROLLER).await?;
    let standby = listed.iter().map(ResourceExt::name_any).find(|name| *name != leader);
    let Some(standby) = standby else { bail!("the controller has no standby") };
    for (pod, leads) in [(&leader, true), (&standby, false)] {
        let node = pods.get(pod).await?.spec.and_then(|spec| spec.node_name).context("it is on no node")?;
        let node = kind.node(&node);
        let http = "127.0.0.1:7888".parse()?;
        let (metrics, _) = weft_e2e::kind::http::get(node.net(), http, "/metrics").await?;
        let wanted = format!("weft_controller_leader {}", u8::from(leads));
        ensure!(metrics.lines().any(|line| line == wanted), "{pod} does not say {wanted:?}");
        let (ready, _) = weft_e2e::kind::http::get(node.net(), http, "/readyz").await?;
        ensure!(leads || ready.contains("standby of"), "the standby says {ready:?}");
    }
    Ok(())
});
