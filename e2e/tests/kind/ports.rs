//! Ports of a pod on its node, which a plugin chained behind Weft opens.

use std::net::SocketAddr;

use serde_json::json;
use weft_e2e::{
    kind::{Kind, Scene, scene::HTTP_PORT},
    kind_test,
};

use crate::traffic::answers;

const HOST_PORT: u16 = 18_080;

kind_test!(a_host_port_is_reached_from_outside_from_nodes_and_from_pods, async |kind: &Kind| {
    let scene = Scene::set(kind, "host-port").await?;
    let [here, there] = kind.across();
    let ports = json!([{ "containerPort": HTTP_PORT, "hostPort": HOST_PORT, "protocol": "TCP" }]);
    let changes = json!({ "spec": { "containers": [{ "ports": ports }] } });
    let server = scene.pod_with("web", "web", there, &changes).await?;
    let clients = scene.pods_of("client", &[here, there]).await?;
    for family in kind.families() {
        let to = SocketAddr::new(there.address(&kind.client(), family).await?, HOST_PORT);
        answers(kind.router(), to).await?;
        for node in kind.nodes() {
            answers(node.net(), to).await?;
        }
        for client in clients.iter().chain([&server]) {
            answers(client.net(), to).await?;
        }
    }
    scene.end().await
});
