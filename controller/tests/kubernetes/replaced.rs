//! The controllers' objects, emptied by a tool that replaces objects as a whole.

use k8s_openapi::api::{
    core::v1::{ConfigMap, Secret},
    events::v1::Event,
};
use kube::{
    Api,
    api::{ListParams, ObjectMeta, PostParams},
};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};
use weft_api::names;

use crate::{
    api::{ApiServer, NAMESPACE},
    leaders::{PATIENCE, Replica, pair},
};

/// What of Weft's state is in the API.
#[derive(Debug, Clone, PartialEq)]
struct State {
    key: Option<Vec<u8>>,
    certificate: Option<String>,
    epoch: Option<String>,
    /// Where agents find controllers without their Service.
    controllers: Vec<String>,
}

async fn state(server: &ApiServer) -> State {
    let maps = Api::<ConfigMap>::namespaced(server.client(), NAMESPACE);
    let secret = Api::<Secret>::namespaced(server.client(), NAMESPACE).get(names::CA).await.expect("the Secret");
    let value =
        async |map: &str, key: &str| maps.get(map).await.expect("a ConfigMap").data.unwrap_or_default().remove(key);
    State {
        key: secret.data.unwrap_or_default().remove(names::CA_KEY).map(|key| key.0),
        certificate: value(names::CA, names::CA_CERTIFICATE).await,
        epoch: value(names::CLUSTER, names::EPOCH).await,
        controllers: value(names::CA, names::CONTROLLERS)
            .await
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect(),
    }
}

/// As `kubectl replace` does with the chart's manifests.
async fn empty(server: &ApiServer) {
    let metadata = |name: &str| ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    let maps = Api::<ConfigMap>::namespaced(server.client(), NAMESPACE);
    for name in [names::CA, names::CLUSTER] {
        let map = ConfigMap { metadata: metadata(name), ..ConfigMap::default() };
        maps.replace(name, &PostParams::default(), &map).await.expect("a replaced ConfigMap");
    }
    let secret = Secret { metadata: metadata(names::CA), ..Secret::default() };
    let secrets = Api::namespaced(server.client(), NAMESPACE);
    secrets.replace(names::CA, &PostParams::default(), &secret).await.expect("a replaced Secret");
}

async fn until(server: &ApiServer, what: &str, wanted: impl Fn(&State) -> bool) -> State {
    let begun = Instant::now();
    loop {
        let state = state(server).await;
        if wanted(&state) {
            return state;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}: {state:?}");
        sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test]
#[ignore = "needs the API server that ./dev cluster up builds"]
async fn the_leader_fills_what_a_replacement_has_emptied_and_says_so() {
    let server = ApiServer::start().await;
    let (first, second, _) = pair(&server).await;
    // The leader remembers the term from its first look on, which comes as soon as it leads.
    let before = until(&server, "a state", |state| state.epoch.is_some() && !state.controllers.is_empty()).await;
    let events = Api::<Event>::namespaced(server.client(), NAMESPACE);
    empty(&server).await;
    until(&server, "the same again", |state| *state == before).await;
    let begun = Instant::now();
    loop {
        let told = events.list(&ListParams::default()).await.expect("events").items;
        let about = |kind: &str| {
            let is_it = |event: &&Event| event.regarding.as_ref().is_some_and(|to| to.kind.as_deref() == Some(kind));
            told.iter().filter(|event| event.reason.as_deref() == Some("Refilled")).any(|event| is_it(&event))
        };
        if about("Secret") && about("ConfigMap") {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "no Events: {told:?}");
        sleep(std::time::Duration::from_millis(100)).await;
    }

    first.signal(Signal::TERM);
    second.ready_as("ready").await;
    let (now, former) = (second.grpc.to_string(), first.grpc.to_string());
    until(&server, "both addresses, who leads first", |state| state.controllers == [now.clone(), former.clone()]).await;
    let after = state(&server).await;
    assert_eq!((after.key, after.certificate), (before.key, before.certificate), "the next leader has the same");
}

#[tokio::test]
#[ignore = "needs the API server that ./dev cluster up builds"]
async fn with_all_controllers_gone_emptied_objects_get_a_new_authority() {
    let server = ApiServer::start().await;
    let (mut first, mut second, _) = pair(&server).await;
    let before = state(&server).await;
    for replica in [&mut second, &mut first] {
        replica.signal(Signal::TERM);
        replica.ended();
    }
    empty(&server).await;
    let next = Replica::start(&server, "next");
    // Its Node has a Vtep: it waits a minute for somebody who still holds the old one.
    next.ready_within("ready", 3 * PATIENCE).await;
    let after = state(&server).await;
    assert!(after.key.is_some() && after.certificate.is_some() && after.epoch.is_some(), "{after:?}");
    assert_ne!((&after.key, &after.certificate), (&before.key, &before.certificate));
}
