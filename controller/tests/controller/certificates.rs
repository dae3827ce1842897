//! Certificates: renewal, and their end.

use std::{os::unix::fs::PermissionsExt as _, time::Duration};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tonic::Code;
use weft_controller::{OperatorOptions, issue_operator};
use weft_proto::v1::{
    ListPeersRequest, RenewRequest, join_service_client::JoinServiceClient,
    operator_service_client::OperatorServiceClient,
};

use crate::{
    agent::{Agent, hello},
    harness::{Cluster, Credentials, credentials, csr, new_key},
};

async fn renew(cluster: &Cluster, old: &Credentials) -> Result<Credentials, tonic::Status> {
    let key = new_key();
    let mut client = JoinServiceClient::new(cluster.channel(Some(old)).await);
    let answer = client.renew(RenewRequest { csr_der: csr(&key) }).await?.into_inner();
    Ok(credentials(answer.certificate_der, &key))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_goes_on_with_the_same_life() {
    let cluster = Cluster::start(&["10.244.0.0/16=24"]).await;
    let (agent, old) = Agent::join(&cluster, "n1", &["192.0.2.1/24"]).await;
    let life = agent.view.members().next().expect("n1").incarnation;
    let renewed = renew(&cluster, &old).await.expect("a member's certificate");
    drop(agent);
    let mut again = Agent::open(&cluster, &renewed, hello("n1", &["192.0.2.1/24"])).await.expect("the same life");
    again.until(|view| view.len() == 1).await;
    assert_eq!(again.view.members().next().expect("n1").incarnation, life);

    let client = cluster.channel(None).await;
    let refused = JoinServiceClient::new(client).renew(RenewRequest { csr_der: csr(&new_key()) }).await;
    assert_eq!(refused.expect_err("nobody's certificate").code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_its_certificate_unless_it_was_renewed() {
    let cluster =
        Cluster::start_with(&["10.244.0.0/16=24"], |options| options.certificate_lifetime = Some("10s".to_owned()))
            .await;
    let (mut ending, _) = Agent::join(&cluster, "n1", &["192.0.2.1/24"]).await;
    let (mut renewing, old) = Agent::join(&cluster, "n2", &["192.0.2.2/24"]).await;
    // The other one renews over and over until then, and its stream lives on with the latest certificate.
    let keep_renewing = async {
        let mut present = old;
        loop {
            present = renew(&cluster, &present).await.expect("in time");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let status = tokio::select! {
        status = ending.end() => status,
        () = keep_renewing => unreachable!("it renews for ever"),
    };
    assert_eq!(status.code(), Code::Unauthenticated, "a stream outlived its certificate");
    renewing.until(|view| view.len() == 2).await;
    assert_eq!(cluster.status().await.connected, 1, "the renewed one was ended too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_of_another_authority_do_not_get_in() {
    let (cluster, other) = (Cluster::start(&["10.244.0.0/16=24"]).await, Cluster::start(&["10.244.0.0/16=24"]).await);
    cluster.join("n1").await;
    let stranger = other.join("n1").await;
    let stream = match cluster.try_channel(Some(&stranger)).await {
        // With TLS 1.3 a client may learn of it only when it speaks.
        Ok(channel) => JoinServiceClient::new(channel).renew(RenewRequest { csr_der: csr(&new_key()) }).await.map(drop),
        Err(_) => return,
    };
    assert!(stream.is_err(), "a stranger's certificate was renewed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_must_be_signed_with_its_own_key() {
    let cluster = Cluster::start(&["10.244.0.0/16=24"]).await;
    let token = cluster.token("n1").await;
    let mut request = csr(&new_key());
    // The signature is the last part of a request.
    let last = request.len() - 1;
    request[last] ^= 1;
    let mut client = JoinServiceClient::new(cluster.channel(None).await);
    let join = weft_proto::v1::JoinRequest { node: "n1".to_owned(), token, csr_der: request };
    assert_eq!(client.join(join).await.expect_err("a forged request").code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_operator_gets_a_certificate_of_their_own() {
    let cluster = Cluster::start(&["10.244.0.0/16=24"]).await;
    let out = cluster.config.data_dir.join("bob");
    let data_dir = cluster.config.data_dir.clone();
    let ask = |name: &str| OperatorOptions { data_dir: data_dir.clone(), name: name.to_owned(), out: out.clone() };
    issue_operator(&ask("bob/../admin")).expect_err("no name of an operator");
    issue_operator(&ask("bob")).expect("a new directory");
    issue_operator(&ask("bob")).expect_err("nothing is overwritten");
    let own = Credentials {
        chain: vec![CertificateDer::from_pem_file(out.join("operator.crt")).expect("a certificate")],
        key: PrivateKeyDer::from_pem_file(out.join("operator.key")).expect("a key"),
    };
    let mut client = OperatorServiceClient::new(cluster.channel(Some(&own)).await);
    client.list_peers(ListPeersRequest {}).await.expect("an operator");
    let mode = std::fs::metadata(out.join("operator.key")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "others can read the key");
}
