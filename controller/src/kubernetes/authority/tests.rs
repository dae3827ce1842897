//! The authority's objects, before and after somebody was there.

mod guard;

use std::time::Duration;

use k8s_openapi::serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::{kubernetes::fake::FakeApi, leader::Fence, pki::Authority};

const SECRET_PATH: &str = "/api/v1/namespaces/weft/secrets/weft-ca";
const MAP_PATH: &str = "/api/v1/namespaces/weft/configmaps/weft-ca";
const VTEP_PATH: &str = "/apis/weft.dev/v1alpha1/vteps/a";
const PAUSE: Duration = Duration::from_secs(2);

/// An object as the chart makes it.
fn empty(kind: &str) -> Value {
    json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "weft-ca"}})
}

/// What the chart makes.
fn chart() -> FakeApi {
    let api = FakeApi::default();
    api.put(SECRET_PATH, empty("Secret"));
    api.put(MAP_PATH, empty("ConfigMap"));
    api
}

fn objects(api: &FakeApi) -> Objects {
    Objects::new(api.client(), "weft")
}

async fn made(api: &FakeApi) -> Authority {
    objects(api).made(&Fence::held(), PAUSE).await.expect("an authority")
}

async fn found(api: &FakeApi) -> Authority {
    objects(api).find().await.expect("a whole Secret").expect("an authority")
}

#[tokio::test]
async fn the_first_makes_the_authority_and_all_others_have_the_same() {
    let api = chart();
    let first = made(&api).await;
    assert_eq!(first.fingerprint(), found(&api).await.fingerprint());
    let secret = api.object(SECRET_PATH);
    assert!(!objects(&api).refill_secret(&first).await.expect("it is there"), "nothing was absent");
    assert_eq!(api.object(SECRET_PATH), secret, "it was written again");
}

#[tokio::test]
async fn who_comes_second_to_the_write_takes_what_the_first_wrote() {
    let (api, other) = (chart(), chart());
    let others = made(&other).await;
    let secret = other.object(SECRET_PATH);
    api.before_next_write(move |api| api.put(SECRET_PATH, secret));
    assert_eq!(made(&api).await.fingerprint(), others.fingerprint());
}

#[tokio::test(start_paused = true)]
async fn where_nodes_know_an_authority_a_new_one_is_made_only_after_a_minute() {
    let api = chart();
    api.put(VTEP_PATH, json!({"metadata": {"name": "a"}}));
    let begun = Instant::now();
    let new = made(&api).await;
    assert!(begun.elapsed() >= Duration::from_secs(60), "after {:?}", begun.elapsed());
    assert_eq!(new.fingerprint(), found(&api).await.fingerprint());
}

#[tokio::test(start_paused = true)]
async fn what_is_put_back_within_that_minute_counts() {
    let (api, before) = (chart(), chart());
    let old = made(&before).await;
    api.put(VTEP_PATH, json!({"metadata": {"name": "a"}}));
    let later = async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        api.put(SECRET_PATH, before.object(SECRET_PATH));
    };
    let (new, ()) = tokio::join!(made(&api), later);
    assert_eq!(new.fingerprint(), old.fingerprint());
}

#[tokio::test]
async fn a_certificate_that_is_published_already_is_left_alone() {
    let api = chart();
    let (own, other) = (made(&api).await, made(&chart()).await);
    assert!(objects(&api).refill_map(&own).await.expect("it was empty"));
    assert_eq!(api.object(MAP_PATH)["data"]["ca.crt"], json!(own.pems().0));

    let both = format!("{}{}", other.pems().0, own.pems().0);
    api.put(MAP_PATH, json!({"metadata": {"name": "weft-ca"}, "data": {"ca.crt": both}}));
    assert!(!objects(&api).refill_map(&own).await.expect("agents trust either of them"));

    let data = json!({"ca.crt": other.pems().0, "more": "kept"});
    api.put(MAP_PATH, json!({"metadata": {"name": "weft-ca"}, "data": data}));
    let error = objects(&api).refill_map(&own).await.expect_err("another one");
    assert!(error.to_string().contains("remove its key ca.crt"), "{error}");
    assert!(!error.is_final(), "agents that trust it already go on");
    assert_eq!(api.object(MAP_PATH)["data"], data);
}

#[tokio::test]
async fn another_authority_is_noticed_and_left_alone() {
    let (api, other) = (chart(), chart());
    let own = made(&api).await;
    made(&other).await;
    api.put(SECRET_PATH, other.object(SECRET_PATH));
    let before = api.object(SECRET_PATH);
    let error = objects(&api).refill_secret(&own).await.expect_err("another authority");
    assert!(matches!(error, AuthorityError::Replaced { .. }) && error.is_final(), "{error}");
    assert_eq!(api.object(SECRET_PATH), before);
}

#[tokio::test]
async fn a_damaged_secret_is_named_and_left_alone() {
    let (whole, another) = (chart(), chart());
    made(&whole).await;
    made(&another).await;
    let data = whole.object(SECRET_PATH)["data"].clone();
    let foreign_key = another.object(SECRET_PATH)["data"]["ca.key"].clone();
    let damages: [(Value, &str); 4] = [
        (json!({"ca.crt": data["ca.crt"]}), "ca.key is missing"),
        (json!({"ca.key": data["ca.key"]}), "ca.crt is missing"),
        (json!({"ca.crt": "/w==", "ca.key": data["ca.key"]}), "ca.crt is no text"),
        (json!({"ca.crt": data["ca.crt"], "ca.key": foreign_key}), "does not belong"),
    ];
    for (damage, word) in damages {
        let api = chart();
        api.put(SECRET_PATH, json!({"metadata": {"name": "weft-ca"}, "data": damage}));
        let before = api.object(SECRET_PATH);
        let error = objects(&api).find().await.expect_err(word).to_string();
        assert!(error.contains("Secret weft-ca in namespace weft") && error.contains(word), "{error}");
        for remedy in ["restore ca.crt and ca.key", "scale Deployment weft-controller to 0, empty Secret and ConfigMap"]
        {
            assert!(error.contains(remedy), "no remedy {remedy:?} in: {error}");
        }
        assert_eq!(api.object(SECRET_PATH), before);
    }
}

#[tokio::test]
async fn without_the_charts_objects_nothing_is_made() {
    let error = objects(&FakeApi::default()).find().await.expect_err("no Secret");
    assert!(matches!(error, AuthorityError::Api { .. }), "it may come later");
    assert!(error.to_string().contains("cannot read Secret weft-ca in namespace weft"), "{error}");
}
