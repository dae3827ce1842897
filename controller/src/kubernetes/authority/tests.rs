//! The authority's two objects, before and after somebody was there.

use k8s_openapi::serde_json::{Value, json};

use super::*;
use crate::kubernetes::fake::FakeApi;

const SECRET_PATH: &str = "/api/v1/namespaces/weft/secrets/weft-ca";
const MAP_PATH: &str = "/api/v1/namespaces/weft/configmaps/weft-ca";

/// What the chart makes.
fn chart() -> FakeApi {
    let api = FakeApi::default();
    api.put(SECRET_PATH, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "weft-ca"}}));
    api.put(MAP_PATH, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "weft-ca"}}));
    api
}

fn objects(api: &FakeApi) -> Objects {
    Objects::new(api.client(), "weft")
}

#[tokio::test]
async fn the_first_makes_the_authority_and_all_others_have_the_same() {
    let api = chart();
    let first = objects(&api).ensure().await.expect("an authority");
    let secret = api.object(SECRET_PATH);
    let second = objects(&api).ensure().await.expect("the same authority");
    assert_eq!(first.fingerprint(), second.fingerprint());
    assert_eq!(api.object(SECRET_PATH), secret, "the second one has written it again");

    let published = api.object(MAP_PATH)["data"]["ca.crt"].as_str().expect("the certificate").to_owned();
    api.put(MAP_PATH, json!({"metadata": {"name": "weft-ca"}, "data": {"ca.crt": "of another", "more": "kept"}}));
    objects(&api).ensure().await.expect("the same authority");
    assert_eq!(api.object(MAP_PATH)["data"], json!({"ca.crt": published, "more": "kept"}));
}

#[tokio::test]
async fn who_comes_second_to_the_write_takes_what_the_first_wrote() {
    let api = chart();
    let other = chart();
    let others = objects(&other).ensure().await.expect("an authority");
    let secret = other.object(SECRET_PATH);
    api.before_next_write(move |api| api.put(SECRET_PATH, secret));
    let own = objects(&api).ensure().await.expect("an authority");
    assert_eq!(own.fingerprint(), others.fingerprint());
    objects(&api).confirm(&own).await.expect("it is the same still");
}

#[tokio::test]
async fn another_authority_is_noticed() {
    let (api, other) = (chart(), chart());
    let own = objects(&api).ensure().await.expect("an authority");
    objects(&other).ensure().await.expect("an authority");
    api.put(SECRET_PATH, other.object(SECRET_PATH));
    let error = objects(&api).confirm(&own).await.expect_err("another authority");
    assert!(matches!(error, AuthorityError::Replaced { .. }) && error.is_final(), "{error}");
}

#[tokio::test]
async fn a_damaged_secret_is_named_and_left_alone() {
    let whole = chart();
    objects(&whole).ensure().await.expect("an authority");
    let data = whole.object(SECRET_PATH)["data"].clone();
    let another = chart();
    objects(&another).ensure().await.expect("an authority");
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
        let error = objects(&api).ensure().await.expect_err(word).to_string();
        assert!(error.contains("Secret weft-ca in namespace weft") && error.contains(word), "{error}");
        assert!(error.contains("restore"), "no remedy in: {error}");
        assert_eq!(api.object(SECRET_PATH), before);
    }
}

#[tokio::test]
async fn without_the_charts_objects_nothing_is_made() {
    let error = objects(&FakeApi::default()).ensure().await.expect_err("no Secret");
    assert!(matches!(error, AuthorityError::Api { .. }), "it may come later");
    assert!(error.to_string().contains("cannot read Secret weft-ca in namespace weft"), "{error}");
}
