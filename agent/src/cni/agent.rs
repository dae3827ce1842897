//! The plugin's way to the agent: the local API over the Unix socket.
//!
//! Owns time limits and the meaning of gRPC codes for a runtime. Must never wait without a limit: a runtime that waits
//! for a plugin starts no other pod.

use std::{path::Path, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::{
    net::UnixStream,
    runtime::{Builder, Runtime},
    time::timeout,
};
use tonic::{
    Response, Status,
    transport::{Channel, Endpoint},
};
use weft_proto::v1::{
    self, AllocatePodResponse, CheckPodResponse, GetAgentStatusResponse, agent_service_client::AgentServiceClient,
};

use super::{CniError, Code};
use crate::pods::AttachmentKey;

/// The agent listens on this machine: it accepts at once or not at all.
const CONNECT: Duration = Duration::from_secs(2);
/// The longest a call may take; the host's side of 110 pods at once takes far less.
const CALL: Duration = Duration::from_secs(20);

/// A connection to the agent.
pub(super) struct Agent {
    runtime: Runtime,
    client: AgentServiceClient<Channel>,
    socket: String,
}

impl Agent {
    /// Connects; code 11 where no agent answers.
    pub(super) fn connect(socket: &Path) -> Result<Self, CniError> {
        let name = socket.display().to_string();
        let unreachable = |why: &dyn std::fmt::Display| {
            CniError::new(Code::TryAgainLater, format!("weft-agent does not answer at {name}: is it running?"))
                .because(why)
        };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| unreachable(&error))?;
        let path = socket.to_owned();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        // The name is never looked up: the connector knows the way.
        let endpoint = Endpoint::from_static("http://weft-agent").connect_timeout(CONNECT);
        let channel = runtime
            .block_on(async { timeout(CONNECT, endpoint.connect_with_connector(connector)).await })
            .map_err(|_| unreachable(&"no answer within 2 s"))?
            .map_err(|error| unreachable(&with_causes(&error)))?;
        let client = AgentServiceClient::new(channel);
        Ok(Self { runtime, client, socket: name })
    }

    /// Reserves addresses.
    pub(super) fn allocate(
        &mut self,
        key: &AttachmentKey,
        netns: &Path,
        pod: String,
    ) -> Result<AllocatePodResponse, CniError> {
        let netns = netns.display().to_string();
        let request = v1::AllocatePodRequest { attachment: Some(wire(key)), netns, pod };
        self.call("allocate", async |client| client.allocate_pod(request).await)
    }

    /// Has the host's side programmed.
    pub(super) fn attach(&mut self, key: &AttachmentKey) -> Result<(), CniError> {
        let request = v1::AttachPodRequest { attachment: Some(wire(key)) };
        self.call("attach", async |client| client.attach_pod(request).await).map(|_| ())
    }

    /// Ends the attachment.
    pub(super) fn release(&mut self, key: &AttachmentKey) -> Result<(), CniError> {
        let request = v1::ReleasePodRequest { attachment: Some(wire(key)) };
        self.call("release", async |client| client.release_pod(request).await).map(|_| ())
    }

    /// What the agent holds for the attachment.
    pub(super) fn check(&mut self, key: &AttachmentKey) -> Result<CheckPodResponse, CniError> {
        let request = v1::CheckPodRequest { attachment: Some(wire(key)) };
        self.call("check", async |client| client.check_pod(request).await)
    }

    /// Ends all attachments but the valid ones.
    pub(super) fn collect(&mut self, valid: &[AttachmentKey]) -> Result<Vec<v1::Attachment>, CniError> {
        let request = v1::CollectPodsRequest { valid: valid.iter().map(wire).collect() };
        self.call("collect", async |client| client.collect_pods(request).await).map(|answer| answer.released)
    }

    /// How the agent stands.
    pub(super) fn status(&mut self) -> Result<GetAgentStatusResponse, CniError> {
        let request = v1::GetAgentStatusRequest {};
        self.call("status", async |client| client.get_agent_status(request).await)
    }

    fn call<T>(
        &mut self,
        what: &str,
        call: impl AsyncFnOnce(&mut AgentServiceClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Result<T, CniError> {
        let Self { runtime, client, socket } = self;
        match runtime.block_on(async { timeout(CALL, call(client)).await }) {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(error(what, &status)),
            Err(_) => Err(CniError::new(
                Code::TryAgainLater,
                format!("weft-agent at {socket} did not answer ({what}) within {} s", CALL.as_secs()),
            )),
        }
    }
}

/// The code a runtime gets for a gRPC status.
fn error(what: &str, status: &Status) -> CniError {
    use tonic::Code as Grpc;
    let code = match status.code() {
        Grpc::Unavailable | Grpc::DeadlineExceeded | Grpc::Cancelled | Grpc::Unknown => Code::TryAgainLater,
        Grpc::ResourceExhausted => Code::Exhausted,
        Grpc::FailedPrecondition => Code::AddressLost,
        _ => Code::Agent,
    };
    CniError::new(code, format!("weft-agent: {}", status.message()))
        .because(format!("{what}: gRPC {:?}", status.code()))
}

fn wire(key: &AttachmentKey) -> v1::Attachment {
    v1::Attachment { container_id: key.container().to_owned(), interface: key.interface().to_string() }
}

/// Tonic's errors say "transport error" and hide the rest in their causes.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        // Some errors repeat their cause.
        let words = next.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_socket_is_said_once() {
        let error = Agent::connect(Path::new("/nonexistent/agent.sock")).err().expect("nobody is there");
        assert_eq!(error.code, Code::TryAgainLater);
        assert!(error.message.contains("/nonexistent/agent.sock"), "{error}");
        assert_eq!(error.details.matches("os error").count(), 1, "{}", error.details);
    }
}
