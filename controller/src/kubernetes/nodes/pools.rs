//! Pools against what else has addresses in the cluster.
//!
//! Owns the look at the beginning of a term. A pool that shares addresses with Services is refused altogether. One that
//! contains Nodes' addresses is refused while no node has a share of it; later such a Node is refused by itself, since
//! one Node must not stop a cluster that works. Must never take "cannot be asked" for "does not overlap" in silence.

use std::net::IpAddr;

use anyhow::ensure;
use ipnetwork::IpNetwork;
use k8s_openapi::api::{core::v1::Node, networking::v1::ServiceCIDR};
use kube::{Api, Client, api::ListParams};
use weft_core::{alloc::Usage, types::PodCidr};

use super::{super::Leader, seen};

/// Fails with a sentence where a pool cannot be used.
pub(super) async fn check(leader: &Leader) -> anyhow::Result<()> {
    let status = leader.cluster.status().await?;
    let services = service_networks(&leader.client).await;
    for usage in &status.pools {
        let pool = usage.pool.cidr();
        if let Some(network) = services.iter().find(|network| shares(&pool, **network)) {
            anyhow::bail!(
                "pool {pool} shares addresses with the Services' network {network}: choose another pool (option pools), since no pod could be told from a Service"
            );
        }
        check_nodes(usage, &leader.watched.store.state())?;
    }
    Ok(())
}

fn check_nodes(usage: &Usage, nodes: &[std::sync::Arc<Node>]) -> anyhow::Result<()> {
    if usage.used + usage.quarantined > 0 {
        return Ok(());
    }
    let pool = usage.pool.cidr();
    for seen in nodes.iter().filter_map(|node| seen::seen(node).ok()) {
        let inside = seen.addresses.iter().find(|address| pool.contains(**address));
        ensure!(
            inside.is_none(),
            "pool {pool} contains address {} of Node {}: pods and nodes need networks of their own, so choose another pool (option pools)",
            inside.map(ToString::to_string).unwrap_or_default(),
            seen.name
        );
    }
    Ok(())
}

/// What Services have: from the API where it tells (Kubernetes 1.33 and later), and the one address that every pod is told.
async fn service_networks(client: &Client) -> Vec<IpNetwork> {
    let mut networks = Vec::new();
    let answer = super::super::store::patiently(|| async {
        Api::<ServiceCIDR>::all(client.clone()).list(&ListParams::default()).await
    });
    match answer.await {
        Ok(list) => {
            let texts = list.items.into_iter().filter_map(|item| item.spec?.cidrs).flatten();
            networks.extend(texts.filter_map(|text| text.parse::<IpNetwork>().ok()));
        }
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => {
            tracing::warn!("the Services' networks cannot be read, so pools are not compared with them: {error}");
        }
    }
    let own = std::env::var("KUBERNETES_SERVICE_HOST").ok().and_then(|text| text.parse::<IpAddr>().ok());
    networks.extend(own.map(IpNetwork::from));
    networks
}

fn shares(pool: &PodCidr, network: IpNetwork) -> bool {
    network.contains(pool.network().ip()) || pool.contains(network.network())
}

#[cfg(test)]
mod tests {
    use weft_core::alloc::Pool;

    use super::*;

    fn usage(used: u64) -> Usage {
        let pool: Pool = "192.0.0.0/16=24".parse().expect("a pool");
        Usage { pool, used, quarantined: 0, total: 256 }
    }

    #[test]
    fn networks_share_addresses_whichever_is_larger() {
        let pool: PodCidr = "10.244.0.0/16".parse().expect("a CIDR");
        for (network, expected) in
            [("10.0.0.0/8", true), ("10.244.7.0/24", true), ("10.96.0.0/12", false), ("fd00::/112", false)]
        {
            assert_eq!(shares(&pool, network.parse().expect("a network")), expected, "{network}");
        }
    }

    #[test]
    fn a_pool_with_nodes_in_it_is_refused_before_it_is_used_and_not_after() {
        let node = std::sync::Arc::new(seen::tests::node("a", &[], &["192.0.2.1"]));
        let error = check_nodes(&usage(0), std::slice::from_ref(&node)).expect_err("the Node is inside").to_string();
        assert!(error.contains("192.0.2.1 of Node a"), "{error}");
        check_nodes(&usage(1), &[node]).expect("one Node stops no cluster");
    }
}
