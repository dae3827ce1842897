//! A node that is started anew and finds itself at another address, as a machine without a fixed one does.

use anyhow::{Context, Result, ensure};
use tokio::process::Command;
use weft_api::VtepState;
use weft_core::types::Family;
use weft_e2e::{
    kind::{Description, Kind, Node, Scene, description::root, shell, wait as watch},
    kind_test,
    lab::wait,
};

use crate::traffic::crossed_in_the_tunnel;

/// Has the node's old address while the node is off, so that it cannot get it again.
const PLACEHOLDER: &str = "weft-e2e-placeholder";

async fn docker(words: &[&str]) -> Result<()> {
    let mut command = Command::new("docker");
    command.args(words);
    shell::run(command).await.map(drop)
}

/// Turns a node off, gives its address away, and turns it on.
async fn move_away(node: &str, network: &str, image: &str) -> Result<()> {
    docker(&["stop", "--time", "20", node]).await?;
    docker(&["network", "disconnect", network, node]).await?;
    docker(&["run", "--detach", "--name", PLACEHOLDER, "--network", network, image]).await?;
    docker(&["network", "connect", network, node]).await
}

/// The cluster as it is now: a container that was started anew has other processes.
async fn reopened(kind: &Kind) -> Result<Kind> {
    let mut command = Command::new(root().join("e2e/kind/status.sh"));
    command.args(["--name", &kind.description().name, "--quiet"]);
    shell::run(command).await?;
    Kind::open(Description::read()?).await
}

/// Pods on the node and elsewhere reach each other, across the router in the tunnel and beside the node without it.
async fn reaches(kind: &Kind, node: &Node) -> Result<()> {
    let scene = Scene::set(kind, "rebooted").await?;
    let ([far, _], [near, _]) = (kind.across(), kind.neighbours());
    let router = kind.capture_at_router(node.subnet())?;
    let own = scene.pod("own", node).await?;
    for other in [scene.pod("far", far).await?, scene.pod("near", near).await?] {
        for family in kind.families() {
            wait::until("the pods to reach each other", wait::PATIENCE, async || {
                own.reaches(other.address(family)).await?;
                other.reaches(own.address(family)).await.map(drop)
            })
            .await?;
            if other.node() == far.name() {
                crossed_in_the_tunnel(&router, &own, &other, family)?;
            }
        }
    }
    scene.end().await
}

kind_test!(a_node_that_comes_back_with_another_address_is_reached_at_it, async |kind: &Kind| {
    let [_, node] = kind.neighbours();
    let (name, network) = (node.name(), kind.description().subnet(node.subnet())?.network.clone());
    let before = node.address(&kind.client(), Family::V4).await?;
    let shares = node.object(&kind.client()).await?.spec.and_then(|spec| spec.pod_cidrs);
    // From now on the kubelet takes the address that leads out.
    node.run(&["sed", "-i", "-E", "s| *--node-ip=[^ \"]*||", "/var/lib/kubelet/kubeadm-flags.env"]).await?;
    let moved = move_away(name, &network, &kind.description().images.agnhost).await;
    let started = docker(&["start", name]).await;
    let _ = docker(&["rm", "--force", PLACEHOLDER]).await;
    moved?;
    started?;
    let kind = reopened(kind).await?;
    let node = kind.node(name);
    let what = format!("{name} to be told with another address");
    let now = watch::object(&kind.vteps(), name, &what, watch::PATIENCE, |vtep| {
        let vtep = vtep.context("it is not told")?;
        let state = vtep.status.as_ref().map(|status| status.state);
        let addresses: Vec<_> = vtep.spec.underlay.iter().map(|each| each.address.to_string()).collect();
        let old = addresses.iter().any(|address| address.split('/').next() == Some(&before.to_string()));
        ensure!(state == Some(VtepState::Ready) && !old, "it is {state:?} at {addresses:?}");
        Ok(addresses)
    })
    .await?;
    println!("{name} was at {before} and is at {now:?}");
    kind.settled().await?;
    let kubernetes = node.address(&kind.client(), Family::V4).await?;
    ensure!(kubernetes != before, "the kubelet still says {before}");
    ensure!(
        now.iter().any(|address| address.split('/').next() == Some(&kubernetes.to_string())),
        "{kubernetes}, {now:?}"
    );
    let after = node.object(&kind.client()).await?.spec.and_then(|spec| spec.pod_cidrs);
    ensure!(after == shares, "its pods had addresses of {shares:?}, and it has {after:?}");
    reaches(&kind, node).await
});
