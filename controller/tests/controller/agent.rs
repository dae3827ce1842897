//! An agent without a kernel: a stream, and the membership it holds.

use ipnetwork::IpNetwork;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use weft_core::{
    membership::View,
    settings::GENERATION,
    types::{Family, NodeName, PodCidr, Revision},
};
use weft_proto::{
    convert::{self, SnapshotBuilder},
    v1::{self, membership_service_client::MembershipServiceClient, watch_request, watch_response},
};

use crate::harness::{Cluster, Credentials, patiently};

/// An open stream.
pub(crate) struct Agent {
    pub(crate) view: View,
    requests: mpsc::Sender<v1::WatchRequest>,
    responses: Streaming<v1::WatchResponse>,
    snapshot: SnapshotBuilder,
    /// Kinds of messages that came, in order.
    pub(crate) log: Vec<&'static str>,
    pub(crate) acknowledges: bool,
}

pub(crate) fn facts(underlay: &[&str]) -> v1::Facts {
    let addresses = underlay.iter().map(|text| convert::to_cidr(text.parse::<IpNetwork>().expect("an address")));
    let (underlay_addresses, agent_version) = (addresses.collect(), "test".to_owned());
    v1::Facts { underlay_addresses, underlay_mtu: 1500, agent_version, generation: GENERATION, ..v1::Facts::default() }
}

pub(crate) fn hello(node: &str, underlay: &[&str]) -> v1::Hello {
    v1::Hello { node: node.to_owned(), facts: Some(facts(underlay)), ..Default::default() }
}

fn request(message: watch_request::Message) -> v1::WatchRequest {
    v1::WatchRequest { message: Some(message) }
}

impl Agent {
    pub(crate) async fn open(cluster: &Cluster, credentials: &Credentials, hello: v1::Hello) -> Result<Self, Status> {
        let channel = cluster.channel(Some(credentials)).await;
        let (requests, receiver) = mpsc::channel(16);
        requests.send(request(watch_request::Message::Hello(hello))).await.expect("the channel is open");
        let mut client = MembershipServiceClient::new(channel);
        let responses = client.watch(ReceiverStream::new(receiver)).await?.into_inner();
        let (view, snapshot) = (View::new(), SnapshotBuilder::default());
        Ok(Self { view, requests, responses, snapshot, log: Vec::new(), acknowledges: true })
    }

    /// A node that joins, opens its stream and holds the membership.
    pub(crate) async fn join(cluster: &Cluster, node: &str, underlay: &[&str]) -> (Self, Credentials) {
        let credentials = cluster.join(node).await;
        let mut agent = Self::open(cluster, &credentials, hello(node, underlay)).await.expect("a stream");
        agent.until(|view| view.member(&name(node)).is_some()).await;
        (agent, credentials)
    }

    pub(crate) async fn report(&self, report: v1::Report) {
        self.requests.send(request(watch_request::Message::Report(report))).await.expect("the stream is open");
    }

    pub(crate) async fn acknowledge(&self) {
        let report = v1::Report { applied: Some(self.view.revision().into()), ..v1::Report::default() };
        // Where the stream has ended meanwhile, the next step tells why.
        let _ended = self.requests.send(request(watch_request::Message::Report(report))).await;
    }

    /// Takes the next message; the status where the stream has ended.
    pub(crate) async fn step(&mut self) -> Result<(), Status> {
        let message = patiently("a message", self.responses.message()).await?;
        let message = message.ok_or_else(|| Status::new(Code::Ok, "ended"))?;
        let revision: Revision = message.revision.expect("a revision").into();
        match message.message.expect("a kind") {
            watch_response::Message::Current(_) => {
                self.log.push("current");
                self.view.adopt(revision, self.view.digests()).expect("nothing newer is held");
            }
            watch_response::Message::SnapshotChunk(chunk) => {
                self.log.push("chunk");
                self.snapshot.chunk(revision, chunk).expect("a sound chunk");
                return Ok(());
            }
            watch_response::Message::SnapshotEnd(end) => {
                self.log.push("snapshot");
                let told = convert::told(&end.digest, &end.more_digest).expect("sound digests").expect("told");
                let snapshot = std::mem::take(&mut self.snapshot).end(revision, end).expect("a whole snapshot");
                self.view.apply_snapshot(snapshot).expect("nothing newer is held");
                assert!(told.is_of(&self.view.digests()), "the digests fit the content");
            }
            watch_response::Message::Delta(delta) => {
                self.log.push("delta");
                self.view.apply_delta(&convert::delta(revision, delta).expect("a sound delta")).expect("no gap");
            }
            watch_response::Message::CleanUp(_) => self.log.push("clean up"),
        }
        if self.acknowledges {
            self.acknowledge().await;
        }
        Ok(())
    }

    /// Follows the stream until the membership is as wanted.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&View) -> bool) {
        while !wanted(&self.view) {
            self.step().await.expect("the stream stays open");
        }
    }

    /// Follows the stream to its end.
    pub(crate) async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.step().await {
                return status;
            }
        }
    }

    /// Follows the stream for ever in a task, acknowledging everything.
    pub(crate) fn follow(mut self) -> tokio::task::JoinHandle<(Self, Status)> {
        tokio::spawn(async move {
            let status = self.end().await;
            (self, status)
        })
    }

    pub(crate) fn cidr(&self, node: &str) -> PodCidr {
        let member = self.view.member(&name(node)).expect("a member");
        member.pod_cidrs.get(Family::V4).expect("an IPv4 CIDR")
    }
}

pub(crate) fn name(text: &str) -> NodeName {
    text.parse().expect("a node name")
}
