//! The one stream to the controller, opened again whenever it ends.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use rustls::ClientConfig;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tracing::{info, warn};
use weft_core::{membership::Digest, types::NodeName};
use weft_proto::{
    connect,
    convert::{self, Facts, SnapshotBuilder},
    v1::{
        self, membership_service_client::MembershipServiceClient, watch_request::Message as Sent,
        watch_response::Message as Received,
    },
};

use super::{
    ConnectionStatus, Held, Identity, JoinToken, Order, Standing, Update,
    identity::Vault,
    join::{self, JoinError},
    source, tls,
};

const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Snapshots come in chunks of about a hundred members; a message far beyond that is hostile.
const LARGEST_MESSAGE: usize = 4 << 20;

/// The channels between the client and the rest of the agent.
#[derive(Debug)]
pub struct Links {
    /// To the engine.
    pub updates: mpsc::Sender<Update>,
    /// From the engine: what it holds.
    pub held: watch::Receiver<Held>,
    /// From the engine: this node's facts, once known.
    pub facts: watch::Receiver<Option<Facts>>,
    /// From the engine: how this node stands.
    pub standing: watch::Receiver<Standing>,
    /// To whoever carries it out: what is wanted of this node as a whole.
    pub order: watch::Sender<Order>,
    /// From there: true once nothing of Weft's is left on this node.
    pub cleaned_up: watch::Receiver<bool>,
    /// To whoever wants to know how the connection is.
    pub status: watch::Sender<ConnectionStatus>,
}

/// The agent's client of the controller.
#[derive(Debug)]
pub struct Client {
    node: NodeName,
    controllers: Vec<String>,
    token_file: Option<PathBuf>,
    vault: Vault,
    links: Links,
    login: Option<Arc<Login>>,
}

/// The identity in use, with the TLS configuration that remembers its sessions. Kept as long as the disk holds the same.
#[derive(Debug)]
struct Login {
    identity: Identity,
    tls: Arc<ClientConfig>,
}

/// Why a stream ended.
enum Ended {
    /// The certificate is due: renewed, connect again at once.
    Renewed,
    /// The engine could not use an update: connect again at once with what it holds.
    Resync,
    /// The node lost the address that the connection has: connect again at once from another.
    Moved,
}

/// The controller does not know this identity any more.
#[derive(Debug, thiserror::Error)]
#[error("the controller refuses this node's identity: {0}; if the node was deleted, join again with a new token")]
struct Refused(String);

impl Client {
    /// A client of `controllers`, each as HOST:PORT.
    pub fn new(
        node: NodeName,
        controllers: Vec<String>,
        token_file: Option<PathBuf>,
        state_dir: &std::path::Path,
        links: Links,
    ) -> anyhow::Result<Self> {
        Ok(Self { node, controllers, token_file, vault: Vault::in_dir(state_dir)?, links, login: None })
    }

    /// Runs until the engine is gone. Never gives up: without a controller the node lives on what it holds.
    pub async fn run(mut self) {
        let mut wait = FIRST_WAIT;
        for controller in self.controllers.clone().iter().cycle() {
            if self.links.updates.is_closed() {
                return;
            }
            match self.session(controller).await {
                Ok(Ended::Renewed) => {
                    wait = FIRST_WAIT;
                    continue;
                }
                Ok(Ended::Resync | Ended::Moved) => wait = FIRST_WAIT,
                Err(error) => {
                    if self.links.status.borrow().connected {
                        wait = FIRST_WAIT;
                    }
                    self.say_disconnected(controller, &format!("{error:#}"));
                }
            }
            // Full jitter: agents that lost one controller together must not return together.
            let pause = wait.mul_f64(0.5 + fastrand::f64() / 2.0);
            tokio::time::sleep(pause).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    fn say_disconnected(&self, controller: &str, message: &str) {
        let changed = self.links.status.send_if_modified(|status| {
            let changed = status.connected || status.message != message;
            status.connected = false;
            controller.clone_into(&mut status.controller);
            message.clone_into(&mut status.message);
            changed
        });
        if changed {
            warn!(controller, "not connected: {message}");
        }
    }

    /// Connects, joins where needed, and keeps the stream until it ends.
    async fn session(&mut self, controller: &str) -> anyhow::Result<Ended> {
        let address = connect::resolve(controller).await?;
        self.links.status.send_if_modified(|status| {
            let changed = status.address != Some(address.ip());
            status.address = Some(address.ip());
            changed
        });
        let login = self.login(address).await?;
        let channel = connect::controller(address, Arc::clone(&login.tls)).await?;
        let from = source::towards(address);
        let ended = self.watch(controller, channel, &login.identity, from).await;
        if ended.as_ref().is_err_and(|error| error.is::<Refused>()) && self.has_new_token() {
            info!("the identity is refused and there is a new token: joining again");
            self.join(address).await?;
            return Ok(Ended::Renewed);
        }
        ended
    }

    /// What was used last, unless another identity is stored by now.
    async fn login(&mut self, address: SocketAddr) -> anyhow::Result<Arc<Login>> {
        let usable =
            |login: &&Arc<Login>| self.vault.holds(&login.identity) && !login.identity.is_over(SystemTime::now());
        if let Some(login) = self.login.as_ref().filter(usable) {
            return Ok(Arc::clone(login));
        }
        let identity = self.identity(address).await?;
        let login = Arc::new(Login { tls: tls::for_identity(&identity)?, identity });
        self.login = Some(Arc::clone(&login));
        Ok(login)
    }

    /// The stored identity, or one that the token buys.
    async fn identity(&self, address: SocketAddr) -> anyhow::Result<Identity> {
        match self.vault.load()? {
            Some(identity) if !identity.is_over(SystemTime::now()) => Ok(identity),
            Some(_) if !self.has_new_token() => {
                anyhow::bail!("the certificate of node {} has ended: join again with a new token", self.node)
            }
            _ => self.join(address).await,
        }
    }

    fn has_new_token(&self) -> bool {
        let token = self.token_file.as_deref().and_then(|path| JoinToken::read(path).ok());
        token.is_some_and(|token| self.vault.token_id().as_deref() != Some(token.id()))
    }

    async fn join(&self, address: SocketAddr) -> anyhow::Result<Identity> {
        let path = self.token_file.as_deref().with_context(|| {
            format!("node {} has no certificate yet: give a join token with --token-file", self.node)
        })?;
        let token = JoinToken::read(path)?;
        let channel = connect::controller(address, tls::for_fingerprint(token.ca_fingerprint())).await?;
        match join::join(channel, &self.node, &token, &self.vault).await {
            Ok(identity) => {
                info!(node = %self.node, "joined");
                Ok(identity)
            }
            Err(JoinError::Other(error)) => Err(error),
            Err(refused) => Err(refused.into()),
        }
    }

    /// Keeps a stream of `channel`, whose connection is from the address `from`, until it ends.
    async fn watch(
        &self,
        controller: &str,
        channel: Channel,
        identity: &Identity,
        from: Option<IpAddr>,
    ) -> anyhow::Result<Ended> {
        let (sender, receiver) = mpsc::channel(4);
        let mut reporter = Reporter::new(&self.node, &self.links, sender).await?;
        let mut client = MembershipServiceClient::new(channel.clone()).max_decoding_message_size(LARGEST_MESSAGE);
        let mut stream =
            client.watch(ReceiverStream::new(receiver)).await.map_err(|status| ended(&status))?.into_inner();
        let renewal = tokio::time::sleep(identity.renew_in(SystemTime::now()));
        tokio::pin!(renewal);
        let mut snapshot = SnapshotBuilder::default();
        loop {
            tokio::select! {
                message = stream.message() => {
                    let message = message.map_err(|status| ended(&status))?.context("the controller closed the stream")?;
                    self.links.status.send_if_modified(|status| connected(status, controller));
                    self.receive(message, reporter.told, &mut snapshot).await?;
                }
                standing = reporter.changed() => match standing? {
                    Changed::Resync => return Ok(Ended::Resync),
                    Changed::Report(report) if report.facts.is_some() && !from.is_none_or(source::is_here) => {
                        info!(controller, "this node's address has changed: connecting anew");
                        return Ok(Ended::Moved);
                    }
                    Changed::Report(report) => reporter.send(report).await?,
                },
                () = &mut renewal => {
                    join::renew(channel, &self.node, &self.vault).await?;
                    info!(node = %self.node, "certificate renewed");
                    return Ok(Ended::Renewed);
                }
            }
        }
    }

    /// Hands a message on; `told` is the digest in the stream's Hello.
    async fn receive(
        &self,
        message: v1::WatchResponse,
        told: Option<Digest>,
        snapshot: &mut SnapshotBuilder,
    ) -> anyhow::Result<()> {
        let revision = message.revision.context("the controller sent a message without a revision")?;
        let message = message.message.context("the controller sent an empty message")?;
        self.links.order.send_if_modified(|order| changed(order, &message));
        let update = match message {
            // From now on the engine is to hear of no member.
            _ if *self.links.order.borrow() != Order::Serve => return Ok(()),
            Received::CleanUp(_) => return Ok(()),
            Received::Current(_) => {
                let told = told.context("the controller found a membership current that it was not told of")?;
                Update::Current(revision.into(), told)
            }
            Received::Delta(delta) => Update::Delta(convert::delta(revision.into(), delta)?),
            Received::SnapshotChunk(chunk) => return Ok(snapshot.chunk(revision.into(), chunk)?),
            Received::SnapshotEnd(end) => {
                let digest = end.digest.clone();
                Update::Snapshot(std::mem::take(snapshot).end(revision.into(), end)?, digest)
            }
        };
        self.links.updates.send(update).await.context("the engine has ended")
    }
}

/// True where a message changes what is wanted of this node.
fn changed(order: &mut Order, message: &Received) -> bool {
    let next = match (*order, message) {
        (_, Received::CleanUp(_)) => Order::CleanUp,
        (Order::Serve, _) => Order::Serve,
        (Order::CleanUp | Order::CalledOff, _) => Order::CalledOff,
    };
    std::mem::replace(order, next) != next
}

fn connected(status: &mut ConnectionStatus, controller: &str) -> bool {
    let changed = !status.connected;
    if changed {
        info!(controller, "connected");
        status.connected = true;
        controller.clone_into(&mut status.controller);
        status.message.clear();
    }
    changed
}

fn ended(status: &tonic::Status) -> anyhow::Error {
    let message = status.message().to_owned();
    match status.code() {
        tonic::Code::Unauthenticated | tonic::Code::PermissionDenied => Refused(message).into(),
        code => anyhow::anyhow!("the stream ended: {code}: {message}"),
    }
}

/// What the engine's channels ask of the stream.
enum Changed {
    Report(v1::Report),
    Resync,
}

/// Sends the Hello, then whatever changed in this node's standing.
struct Reporter {
    held: watch::Receiver<Held>,
    facts: watch::Receiver<Option<Facts>>,
    standing: watch::Receiver<Standing>,
    cleaned_up: watch::Receiver<bool>,
    sender: mpsc::Sender<v1::WatchRequest>,
    sent: Standing,
    resyncs: u64,
    /// The digest in the Hello.
    told: Option<Digest>,
}

impl Reporter {
    /// Waits until the facts are known and queues the Hello and a first report.
    async fn new(node: &NodeName, links: &Links, sender: mpsc::Sender<v1::WatchRequest>) -> anyhow::Result<Self> {
        let (mut held, mut facts, mut standing) = (links.held.clone(), links.facts.clone(), links.standing.clone());
        let known =
            facts.wait_for(Option::is_some).await.context("the engine has ended")?.as_ref().map(v1::Facts::from);
        facts.mark_unchanged();
        let holds = held.borrow_and_update().clone();
        let hello = v1::Hello {
            node: node.to_string(),
            revision: holds.revision.map(Into::into),
            digest: holds.digest.map(|digest| digest.octets().to_vec()).unwrap_or_default(),
            facts: known,
        };
        let sent = standing.borrow_and_update().clone();
        let mut cleaned_up = links.cleaned_up.clone();
        let is_cleaned_up = *cleaned_up.borrow_and_update();
        let (resyncs, told) = (holds.resyncs, holds.digest);
        let mut reporter = Self { held, facts, standing, cleaned_up, sender, sent, resyncs, told };
        reporter.queue(Sent::Hello(hello)).await?;
        let first = v1::Report {
            applied: reporter.sent.applied.map(Into::into),
            facts: None,
            health: Some(reporter.sent.health.clone()),
            cleaned_up: is_cleaned_up,
        };
        reporter.send(first).await?;
        Ok(reporter)
    }

    /// Waits for something to say. Cancel safe: nothing is taken before it is returned.
    async fn changed(&mut self) -> anyhow::Result<Changed> {
        let over = "the engine has ended";
        loop {
            tokio::select! {
                result = self.held.changed() => {
                    result.context(over)?;
                    if self.held.borrow_and_update().resyncs != self.resyncs {
                        return Ok(Changed::Resync);
                    }
                }
                result = self.facts.changed() => {
                    result.context(over)?;
                    let facts = self.facts.borrow_and_update().as_ref().map(v1::Facts::from);
                    return Ok(Changed::Report(v1::Report { facts, ..Default::default() }));
                }
                result = self.standing.changed() => {
                    result.context(over)?;
                    let now = self.standing.borrow_and_update().clone();
                    let report = v1::Report {
                        applied: (now.applied != self.sent.applied).then_some(now.applied).flatten().map(Into::into),
                        facts: None,
                        health: (now.health != self.sent.health).then(|| now.health.clone()),
                        cleaned_up: false,
                    };
                    self.sent = now;
                    return Ok(Changed::Report(report));
                }
                Ok(()) = self.cleaned_up.changed() => {
                    let cleaned_up = *self.cleaned_up.borrow_and_update();
                    return Ok(Changed::Report(v1::Report { cleaned_up, ..Default::default() }));
                }
            }
        }
    }

    async fn send(&mut self, report: v1::Report) -> anyhow::Result<()> {
        self.queue(Sent::Report(report)).await
    }

    async fn queue(&mut self, message: Sent) -> anyhow::Result<()> {
        let request = v1::WatchRequest { message: Some(message) };
        self.sender.send(request).await.context("the stream to the controller has ended")
    }
}
