//! How the rest of the agent asks the loop.

use tokio::sync::{mpsc, oneshot};
use weft_core::{desired::Pod, standing::Peer, types::LinkName};

use super::{EngineError, Problem};
use crate::pods::HostSide;

/// A question or an order to the loop, with where the answer goes.
#[derive(Debug)]
pub enum Request {
    /// Program the host's side of a pod and read it back.
    EnsurePod(Pod, oneshot::Sender<Result<(), EngineError>>),
    /// Remove the host's side of a pod.
    RemovePod(LinkName, oneshot::Sender<Result<(), EngineError>>),
    /// What is wrong with the host's side of a pod, read now.
    CheckPod(LinkName, oneshot::Sender<Vec<String>>),
    /// The peer list, read now.
    Peers(oneshot::Sender<Result<Vec<Peer>, EngineError>>),
    /// Put nothing into the kernel any more, and say this of the node.
    Halt(Problem, oneshot::Sender<()>),
    /// Remove everything of ours from the kernel; only after [`Request::Halt`].
    Clear(oneshot::Sender<Result<usize, EngineError>>),
    /// Packets dropped so far.
    Dropped(oneshot::Sender<Dropped>),
}

/// Packets dropped since the table was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Tunnel packets that pods sent.
    pub tunnel_from_pods: u64,
    /// Tunnel packets from addresses that no member has.
    pub tunnel_from_strangers: u64,
    /// Tunnel packets of members that do not come from their own pods.
    pub tunnel_forged: u64,
    /// Packets of pods under addresses that are not theirs.
    pub forged_by_pods: u64,
    /// Packets of pods to their gateway's own address.
    pub pods_to_gateway: u64,
}

/// Asks the loop.
#[derive(Debug, Clone)]
pub struct Handle(mpsc::Sender<Request>);

impl Handle {
    /// A handle with the receiver that the loop reads.
    pub fn new() -> (Self, mpsc::Receiver<Request>) {
        let (sender, receiver) = mpsc::channel(64);
        (Self(sender), receiver)
    }

    /// Programs the host's side of `pod`; returns once it was read back.
    pub async fn ensure_pod(&self, pod: Pod) -> Result<(), EngineError> {
        self.ask(|answer| Request::EnsurePod(pod, answer)).await?
    }

    /// Removes the host's side of the pod behind `link`.
    pub async fn remove_pod(&self, link: LinkName) -> Result<(), EngineError> {
        self.ask(|answer| Request::RemovePod(link, answer)).await?
    }

    /// What is wrong with the host's side of the pod behind `link`.
    pub async fn check_pod(&self, link: LinkName) -> Result<Vec<String>, EngineError> {
        self.ask(|answer| Request::CheckPod(link, answer)).await
    }

    /// The peer list as the kernel holds it now.
    pub async fn peers(&self) -> Result<Vec<Peer>, EngineError> {
        self.ask(Request::Peers).await?
    }

    /// Has the loop put nothing into the kernel any more, and name `problem` as the reason; what it was at is over then.
    pub async fn halt(&self, problem: Problem) -> Result<(), EngineError> {
        self.ask(|answer| Request::Halt(problem, answer)).await
    }

    /// Removes everything of ours from the kernel; returns how many objects that were. The loop has halted before.
    pub async fn clear(&self) -> Result<usize, EngineError> {
        self.ask(Request::Clear).await?
    }

    /// Packets dropped so far.
    pub async fn dropped(&self) -> Result<Dropped, EngineError> {
        self.ask(Request::Dropped).await
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, EngineError> {
        let (sender, receiver) = oneshot::channel();
        self.0.send(request(sender)).await.map_err(|_| EngineError::Stopping)?;
        receiver.await.map_err(|_| EngineError::Stopping)
    }
}

impl HostSide for Handle {
    type Error = EngineError;

    async fn ensure(&self, pod: Pod) -> Result<(), EngineError> {
        self.ensure_pod(pod).await
    }

    async fn remove(&self, link: LinkName) -> Result<(), EngineError> {
        self.remove_pod(link).await
    }

    async fn check(&self, link: LinkName) -> Vec<String> {
        self.check_pod(link).await.unwrap_or_else(|error| vec![error.to_string()])
    }
}
