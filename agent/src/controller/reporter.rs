//! What this node says on its stream: the Hello, then whatever changed in its standing.

use anyhow::Context;
use tokio::sync::{mpsc, watch};
use weft_core::{
    membership::{Digest, Digests},
    standing::Facts,
    types::NodeName,
};
use weft_proto::v1::{self, watch_request::Message as Sent};

use super::{Held, Links, Standing};

/// What the engine's channels ask of the stream.
pub(super) enum Changed {
    Report(v1::Report),
    Resync,
}

/// Sends the Hello, then whatever changed in this node's standing.
pub(super) struct Reporter {
    held: watch::Receiver<Held>,
    facts: watch::Receiver<Option<Facts>>,
    standing: watch::Receiver<Standing>,
    cleaned_up: watch::Receiver<bool>,
    sender: mpsc::Sender<v1::WatchRequest>,
    sent: Standing,
    resyncs: u64,
    /// The digests in the Hello.
    pub(super) told: Option<Digests>,
}

impl Reporter {
    /// Waits until the facts are known and queues the Hello and a first report.
    pub(super) async fn new(
        node: &NodeName,
        links: &Links,
        sender: mpsc::Sender<v1::WatchRequest>,
    ) -> anyhow::Result<Self> {
        let (mut held, mut facts, mut standing) = (links.held.clone(), links.facts.clone(), links.standing.clone());
        let known =
            facts.wait_for(Option::is_some).await.context("the engine has ended")?.as_ref().map(v1::Facts::from);
        facts.mark_unchanged();
        let holds = held.borrow_and_update().clone();
        let octets = |digest: Option<Digest>| digest.map(|digest| digest.octets().to_vec()).unwrap_or_default();
        let hello = v1::Hello {
            node: node.to_string(),
            revision: holds.revision.map(Into::into),
            digest: octets(holds.digests.map(|digests| digests.typed)),
            more_digest: octets(holds.digests.map(|digests| digests.more)),
            facts: known,
        };
        let sent = standing.borrow_and_update().clone();
        let mut cleaned_up = links.cleaned_up.clone();
        let is_cleaned_up = *cleaned_up.borrow_and_update();
        let (resyncs, told) = (holds.resyncs, holds.digests);
        let mut reporter = Self { held, facts, standing, cleaned_up, sender, sent, resyncs, told };
        reporter.queue(Sent::Hello(hello)).await?;
        let first = v1::Report {
            applied: reporter.sent.applied.map(Into::into),
            facts: None,
            health: Some((&reporter.sent.health).into()),
            cleaned_up: is_cleaned_up,
        };
        reporter.send(first).await?;
        Ok(reporter)
    }

    /// Waits for something to say. Cancel safe: nothing is taken before it is returned.
    pub(super) async fn changed(&mut self) -> anyhow::Result<Changed> {
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
                        health: (now.health != self.sent.health).then(|| (&now.health).into()),
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

    pub(super) async fn send(&mut self, report: v1::Report) -> anyhow::Result<()> {
        self.queue(Sent::Report(report)).await
    }

    async fn queue(&mut self, message: Sent) -> anyhow::Result<()> {
        let request = v1::WatchRequest { message: Some(message) };
        self.sender.send(request).await.context("the stream to the controller has ended")
    }
}
