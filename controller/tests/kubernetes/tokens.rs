//! ServiceAccount tokens that a real API server reviews.

use k8s_openapi::{
    api::{
        authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
        core::v1::{Pod, ServiceAccount},
    },
    serde_json::{self, json},
};
use kube::{Api, ResourceExt as _, api::PostParams};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tonic::{Code, Status};
use weft_controller::pki::generate_key;
use weft_proto::v1::{JoinRequest, join_service_client::JoinServiceClient};

use crate::{
    api::{ApiServer, NAMESPACE},
    leaders::{PATIENCE, Replica, Shown, single},
};

/// What a kubelet of node n1 projects into its agent's pod.
async fn projected(server: &ApiServer) -> String {
    let accounts = Api::<ServiceAccount>::namespaced(server.client(), NAMESPACE);
    let account = serde_json::from_value(json!({ "metadata": { "name": "weft-agent" } })).expect("an account");
    accounts.create(&PostParams::default(), &account).await.expect("an account");
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "weft-agent-n1" },
        "spec": {
            "nodeName": "n1",
            "serviceAccountName": "weft-agent",
            "containers": [{ "name": "agent", "image": "example.com/weft" }],
        },
    }))
    .expect("a pod");
    let pods = Api::<Pod>::namespaced(server.client(), NAMESPACE);
    let pod = pods.create(&PostParams::default(), &pod).await.expect("a pod");
    let bound = BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(pod.name_any()),
        uid: pod.uid(),
    };
    let spec = TokenRequestSpec {
        audiences: vec!["weft-controller".to_owned()],
        bound_object_ref: Some(bound),
        expiration_seconds: None,
    };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let answer = accounts.create_token_request("weft-agent", &PostParams::default(), &request).await;
    answer.expect("a token").status.expect("a status").token
}

/// Joins from this host's address, and is given a certificate for a new key.
async fn join(
    replica: &Replica,
    ca: &CertificateDer<'static>,
    shown: Option<Shown>,
    token: &str,
) -> Result<Shown, Status> {
    let key = generate_key().expect("a key");
    let csr = rcgen::CertificateParams::default().serialize_request(&key).expect("a request");
    let request = JoinRequest { node: "n1".to_owned(), token: token.to_owned(), csr_der: csr.der().to_vec() };
    let answer = JoinServiceClient::new(replica.channel(ca, shown).await).join(request).await?.into_inner();
    Ok((answer.certificate_der.into(), PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS#8")))
}

#[tokio::test]
#[ignore = "needs the API server that ./dev cluster up builds"]
async fn garbage_from_a_nodes_address_keeps_nobody_with_its_certificate_from_renewing() {
    let server = ApiServer::start().await;
    let (replica, ca) = single(&server).await;
    let token = projected(&server).await;
    let begun = tokio::time::Instant::now();
    let agent = loop {
        match join(&replica, &ca, None, &token).await {
            Ok(agent) => break agent,
            // The Node is taken in a moment after the term has begun.
            Err(status) if status.code() == Code::Unavailable && begun.elapsed() < PATIENCE => {}
            Err(status) => panic!("{status}"),
        }
    };
    // As from a pod, which has its node's address on the way to the controller.
    for _ in 0..32 {
        let refused = join(&replica, &ca, None, "eyJh.eyJz.c2ln").await.expect_err("garbage");
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    }
    let refused = join(&replica, &ca, None, &token).await.expect_err("too many");
    assert!(refused.message().starts_with("too many tokens from 127.0.0.1 were refused"), "{refused}");
    join(&replica, &ca, Some(agent), &token).await.expect("who has the node's certificate goes on");
}
