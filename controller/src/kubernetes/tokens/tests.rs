//! Tokens of all kinds before an API server that answers as told.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::*;

const SOURCE: Asker = Asker::Address(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7)));
const TOKEN: &str = "eyJh.eyJz.c2ln";

/// Answers every review alike, and counts.
struct Told {
    answer: Mutex<Result<TokenReviewStatus, Unanswered>>,
    asked: AtomicUsize,
}

impl Review for Told {
    fn review<'a>(&'a self, _: &'a str, audience: &'a str) -> BoxFuture<'a, Result<TokenReviewStatus, Unanswered>> {
        assert_eq!(audience, "weft-controller");
        self.asked.fetch_add(1, Ordering::Relaxed);
        let answer = self.answer.lock().expect("one thread").clone();
        async move { answer }.boxed()
    }
}

/// What the API server says of a token that the kubelet of node `a` projected into an agent's pod.
fn good() -> TokenReviewStatus {
    let fact = |key: &str, value: &str| (key.to_owned(), vec![value.to_owned()]);
    TokenReviewStatus {
        authenticated: Some(true),
        audiences: Some(vec!["weft-controller".to_owned()]),
        error: None,
        user: Some(UserInfo {
            username: Some("system:serviceaccount:weft-system:weft-agent".to_owned()),
            extra: Some([fact(NODE_NAME, "a"), fact(NODE_UID, "uid-a"), fact(POD_NAME, "weft-agent-x")].into()),
            ..UserInfo::default()
        }),
    }
}

fn changed(change: impl FnOnce(&mut TokenReviewStatus, &mut UserInfo)) -> TokenReviewStatus {
    let mut status = good();
    let mut user = status.user.take().expect("it has one");
    change(&mut status, &mut user);
    status.user = Some(user);
    status
}

fn reviewer(answer: Result<TokenReviewStatus, Unanswered>) -> (Reviewer, Arc<Told>) {
    let told = Arc::new(Told { answer: Mutex::new(answer), asked: AtomicUsize::new(0) });
    (Reviewer::asking(told.clone(), "weft-controller", ("weft-system", "weft-agent")), told)
}

fn from(address: &str) -> Asker {
    Asker::Address(address.parse().expect("an address"))
}

async fn review(answer: TokenReviewStatus, node: &str) -> Result<Reviewed, TokenRefusal> {
    reviewer(Ok(answer)).0.review(&SOURCE, &node.parse().expect("a name"), TOKEN).await
}

#[tokio::test]
async fn a_token_makes_the_node_of_its_pod() {
    let reviewed = review(good(), "a").await.expect("the kubelet's own");
    assert_eq!(reviewed, Reviewed { node_uid: Some("uid-a".to_owned()), pod: "weft-agent-x".to_owned() });
}

#[tokio::test]
async fn a_token_makes_no_other_node() {
    let refusal = review(good(), "b").await.expect_err("the token of node a");
    assert!(matches!(refusal, TokenRefusal::OtherNode { .. }));
    assert!(refusal.to_string().contains("node a,"), "{refusal}");
}

#[tokio::test]
async fn each_mismatch_has_its_refusal() {
    type Change = fn(&mut TokenReviewStatus, &mut UserInfo);
    let cases: [(&str, Change); 8] = [
        ("token_invalid", |status, _| {
            status.authenticated = Some(false);
            status.error = Some("service account token has expired".to_owned());
        }),
        ("token_invalid", |status, _| status.authenticated = None),
        ("token_other_audience", |status, _| status.audiences = None),
        ("token_other_audience", |status, _| status.audiences = Some(vec!["https://kubernetes".to_owned()])),
        ("token_other_account", |_, user| {
            user.username = Some("system:serviceaccount:other:weft-agent".to_owned());
        }),
        ("token_other_account", |_, user| user.username = None),
        ("token_unbound", |_, user| user.extra = None),
        ("token_unbound", |_, user| {
            let extra = user.extra.as_mut().expect("facts");
            extra.insert(NODE_NAME.to_owned(), vec!["a".to_owned(), "b".to_owned()]);
        }),
    ];
    for (label, change) in cases {
        let refusal = review(changed(change), "a").await.expect_err(label);
        assert_eq!(refusal.label(), label, "{refusal}");
    }
    let refusal = review(changed(|_, user| user.extra = None), "a").await.expect_err("an older Kubernetes");
    assert!(refusal.to_string().contains("1.30"), "{refusal}");
}

#[tokio::test]
async fn what_is_no_token_is_not_asked_about() {
    let (reviewer, told) = reviewer(Ok(good()));
    let long = format!("a.b.{}", "c".repeat(LONGEST));
    for text in ["", "weft1.a.b.c", "a.b", "a..c", "a.b.c\n", "a.b.ü", &long] {
        let refusal = reviewer.review(&SOURCE, &"a".parse().expect("a name"), text).await.expect_err(text);
        assert_eq!(refusal, TokenRefusal::Malformed, "{text:?}");
    }
    assert_eq!(told.asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn an_api_server_that_cannot_be_asked_accepts_nothing_and_counts_nothing() {
    let (reviewer, told) = reviewer(Err(Unanswered::Failed("connection refused".to_owned())));
    let node = "a".parse().expect("a name");
    for _ in 0..100 {
        let refusal = reviewer.review(&SOURCE, &node, TOKEN).await.expect_err("nobody knows");
        assert_eq!(refusal.label(), "review_unanswered");
    }
    *told.answer.lock().expect("one thread") = Ok(good());
    reviewer.review(&SOURCE, &node, TOKEN).await.expect("it is back");
}

#[tokio::test(start_paused = true)]
async fn who_shows_bad_tokens_again_and_again_has_to_wait() {
    let (reviewer, told) = reviewer(Ok(changed(|status, _| status.authenticated = Some(false))));
    let node: NodeName = "a".parse().expect("a name");
    for _ in 0..100 {
        reviewer.review(&SOURCE, &node, TOKEN).await.expect_err("a bad token");
    }
    let asked = told.asked.load(Ordering::Relaxed);
    assert!(asked < 50, "{asked} reviews for one stranger");
    *told.answer.lock().expect("one thread") = Ok(good());
    let other = from("10.0.0.8");
    reviewer.review(&other, &node, TOKEN).await.expect("others are not held up");
    assert_eq!(reviewer.review(&SOURCE, &node, TOKEN).await.expect_err("too soon").label(), "token_too_many");
    tokio::time::advance(Duration::from_secs(31)).await;
    reviewer.review(&SOURCE, &node, TOKEN).await.expect("its time is over");
}

/// How many of these tokens the API server is asked about; it takes none.
async fn asked(askers: impl Iterator<Item = Asker>) -> usize {
    let (reviewer, told) = reviewer(Ok(changed(|status, _| status.authenticated = Some(false))));
    let node: NodeName = "a".parse().expect("a name");
    for asker in askers {
        reviewer.review(&asker, &node, TOKEN).await.expect_err("a bad token");
    }
    told.asked.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn all_addresses_of_an_ipv6_network_are_one_asker() {
    let inside = asked((0..6000).map(|host| from(&format!("2001:db8:0:7:{:x}::{host:x}", host % 7)))).await;
    assert!(inside < 50, "{inside} reviews for one stranger with 6,000 addresses");
    let networks = asked((0..100).map(|network| from(&format!("2001:db8:0:{network:x}::1")))).await;
    assert_eq!(networks, 100, "networks are held up by each other");
    let mapped = asked((0..100).map(|host| from(&format!("::ffff:10.0.0.{host}")))).await;
    assert_eq!(mapped, 100, "IPv4 hosts are held up by each other");
}

#[tokio::test(start_paused = true)]
async fn who_shows_a_certificate_is_held_up_by_bad_tokens_of_its_own_only() {
    let (reviewer, told) = reviewer(Ok(changed(|status, _| status.authenticated = Some(false))));
    let node: NodeName = "a".parse().expect("a name");
    let agent = Asker::Node(node.clone(), 2);
    for asker in [SOURCE, Asker::Node(node.clone(), 1)] {
        for _ in 0..100 {
            reviewer.review(&asker, &node, TOKEN).await.expect_err("a bad token");
        }
    }
    *told.answer.lock().expect("one thread") = Ok(good());
    reviewer.review(&agent, &node, TOKEN).await.expect("neither its pods nor an earlier life of the name count");
    *told.answer.lock().expect("one thread") = Ok(changed(|status, _| status.authenticated = Some(false)));
    let before = told.asked.load(Ordering::Relaxed);
    for _ in 0..100 {
        reviewer.review(&agent, &node, TOKEN).await.expect_err("a bad token");
    }
    let asked = told.asked.load(Ordering::Relaxed) - before;
    assert!(asked < 50, "{asked} reviews for one node");
    let refusal = reviewer.review(&agent, &node, TOKEN).await.expect_err("too many").to_string();
    assert!(refusal.starts_with("too many tokens shown with the certificate of node a were refused"), "{refusal}");
}
