//! `weft status`.

mod agent;
mod controller;
mod kubernetes;
mod pools;

use serde::Serialize;
use weft_proto::v1;

use self::{agent::Agent, controller::Controller, kubernetes::Kubernetes};
use crate::{
    args::{Output, Target},
    connect::{self, Answerer},
    output,
};

/// Prints how a controller, a cluster or an agent stands. An agent that is not ready makes the command fail, and so does
/// a cluster where no controller leads, so that scripts see it.
pub(crate) async fn run(target: &Target, form: Output) -> anyhow::Result<()> {
    match connect::any(target).await? {
        Answerer::Controller(controller) => {
            let answer = controller.ask(async |mut client| client.get_status(v1::GetStatusRequest {}).await).await?;
            show(&Controller::new(&answer)?, form)
        }
        Answerer::Kubernetes(cluster) => {
            let (status, absence) = Kubernetes::ask(&cluster).await?;
            show(&status, form)?;
            absence.map_or(Ok(()), |absence| Err(anyhow::anyhow!("{absence}: look at the pods of weft-controller")))
        }
        Answerer::Agent(mut agent) => {
            let answer =
                agent.ask(async |mut client| client.get_agent_status(v1::GetAgentStatusRequest {}).await).await?;
            let agent = Agent::new(&answer)?;
            show(&agent, form)?;
            anyhow::ensure!(agent.ready, "node {} is not ready: {}", agent.node, agent.message);
            Ok(())
        }
    }
}

/// A table here is the YAML: both are one fact a line.
fn show(status: &impl Serialize, form: Output) -> anyhow::Result<()> {
    output::text(&match form {
        Output::Json => output::json(status, false)?,
        Output::Yaml | Output::Table | Output::Wide => output::yaml(status)?,
    })
}

fn revision(wire: v1::Revision) -> String {
    format!("{}.{}", wire.epoch, wire.sequence)
}
