//! The journey of a request: name, service, kube-proxy, tunnel across the router, pod; and every other way in and out of
//! a pod.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1;
use kube::Api;
use rustls::{ClientConnection, RootCertStore, StreamOwned, pki_types::CertificateDer, pki_types::pem::PemObject};
use serde_json::json;
use weft_e2e::{
    kind::{
        Kind, Scene, Service,
        dns::{self, Record},
        scene::cluster_ip,
        wait as watch,
    },
    kind_test,
    lab::{
        Namespace,
        echo::{Echo, Transport as Lab, exchange},
        ping, wait,
    },
};

use crate::traffic::{self, Transport, answers, crossed_in_the_tunnel, seen_as_itself};

/// The domain of services.
const DOMAIN: &str = "svc.cluster.local";

kind_test!(a_request_by_name_reaches_a_pod_across_the_router_inside_the_tunnel, async |kind: &Kind| {
    let scene = Scene::set(kind, "journey").await?;
    let [here, there] = kind.across();
    let (client, server) = (scene.pod("client", here).await?, scene.pod("web", there).await?);
    let service = scene.service(&Service::new("web", "web"), 1).await?;
    let resolver = traffic::dns(kind).await?;
    let router = kind.capture_at_router(there.subnet())?;
    for family in kind.families() {
        let name = format!("web.{}.{DOMAIN}", scene.name());
        let to = cluster_ip(&service, family, 80)?;
        let found = wait::until("the service's name", wait::PATIENCE, async || {
            dns::ask(client.net(), resolver, &name, dns::Kind::of(family)).await
        })
        .await?;
        ensure!(found == [Record::Address(to.ip())], "{name} is {found:?}, not {to}");
        answers(client.net(), to).await?;
        router.clear()?;
        seen_as_itself(&client, to, Transport::Http).await?;
        seen_as_itself(&client, SocketAddr::new(to.ip(), 90), Transport::Udp).await?;
        crossed_in_the_tunnel(&router, &client, &server, family)?;
    }
    scene.end().await
});

kind_test!(names_of_services_endpoints_and_headless_pods_resolve_on_every_node, async |kind: &Kind| {
    let scene = Scene::set(kind, "names").await?;
    let [here, there] = kind.across();
    let hosts = json!({ "spec": { "hostname": "one", "subdomain": "bare" } });
    let pods =
        [scene.pod_with("one", "web", here, &hosts).await?, scene.pod_with("two", "web", there, &json!({})).await?];
    let service = scene.service(&Service::new("web", "web"), 2).await?;
    scene.service(&Service::new("bare", "web").with(json!({ "spec": { "clusterIP": "None" } })), 2).await?;
    let resolver = traffic::dns(kind).await?;
    let nodes: Vec<_> = kind.nodes().collect();
    let clients = scene.pods_of("client", &nodes).await?;
    let zone = format!("{}.{DOMAIN}", scene.name());
    for family in kind.families() {
        let kind = dns::Kind::of(family);
        let address = cluster_ip(&service, family, 80)?.ip();
        let mut all: Vec<_> = pods.iter().map(|pod| Record::Address(pod.address(family))).collect();
        all.sort();
        let web = Record::Service { host: format!("web.{zone}"), port: 80 };
        let expected = [
            (format!("web.{zone}"), kind, vec![Record::Address(address)]),
            (format!("bare.{zone}"), kind, all),
            (format!("one.bare.{zone}"), kind, vec![Record::Address(pods[0].address(family))]),
            (format!("_http._tcp.web.{zone}"), dns::Kind::Srv, vec![web]),
            (reverse(address), dns::Kind::Ptr, vec![Record::Name(format!("web.{zone}"))]),
        ];
        for client in &clients {
            for (name, kind, records) in &expected {
                wait::until(&format!("{name} on {}", client.node()), wait::PATIENCE, async || {
                    let found = dns::ask(client.net(), resolver, name, *kind).await?;
                    ensure!(&found == records, "{name} is {found:?}, not {records:?}");
                    Ok(())
                })
                .await?;
            }
            let none = dns::ask(client.net(), resolver, &format!("nobody.{zone}"), kind).await;
            let unknown = none.err().map(|error| format!("{error:#}")).unwrap_or_default();
            ensure!(unknown.contains("no such name"), "nobody.{zone} on {}: {unknown:?}", client.node());
        }
    }
    scene.end().await
});

kind_test!(every_node_reaches_services_whose_pods_are_elsewhere, async |kind: &Kind| {
    let scene = Scene::set(kind, "hosts").await?;
    let [_, there] = kind.across();
    let server = scene.pod("web", there).await?;
    let service = scene.service(&Service::new("web", "web"), 1).await?;
    for node in kind.nodes() {
        let filter = node.run(&["cat", "/proc/sys/net/ipv4/conf/all/rp_filter"]).await?;
        ensure!(filter.trim() == "1", "{} does not filter by reverse path: this shows too little", node.name());
        for family in kind.families() {
            // By the service, and directly.
            answers(node.net(), cluster_ip(&service, family, 80)?).await?;
            traffic::seen_by_http(node.net(), server.http(family)).await?;
            traffic::seen_by_udp(node.net(), server.udp(family)).await?;
            ping::ping(node.net(), server.address(family), ping::PATIENCE).await?.reply()?;
        }
    }
    scene.end().await
});

kind_test!(pods_reach_every_node_and_what_is_outside_under_their_nodes_address, async |kind: &Kind| {
    let scene = Scene::set(kind, "outside").await?;
    let nodes: Vec<_> = kind.nodes().collect();
    for pod in scene.pods_of("client", &nodes).await? {
        for family in kind.families() {
            let own = kind.node(pod.node()).address(&kind.client(), family).await?;
            for node in &nodes {
                let address = node.address(&kind.client(), family).await?;
                let seen = seen_by(pod.net(), node.net(), address).await?;
                // On its own node nobody stands between.
                let expected = if node.name() == pod.node() { pod.address(family) } else { own };
                ensure!(seen == expected, "{} sees {} as {seen}, not {expected}", node.name(), pod.name());
            }
            for subnet in ["a", "b"] {
                let router = kind.router_address(subnet, family)?;
                let seen = seen_by(pod.net(), kind.router(), router).await?;
                ensure!(seen == own, "the router sees {} as {seen}, not {own}", pod.name());
            }
        }
    }
    scene.end().await
});

kind_test!(a_pod_reaches_itself_through_its_own_service, async |kind: &Kind| {
    let scene = Scene::set(kind, "hairpin").await?;
    let [_, there] = kind.across();
    let pod = scene.pod("web", there).await?;
    let service = scene.service(&Service::new("web", "web"), 1).await?;
    for family in kind.families() {
        answers(pod.net(), cluster_ip(&service, family, 80)?).await?;
        traffic::seen_by_udp(pod.net(), cluster_ip(&service, family, 90)?).await?;
    }
    scene.end().await
});

kind_test!(a_pod_on_every_node_reaches_the_api_server, async |kind: &Kind| {
    let scene = Scene::set(kind, "api").await?;
    let services: Api<v1::Service> = Api::namespaced(kind.client(), "default");
    let address = cluster_ip(&services.get("kubernetes").await?, kind.families()[0], 443)?;
    let maps: Api<v1::ConfigMap> = Api::namespaced(kind.client(), scene.name());
    let authority = watch::object(&maps, "kube-root-ca.crt", "the authority", wait::PATIENCE, |map| {
        map.and_then(|map| map.data.as_ref()?.get("ca.crt").cloned()).context("there is none")
    })
    .await?;
    let nodes: Vec<_> = kind.nodes().collect();
    for pod in scene.pods_of("client", &nodes).await? {
        let answer = version(pod.net(), address, &authority).await.with_context(|| pod.name().to_owned())?;
        ensure!(answer.contains("gitVersion"), "{}: {answer}", pod.name());
    }
    scene.end().await
});

/// The address under which a server at `to` in `server` sees `client`, which has to be the same for TCP and UDP.
async fn seen_by(client: &Namespace, server: &Namespace, to: IpAddr) -> Result<IpAddr> {
    let mut seen = Vec::new();
    for transport in [Lab::Tcp, Lab::Udp] {
        let echo = Echo::start(server, transport, SocketAddr::new(to, 0))?;
        exchange(client, transport, echo.address(), b"who am I").await?;
        seen.extend(echo.peers().first().map(SocketAddr::ip));
    }
    ensure!(seen.len() == 2 && seen[0] == seen[1], "{} is seen as {seen:?} by {}", client.name(), server.name());
    Ok(seen[0])
}

/// The name that stands for an address (RFC 1035, section 3.5; RFC 3596, section 2.5).
fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let nibbles = v6.octets().into_iter().rev().flat_map(|octet| [octet & 0xf, octet >> 4]);
            let labels: Vec<_> = nibbles.map(|nibble| format!("{nibble:x}")).collect();
            format!("{}.ip6.arpa", labels.join("."))
        }
    }
}

/// What the API server says of itself to anybody who trusts its authority.
async fn version(from: &Namespace, to: SocketAddr, authority: &str) -> Result<String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots.add(certificate?)?;
    }
    let config = weft_proto::connect::tls_builder().with_root_certificates(roots).with_no_client_auth();
    let socket = from.enter(move || TcpStream::connect_timeout(&to, Duration::from_secs(5)))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let connection = ClientConnection::new(Arc::new(config), "kubernetes.default.svc".try_into()?)?;
    tokio::task::spawn_blocking(move || {
        let mut stream = StreamOwned::new(connection, socket);
        stream.write_all(b"GET /version HTTP/1.0\r\nHost: kubernetes.default.svc\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })
    .await?
}
