//! What several tests look at: who sees whom under which address, and what passes the router.
//!
//! Owns expectations, never objects.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{apps::v1::Deployment, core::v1};
use kube::Api;
use weft_core::types::Family;
use weft_e2e::{
    kind::{Kind, Pod, http, udp, wait},
    lab::{Capture, Namespace, packet::Packet, wait as patience},
};

/// Where the cluster's DNS is asked, once it answers.
pub(crate) async fn dns(kind: &Kind) -> Result<SocketAddr> {
    let deployments: Api<Deployment> = Api::namespaced(kind.client(), "kube-system");
    wait::object(&deployments, "coredns", "CoreDNS", wait::PATIENCE, |object| {
        let status = object.and_then(|object| object.status.as_ref()).context("no status yet")?;
        ensure!(status.available_replicas.unwrap_or_default() > 0, "none of it is available");
        Ok(())
    })
    .await?;
    let services: Api<v1::Service> = Api::namespaced(kind.client(), "kube-system");
    let address = services.get("kube-dns").await?.spec.and_then(|spec| spec.cluster_ip);
    Ok(SocketAddr::new(address.context("kube-dns has no address")?.parse()?, 53))
}

/// Asks a service until it answers: kube-proxy follows its endpoints a moment later.
pub(crate) async fn answers(from: &Namespace, to: SocketAddr) -> Result<()> {
    patience::until(&format!("{to} to answer {}", from.name()), patience::PATIENCE, async || {
        http::get(from, to, "/hostname").await.map(|_| ())
    })
    .await
}

/// The address under which the server sees a client that asks by HTTP, and the client's own.
pub(crate) async fn seen_by_http(from: &Namespace, to: SocketAddr) -> Result<(IpAddr, IpAddr)> {
    let (seen, own) = http::get(from, to, "/clientip").await?;
    Ok((address(&seen)?, own.ip()))
}

/// The same by UDP.
pub(crate) async fn seen_by_udp(from: &Namespace, to: SocketAddr) -> Result<(IpAddr, IpAddr)> {
    let (seen, own) = udp::ask(from, to, "clientip").await?;
    Ok((address(&seen)?, own.ip()))
}

/// The server sees the client under its own address: nobody masquerades between.
pub(crate) async fn seen_as_itself(from: &Pod, to: SocketAddr, transport: Transport) -> Result<()> {
    let (seen, own) = match transport {
        Transport::Http => seen_by_http(from.net(), to).await?,
        Transport::Udp => seen_by_udp(from.net(), to).await?,
    };
    ensure!(seen == own, "{to} sees pod {} as {seen}, which is not its own address {own}", from.name());
    Ok(())
}

/// How the server in a pod is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Transport {
    /// HTTP over TCP.
    Http,
    /// One datagram.
    Udp,
}

/// The server tells its client's address with the port behind it.
fn address(text: &str) -> Result<IpAddr> {
    let address: SocketAddr = text.trim().parse().with_context(|| format!("{text:?} is no address with a port"))?;
    Ok(address.ip().to_canonical())
}

/// True for a packet of the tunnel that carries something from one address to the other.
pub(crate) fn tunnelled(packet: &Packet, from: IpAddr, to: IpAddr) -> bool {
    packet.tunnel.and_then(|tunnel| tunnel.inner).is_some_and(|inner| inner.src == from && inner.dst == to)
}

/// True for a packet that shows a pod's address outside of the tunnel.
pub(crate) fn plain(packet: &Packet, pods: &[&Pod], family: Family) -> bool {
    packet.touches(|address| pods.iter().any(|pod| pod.address(family) == address))
}

/// The router passed packets of these pods, both ways, and only inside the tunnel.
pub(crate) fn crossed_in_the_tunnel(router: &Capture, one: &Pod, other: &Pod, family: Family) -> Result<()> {
    for (from, to) in [(one, other), (other, one)] {
        let (from_at, to_at) = (from.address(family), to.address(family));
        let count = router.count(|packet| tunnelled(packet, from_at, to_at))?;
        ensure!(count > 0, "{}: no tunnel packet from {} to {}", router.place(), from.name(), to.name());
    }
    router.expect_none("a pod's address outside of the tunnel", |packet| plain(packet, &[one, other], family))
}
