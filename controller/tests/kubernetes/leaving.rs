//! What a whole controller writes about nodes, and how it leaves a cluster, against a real API server.

use std::{
    process::{Child, Command, Output},
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{ConfigMap, Node, Secret},
    serde_json::{self, json},
};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use tokio::time::{Instant, sleep};
use weft_api::{PodCidrClaim, Vtep, VtepState, names};

use crate::{
    api::{ApiServer, NAMESPACE},
    objects::node,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A controller that leads alone; ends with this.
struct Controller(Child);

impl Controller {
    fn start(server: &ApiServer) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weft-controller"));
        command
            .env("KUBECONFIG", server.kubeconfig())
            .args(["run", "--store=kubernetes", "--pool=10.244.0.0/16=24", "--node-cidrs=weft"])
            .args(["--lease-duration=4s", "--renew-deadline=2s", "--retry-period=200ms"])
            .args(["--identity=alone", "--listen=127.0.0.1:0", "--http-listen=127.0.0.1:0"])
            .arg(format!("--namespace={NAMESPACE}"));
        Self(server.spawn("controller", &mut command))
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _ended = self.0.wait();
    }
}

fn uninstall(server: &ApiServer, time: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft-controller"));
    command.env("KUBECONFIG", server.kubeconfig()).arg("uninstall");
    command.args(["--release=weft", "--revision=1"]);
    command.arg(format!("--namespace={NAMESPACE}")).arg(format!("--timeout={time}"));
    command.output().expect("it starts")
}

/// What Helm writes before it creates the hooks of an uninstallation, and after a rollback.
async fn helm_says(server: &ApiServer, revision: u32, status: &str) {
    let name = format!("sh.helm.release.v1.weft.v{revision}");
    let secret = json!({ "metadata": { "name": name, "labels": { "owner": "helm", "status": status } } });
    let secrets = Api::<Secret>::namespaced(server.client(), NAMESPACE);
    let secret = serde_json::from_value(secret).expect("a Secret");
    secrets.create(&PostParams::default(), &secret).await.expect("a record");
}

/// Asks until it is so: what is written about nodes comes a moment after the nodes.
async fn until<T>(server: &ApiServer, what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(found) = ask().await {
            return found;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("waited in vain for {what}; the controller's log: {}", server.log("controller"));
}

/// Status and reason of the condition that the scheduler minds.
fn network(node: &Node) -> Option<(String, String)> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == "NetworkUnavailable")?;
    Some((found.status.clone(), found.reason.clone().unwrap_or_default()))
}

async fn counts(server: &ApiServer) -> (usize, usize) {
    let all = ListParams::default();
    let vteps = Api::<Vtep>::all(server.client()).list(&all).await.expect("Vteps").items.len();
    (vteps, Api::<PodCidrClaim>::all(server.client()).list(&all).await.expect("claims").items.len())
}

/// Has a kubelet say that its node is ready, as kubelets do.
async fn kubelet_speaks(nodes: &Api<Node>, name: &str) {
    let ready = json!({ "type": "Ready", "status": "True", "reason": "KubeletReady" });
    let patch = Patch::Strategic(json!({ "status": { "conditions": [ready] } }));
    nodes.patch_status(name, &PatchParams::default(), &patch).await.expect("a status");
}

#[tokio::test]
#[ignore = "needs the API server that ./dev cluster up builds"]
async fn states_are_written_and_all_of_it_goes_with_the_uninstallation() {
    let server = ApiServer::start().await;
    let (nodes, vteps) = (Api::<Node>::all(server.client()), Api::<Vtep>::all(server.client()));
    for name in ["n1", "n2"] {
        nodes.create(&PostParams::default(), &node(name)).await.expect("a Node");
        kubelet_speaks(&nodes, name).await;
    }
    let controller = Controller::start(&server);
    let status = until(&server, "a status", async || vteps.get("n1").await.ok()?.status).await;
    assert_eq!((status.state, status.reason.as_str()), (VtepState::Pending, "NeverConnected"));
    assert_eq!(status.conditions.len(), 5, "{status:?}");
    assert!(status.pod_cidrs.starts_with("10.244."), "{status:?}");
    let unavailable = until(&server, "the condition", async || told_of(&nodes, "n2").await).await;
    assert_eq!(unavailable, ("True".to_owned(), "WeftNotReady".to_owned()));
    let cidr = nodes.get("n1").await.expect("a Node").spec.and_then(|spec| spec.pod_cidr).expect("a pod CIDR");

    // A hook that somebody applied as an object, and the word of an earlier version's.
    helm_says(&server, 1, "deployed").await;
    let refused = uninstall(&server, "60s");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("release weft is deployed") && said.contains("weft uninstall --kubernetes"), "{said}");
    assert_eq!(counts(&server).await.0, 2, "the Vteps are gone");

    // Nobody ever ran an agent: there is nothing on the nodes to wait for.
    helm_says(&server, 2, "uninstalling").await;
    let output = uninstall(&server, "60s");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    assert!(printed.contains("done: nothing of Weft is left"), "{printed}");
    assert_eq!(counts(&server).await, (0, 0));
    for name in ["n1", "n2"] {
        let node = nodes.get(name).await.expect("the Node is not ours");
        assert_eq!(network(&node), None, "{name}");
        let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
        assert_eq!(conditions.len(), 1, "the kubelet's own condition: {conditions:?}");
    }

    // A node that comes now is not taken in, and one that goes is not missed.
    nodes.create(&PostParams::default(), &node("n3")).await.expect("a Node");
    nodes.delete("n2", &kube::api::DeleteParams::default()).await.expect("it is there");
    assert!(uninstall(&server, "60s").status.success(), "asking again is no harm");
    assert_eq!(counts(&server).await, (0, 0));

    // Called off, everything begins anew, and each node keeps what it has.
    let patch = json!({ "metadata": { "annotations": { names::UNINSTALL_ANNOTATION: null } } });
    let maps = Api::<ConfigMap>::namespaced(server.client(), NAMESPACE);
    maps.patch(names::CLUSTER, &PatchParams::default(), &Patch::Merge(patch)).await.expect("a ConfigMap");
    let again = until(&server, "n1 to be back", async || vteps.get("n1").await.ok()?.status).await;
    assert_eq!(again.pod_cidrs, cidr);
    until(&server, "n3 to be taken in", async || vteps.get("n3").await.ok()?.status).await;
    let map = maps.get(names::CLUSTER).await.expect("a ConfigMap");
    assert!(map.annotations().is_empty() && !map.data.expect("data").contains_key(names::UNINSTALL));
    until(&server, "the condition to be back", async || told_of(&nodes, "n1").await).await;
    drop(controller);
}

async fn told_of(nodes: &Api<Node>, name: &str) -> Option<(String, String)> {
    network(&nodes.get(name).await.ok()?)
}

#[tokio::test]
#[ignore = "needs the API server that ./dev cluster up builds"]
async fn without_a_controller_the_uninstallation_fails_in_time() {
    let server = ApiServer::start().await;
    let output = uninstall(&server, "2s");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no controller has answered"), "{said}");
}
