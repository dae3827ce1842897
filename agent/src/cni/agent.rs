//! The plugin's way to the agent: the local API over the Unix socket.
//!
//! Owns time limits and the meaning of gRPC codes for a runtime. Must never wait without a limit: a runtime that waits
//! for a plugin starts no other pod.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

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
use weft_program::error::with_causes;
use weft_proto::v1::{
    self, AllocatePodResponse, CheckPodResponse, GetAgentStatusResponse, agent_service_client::AgentServiceClient,
};

use super::{CniError, Code};
use crate::veth::AttachmentKey;

/// The agent listens on this machine: it accepts at once or not at all.
const CONNECT: Duration = Duration::from_secs(2);
/// The longest a call may take; the host's side of 110 pods at once takes far less.
const CALL: Duration = Duration::from_secs(20);

/// A connection to the agent.
pub(super) struct Agent {
    runtime: Runtime,
    client: AgentServiceClient<Channel>,
    socket: PathBuf,
}

impl Agent {
    /// Connects; code 11 where no agent answers.
    pub(super) fn connect(socket: &Path) -> Result<Self, CniError> {
        let runtime =
            Builder::new_current_thread().enable_all().build().map_err(|error| unreachable(socket, &error))?;
        let client = connect(&runtime, socket)?;
        Ok(Self { runtime, client, socket: socket.to_owned() })
    }

    /// Reserves addresses.
    pub(super) fn allocate(
        &mut self,
        key: &AttachmentKey,
        netns: &Path,
        pod: String,
    ) -> Result<AllocatePodResponse, CniError> {
        let netns = netns.display().to_string();
        let request = v1::AllocatePodRequest { attachment: Some(key.into()), netns, pod };
        self.call("allocate", &async |client| client.allocate_pod(request.clone()).await)
    }

    /// Has the host's side programmed.
    pub(super) fn attach(&mut self, key: &AttachmentKey) -> Result<(), CniError> {
        let request = v1::AttachPodRequest { attachment: Some(key.into()) };
        self.call("attach", &async |client| client.attach_pod(request.clone()).await).map(|_| ())
    }

    /// Ends the attachment.
    pub(super) fn release(&mut self, key: &AttachmentKey) -> Result<(), CniError> {
        let request = v1::ReleasePodRequest { attachment: Some(key.into()) };
        self.call("release", &async |client| client.release_pod(request.clone()).await).map(|_| ())
    }

    /// What the agent holds for the attachment.
    pub(super) fn check(&mut self, key: &AttachmentKey) -> Result<CheckPodResponse, CniError> {
        let request = v1::CheckPodRequest { attachment: Some(key.into()) };
        self.call("check", &async |client| client.check_pod(request.clone()).await)
    }

    /// Ends all attachments but the valid ones.
    pub(super) fn collect(&mut self, valid: &[AttachmentKey]) -> Result<Vec<v1::Attachment>, CniError> {
        let request = v1::CollectPodsRequest { valid: valid.iter().map(Into::into).collect() };
        self.call("collect", &async |client| client.collect_pods(request.clone()).await).map(|answer| answer.released)
    }

    /// How the agent stands.
    pub(super) fn status(&mut self) -> Result<GetAgentStatusResponse, CniError> {
        let request = v1::GetAgentStatusRequest {};
        self.call("status", &async |client| client.get_agent_status(request).await)
    }

    /// The agent ends a connection on which nothing was asked for some seconds, and wiring a pod may take as long on a busy
    /// host: what fails with the connection is asked once more on a new one. Every call may be repeated.
    fn call<T>(
        &mut self,
        what: &str,
        call: &impl AsyncFn(&mut AgentServiceClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Result<T, CniError> {
        let first = self.ask(call);
        let answer = match first {
            Some(Err(status)) if is_of_connection(&status) => {
                self.client = connect(&self.runtime, &self.socket)?;
                self.ask(call)
            }
            other => other,
        };
        answer.map_or_else(|| Err(self.silent(what)), |answer| answer.map_err(|status| error(what, &status)))
    }

    /// None if no answer came in time.
    fn ask<T>(
        &mut self,
        call: &impl AsyncFn(&mut AgentServiceClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Option<Result<T, Status>> {
        let Self { runtime, client, .. } = self;
        let answer = runtime.block_on(async { timeout(CALL, call(client)).await }).ok()?;
        Some(answer.map(Response::into_inner))
    }

    fn silent(&self, what: &str) -> CniError {
        let (socket, seconds) = (self.socket.display(), CALL.as_secs());
        CniError::new(Code::TryAgainLater, format!("weft-agent at {socket} did not answer ({what}) within {seconds} s"))
    }
}

fn connect(runtime: &Runtime, socket: &Path) -> Result<AgentServiceClient<Channel>, CniError> {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The name is never looked up: the connector knows the way.
    let endpoint = Endpoint::from_static("http://weft-agent").connect_timeout(CONNECT);
    let channel = runtime
        .block_on(async { timeout(CONNECT, endpoint.connect_with_connector(connector)).await })
        .map_err(|_| unreachable(socket, &"no answer within 2 s"))?
        // Tonic's say "transport error" and hide the rest in their causes.
        .map_err(|error| unreachable(socket, &with_causes(&error)))?;
    Ok(AgentServiceClient::new(channel))
}

fn unreachable(socket: &Path, why: &dyn std::fmt::Display) -> CniError {
    let text = format!("weft-agent does not answer at {}: is it running?", socket.display());
    CniError::new(Code::TryAgainLater, text).because(why)
}

/// True if the connection failed, not the call.
fn is_of_connection(status: &Status) -> bool {
    std::error::Error::source(status).is_some_and(|source| source.is::<tonic::transport::Error>())
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

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    #[test]
    fn a_missing_socket_is_said_once() {
        let error = Agent::connect(Path::new("/nonexistent/agent.sock")).err().expect("nobody is there");
        assert_eq!(error.code, Code::TryAgainLater);
        assert!(error.message.contains("/nonexistent/agent.sock"), "{error}");
        assert_eq!(error.details.matches("os error").count(), 1, "{}", error.details);
    }

    /// Serves one connection at the socket, with an API that has no call, until it is told to stop.
    fn serve_once(listener: &std::os::unix::net::UnixListener) -> impl FnOnce() + use<> {
        let listener = listener.try_clone().expect("a listener");
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serve = async {
            let listener = tokio::net::UnixListener::from_std(listener).expect("a listener");
            let (stream, _) = listener.accept().await.expect("a client");
            let incoming = futures::stream::iter([Ok::<_, std::io::Error>(stream)]).chain(futures::stream::pending());
            let routes = tonic::service::Routes::default();
            tonic::transport::Server::builder().add_routes(routes).serve_with_incoming(incoming).await
        };
        let server = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! { _ = serve => {}, _ = stopped => {} }
            });
        });
        move || {
            drop(stop);
            server.join().expect("no panic");
        }
    }

    #[test]
    fn a_connection_that_the_agent_ended_between_two_calls_costs_neither() {
        let path = std::env::temp_dir().join(format!("weft-ended-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        listener.set_nonblocking(true).expect("set");
        let first = serve_once(&listener);
        let mut agent = Agent::connect(&path).expect("it answers");
        assert_eq!(agent.status().expect_err("it has no such call").code, Code::Agent);
        first();
        let second = serve_once(&listener);
        let error = agent.status().expect_err("it has no such call");
        assert_eq!(error.code, Code::Agent, "it was not asked again: {error}");
        second();
        let _ = std::fs::remove_file(&path);
    }
}
