//! Joining on Kubernetes: a real cluster and authority, and an API server that says what it is told to.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::{FutureExt as _, future::BoxFuture};
use k8s_openapi::api::authentication::v1::{TokenReviewStatus, UserInfo};
use rcgen::CertificateParams;
use tokio::task::JoinHandle;
use tonic::Code;
use weft_core::{
    alloc::Pool,
    encap::Encapsulation,
    settings::{Mode, Settings},
    types::{Family, PerFamily, Vni},
};

use super::*;
use crate::{
    clock::SystemClock,
    cluster::{self, AdmissionRule, Cluster, NodeSeen, Rules},
    config::NodeCidrs,
    kubernetes::{
        login::ServiceAccounts,
        tokens::{Review, Reviewer, Unanswered},
    },
    metrics::Metrics,
    pki::{Authority, Identity, Principal, generate_key},
    store::{MemoryStore, StoreError},
    tls::{Caller, Grace, Kill},
};

const CREATED: u64 = 1_700_000_000;

/// Tokens read NODE.UID.ACCOUNT here; what starts with a dash is expired.
struct Kubelets;

impl Review for Kubelets {
    fn review<'a>(&'a self, token: &'a str, audience: &'a str) -> BoxFuture<'a, Result<TokenReviewStatus, Unanswered>> {
        let parts: Vec<String> = token.split('.').map(str::to_owned).collect();
        let [node, uid, account] = parts.try_into().expect("three parts were checked");
        let expired = node.starts_with('-');
        let fact = |key: &str, value: String| (format!("authentication.kubernetes.io/{key}"), vec![value]);
        let user = UserInfo {
            username: Some(format!("system:serviceaccount:weft-system:{account}")),
            extra: Some([fact("node-name", node), fact("node-uid", uid)].into()),
            ..UserInfo::default()
        };
        let audiences = Some(vec![audience.to_owned()]);
        async move { Ok(TokenReviewStatus { authenticated: Some(!expired), audiences, error: None, user: Some(user) }) }
            .boxed()
    }
}

struct World {
    join: Join,
    cluster: Cluster,
    _task: JoinHandle<Result<(), StoreError>>,
}

impl World {
    async fn new() -> Self {
        let cidr = "10.244.0.0/16".parse().expect("a CIDR");
        let settings = Settings {
            pools: vec![cidr],
            mode: Mode::CrossSubnet,
            encapsulation: Encapsulation::Vxlan { vni: Vni::new(87).expect("in range"), port: 4789, outer: Family::V4 },
            more: Default::default(),
        };
        let rules = Rules {
            mtu: None,
            underlay_networks: Vec::new(),
            settings,
            pools: vec![Pool::new(cidr, 24).expect("a pool").into()],
            admission: AdmissionRule::Nodes(NodeCidrs::Weft),
            acknowledge_timeout: Duration::from_secs(30),
            reconnect_grace: Duration::ZERO,
            lives_kept: Duration::from_secs(86_400),
            force_settings: false,
            coalesce: Duration::ZERO,
        };
        let metrics = Arc::new(Metrics::default());
        let store = Arc::new(MemoryStore::new());
        let (cluster, task) =
            cluster::start(store, rules, Arc::clone(&metrics), Arc::new(SystemClock)).await.expect("an empty store");
        let (certificate, key) = Authority::generate().expect("a new authority");
        let authority = Arc::new(Authority::from_pem(&certificate, &key).expect("our own"));
        let reviewer = Reviewer::asking(Arc::new(Kubelets), "weft-controller", ("weft-system", "weft-agent"));
        let login = Arc::new(ServiceAccounts { reviewer, cluster: cluster.clone(), metrics: Arc::clone(&metrics) });
        let context = Context {
            cluster: cluster.clone(),
            authority,
            metrics,
            login,
            certificate_lifetime: Duration::from_secs(3600),
            grace: Grace(Duration::ZERO),
        };
        Self { join: Join(context), cluster, _task: task }
    }

    async fn node(&self, name: &str, uid: &str, created_unix: u64) {
        let seen = NodeSeen {
            name: name.parse().expect("a name"),
            uid: uid.to_owned(),
            created_unix,
            pod_cidrs: PerFamily::default(),
            cidrs_are_ours: false,
            addresses: vec!["192.0.2.1".parse().expect("an address")],
            labels: BTreeMap::new(),
        };
        self.cluster.admit(seen).await.expect("there is room");
    }

    async fn join(&self, node: &str, token: &str) -> Result<Identity, Status> {
        self.join_showing(None, node, token).await
    }

    /// The same over a connection with a certificate, from the same address.
    async fn join_showing(&self, shown: Option<&Identity>, node: &str, token: &str) -> Result<Identity, Status> {
        let csr_der = CertificateParams::default().serialize_request(&generate_key().expect("a key"));
        let csr_der = csr_der.expect("a request").der().to_vec();
        let ask = JoinRequest { node: node.to_owned(), token: token.to_owned(), csr_der };
        let answer = self.join.join(from(ask, shown)).await?.into_inner();
        assert_eq!(answer.ca_der, self.join.0.authority.certificate().to_vec());
        Ok(Identity::of(&answer.certificate_der).expect("a certificate"))
    }

    async fn refused(&self, node: &str, token: &str) -> (Code, String) {
        let status = self.join(node, token).await.expect_err("must be refused");
        assert!(!status.message().contains(token), "a token in a message: {}", status.message());
        (status.code(), status.message().to_owned())
    }
}

fn from_a_stranger<T>(message: T) -> Request<T> {
    from(message, None)
}

fn from<T>(message: T, shown: Option<&Identity>) -> Request<T> {
    let mut request = Request::new(message);
    let address = ([192, 0, 2, 1], 40_000).into();
    request.extensions_mut().insert(Caller {
        address,
        own: [192, 0, 2, 9].into(),
        identity: shown.cloned().map(Arc::new),
        renewal: Arc::default(),
        kill: Arc::new(Kill::default()),
        signs: Arc::default(),
        enough: None,
    });
    request
}

fn life(identity: &Identity) -> (String, u64) {
    match &identity.principal {
        Principal::Node { name, incarnation } => (name.to_string(), *incarnation),
        Principal::Operator(name) => panic!("operator {name}"),
    }
}

#[tokio::test]
async fn a_nodes_own_token_buys_the_certificate_of_its_present_life() {
    let world = World::new().await;
    world.node("a", "uid-1", CREATED).await;
    let first = world.join("a", "a.uid-1.weft-agent").await.expect("its own token");
    assert_eq!(life(&first), ("a".to_owned(), CREATED));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let left = first.ends_unix.saturating_sub_unsigned(now);
    assert!((3500..=3600).contains(&left), "{left} s");
    let again = world.join("a", "a.uid-1.weft-agent").await.expect("joining is how a certificate is renewed");
    assert_eq!(life(&again), life(&first), "it was no new life");
}

#[tokio::test]
async fn a_token_of_node_a_does_not_speak_for_node_b() {
    let world = World::new().await;
    world.node("a", "uid-a", CREATED).await;
    world.node("b", "uid-b", CREATED).await;
    let (code, message) = world.refused("b", "a.uid-a.weft-agent").await;
    assert_eq!(code, Code::PermissionDenied);
    assert!(message.contains("node a,") && message.contains("not for b"), "{message}");
    assert_eq!(world.refused("a", "a.uid-a.other").await.0, Code::PermissionDenied);
    assert_eq!(world.refused("a", "-a.uid-a.weft-agent").await.0, Code::Unauthenticated);
    assert_eq!(world.refused("a", "weft1.no-token-of.kubernetes.at-all").await.0, Code::InvalidArgument);
    let metrics = world.join.0.metrics.render().expect("texts");
    for label in ["token_other_node", "token_other_account", "token_invalid", "token_malformed"] {
        assert!(metrics.contains(&format!("weft_controller_joins_total{{result=\"{label}\"}} 1")), "{metrics}");
    }
}

#[tokio::test]
async fn the_token_of_a_node_before_it_was_re_created_is_no_use() {
    let world = World::new().await;
    world.node("a", "uid-1", CREATED).await;
    world.node("a", "uid-2", CREATED + 60).await;
    let (code, message) = world.refused("a", "a.uid-1.weft-agent").await;
    assert_eq!(code, Code::PermissionDenied, "{message}");
    assert!(message.contains("uid-1") && message.contains("uid-2"), "{message}");
    let identity = world.join("a", "a.uid-2.weft-agent").await.expect("the token of the new one");
    assert!(life(&identity).1 > CREATED, "a new life has a number of its own");
}

#[tokio::test]
async fn a_node_that_was_not_seen_yet_is_asked_to_come_again() {
    let world = World::new().await;
    assert_eq!(world.refused("a", "a.uid-1.weft-agent").await.0, Code::Unavailable);
}

#[tokio::test]
async fn certificates_are_renewed_by_tokens_only() {
    let world = World::new().await;
    let ask = from_a_stranger(RenewRequest { csr_der: Vec::new() });
    let status = world.join.renew(ask).await.expect_err("not on Kubernetes");
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("join again"), "{}", status.message());
}

#[tokio::test]
async fn garbage_from_a_pod_keeps_its_nodes_agent_from_no_renewal() {
    let world = World::new().await;
    world.node("a", "uid-a", CREATED).await;
    let agent = world.join("a", "a.uid-a.weft-agent").await.expect("its own token");
    // Masqueraded, so that it has its node's address.
    for _ in 0..32 {
        assert_eq!(world.refused("a", "-a.uid-a.weft-agent").await.0, Code::Unauthenticated);
    }
    assert_eq!(world.refused("a", "-a.uid-a.weft-agent").await.0, Code::ResourceExhausted);
    let renewed = world.join_showing(Some(&agent), "a", "a.uid-a.weft-agent").await.expect("it has a certificate");
    assert_eq!(life(&renewed), life(&agent));
}
