//! The peer list tells the truth: `kubectl get vteps` and `weft peers`.

use anyhow::{Context, Result, ensure};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use weft_api::{VtepState, VtepStatus};
use weft_e2e::{cluster::Peer, kind::Kind, kind_test};

/// This second: what is shown has no finer time.
fn now() -> Time {
    let now = k8s_openapi::jiff::Timestamp::now();
    Time(k8s_openapi::jiff::Timestamp::from_second(now.as_second()).expect("a second of our time"))
}

/// The row of a node in `weft peers`.
async fn row(kind: &Kind, node: &str) -> Result<Peer> {
    kind.peers().await?.into_iter().find(|peer| peer.node == node).with_context(|| format!("{node} is not listed"))
}

/// Both lists tell the same of a node.
async fn alike(kind: &Kind, node: &str, status: &VtepStatus) -> Result<()> {
    let peer = row(kind, node).await?;
    let state = format!("{:?}", status.state);
    ensure!(peer.state.eq_ignore_ascii_case(&state), "{node} is {state} to kubectl and {} to weft", peer.state);
    ensure!(
        peer.pod_cidrs.join(", ") == status.pod_cidrs.replace(',', ", ").replace(",  ", ", "),
        "{peer:?}, {status:?}"
    );
    Ok(())
}

kind_test!(every_node_is_listed_with_its_path_and_state, async |kind: &Kind| {
    let table = kind.kubectl(&["get", "vteps"]).await?;
    println!("{table}");
    let head = table.lines().next().unwrap_or_default();
    for column in ["NAME", "STATE", "SINCE", "POD CIDRS", "UNDERLAY", "PATHS"] {
        ensure!(head.contains(column), "there is no column {column} in {head}");
    }
    let names: Vec<_> = kind.nodes().map(|node| node.name().to_owned()).collect();
    let peers = kind.peers().await?;
    ensure!(peers.len() == names.len(), "{} peers are listed: {peers:?}", peers.len());
    for node in kind.nodes() {
        let line = table.lines().find(|line| line.starts_with(&format!("{} ", node.name())));
        let line = line.with_context(|| format!("{} is not listed", node.name()))?;
        ensure!(line.contains("Ready") && line.contains("vxlan"), "{line}");
        let status = kind.told(node.name(), &[VtepState::Ready]).await?;
        alike(kind, node.name(), &status).await?;
        let peer = row(kind, node.name()).await?;
        let object = node.object(&kind.client()).await?;
        let cidrs = object.spec.and_then(|spec| spec.pod_cidrs).unwrap_or_default();
        ensure!(peer.pod_cidrs == cidrs, "{} has {cidrs:?}, and {peer:?} is listed", node.name());
        let address = node.address(&kind.client(), weft_core::types::Family::V4).await?.to_string();
        let listed = peer.underlay_addresses.iter().any(|listed| listed.split('/').next() == Some(&address));
        ensure!(listed, "{} has {address}, and {peer:?} is listed", node.name());
    }
    Ok(())
});

kind_test!(a_stopped_agent_is_shown_with_what_its_kernel_last_held, async |kind: &Kind| {
    let [_, there] = kind.across();
    let (before, start) = (kind.told(there.name(), &[VtepState::Ready]).await?, now());
    let absent = kind.remove_agent(there).await?;
    let looked = async {
        let status = kind.told(there.name(), &[VtepState::Disconnected]).await?;
        ensure!(status.since >= Some(start), "it was well before, and is shown as {status:?}");
        ensure!(
            status.applied_revision == before.applied_revision,
            "{} was {}",
            status.applied_revision,
            before.applied_revision
        );
        alike(kind, there.name(), &status).await?;
        for node in kind.nodes().filter(|node| node.name() != there.name()) {
            kind.told(node.name(), &[VtepState::Ready]).await?;
        }
        anyhow::Ok(())
    };
    let looked = looked.await;
    absent.restore().await?;
    looked?;
    kind.well(there).await
});

kind_test!(a_node_that_is_cut_off_is_shown_and_comes_back, async |kind: &Kind| {
    let [_, there] = kind.across();
    let start = now();
    there.set_connected(kind.router(), false).await?;
    let looked = async {
        let status = kind.told(there.name(), &[VtepState::Disconnected, VtepState::Unreachable]).await?;
        ensure!(status.since >= Some(start), "it was well before, and is shown as {status:?}");
        let peer = row(kind, there.name()).await?;
        ensure!(!peer.is_ready(), "weft says that it is {}", peer.state);
        anyhow::Ok(())
    };
    let looked = looked.await;
    there.set_connected(kind.router(), true).await?;
    looked?;
    kind.settled().await
});
