//! Whom to ask, and the channel there.
//!
//! Owns the choice. Must never ask another than the one that was named.

mod agent;
mod controller;

use std::path::{Path, PathBuf};

pub(crate) use self::{agent::Agent, controller::Controller};

use crate::{
    args::Target,
    kubernetes::{self, Cluster},
};

const DEFAULT_SOCKET: &str = "/run/weft/agent.sock";
/// The peer list of 10,000 nodes has about 3 MB.
const LARGEST_ANSWER: usize = 64 << 20;

/// Who answers.
pub(crate) enum Answerer {
    /// A controller.
    Controller(Controller),
    /// The agent of this node.
    Agent(Agent),
    /// The Kubernetes API.
    Kubernetes(Cluster),
}

/// Whoever was named, or is nearest.
pub(crate) async fn any(target: &Target) -> anyhow::Result<Answerer> {
    let socket = target.socket.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET));
    if kubernetes::is_asked(target, &socket) {
        return Ok(Answerer::Kubernetes(Cluster::new(&target.kubernetes).await?));
    }
    if target.controller.is_some() {
        return Ok(Answerer::Controller(Controller::connect(target).await?));
    }
    let hint = "as root, where weft-agent runs, this asks it; give --socket if its socket is elsewhere, --controller and \
                --identity to ask a controller, or --kubernetes to ask the Kubernetes API";
    let agent = Agent::connect(socket).await.map_err(|error| anyhow::anyhow!("{error}; {hint}"))?;
    Ok(Answerer::Agent(agent))
}

/// The controller: for what only a standalone one can do.
pub(crate) async fn standalone(target: &Target) -> anyhow::Result<Controller> {
    refuse_kubernetes(target)?;
    Controller::connect(target).await
}

/// What a standalone cluster has and Kubernetes does in another way.
fn refuse_kubernetes(target: &Target) -> anyhow::Result<()> {
    anyhow::ensure!(
        !kubernetes::is_asked(target, Path::new(DEFAULT_SOCKET)),
        "in Kubernetes a node joins with its agent's pod and leaves with its Node object: use `kubectl delete node \
         NAME`; for a standalone cluster give --controller HOST:PORT and --identity DIR"
    );
    Ok(())
}

/// The sentence of a refusal.
pub(crate) fn refusal(status: &tonic::Status) -> anyhow::Error {
    match status.code() {
        tonic::Code::Unimplemented => anyhow::anyhow!("the other side is of another version: {}", status.message()),
        _ => anyhow::anyhow!("{}", status.message()),
    }
}
