//! The controller is away for longer than the nodes' certificates live, in seconds instead of hours.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use weft_core::types::Family;
use weft_e2e::{
    cluster::{Cluster, Pod},
    lab::{LabSpec, wait},
    lab_test,
};

/// Certificates of the shortest life there is.
const LIFE: &str = "certificateLifetime: 10s";
const NODES: [&str; 2] = ["a1", "b1"];

/// A cluster whose controller has these options too, with a pod on each node.
async fn cluster(more: &str) -> Result<(Cluster, [Pod; 2])> {
    let cluster = Cluster::empty(LabSpec::default().hosts(1)).await?;
    let controller = cluster.controller();
    controller.stop().await?;
    let config = controller.directory().join("config.yaml");
    std::fs::write(&config, format!("{}\n{LIFE}\n{more}\n", std::fs::read_to_string(&config)?))?;
    controller.start().await?;
    for node in NODES {
        cluster.join(node).await?;
    }
    cluster.ready().await?;
    let pods = [cluster.pod("a1", "a1-p").await?, cluster.pod("b1", "b1-p").await?];
    Ok((cluster, pods))
}

async fn talk(pods: &[Pod; 2]) -> Result<()> {
    for family in Family::ALL {
        pods[0].reaches(pods[1].address(family)).await?;
        pods[1].reaches(pods[0].address(family)).await?;
    }
    Ok(())
}

/// Waits until `weft status` on the node says these words.
async fn says(cluster: &Cluster, node: &str, words: &[&str]) -> Result<()> {
    wait::until(&format!("{node} to say {words:?}"), wait::PATIENCE, async || {
        let status = cluster.agent(node).weft().run(&["status"]).await?;
        ensure!(words.iter().all(|word| status.contains(word)), "{status}");
        Ok(())
    })
    .await
}

/// The join token's place on a node.
fn token(cluster: &Cluster, node: &str) -> PathBuf {
    cluster.agent(node).state().with_file_name("token")
}

lab_test!(after_a_weekend_without_the_controller_every_node_is_back_by_itself, async || {
    let (cluster, pods) = cluster("").await?;
    cluster.controller().kill().await?;
    for node in NODES {
        // Whoever comes back does so without one.
        std::fs::remove_file(token(&cluster, node))?;
        says(&cluster, node, &["has renewed it: bring one back within", "weft token create"]).await?;
    }
    talk(&pods).await?;
    // One of them is started anew meanwhile, and has nothing but its disk.
    cluster.agent("b1").kill().await?;
    cluster.agent("b1").start().await?;
    cluster.agent("b1").ready().await?;
    says(&cluster, "b1", &["bring one back within"]).await?;
    talk(&pods).await?;

    cluster.controller().start().await?;
    cluster.connected().await?;
    cluster.ready().await?;
    talk(&pods).await?;
    for node in NODES {
        let status = cluster.agent(node).weft().run(&["status"]).await?;
        ensure!(!status.contains("the certificate of node"), "{status}");
        let log = std::fs::read_to_string(cluster.agent(node).log().await?)?;
        ensure!(log.contains("certificate renewed after its end"), "{log}");
    }
    Ok(())
});

lab_test!(a_node_whose_grace_is_over_says_what_it_needs_and_comes_back_with_that, async || {
    let (cluster, pods) = cluster("renewalGrace: 0").await?;
    cluster.controller().kill().await?;
    for node in NODES {
        says(&cluster, node, &["unless a controller still renews it, the node needs a new token"]).await?;
    }
    cluster.controller().start().await?;
    for node in NODES {
        says(&cluster, node, &["received fatal alert", &format!("`weft token create {node}`")]).await?;
    }
    talk(&pods).await?;
    for node in NODES {
        std::fs::write(token(&cluster, node), cluster.controller().token(node).await?)?;
    }
    cluster.connected().await?;
    talk(&pods).await
});
