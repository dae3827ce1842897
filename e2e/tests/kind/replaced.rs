//! The chart's objects, deleted and made anew by other hands than Weft's.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use kube::{
    Api,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams},
};
use weft_api::names;
use weft_e2e::{
    kind::{Kind, wait},
    kind_test,
    lab::wait::until,
};

use crate::streams::Streams;

/// What an object has of its own, not of the cluster's.
fn bare(metadata: &ObjectMeta) -> ObjectMeta {
    let (name, labels) = (metadata.name.clone(), metadata.labels.clone());
    ObjectMeta { name, labels, annotations: metadata.annotations.clone(), ..ObjectMeta::default() }
}

/// The first of the controllers that agents are led to.
fn leader(map: &BTreeMap<String, String>) -> Option<&str> {
    map.get(names::CONTROLLERS)?.lines().next()
}

/// Deletes the controllers' Service and makes it again: it gets another address.
async fn make_anew(services: &Api<Service>) -> Result<()> {
    let old = services.get(names::CONTROLLER).await?;
    let address = |service: &Service| service.spec.as_ref().and_then(|spec| spec.cluster_ip.clone());
    let mut spec = old.spec.clone().context("it has a spec")?;
    (spec.cluster_ip, spec.cluster_ips) = (None, None);
    services.delete(names::CONTROLLER, &DeleteParams::default()).await?;
    wait::gone(services, names::CONTROLLER, wait::PATIENCE).await?;
    let new = Service { metadata: bare(&old.metadata), spec: Some(spec), status: None };
    let new = services.create(&PostParams::default(), &new).await?;
    ensure!(address(&old) != address(&new), "it has the same address again: {:?}", address(&new));
    Ok(())
}

kind_test!(agents_find_the_controllers_though_their_service_was_made_anew, async |kind: &Kind| {
    let streams = Streams::start(kind, "service").await?;
    let agents = kind.lives(&[names::AGENT]).await?;
    make_anew(&kind.own()).await?;
    let before = kind.leader().await?;
    kind.kill(&before).await?;
    kind.leader_other_than(&before).await?;
    // The kubelet takes up to two minutes to renew what agents mount.
    until("all agents at the new leader", 2 * wait::PATIENCE, async || kind.settled().await).await?;
    ensure!(kind.lives(&[names::AGENT]).await? == agents, "an agent was started again");
    streams.expect_no_loss().await
});

kind_test!(emptied_objects_are_filled_again_and_nobody_notices, async |kind: &Kind| {
    let streams = Streams::start(kind, "emptied").await?;
    let (maps, secrets) = (kind.own::<ConfigMap>(), kind.own::<Secret>());
    let key = secrets.get(names::CA).await?;
    let before = maps.get(names::CA).await?.data.unwrap_or_default();
    for name in [names::CA, names::CLUSTER] {
        let metadata = bare(&maps.get(name).await?.metadata);
        maps.replace(name, &PostParams::default(), &ConfigMap { metadata, ..ConfigMap::default() }).await?;
    }
    let empty = Secret { metadata: bare(&key.metadata), type_: key.type_.clone(), ..Secret::default() };
    secrets.replace(names::CA, &PostParams::default(), &empty).await?;
    until("the objects to be as before", wait::PATIENCE, async || {
        ensure!(secrets.get(names::CA).await?.data == key.data, "the Secret differs");
        let now = maps.get(names::CA).await?.data.unwrap_or_default();
        ensure!(now.get(names::CA_CERTIFICATE) == before.get(names::CA_CERTIFICATE), "the certificate differs");
        // Who led before is remembered nowhere else.
        ensure!(leader(&now) == leader(&before) && leader(&now).is_some(), "agents are led to {:?}", leader(&now));
        let cluster = maps.get(names::CLUSTER).await?.data.unwrap_or_default();
        ensure!(cluster.contains_key(names::EPOCH), "ConfigMap weft-cluster has no term: {cluster:?}");
        Ok(())
    })
    .await?;
    let events: Api<k8s_openapi::api::events::v1::Event> = kind.own();
    until("Events", wait::PATIENCE, async || {
        let told = events.list(&ListParams::default()).await?.items;
        ensure!(told.iter().any(|event| event.reason.as_deref() == Some("Refilled")), "no Event says so");
        Ok(())
    })
    .await?;
    kind.settled().await?;
    streams.expect_no_loss().await
});
