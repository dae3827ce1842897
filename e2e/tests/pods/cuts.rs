//! The agent killed at each step of a pod's life, with or without the plugin: the runtime's next DEL or ADD mends it.

use std::fs;

use anyhow::{Context, Result, ensure};
use weft_e2e::{
    cluster::{Agent, Cluster},
    lab::{LabSpec, Namespace, wait},
    lab_test,
};

use crate::{
    plugin::{plugin, succeeds},
    settled::{self, settled},
};

const ADD: [&str; 4] = ["allocate-before-journal", "allocate-after-journal", "attach-before-host", "attach-after-host"];
const DEL: [&str; 3] = ["release-before-host", "release-before-journal", "release-after-journal"];

async fn restart(agent: &Agent, fault: Option<&'static str>) -> Result<()> {
    agent.set_fault(fault);
    agent.start().await?;
    agent.ready().await
}

/// No release waits to be carried out.
fn nothing_noted(agent: &Agent) -> Result<()> {
    let notes = fs::read_dir(agent.socket().with_file_name("released")).into_iter().flatten().count();
    ensure!(notes == 0, "{notes} releases are noted still");
    Ok(())
}

lab_test!(killed_at_any_step_the_agent_leaves_nothing_to_nobody, async || {
    let cluster = Cluster::start(LabSpec::default().hosts(1)).await?;
    let (agent, there) = (cluster.agent("a1"), cluster.pod("b1", "there").await?);
    let bystander = cluster.pod("a1", "bystander").await?;
    agent.kill().await?;
    for (step, dies, next) in cuts() {
        let what = format!("{step}, {}, then {next}", if dies { "plugin dies too" } else { "plugin lives" });
        let net = Namespace::create(&format!("{step}-{dies}-{next}"))?;
        if DEL.contains(&step) {
            restart(&agent, None).await?;
            succeeds(&agent, "ADD", &net).await?;
            agent.kill().await?;
        }
        restart(&agent, Some(step)).await?;
        let verb = if DEL.contains(&step) { "DEL" } else { "ADD" };
        let fault = match (dies, verb) {
            (false, _) => "",
            (true, "ADD") => "before-rollback",
            (true, _) => "after-note",
        };
        let cut = plugin(&agent, verb, &net, fault).await?;
        ensure!(cut.status.code().is_none() == dies && (verb == "DEL" || !cut.status.success()), "{what}: {cut:?}");
        agent.ended().await.with_context(|| what.clone())?;
        restart(&agent, None).await?;
        let result = succeeds(&agent, next, &net).await.with_context(|| what.clone())?;
        if next == "ADD" {
            settled(&agent, 2).await.with_context(|| what.clone())?;
            for ip in settled::addresses(&result) {
                ensure!(bystander.addresses().iter().all(|held| *held != ip), "{what}: {ip} is doubled");
                there.reaches(ip).await.with_context(|| what.clone())?;
            }
            succeeds(&agent, "DEL", &net).await?;
        }
        settled(&agent, 1).await.with_context(|| what.clone())?;
        wait::until(&what, wait::PATIENCE, async || nothing_noted(&agent)).await?;
        agent.kill().await?;
    }
    // What the journal says, and nothing else.
    restart(&agent, None).await?;
    settled(&agent, 1).await?;
    bystander.check().await
});

/// Every step, with the plugin's death and without, before a DEL and before an ADD.
fn cuts() -> impl Iterator<Item = (&'static str, bool, &'static str)> {
    let ends = [(false, "DEL"), (false, "ADD"), (true, "DEL"), (true, "ADD")];
    let all = ADD.into_iter().chain(DEL).flat_map(move |step| ends.map(|(dies, next)| (step, dies, next)));
    // A plugin without an allocation has nothing to take back.
    all.filter(|(step, dies, _)| !(*dies && step.starts_with("allocate")))
}
