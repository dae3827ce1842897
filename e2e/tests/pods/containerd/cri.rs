//! As much of the Container Runtime Interface (runtime.v1) as pods without containers need.
//!
//! Written down field by field instead of generated: the interface has hundreds of messages, and this is a handful.

use std::{collections::HashMap, path::PathBuf};

use anyhow::{Context, Result};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Metadata {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) uid: String,
    #[prost(string, tag = "3")]
    pub(crate) namespace: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PortMapping {
    /// TCP is 0.
    #[prost(int32, tag = "1")]
    pub(crate) protocol: i32,
    #[prost(int32, tag = "2")]
    pub(crate) container_port: i32,
    #[prost(int32, tag = "3")]
    pub(crate) host_port: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SandboxConfig {
    #[prost(message, optional, tag = "1")]
    pub(crate) metadata: Option<Metadata>,
    #[prost(string, tag = "2")]
    pub(crate) hostname: String,
    #[prost(message, repeated, tag = "5")]
    pub(crate) port_mappings: Vec<PortMapping>,
    #[prost(map = "string, string", tag = "7")]
    pub(crate) annotations: HashMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RunRequest {
    #[prost(message, optional, tag = "1")]
    config: Option<SandboxConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Id {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(bool, tag = "2")]
    verbose: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<SandboxStatus>,
    #[prost(map = "string, string", tag = "2")]
    info: HashMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SandboxStatus {
    #[prost(message, optional, tag = "5")]
    network: Option<Network>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Network {
    #[prost(string, tag = "1")]
    ip: String,
    #[prost(message, repeated, tag = "2")]
    more: Vec<Ip>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Ip {
    #[prost(string, tag = "1")]
    ip: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Nothing {}

#[derive(Clone, PartialEq, prost::Message)]
struct ListResponse {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Id>,
}

/// What a runtime tells of a sandbox.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) addresses: Vec<std::net::IpAddr>,
    /// Path of its network namespace.
    pub(crate) netns: PathBuf,
}

/// A client of a runtime.
#[derive(Debug, Clone)]
pub(crate) struct Cri(Channel);

impl Cri {
    pub(crate) async fn connect(socket: PathBuf) -> Result<Self> {
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        Ok(Self(Endpoint::from_static("http://containerd").connect_with_connector(connector).await?))
    }

    pub(crate) async fn run(&self, config: SandboxConfig) -> Result<String> {
        let request = RunRequest { config: Some(config) };
        self.call::<_, Id>("/runtime.v1.RuntimeService/RunPodSandbox", request).await.map(|answer| answer.id)
    }

    pub(crate) async fn remove(&self, id: &str) -> Result<()> {
        let request = || Id { id: id.to_owned() };
        self.call::<_, Nothing>("/runtime.v1.RuntimeService/StopPodSandbox", request()).await?;
        self.call::<_, Nothing>("/runtime.v1.RuntimeService/RemovePodSandbox", request()).await.map(drop)
    }

    /// Ids of all sandboxes.
    pub(crate) async fn list(&self) -> Result<Vec<String>> {
        let answer = self.call::<_, ListResponse>("/runtime.v1.RuntimeService/ListPodSandbox", Nothing {}).await?;
        Ok(answer.items.into_iter().map(|item| item.id).collect())
    }

    pub(crate) async fn sandbox(&self, id: &str) -> Result<Sandbox> {
        let request = StatusRequest { id: id.to_owned(), verbose: true };
        let answer = self.call::<_, StatusResponse>("/runtime.v1.RuntimeService/PodSandboxStatus", request).await?;
        let network = answer.status.and_then(|status| status.network).context("a sandbox without a network")?;
        let texts = std::iter::once(network.ip).chain(network.more.into_iter().map(|more| more.ip));
        let addresses = texts.map(|text| text.parse().context(text)).collect::<Result<_>>()?;
        let info: serde_json::Value = serde_json::from_str(answer.info.get("info").context("no verbose answer")?)?;
        let namespaces = info["runtimeSpec"]["linux"]["namespaces"].as_array().context("no namespaces")?;
        let netns = namespaces.iter().find(|namespace| namespace["type"] == "network");
        let netns = netns.and_then(|namespace| namespace["path"].as_str()).context("no network namespace")?;
        Ok(Sandbox { addresses, netns: netns.into() })
    }

    async fn call<Q, A>(&self, method: &'static str, request: Q) -> Result<A>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut client = tonic::client::Grpc::new(self.0.clone());
        client.ready().await.context(method)?;
        let codec = tonic_prost::ProstCodec::<Q, A>::default();
        let answer = client.unary(tonic::Request::new(request), PathAndQuery::from_static(method), codec).await;
        answer.map(tonic::Response::into_inner).with_context(|| method.to_owned())
    }
}
