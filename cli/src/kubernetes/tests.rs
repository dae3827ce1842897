//! An API server that answers as told.

use std::collections::BTreeMap;

use http::{Request, Response};
use kube::{Client, client::Body};
use serde_json::{Value, json};

use super::{Cluster, Source};

/// What the server says to a path, with its query.
type Answers = BTreeMap<&'static str, (u16, Value)>;

/// A cluster whose API server has these answers, and 404 for everything else.
pub(crate) fn cluster(answers: Answers) -> Cluster {
    let service = tower::service_fn(move |request: Request<Body>| {
        let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
        let (code, answer) = answers
            .get(path.as_str())
            .cloned()
            .unwrap_or_else(|| refusal(404, "the server could not find the requested resource"));
        let response = Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()));
        std::future::ready(response)
    });
    let source = Source { server: "https://api.test:6443/".to_owned(), settings: "kubeconfig /k".to_owned() };
    Cluster { client: Client::new(service, "default"), namespace: "weft-system".to_owned(), source }
}

/// A Status object as an API server sends it.
pub(crate) fn refusal(code: u16, message: &str) -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "code": code,
    });
    (code, status)
}

/// A list of these objects.
pub(crate) fn list(token: &str, items: &[Value]) -> (u16, Value) {
    let metadata = json!({"resourceVersion": "9", "continue": token});
    (200, json!({"kind": "VtepList", "apiVersion": "weft.dev/v1alpha1", "metadata": metadata, "items": items}))
}

/// Path of the first page of Vteps.
pub(crate) const VTEPS: &str = "/apis/weft.dev/v1alpha1/vteps?&limit=500";
/// Path of the second, with token `more`.
pub(crate) const MORE_VTEPS: &str = "/apis/weft.dev/v1alpha1/vteps?&limit=500&continue=more";
/// Path of the Lease.
pub(crate) const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/weft-system/leases/weft-controller";

/// A Vtep of this name.
pub(crate) fn vtep(name: &str) -> Value {
    json!({
        "apiVersion": "weft.dev/v1alpha1", "kind": "Vtep", "metadata": {"name": name},
        "spec": {"nodeUid": name, "incarnation": 1, "mac": "02:57:00:00:00:01"},
    })
}

#[tokio::test]
async fn pages_are_put_together() {
    let cluster = cluster(BTreeMap::from([
        (VTEPS, list("more", &[vtep("c"), json!({"metadata": {"name": "b"}, "spec": 7})])),
        (MORE_VTEPS, list("", &[vtep("a")])),
    ]));
    let vteps = cluster.vteps().await.expect("two pages");
    let names: Vec<_> = vteps.iter().map(|vtep| (kube::Resource::meta(vtep).name.as_deref(), vtep.0.is_ok())).collect();
    assert_eq!(names, [(Some("a"), true), (Some("b"), false), (Some("c"), true)]);
}

#[tokio::test]
async fn refusals_name_what_was_asked_and_what_to_do() {
    let told = async |answer: (u16, Value)| {
        let cluster = cluster(BTreeMap::from([(VTEPS, answer.clone()), (LEASE, answer)]));
        let words = |error: anyhow::Error| format!("{error:#}");
        (
            cluster.vteps().await.map(drop).map_err(words).expect_err("refused"),
            cluster.lease().await.map(drop).map_err(words).expect_err("refused"),
        )
    };
    let (vteps, lease) = told(refusal(404, "not found")).await;
    assert!(vteps.contains("Weft is not installed there") && vteps.contains("https://api.test:6443/"), "{vteps}");
    assert!(lease.contains("weft-controller in namespace weft-system") && lease.contains("--namespace"), "{lease}");
    let (vteps, lease) = told(refusal(403, "user x cannot")).await;
    assert!(vteps.contains("the verb list on vteps.weft.dev") && vteps.contains("user x cannot"), "{vteps}");
    assert!(lease.contains("the verb get on leases.coordination.k8s.io in namespace weft-system"), "{lease}");
    let (vteps, _) = told(refusal(401, "Unauthorized")).await;
    assert!(vteps.contains("credentials of kubeconfig /k") && vteps.contains("--context"), "{vteps}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let service = tower::service_fn(|_: Request<Body>| {
        std::future::ready(Err::<Response<Body>, _>(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)))
    });
    let cluster = Cluster { client: Client::new(service, "default"), ..cluster(BTreeMap::new()) };
    let message = format!("{:#}", cluster.vteps().await.expect_err("nobody there"));
    for part in ["https://api.test:6443/", "connection refused", "kubeconfig /k", "--context"] {
        assert!(message.contains(part), "{part} is missing in: {message}");
    }
}
