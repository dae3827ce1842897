//! Join tokens and pod CIDRs.

use std::collections::HashSet;

use tonic::Code;
use weft_controller::{
    pki::JoinToken,
    store::{RedbStore, Store, TokenRecord, Write},
};
use weft_proto::v1;

use crate::{
    agent::{Agent, hello, name},
    harness::{Cluster, new_key, patiently},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_join_at_once_have_different_cidrs_and_see_each_other() {
    let cluster = Cluster::start(&["10.244.0.0/16=24", "fd00:1::/48=64"]).await;
    let names: Vec<String> = (0..8).map(|n| format!("n{n}")).collect();
    let addresses: Vec<String> = (0..8).map(|n| format!("192.0.2.{}/24", n + 1)).collect();
    let joins = names.iter().zip(&addresses).map(|(node, address)| {
        let cluster = &cluster;
        async move { Agent::join(cluster, node, &[address.as_str()]).await.0 }
    });
    let mut agents = futures::future::join_all(joins).await;
    for agent in &mut agents {
        agent.until(|view| view.len() == 8).await;
    }
    let members: Vec<_> = agents[0].view.members().collect();
    let v4: HashSet<_> = members.iter().map(|member| member.pod_cidrs.v4.expect("IPv4")).collect();
    let v6: HashSet<_> = members.iter().map(|member| member.pod_cidrs.v6.expect("IPv6")).collect();
    let macs: HashSet<_> = members.iter().map(|member| member.endpoint.mac()).collect();
    assert_eq!((v4.len(), v6.len(), macs.len()), (8, 8, 8), "two nodes share something");
    for agent in &agents {
        assert_eq!(agent.view.digests(), agents[0].view.digests(), "two nodes see different clusters");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_may_repeat_with_its_key_only() {
    let cluster = Cluster::start(&["10.244.0.0/16=24"]).await;
    let token = cluster.token("n1").await;
    let key = new_key();
    cluster.join_with("n1", &token, &key).await.expect("the first use");
    let again = cluster.join_with("n1", &token, &key).await.expect("the answer may have been lost");
    Agent::open(&cluster, &again, hello("n1", &["192.0.2.1/24"])).await.expect("the same life goes on");

    let refused = cluster.join_with("n1", &token, &new_key()).await.err().expect("another key");
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("used before with another key"), "{refused}");
    assert_eq!(cluster.peers().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_for_one_name_one_cluster_and_one_secret() {
    let cluster = Cluster::start(&["10.244.0.0/16=24"]).await;
    let token = cluster.token("n1").await;
    let refused = cluster.join_with("n2", &token, &new_key()).await.err().expect("another name");
    assert_eq!(refused.code(), Code::PermissionDenied);

    let mut parts: Vec<&str> = token.split('.').collect();
    let forged = "0".repeat(64);
    parts[2] = &forged;
    let refused = cluster.join_with("n1", &parts.join("."), &new_key()).await.err().expect("a wrong secret");
    assert_eq!(refused.code(), Code::Unauthenticated);

    let mut parts: Vec<&str> = token.split('.').collect();
    parts[3] = &forged;
    let refused = cluster.join_with("n1", &parts.join("."), &new_key()).await.err().expect("another CA");
    assert!(refused.message().contains("another cluster"), "{refused}");
    assert!(cluster.peers().await.is_empty(), "somebody joined");

    cluster.join_with("n1", &token, &new_key()).await.expect("the token itself is still good");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_token_is_refused() {
    let mut cluster = Cluster::prepare(&["10.244.0.0/16=24"], |_| {});
    let fingerprint = {
        let pem = |name: &str| std::fs::read_to_string(cluster.config.data_dir.join(name)).expect("written by init");
        weft_controller::pki::Authority::from_pem(&pem("ca.crt"), &pem("ca.key")).expect("the CA").fingerprint()
    };
    let token = JoinToken::generate(fingerprint).expect("random numbers");
    let store = RedbStore::open(&cluster.store_path()).expect("a new store");
    let (id, secret_hash) = (token.id, token.secret_hash());
    let record = TokenRecord { id, secret_hash, node: name("n1"), expires_unix: 1_000_000_000, bound: None };
    store.commit(vec![Write::Token(record)]).await.expect("a write");
    drop(store);
    cluster.run().await;
    let refused = cluster.join_with("n1", &token.reveal(), &new_key()).await.err().expect("its time is over");
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("expired"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pools_that_run_out_say_so_and_give_nobody_a_second_hand_cidr() {
    let cluster = Cluster::start(&["10.244.0.0/30=30"]).await;
    cluster.join("n1").await;
    let token = cluster.token("n2").await;
    let key = new_key();
    let refused = cluster.join_with("n2", &token, &key).await.err().expect("nothing is left");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("10.244.0.0/30"), "{refused}");
    assert_eq!(cluster.peers().await.len(), 1, "a node without a CIDR is listed");

    // The token was not used up by it: once there is room again the same one will do.
    cluster.delete("n1").await.expect("n1 is a member");
    let retry = async {
        loop {
            match cluster.join_with("n2", &token, &key).await {
                Ok(credentials) => return credentials,
                Err(status) => assert_eq!(status.code(), Code::ResourceExhausted, "{status}"),
            }
        }
    };
    let credentials = patiently("the quarantine to end", retry).await;
    Agent::open(&cluster, &credentials, hello("n2", &["192.0.2.2/24"])).await.expect("a member");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_node_returns_in_a_new_life_with_another_cidr() {
    let cluster = Cluster::start(&["10.244.0.0/16=24"]).await;
    let (mut other, _) = Agent::join(&cluster, "other", &["192.0.2.9/24"]).await;
    let (mut first, old) = Agent::join(&cluster, "n1", &["192.0.2.1/24"]).await;
    let (cidr, life) = (first.cidr("n1"), first.view.member(&name("n1")).expect("a member").incarnation);
    cluster.delete("n1").await.expect("n1 is a member");
    assert_eq!(first.end().await.code(), Code::Unauthenticated, "the open stream of a deleted node");
    other.until(|view| view.len() == 1).await;
    let refused = Agent::open(&cluster, &old, hello("n1", &["192.0.2.1/24"])).await.err().expect("not a member");
    assert_eq!(refused.code(), Code::Unauthenticated);

    let (second, _) = Agent::join(&cluster, "n1", &["192.0.2.1/24"]).await;
    let member = second.view.member(&name("n1")).expect("a member");
    assert!(member.incarnation > life, "a returning node begins a new life");
    assert_ne!(second.cidr("n1"), cidr, "a CIDR that was just freed is not the next to be handed out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_a_node_voids_its_tokens() {
    let cluster = Cluster::start(&["10.244.0.0/16=24"]).await;
    let unused = cluster.token("n1").await;
    cluster.join("n1").await;
    cluster.delete("n1").await.expect("n1 is a member");
    let refused = cluster.join_with("n1", &unused, &new_key()).await.err().expect("a void token");
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(cluster.delete("n1").await.expect_err("it is gone").code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_operators_make_tokens() {
    let cluster = Cluster::start(&["10.244.0.0/16=24"]).await;
    let node = cluster.join("n1").await;
    for credentials in [None, Some(&node)] {
        let channel = cluster.channel(credentials).await;
        let mut client = v1::operator_service_client::OperatorServiceClient::new(channel);
        let request = v1::CreateTokenRequest { node: "n2".to_owned(), lifetime_seconds: 0 };
        let refused = client.create_token(request).await.expect_err("no operator");
        assert!(matches!(refused.code(), Code::Unauthenticated | Code::PermissionDenied), "{refused}");
    }
}
