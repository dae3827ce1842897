//! Whom to ask, and the channel there.

use std::path::{Path, PathBuf};

use anyhow::Context;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tonic::transport::Channel;
use weft_proto::{
    connect::{self, for_http2, tls_builder},
    v1::{agent_service_client::AgentServiceClient, operator_service_client::OperatorServiceClient},
};

use crate::{
    args::Target,
    kubernetes::{self, Cluster},
};

const DEFAULT_SOCKET: &str = "/run/weft/agent.sock";
/// The peer list of 10,000 nodes has about 3 MB.
const LARGEST_ANSWER: usize = 64 << 20;
const NO_IDENTITY: &str =
    "give --identity DIR, a directory of yours that `weft-controller init` or `weft-controller operator` wrote";

/// Who answers.
pub(crate) enum Answerer {
    /// A controller.
    Controller(OperatorServiceClient<Channel>),
    /// The agent of this node.
    Agent(AgentServiceClient<Channel>),
    /// The Kubernetes API.
    Kubernetes(Cluster),
}

/// Whoever was named, or is nearest.
pub(crate) async fn any(target: &Target) -> anyhow::Result<Answerer> {
    let socket = target.socket.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET));
    if kubernetes::is_asked(target, &socket) {
        return Ok(Answerer::Kubernetes(Cluster::new(&target.kubernetes).await?));
    }
    if target.controller.is_some() {
        return Ok(Answerer::Controller(controller(target).await?));
    }
    let hint = "as root, where weft-agent runs, this asks it; give --socket if its socket is elsewhere, --controller and \
                --identity to ask a controller, or --kubernetes to ask the Kubernetes API";
    let channel = connect::agent(&socket).await.map_err(|error| anyhow::anyhow!("{error}; {hint}"))?;
    Ok(Answerer::Agent(AgentServiceClient::new(channel).max_decoding_message_size(LARGEST_ANSWER)))
}

/// The controller: for what only a controller can do.
pub(crate) async fn controller(target: &Target) -> anyhow::Result<OperatorServiceClient<Channel>> {
    standalone(target)?;
    let controller = target.controller.as_deref().context("this needs a controller: give --controller HOST:PORT")?;
    let identity = target.identity.as_deref().with_context(|| format!("no operator identity: {NO_IDENTITY}"))?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate(&identity.join("ca.crt"))?).context("ca.crt cannot be used")?;
    let key_path = identity.join("operator.key");
    let key = PrivateKeyDer::from_pem_file(&key_path)
        .map_err(|error| anyhow::anyhow!("operator key {}: {error}; {NO_IDENTITY}", key_path.display()))?;
    let config = tls_builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate(&identity.join("operator.crt"))?], key)
        .context("operator.crt and operator.key do not belong together")?;
    let address = connect::resolve(controller).await?;
    let hint = "check --controller, and that --identity is of its cluster";
    let channel =
        connect::controller(address, for_http2(config)).await.map_err(|error| anyhow::anyhow!("{error}; {hint}"))?;
    Ok(OperatorServiceClient::new(channel).max_decoding_message_size(LARGEST_ANSWER))
}

/// What a standalone cluster has and Kubernetes does in another way.
pub(crate) fn standalone(target: &Target) -> anyhow::Result<()> {
    anyhow::ensure!(
        !kubernetes::is_asked(target, Path::new(DEFAULT_SOCKET)),
        "in Kubernetes a node joins with its agent's pod and leaves with its Node object: use `kubectl delete node \
         NAME`; for a standalone cluster give --controller HOST:PORT and --identity DIR"
    );
    Ok(())
}

fn certificate(path: &Path) -> anyhow::Result<CertificateDer<'static>> {
    CertificateDer::from_pem_file(path)
        .map_err(|error| anyhow::anyhow!("certificate {}: {error}; {NO_IDENTITY}", path.display()))
}

/// The sentence of a refusal.
pub(crate) fn refusal(status: &tonic::Status) -> anyhow::Error {
    match status.code() {
        tonic::Code::Unimplemented => anyhow::anyhow!("the other side is of another version: {}", status.message()),
        _ => anyhow::anyhow!("{}", status.message()),
    }
}
