//! The one stream to the controller, opened again whenever it ends.

mod end;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tracing::{debug, info, warn};
use weft_core::{
    membership::Digests,
    standing::Facts,
    types::{Family, NodeName},
};
use weft_proto::{
    connect,
    convert::{self, SnapshotBuilder},
    v1::{self, membership_service_client::MembershipServiceClient, watch_response::Message as Received},
};

use self::end::{Ended, Refused, ended};
use super::{
    ConnectionStatus, Credentials, Deadlines, Held, Order, Standing, Update,
    book::Book,
    doors::{Doors, Elsewhere},
    identity::Vault,
    join::JoinError,
    login::{Desk, Login},
    reporter::{Changed, Reporter},
    source::{self, Source},
};
use crate::disk_trouble::DiskTrouble;

const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Where the controller refused to let the node join: what is wrong takes somebody to put it right, and each question may
/// cost the API server one.
const LONGEST_WAIT_REFUSED: Duration = Duration::from_secs(30);
/// A renewal that failed is tried again, as long as the certificate is good, after one to two of these.
const RENEW_AGAIN: Duration = Duration::from_secs(30);
/// The same where the certificate ends soon.
const RENEW_AGAIN_LEAST: Duration = Duration::from_millis(500);
/// What the disk did not take is offered to it again so often.
const DISK_AGAIN: Duration = Duration::from_secs(10);
/// A stream of less says nothing about the next one.
const LASTING: Duration = Duration::from_secs(30);
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
    doors: Doors,
    book: Option<Book>,
    desk: Desk,
    links: Links,
}

impl Client {
    /// A client of `controllers`, each as HOST:PORT.
    pub fn new(
        node: NodeName,
        controllers: Vec<String>,
        credentials: Credentials,
        state_dir: &Path,
        links: Links,
    ) -> anyhow::Result<Self> {
        let desk = Desk::new(node.clone(), credentials, Vault::in_dir(state_dir)?);
        Ok(Self { node, doors: Doors::new(controllers), book: None, desk, links })
    }

    /// The same, which tries those of the file `list` too, and keeps in `state_dir` which of them worked.
    #[must_use]
    pub fn with_list(self, list: Option<PathBuf>, state_dir: &Path) -> Self {
        Self { book: list.map(|list| Book::new(list, state_dir)), ..self }
    }

    /// The same, which says where it cannot write.
    #[must_use]
    pub fn telling(self, trouble: DiskTrouble) -> Self {
        Self { desk: self.desk.telling(trouble), ..self }
    }

    /// The moments of the certificate, where the end of one would cost the node its membership.
    pub fn deadlines(&self) -> watch::Receiver<Option<Deadlines>> {
        self.desk.deadlines()
    }

    /// Runs until the engine is gone. Never gives up: without a controller the node lives on what it holds.
    pub async fn run(mut self) {
        self.desk.look();
        let mut wait = FIRST_WAIT;
        while !self.links.updates.is_closed() {
            if let Some(book) = &self.book {
                self.doors.know(book.addresses());
            }
            let controller = self.doors.present();
            let mut longest = LONGEST_WAIT;
            let began = Instant::now();
            let ended = self.session(&controller).await;
            // One that ended at once would end at once again.
            if began.elapsed() >= LASTING {
                wait = FIRST_WAIT;
            }
            match ended {
                Ok(Ended::Renewed) => continue,
                Ok(Ended::Resync | Ended::Moved | Ended::RenewedLate) => {}
                Ok(Ended::JoinedAgain) => longest = LONGEST_WAIT_REFUSED,
                Err(error) => {
                    if self.desk.joins_at_will() && error.is::<JoinError>() {
                        longest = LONGEST_WAIT_REFUSED;
                    }
                    if self.leave(&controller, &error) {
                        wait = FIRST_WAIT;
                    }
                }
            }
            // Full jitter: agents that lost one controller together must not return together.
            tokio::time::sleep(wait.mul_f64(fastrand::f64())).await;
            wait = (wait * 2).min(longest);
        }
    }

    /// Says why there is no connection, and turns to the next controller: true where that is a leader just named.
    fn leave(&mut self, controller: &str, error: &anyhow::Error) -> bool {
        let leader = error.downcast_ref::<Elsewhere>().map(|elsewhere| elsewhere.leader);
        let follows = leader.is_some_and(|leader| self.doors.follow(leader, Instant::now()));
        if leader.is_none() {
            self.doors.failed(Instant::now());
        }
        let message = format!("{error:#}");
        let changed = self.links.status.send_if_modified(|status| {
            let changed = status.connected || status.message != message;
            status.connected = false;
            controller.clone_into(&mut status.controller);
            status.message.clone_from(&message);
            changed
        });
        match (changed, follows) {
            (true, true) => info!(controller, "turning to the leader: {message}"),
            (true, false) => warn!(controller, "not connected: {message}"),
            (false, _) => {}
        }
        follows
    }

    /// Connects, joins where needed, and keeps the stream until it ends.
    async fn session(&mut self, controller: &str) -> anyhow::Result<Ended> {
        let address = connect::resolve(controller).await?;
        self.links.status.send_if_modified(|status| {
            let changed = status.address != Some(address.ip());
            status.address = Some(address.ip());
            changed
        });
        let login = self.desk.login(address).await?;
        let (channel, from) = self.reach(address, &login).await?;
        let ended = self.watch(controller, channel, &login, from).await;
        if self.links.status.borrow().connected {
            self.doors.answered();
        }
        let refused = ended.as_ref().err().and_then(|error| error.downcast_ref::<Refused>());
        match refused {
            Some(_) if self.desk.can_join_again() => {
                info!("the identity is refused: joining again with the token at hand");
                self.desk.join(address).await?;
                Ok(Ended::JoinedAgain)
            }
            Some(refused) if refused.is_ended => {
                self.desk.renew_late(address, &login.identity).await?;
                Ok(Ended::RenewedLate)
            }
            _ => ended,
        }
    }

    /// Connects from the address that is announced, if that is possible: it proves that the address is this node's own. Not if
    /// the way to the controller is by another link. On Kubernetes the Node's addresses decide, and a stream proves nothing.
    async fn reach(&self, address: SocketAddr, login: &Login) -> anyhow::Result<(Channel, Option<Source>)> {
        let mut facts = self.links.facts.clone();
        let known = facts.wait_for(Option::is_some).await.context("the engine has ended")?.clone();
        let announced = known.and_then(|facts| *facts.underlay.get(Family::of(address.ip())));
        let own = announced.map(|announced| announced.address()).filter(|_| !self.desk.joins_at_will());
        if let Some(own) = own {
            match connect::controller_from(Some(own), address, Arc::clone(&login.tls)).await {
                Ok(channel) => return Ok((channel, Some(Source { address: own, is_announced: true }))),
                Err(error) => debug!("no connection to the controller from the announced address {own}: {error}"),
            }
        }
        let channel = connect::controller(address, Arc::clone(&login.tls)).await?;
        Ok((channel, source::towards(address).map(|address| Source { address, is_announced: false })))
    }

    /// True where the connection's own address is gone, or no longer the one that it proves.
    fn has_moved(&self, from: Source) -> bool {
        let facts = self.links.facts.borrow();
        let mut announced = facts.iter().flat_map(|facts| facts.underlay.iter().map(|announced| announced.address()));
        !source::is_here(from.address) || (from.is_announced && !announced.any(|address| address == from.address))
    }

    /// Keeps a stream of `channel`, whose connection is from the address `from`, until it ends.
    async fn watch(
        &self,
        controller: &str,
        channel: Channel,
        login: &Login,
        from: Option<Source>,
    ) -> anyhow::Result<Ended> {
        let (sender, receiver) = mpsc::channel(4);
        let mut reporter = Reporter::new(&self.node, &self.links, sender).await?;
        let mut client = MembershipServiceClient::new(channel.clone()).max_decoding_message_size(LARGEST_MESSAGE);
        let mut stream =
            client.watch(ReceiverStream::new(receiver)).await.map_err(|status| ended(&status))?.into_inner();
        // A little early, and not all at once.
        let due = login.identity.renew_in(SystemTime::now()).mul_f64(0.9 + fastrand::f64() / 10.0);
        let renewal = tokio::time::sleep(due);
        tokio::pin!(renewal);
        let mut disk = tokio::time::interval(DISK_AGAIN);
        let mut snapshot = SnapshotBuilder::default();
        loop {
            tokio::select! {
                _ = disk.tick(), if self.desk.is_behind() => self.desk.save_again(),
                message = stream.message() => {
                    let message = message.map_err(|status| ended(&status))?.context("the controller closed the stream")?;
                    if self.links.status.send_if_modified(|status| connected(status, controller)) {
                        self.note(controller);
                    }
                    self.receive(message, reporter.told, &mut snapshot).await?;
                }
                standing = reporter.changed() => match standing? {
                    Changed::Resync => return Ok(Ended::Resync),
                    Changed::Report(report) if report.facts.is_some() && from.is_some_and(|from| self.has_moved(from)) => {
                        info!(controller, "this node's address has changed: connecting anew");
                        return Ok(Ended::Moved);
                    }
                    Changed::Report(report) => reporter.send(report).await?,
                },
                () = &mut renewal => match self.desk.renew(channel.clone()).await {
                    Ok(()) => return Ok(Ended::Renewed),
                    // Whatever is away may be back in a while; the controller ends the stream when the certificate does.
                    Err(error) => {
                        warn!("the certificate is not renewed yet: {error:#}");
                        let left = login.identity.left(SystemTime::now()) / 8;
                        let pause = RENEW_AGAIN.min(left).max(RENEW_AGAIN_LEAST).mul_f64(1.0 + fastrand::f64());
                        renewal.as_mut().reset(tokio::time::Instant::now() + pause);
                    }
                },
            }
        }
    }

    /// Remembers a controller that works, unless the next start knows it anyway.
    fn note(&self, controller: &str) {
        if let Some(book) = self.book.as_ref().filter(|_| !self.doors.is_configured(controller)) {
            book.worked(controller);
        }
    }

    /// Hands a message on; `told` are the digests in the stream's Hello.
    async fn receive(
        &self,
        message: v1::WatchResponse,
        told: Option<Digests>,
        snapshot: &mut SnapshotBuilder,
    ) -> anyhow::Result<()> {
        let revision = message.revision.context("the controller sent a message without a revision")?;
        let message = message.message.context("the controller sent an empty message")?;
        self.links.order.send_if_modified(|order| changed(order, &message));
        let update = match message {
            // From now on the engine is to hear of no member.
            _ if *self.links.order.borrow() != Order::Serve => return Ok(()),
            Received::CleanUp(_) => return Ok(()),
            Received::Current(current) => {
                let found = told.context("the controller found a membership current that it was not told of")?;
                Update::Current { revision: revision.into(), found, knows_more: !current.more_digest.is_empty() }
            }
            Received::Delta(delta) => Update::Delta(convert::delta(revision.into(), delta)?),
            Received::SnapshotChunk(chunk) => return Ok(snapshot.chunk(revision.into(), chunk)?),
            Received::SnapshotEnd(end) => {
                let told = convert::told(&end.digest, &end.more_digest)?;
                let told = told.context("the controller sent a snapshot without its digest")?;
                Update::Snapshot(std::mem::take(snapshot).end(revision.into(), end)?, told)
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
