//! Uninstalling leaves nodes and cluster as they were before.

use anyhow::{Result, bail, ensure};
use k8s_openapi::{
    api::{core::v1, rbac::v1::ClusterRole},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams},
};
use serde_json::json;
use weft_e2e::{
    kind::{Kind, Node, Scene, helm::NAMESPACE, wait, weft::condition},
    kind_test,
};

/// What a node holds of all that a network may leave there, one thing a line. Pods of the host's network come and go with
/// no trace in it, and the kubelet leaves the empty directories that it made for volumes.
const LOOK: &str = "
    ip -o link | sed 's/^[0-9]*: //; s/@.*//; s/:.*//' | sed 's/^/link /'
    ip -o address | awk '{print \"address\", $2, $4}'
    ip -4 route show table all | grep -v ^broadcast | sed 's/^/route /'
    ip -6 route show table all | grep -v ^multicast | sed 's/ expires [0-9a-z]*//; s/^/route /'
    ip nexthop | sed 's/^/nexthop /'
    ip rule | sed 's/^/rule /'
    bridge fdb | grep -v permanent | sed 's/^/fdb /'
    nft list tables | sed 's/^/nft /'
    find /etc/cni/net.d /opt/cni/bin /var/lib/weft /run/weft -mindepth 1 2>/dev/null | sed 's/^/file /'
    sysctl -a 2>/dev/null | grep -E '^net.ipv[46].(ip_forward|conf.(all|default|eth[0-9]))' | sed 's/^/sysctl /'
";

async fn look(node: &Node) -> Result<Vec<String>> {
    let mut lines: Vec<_> = node.sh(LOOK).await?.lines().map(|line| line.trim().to_owned()).collect();
    lines.sort();
    lines.dedup();
    Ok(lines)
}

/// What on a node can only be Weft's.
fn ours(line: &str) -> bool {
    line.contains("weft") || line.contains("proto 87")
}

/// Everything of Weft is gone from nodes and cluster. Returns what the nodes hold now.
pub(crate) async fn nothing_is_left(kind: &Kind) -> Result<Vec<Vec<String>>> {
    of_the_cluster(kind).await?;
    let mut held = Vec::new();
    for node in kind.nodes() {
        let lines = look(node).await?;
        let left: Vec<_> = lines.iter().filter(|line| ours(line)).collect();
        ensure!(left.is_empty(), "on {} is left: {left:#?}", node.name());
        let object = node.object(&kind.client()).await?;
        if let Ok(status) = condition(&object, "NetworkUnavailable") {
            bail!("{} still says NetworkUnavailable={status}", node.name());
        }
        held.push(lines);
    }
    // The namespace is its creator's: helm made it when asked to, and removes none.
    let namespaces: Api<v1::Namespace> = Api::all(kind.client());
    namespaces.delete(NAMESPACE, &DeleteParams::default()).await?;
    wait::gone(&namespaces, NAMESPACE, wait::PATIENCE).await?;
    Ok(held)
}

kind_test!(uninstalling_takes_away_all_that_installing_brought, async |kind: &Kind| {
    for node in kind.nodes() {
        let lines = look(node).await?;
        ensure!(lines.iter().any(|line| ours(line)), "nothing of Weft is seen on {}: this shows nothing", node.name());
    }
    kind.uninstall().await?;
    let before = nothing_is_left(kind).await;
    kind.install(&json!({})).await?;
    let before = before?;
    kind.uninstall().await?;
    let after = nothing_is_left(kind).await;
    kind.install(&json!({})).await?;
    for ((node, before), after) in kind.nodes().zip(&before).zip(&after?) {
        let gone: Vec<_> = before.iter().filter(|line| !after.contains(line)).collect();
        let new: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
        ensure!(gone.is_empty() && new.is_empty(), "on {} there is now {new:#?} instead of {gone:#?}", node.name());
    }
    restart_dns(kind).await?;
    let scene = Scene::set(kind, "after").await?;
    let pods = scene.pods_of("web", &kind.across()).await?;
    for family in kind.families() {
        pods[0].reaches(pods[1].address(family)).await?;
    }
    scene.end().await
});

/// Nothing of Weft is in the cluster.
async fn of_the_cluster(kind: &Kind) -> Result<()> {
    let crds: Api<CustomResourceDefinition> = Api::all(kind.client());
    let roles: Api<ClusterRole> = Api::all(kind.client());
    // Helm waits for what it has made, and not for the pods of that.
    let pods = kind.own::<v1::Pod>();
    for pod in pods.list(&ListParams::default()).await? {
        wait::gone(&pods, &pod.name_any(), wait::PATIENCE).await?;
    }
    let mut left = Vec::new();
    left.extend(crds.list(&ListParams::default()).await?.iter().map(ResourceExt::name_any));
    left.extend(roles.list(&ListParams::default()).await?.iter().map(ResourceExt::name_any));
    left.extend(kind.own::<v1::ConfigMap>().list(&ListParams::default()).await?.iter().map(ResourceExt::name_any));
    left.extend(kind.own::<v1::Secret>().list(&ListParams::default()).await?.iter().map(ResourceExt::name_any));
    left.retain(|name| name.contains("weft"));
    ensure!(left.is_empty(), "of Weft is left in the cluster: {left:?}");
    Ok(())
}

/// Pods that were attached before have lost their network with it.
pub(crate) async fn restart_dns(kind: &Kind) -> Result<()> {
    let pods: Api<v1::Pod> = Api::namespaced(kind.client(), "kube-system");
    let selected = ListParams::default().labels("k8s-app=kube-dns");
    for pod in pods.list(&selected).await? {
        pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await?;
    }
    crate::traffic::dns(kind).await?;
    Ok(())
}
