//! The cluster: who is a member, who is connected, and how everybody stands.
//!
//! Owns all of the controller's state in one task, the [`actor`]; this handle sends it commands. Every change goes
//! through the store first and to the streams afterwards. Must never know what carries it: no gRPC, TLS or file below
//! here.

mod actor;
mod admission;
mod announce;
mod cleanup;
mod commands;
mod held_settings;
mod nodes;
mod pace;
mod paths;
mod peers;
mod publisher;
mod quarantine;
mod refusal;
mod registry;
mod roll;
mod rules;
mod sessions;
mod streams;

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use weft_core::{
    alloc::Usage,
    settings::Settings,
    standing::{Facts, Health, Peer},
    types::{NodeName, Revision, UnixMs},
};

pub(crate) use actor::{failure, start};
pub(crate) use admission::AdmissionRule;
pub(crate) use cleanup::CleanUpStanding;
pub(crate) use nodes::{Admitted, AllNodes, NodeSeen};
pub(crate) use paths::Reach;
pub(crate) use peers::{NodeStanding, Probed};
pub use refusal::Refusal;
pub(crate) use registry::RegistryError;
pub(crate) use roll::Roll;
pub(crate) use rules::Rules;

use crate::{
    fanout::Fanout,
    pki::JoinToken,
    store::{StoreError, TokenRecord},
};

/// Why the cluster could not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the store holds contradicts the configuration.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// A node that wants to become a member.
#[derive(Debug)]
pub(crate) struct JoinAsk {
    pub(crate) node: NodeName,
    pub(crate) token: JoinToken,
    /// SHA-256 of the public key that the certificate will hold.
    pub(crate) key_hash: [u8; 32],
}

/// A node in one of its lives, as its certificate names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeIdentity {
    pub(crate) name: NodeName,
    pub(crate) incarnation: u64,
    /// When the certificate ends, Unix time in seconds.
    pub(crate) ends_unix: i64,
}

/// An agent that opens its stream.
#[derive(Debug)]
pub(crate) struct ConnectAsk {
    pub(crate) identity: NodeIdentity,
    /// Where it connects from.
    pub(crate) source: IpAddr,
    /// Which of the controller's addresses it connects to.
    pub(crate) own: IpAddr,
    pub(crate) facts: Option<Facts>,
}

/// A stream that was accepted.
#[derive(Debug)]
pub(crate) struct Session {
    /// Distinguishes it from other streams of the same node.
    pub(crate) id: u64,
    /// Says why the stream must end.
    pub(crate) closed: oneshot::Receiver<Refusal>,
}

/// A report whose facts were checked.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) applied: Option<Revision>,
    pub(crate) facts: Option<Facts>,
    pub(crate) health: Option<Health>,
    /// Nothing of Weft's is left on the node.
    pub(crate) cleaned_up: bool,
}

/// How the controller stands.
#[derive(Debug, Clone)]
pub(crate) struct Status {
    pub(crate) revision: Revision,
    pub(crate) settings: Arc<Settings>,
    /// Members whose agents are too old for settings that are held back until they are upgraded.
    pub(crate) awaited_agents: Vec<NodeName>,
    pub(crate) members: usize,
    pub(crate) connected: usize,
    /// What every stream that counts has acknowledged; none while one of them has not acknowledged anything.
    pub(crate) acknowledged: Option<Revision>,
    pub(crate) pools: Vec<Usage>,
    pub(crate) started: UnixMs,
    /// Who gives pod CIDRs to Nodes; none without Kubernetes, and while that is open.
    pub(crate) allocates: Option<crate::config::NodeCidrs>,
}

type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

enum Command {
    Join(JoinAsk, Reply<u64>),
    Renewing(NodeIdentity, Reply<()>),
    Renewed(NodeName, u64, i64),
    Connect(ConnectAsk, u64, Reply<Session>),
    Report(NodeName, u64, Report, IpAddr),
    Disconnect(NodeName, u64),
    AddToken(TokenRecord, Reply<()>),
    DeleteNode(NodeName, Reply<Revision>),
    Node(nodes::NodeCommand),
    Peers(Reply<Arc<Vec<Peer>>>),
    Standings(Reply<Arc<Vec<NodeStanding>>>),
    Status(Reply<Status>),
    /// From now on every agent is to clean up, or none is.
    CleanUp(bool, Reply<()>),
    CleanUpStanding(Reply<CleanUpStanding>),
    Stop(oneshot::Sender<()>),
}

/// The way to the cluster's task.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    commands: mpsc::Sender<Command>,
    fanout: Arc<Fanout>,
    roll: Arc<Roll>,
    /// Rises whenever the peer list may have changed.
    peers_version: watch::Receiver<u64>,
    /// Rises whenever pod CIDRs became free, or everything was read again.
    freed: watch::Receiver<u64>,
    /// What agents said of their nodes and was refused.
    complaints: broadcast::Sender<(NodeName, Refusal)>,
    next_session: Arc<AtomicU64>,
}

impl Cluster {
    /// The membership as streams see it.
    pub(crate) fn fanout(&self) -> &Arc<Fanout> {
        &self.fanout
    }

    /// Whose certificates count.
    pub(crate) fn roll(&self) -> &Arc<Roll> {
        &self.roll
    }

    /// Rises whenever the peer list may have changed.
    pub(crate) fn peers_version(&self) -> watch::Receiver<u64> {
        self.peers_version.clone()
    }

    /// False once the task has ended.
    pub(crate) fn is_alive(&self) -> bool {
        !self.commands.is_closed()
    }

    /// Takes a node in; answers with its incarnation.
    pub(crate) async fn join(&self, ask: JoinAsk) -> Result<u64, Refusal> {
        self.ask(|reply| Command::Join(ask, reply)).await
    }

    /// Checks that a node may have a new certificate.
    pub(crate) async fn renewing(&self, identity: NodeIdentity) -> Result<(), Refusal> {
        self.ask(|reply| Command::Renewing(identity, reply)).await
    }

    /// Lets the open stream of a node live as long as its new certificate.
    pub(crate) async fn renewed(&self, name: NodeName, incarnation: u64, ends_unix: i64) {
        self.tell(Command::Renewed(name, incarnation, ends_unix)).await;
    }

    /// Opens a stream.
    pub(crate) async fn connect(&self, ask: ConnectAsk) -> Result<Session, Refusal> {
        let id = self.next_session.fetch_add(1, Ordering::Relaxed);
        self.ask(|reply| Command::Connect(ask, id, reply)).await
    }

    /// Passes on what an agent said on its stream.
    pub(crate) async fn report(&self, node: NodeName, session: u64, report: Report, source: IpAddr) {
        self.tell(Command::Report(node, session, report, source)).await;
    }

    /// A stream has ended.
    pub(crate) async fn disconnect(&self, node: NodeName, session: u64) {
        self.tell(Command::Disconnect(node, session)).await;
    }

    /// Adds a join token.
    pub(crate) async fn add_token(&self, token: TokenRecord) -> Result<(), Refusal> {
        self.ask(|reply| Command::AddToken(token, reply)).await
    }

    /// Ends a membership; answers with the revision from which on it has ended.
    pub(crate) async fn delete_node(&self, name: NodeName) -> Result<Revision, Refusal> {
        self.ask(|reply| Command::DeleteNode(name, reply)).await
    }

    /// The peer list.
    pub(crate) async fn peers(&self) -> Result<Arc<Vec<Peer>>, Refusal> {
        self.ask(Command::Peers).await
    }

    /// How every node stands, by name.
    pub(crate) async fn standings(&self) -> Result<Arc<Vec<NodeStanding>>, Refusal> {
        self.ask(Command::Standings).await
    }

    /// How the controller stands.
    pub(crate) async fn status(&self) -> Result<Status, Refusal> {
        self.ask(Command::Status).await
    }

    /// Has every agent remove everything of Weft's from its node, and takes no node in any more; or calls that off. Asking
    /// for what is so already changes nothing.
    pub(crate) async fn order_clean_up(&self, is_on: bool) -> Result<(), Refusal> {
        self.ask(|reply| Command::CleanUp(is_on, reply)).await
    }

    /// True while every agent is to clean up.
    pub(crate) fn is_cleaning_up(&self) -> bool {
        self.fanout.clean_up().is_some()
    }

    /// How far the nodes are with it.
    pub(crate) async fn clean_up_standing(&self) -> Result<CleanUpStanding, Refusal> {
        self.ask(Command::CleanUpStanding).await
    }

    /// Ends all streams and the task, after whatever was asked before.
    pub(crate) async fn stop(&self) {
        let (reply, stopped) = oneshot::channel();
        self.tell(Command::Stop(reply)).await;
        let _gone_already = stopped.await;
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.tell(command(reply)).await;
        answer.await.unwrap_or(Err(Refusal::Stopping))
    }

    async fn tell(&self, command: Command) {
        // A task that has ended drops the reply, which is how the asker learns of it.
        let _ended = self.commands.send(command).await;
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
pub(crate) mod tests;
