//! The local API: a gRPC server on a Unix socket, for the CNI plugin and for operators on the node.
//!
//! Owns the socket. Who may connect is decided by its owner and mode (0600, in a directory of mode 0755 or stricter).
//! Must never hold state: it asks the engine and the pods. Must never let clients that ask nothing keep others out.

mod asking;
mod door;
mod pods;
mod visit;

use std::{
    fs, io,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    sync::Arc,
};
use weft_core::types::UnixMs;

use anyhow::Context;
use tokio::{net::UnixListener, sync::watch};
use tonic::{Request, Response, Status, transport::Server};
use tower::layer::layer_fn;
use weft_core::types::{NodeName, PodCidr};
use weft_proto::{
    convert::to_cidr,
    v1::{
        self,
        agent_service_server::{AgentService, AgentServiceServer},
    },
};

use self::asking::Counted;
use crate::{
    controller::ConnectionStatus,
    engine::{EngineError, Handle, Status as EngineStatus},
    pods::{AddressBook, HostSide},
    preflight::Finding,
};

/// The service behind the socket.
pub struct Api<H> {
    /// This node.
    pub node: NodeName,
    /// The pod part.
    pub pods: Arc<AddressBook<H>>,
    /// The engine.
    pub engine: Handle,
    /// How the node stands.
    pub status: watch::Receiver<EngineStatus>,
    /// How the connection stands.
    pub connection: watch::Receiver<ConnectionStatus>,
    /// What the preflight found.
    pub findings: watch::Receiver<Vec<Finding>>,
    /// What else there is to say, from whoever has something: the plugin's files, the metrics' port.
    pub more_warnings: Vec<watch::Receiver<Vec<String>>>,
    /// Types of the plugins that somebody else put behind ours.
    pub foreign_plugins: watch::Receiver<Vec<String>>,
}

/// Binds the socket. One left by an agent that was killed is replaced; one that answers belongs to a running agent.
pub fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(dir).with_context(|| format!("socket directory {}: cannot be made", dir.display()))?;
    if UnixStream::connect(path).is_ok() {
        anyhow::bail!("socket {}: another agent answers there; stop it, or choose another --socket", path.display());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("socket {}: the old one cannot be removed", path.display()));
        }
        _ => {}
    }
    // Bound under a name nobody knows and renamed once its mode is right: nobody can connect in between.
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    let listener = UnixListener::bind(&temporary)
        .with_context(|| format!("socket {}: cannot be bound; is the directory writable?", temporary.display()))?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600))
        .and_then(|()| fs::rename(&temporary, path))
        .with_context(|| format!("socket {}: cannot be put in place", path.display()))?;
    Ok(listener)
}

impl<H: HostSide> Api<H> {
    /// Serves until `stop` is done.
    pub async fn serve(self, listener: UnixListener, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        Server::builder()
            .layer(layer_fn(Counted))
            .add_service(AgentServiceServer::new(self))
            .serve_with_incoming_shutdown(door::visitors(listener), stop)
            .await
            .context("the local API stopped")
    }
}

#[tonic::async_trait]
impl<H: HostSide> AgentService for Api<H> {
    async fn allocate_pod(
        &self,
        request: Request<v1::AllocatePodRequest>,
    ) -> Result<Response<v1::AllocatePodResponse>, Status> {
        let v1::AllocatePodRequest { attachment, netns, pod } = request.into_inner();
        let allocation = self.pods.allocate(pods::key(attachment)?, netns, pod).await?;
        Ok(Response::new(pods::answer(&allocation)))
    }

    async fn attach_pod(
        &self,
        request: Request<v1::AttachPodRequest>,
    ) -> Result<Response<v1::AttachPodResponse>, Status> {
        self.pods.attach(&pods::key(request.into_inner().attachment)?).await?;
        Ok(Response::new(v1::AttachPodResponse {}))
    }

    async fn release_pod(
        &self,
        request: Request<v1::ReleasePodRequest>,
    ) -> Result<Response<v1::ReleasePodResponse>, Status> {
        self.pods.end(&pods::key(request.into_inner().attachment)?).await?;
        Ok(Response::new(v1::ReleasePodResponse {}))
    }

    async fn check_pod(&self, request: Request<v1::CheckPodRequest>) -> Result<Response<v1::CheckPodResponse>, Status> {
        let (allocation, problems) = self.pods.check(&pods::key(request.into_inner().attachment)?).await?;
        Ok(Response::new(v1::CheckPodResponse { allocation: Some(pods::answer(&allocation)), problems }))
    }

    async fn collect_pods(
        &self,
        request: Request<v1::CollectPodsRequest>,
    ) -> Result<Response<v1::CollectPodsResponse>, Status> {
        let valid = request.into_inner().valid.into_iter().map(|one| pods::key(Some(one)));
        let released = self.pods.collect(&valid.collect::<Result<Vec<_>, _>>()?).await?;
        Ok(Response::new(v1::CollectPodsResponse { released: released.iter().map(Into::into).collect() }))
    }

    async fn list_local_peers(
        &self,
        _: Request<v1::ListLocalPeersRequest>,
    ) -> Result<Response<v1::ListLocalPeersResponse>, Status> {
        let peers = self.engine.peers().await.map_err(unavailable)?;
        let peers = peers.iter().map(v1::Peer::from).collect();
        Ok(Response::new(v1::ListLocalPeersResponse { peers }))
    }

    async fn get_agent_status(
        &self,
        _: Request<v1::GetAgentStatusRequest>,
    ) -> Result<Response<v1::GetAgentStatusResponse>, Status> {
        let dropped = self.engine.dropped().await.map_err(unavailable)?;
        let mut answer = self.status_answer();
        answer.dropped_from_pods = dropped.tunnel_from_pods;
        answer.dropped_from_strangers = dropped.tunnel_from_strangers;
        answer.forged_tunnel_packets = dropped.tunnel_forged;
        answer.forged_by_pods = dropped.forged_by_pods;
        answer.pods_to_gateway = dropped.pods_to_gateway;
        Ok(Response::new(answer))
    }
}

#[allow(clippy::needless_pass_by_value, reason = "what map_err wants")]
fn unavailable(error: EngineError) -> Status {
    Status::unavailable(error.to_string())
}

impl<H: HostSide> Api<H> {
    fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self.findings.borrow().iter().map(|finding| finding.message.clone()).collect();
        warnings.extend(self.more_warnings.iter().flat_map(|more| more.borrow().clone()));
        warnings.extend(self.pods.outside().iter().map(|record| {
            let addresses: Vec<_> = record.addresses.iter().map(ToString::to_string).collect();
            let (pod, addresses) = (&record.pod, addresses.join(", "));
            format!("pod {pod} has {addresses}, outside this node's present pod CIDRs: delete the pod, so that it is made anew")
        }));
        warnings
    }

    fn status_answer(&self) -> v1::GetAgentStatusResponse {
        let status = self.status.borrow().clone();
        let connection = self.connection.borrow().clone();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let (reason, message) = match status.problem {
            Some(problem) => (problem.reason.to_string(), problem.message),
            None => Default::default(),
        };
        let underlay = status.underlay;
        let underlay_addresses = underlay.iter().flat_map(|underlay| underlay.addresses.iter().copied());
        v1::GetAgentStatusResponse {
            node: self.node.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: status.ready,
            reason,
            message,
            applied: status.applied.map(Into::into),
            controller_connected: connection.connected,
            controller: connection.controller,
            controller_message: connection.message,
            underlay_addresses: underlay_addresses.map(|address| to_cidr(address.network())).collect(),
            underlay_interface: underlay.map(|underlay| underlay.link.to_string()).unwrap_or_default(),
            pod_cidrs: status.pod_cidrs.iter().map(|cidr| to_cidr(cidr.network())).collect(),
            objects: count(status.objects),
            repairs: status.repairs,
            pods: count(status.pods),
            last_repair_unix_ms: status.last_repair.map_or(0, |at| UnixMs::from(at).0),
            warnings: self.warnings(),
            foreign_plugins: self.foreign_plugins.borrow().clone(),
            pod_addresses: self.pods.usage().iter().map(address_use).collect(),
            ..Default::default()
        }
    }
}

fn address_use((cidr, held, usable): &(PodCidr, u128, u128)) -> v1::AddressUse {
    let number = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
    v1::AddressUse { cidr: Some(to_cidr(cidr.network())), held: number(*held), usable: number(*usable) }
}
