//! What the tests ask of Kubernetes, as manifests.
//!
//! Owns their form. Pure.

use k8s_openapi::api::core::v1;
use serde_json::{Value, json};

use super::scene::{Service, ServicePort};

/// Marks namespaces of tests, so that none outlives its test.
pub(super) const MARK: &str = "weft.dev/e2e";
/// Where the server in each pod answers HTTP.
pub(super) const HTTP_PORT: u16 = 8080;
/// Where it answers UDP.
pub(super) const UDP_PORT: u16 = 8081;

pub(super) fn namespace(name: &str) -> v1::Namespace {
    read(json!({ "metadata": { "name": name, "labels": { (MARK): "true" } } }))
}

/// A pod with Kubernetes' own test server, on a node whatever its taints.
pub(super) fn pod(name: &str, app: &str, node: &str, image: &str, changes: &Value) -> v1::Pod {
    let mut pod = json!({
        "metadata": { "name": name, "labels": { "app": app } },
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "tolerations": [{ "operator": "Exists" }],
            "containers": [{
                "name": "server",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "args": ["netexec", format!("--http-port={HTTP_PORT}"), format!("--udp-port={UDP_PORT}")],
                "readinessProbe": { "httpGet": { "path": "/hostname", "port": HTTP_PORT }, "periodSeconds": 1 },
            }],
        },
    });
    merge(&mut pod, changes);
    read(pod)
}

/// A service in front of the pods of an app: both of the server's ports.
pub(super) fn service(service: &Service<'_>) -> v1::Service {
    let port = |port: &ServicePort| json!({ "name": port.name, "protocol": port.protocol, "port": port.port, "targetPort": port.target });
    let mut object = json!({
        "metadata": { "name": service.name },
        "spec": {
            "selector": { "app": service.app },
            "ports": service.ports.iter().map(port).collect::<Vec<_>>(),
            "ipFamilyPolicy": "PreferDualStack",
        },
    });
    merge(&mut object, &service.changes);
    read(object)
}

/// Puts `changes` over `into`: maps are merged by key and lists by place, everything else is replaced.
pub(super) fn merge(into: &mut Value, changes: &Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (key, value) in changes {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(changes)) => {
            for (place, value) in changes.iter().enumerate() {
                match into.get_mut(place) {
                    Some(into) => merge(into, value),
                    None => into.push(value.clone()),
                }
            }
        }
        (into, value) => *into = value.clone(),
    }
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("the manifests here are those of their kinds")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_merged_into_a_pod() {
        let changes = json!({ "spec": { "hostNetwork": true, "containers": [{ "tty": true }] } });
        let pod = pod("p", "web", "n", "image", &changes);
        let spec = pod.spec.expect("a spec");
        assert_eq!((spec.host_network, spec.node_name.as_deref()), (Some(true), Some("n")));
        let [server] = &spec.containers[..] else { panic!("it has {} containers", spec.containers.len()) };
        assert_eq!((server.image.as_deref(), server.tty), (Some("image"), Some(true)));
    }
}
