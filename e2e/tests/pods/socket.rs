//! The agent's socket under many clients, and one attachment in many hands: nobody is kept out, nobody takes away what is
//! another's.

use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, ensure};
use futures::future::{join_all, try_join_all};
use weft_core::types::Family;
use weft_e2e::{
    cluster::{Agent, Cluster},
    lab::{LabSpec, Namespace, wait},
    lab_test,
};

use crate::{
    plugin::{plugin, succeeds},
    settled::{self, settled},
};

/// Clients that ask nothing.
const IDLE: usize = 60;
/// As many as the socket has to serve at once, and as many pods as a node starts at once.
const FULL: (usize, usize) = (256, 110);

/// Connects to the socket and says nothing.
fn idle(agent: &Agent, count: usize) -> Result<Vec<UnixStream>> {
    let connect = |number| UnixStream::connect(agent.socket()).with_context(|| format!("client {number} is refused"));
    (0..count).map(connect).collect()
}

/// Takes an address of the node's own away, and waits until it is back.
async fn is_repaired(agent: &Agent) -> Result<()> {
    let show = ["ip", "-4", "-o", "address", "show", "dev", "weft0"];
    agent.host().run(&["ip", "address", "flush", "dev", "weft0"]).await?;
    wait::until("the address of weft0 to be put back", wait::PATIENCE, async || {
        ensure!(!agent.host().run(&show).await?.trim().is_empty(), "it is gone");
        Ok(())
    })
    .await
}

lab_test!(idle_clients_cost_neither_repairs_nor_pods, async || {
    let cluster = Cluster::start(LabSpec::default().hosts(1)).await?;
    let agent = cluster.agent("a1");
    // Fewer descriptors than there are clients: what they could take is all that there is.
    agent.stop().await?;
    agent.limit_open_files(64);
    agent.start().await?;
    cluster.ready().await?;
    let there = cluster.pod("b1", "there").await?;
    let clients = idle(&agent, IDLE)?;
    is_repaired(&agent).await?;
    let pod = cluster.pod("a1", "beside-the-idle").await?;
    pod.reaches(there.address(Family::V4)).await?;
    let log = std::fs::read_to_string(agent.log().await?)?;
    ensure!(!log.contains("os error 24"), "it ran out of descriptors: {log}");
    drop(clients);
    Ok(())
});

lab_test!(a_full_node_of_pods_is_served_beside_as_many_idle_clients_as_it_can_have, async || {
    let cluster = Cluster::start(LabSpec::default().hosts(1)).await?;
    let agent = cluster.agent("a1");
    let (idlers, pods) = FULL;
    let clients = idle(&agent, idlers)?;
    let nets: Vec<Namespace> =
        (0..pods).map(|number| Namespace::create(&format!("full-{number}"))).collect::<Result<_>>()?;
    try_join_all(nets.iter().map(|net| succeeds(&agent, "ADD", net))).await?;
    settled(&agent, pods).await?;
    try_join_all(nets.iter().map(|net| succeeds(&agent, "DEL", net))).await?;
    settled(&agent, 0).await?;
    drop(clients);
    Ok(())
});

lab_test!(three_adds_of_one_attachment_at_once_make_one_pod, async || {
    let cluster = Cluster::start(LabSpec::default().hosts(1)).await?;
    let (agent, there) = (cluster.agent("a1"), cluster.pod("b1", "there").await?);
    for round in 0..5 {
        let net = Namespace::create(&format!("thrice-{round}"))?;
        let results = try_join_all((0..3).map(|_| succeeds(&agent, "ADD", &net))).await?;
        let held = settled::addresses(&results[0]);
        ensure!(results.iter().all(|result| settled::addresses(result) == held), "round {round}: {results:?}");
        settled(&agent, 1).await.with_context(|| format!("round {round}"))?;
        for ip in held {
            there.reaches(ip).await.with_context(|| format!("round {round}"))?;
        }
        let verbs = ["DEL", "ADD", "DEL"].map(|verb| succeeds(&agent, verb, &net));
        join_all(verbs).await.into_iter().collect::<Result<Vec<_>>>()?;
        succeeds(&agent, "DEL", &net).await?;
        settled(&agent, 0).await.with_context(|| format!("round {round}"))?;
    }
    Ok(())
});

lab_test!(an_add_that_fails_takes_no_pod_away_that_stands, async || {
    let cluster = Cluster::start(LabSpec::default().hosts(1)).await?;
    let (agent, there) = (cluster.agent("a1"), cluster.pod("b1", "there").await?);
    let net = Namespace::create("stands")?;
    let result = succeeds(&agent, "ADD", &net).await?;
    agent.stop().await?;
    agent.set_fault(Some("attach-before-host"));
    agent.start().await?;
    agent.ready().await?;
    ensure!(!plugin(&agent, "ADD", &net, "").await?.status.success(), "its agent died and it succeeded");
    agent.ended().await?;
    agent.set_fault(None);
    agent.start().await?;
    cluster.ready().await?;
    settled(&agent, 1).await?;
    for ip in settled::addresses(&result) {
        there.reaches(ip).await?;
    }
    Ok(())
});
