//! The requests of one stream.
//!
//! Owns the stream's life: it passes reports on, ends the response when the cluster says so, and ends the connection of
//! an agent that does not even read that. Must never outlive the response.

use std::{sync::Arc, time::Duration};

use tonic::{Status, Streaming};
use weft_core::{standing::Facts, types::NodeName};
use weft_proto::v1::{self, WatchRequest, watch_request};

use super::body::Ends;
use crate::{
    cluster::{Cluster, Refusal, Report, Session},
    metrics::Metrics,
    tls::{Caller, Carrying},
};

/// How long a closed stream may take to send its status to an agent that does not read.
const LAST_WORDS: Duration = Duration::from_secs(5);

pub(super) struct Inbound {
    pub(super) cluster: Cluster,
    pub(super) metrics: Arc<Metrics>,
    pub(super) node: NodeName,
    pub(super) caller: Caller,
    /// The connection carries the node's stream until this is dropped.
    pub(super) _carrying: Carrying,
}

impl Inbound {
    pub(super) async fn run(self, mut requests: Streaming<WatchRequest>, session: Session, ends: Ends) {
        let Session { id, mut closed } = session;
        let Ends { end, mut gone } = ends;
        let status = loop {
            tokio::select! {
                biased;
                refusal = &mut closed => {
                    let refusal = refusal.unwrap_or(Refusal::Stopping);
                    self.metrics.stream_ended(refusal.label());
                    break Some(refusal.into());
                }
                _ = &mut gone => {
                    self.metrics.stream_ended("gone");
                    break None;
                }
                message = requests.message() => match self.take(id, message).await {
                    Ok(true) => {}
                    Ok(false) => {
                        self.metrics.stream_ended("finished");
                        break Some(Status::ok(""));
                    }
                    Err(status) => {
                        self.metrics.stream_ended("error");
                        break Some(status);
                    }
                },
            }
        };
        self.cluster.disconnect(self.node, id).await;
        let Some(status) = status else { return };
        // Where the body is gone already there is nobody to tell.
        if end.send(status).is_ok() && tokio::time::timeout(LAST_WORDS, gone).await.is_err() {
            self.caller.kill.kill();
        }
    }

    /// Passes one message on; false at the end of the stream.
    async fn take(&self, id: u64, message: Result<Option<WatchRequest>, Status>) -> Result<bool, Status> {
        let Some(request) = message? else { return Ok(false) };
        let report = match request.message {
            Some(watch_request::Message::Report(report)) => typed(report)?,
            Some(watch_request::Message::Hello(_)) => {
                return Err(Status::invalid_argument("a Hello may only be the first message of a stream"));
            }
            // Of a kind that this version does not know yet.
            None => return Ok(true),
        };
        let source = self.caller.address.ip().to_canonical();
        self.cluster.report(self.node.clone(), id, report, source).await;
        Ok(true)
    }
}

fn typed(report: v1::Report) -> Result<Report, Status> {
    let facts = report.facts.map(Facts::try_from).transpose().map_err(|error| error.inside("report.facts"))?;
    let (applied, cleaned_up) = (report.applied.map(Into::into), report.cleaned_up);
    Ok(Report { applied, facts, health: report.health.map(Into::into), cleaned_up })
}
