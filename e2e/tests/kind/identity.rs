//! Who may speak for a node, and what the programs' accounts and containers may do.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1,
};
use kube::{ResourceExt, api::PostParams};
use rcgen::{CertificateParams, KeyPair};
use rustls::{RootCertStore, pki_types::CertificateDer, pki_types::pem::PemObject};
use serde_json::json;
use tonic::Code;
use weft_api::names;
use weft_core::types::Family;
use weft_e2e::{
    kind::{Kind, Scene, helm::NAMESPACE, http, scene},
    kind_test,
};
use weft_proto::{
    connect,
    v1::{JoinRequest, join_service_client::JoinServiceClient},
};

/// Capabilities of the agent, as bits of a set (include/uapi/linux/capability.h).
const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;

/// A token of an account, bound to a pod as the kubelet asks for it.
async fn token(kind: &Kind, account: &str, audience: &str, pod: Option<&v1::Pod>) -> Result<String> {
    let bound = pod.map(|pod| BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(pod.name_any()),
        uid: pod.uid(),
    });
    let spec =
        TokenRequestSpec { audiences: vec![audience.to_owned()], bound_object_ref: bound, expiration_seconds: None };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let accounts = kind.own::<v1::ServiceAccount>();
    let answer = accounts.create_token_request(account, &PostParams::default(), &request).await?;
    Ok(answer.status.context("a token request without an answer")?.token)
}

/// Where the leader takes agents' calls.
async fn leader(kind: &Kind) -> Result<SocketAddr> {
    let pod = kind.own::<v1::Pod>().get(&kind.leader().await?).await?;
    let address = pod.status.and_then(|status| status.host_ip).context("the leader has no address")?;
    Ok(SocketAddr::new(address.parse()?, 7887))
}

/// Asks to be let in as `node` with this token, and returns the certificate or why not.
async fn join(kind: &Kind, node: &str, token: &str) -> Result<std::result::Result<Vec<u8>, tonic::Status>> {
    let map = kind.own::<v1::ConfigMap>().get(names::CA).await?;
    let authority = map.data.and_then(|data| data.get(names::CA_CERTIFICATE).cloned()).context("no authority")?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots.add(certificate?)?;
    }
    let config = connect::tls_builder().with_root_certificates(roots).with_no_client_auth();
    let channel = connect::controller(leader(kind).await?, connect::for_http2(config)).await?;
    let csr = CertificateParams::default().serialize_request(&KeyPair::generate()?)?.der().to_vec();
    let request = JoinRequest { node: node.to_owned(), token: token.to_owned(), csr_der: csr };
    let answer = JoinServiceClient::new(channel).join(request).await;
    Ok(answer.map(|answer| answer.into_inner().certificate_der))
}

/// Fails unless the controller refuses, for what was shown and not because it cannot be asked.
async fn refused(kind: &Kind, what: &str, node: &str, token: &str) -> Result<()> {
    match join(kind, node, token).await? {
        Ok(_) => bail!("{what} was given a certificate of {node}"),
        Err(status) => {
            let named = matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated | Code::InvalidArgument);
            ensure!(named, "{what}: {status:?}");
            let repeated = !token.is_empty() && status.message().contains(token);
            ensure!(!repeated, "{what}: the refusal repeats the token");
            Ok(())
        }
    }
}

kind_test!(a_node_speaks_for_itself_only, async |kind: &Kind| {
    let [here, there] = kind.across();
    let agent = kind.agent_on(here.name()).await?;
    let own = token(kind, names::AGENT, names::CONTROLLER, Some(&agent)).await?;
    if let Err(status) = join(kind, here.name(), &own).await? {
        bail!("{} is refused with its own token, so this shows nothing: {status:?}", here.name());
    }
    refused(kind, "the token of another node", there.name(), &own).await?;
    refused(kind, "the token of a node for one that does not exist", "nobody", &own).await?;
    // Nobody was harmed by it.
    kind.settled().await
});

kind_test!(other_tokens_are_refused, async |kind: &Kind| {
    let [here, _] = kind.across();
    let agent = kind.agent_on(here.name()).await?;
    let audience = token(kind, names::AGENT, "https://kubernetes.default.svc.cluster.local", Some(&agent)).await?;
    refused(kind, "a token for another audience", here.name(), &audience).await?;
    let unbound = token(kind, names::AGENT, names::CONTROLLER, None).await?;
    refused(kind, "a token that names no node", here.name(), &unbound).await?;
    let other = token(kind, names::CONTROLLER, names::CONTROLLER, None).await?;
    refused(kind, "another account's token", here.name(), &other).await?;
    refused(kind, "no token", here.name(), "").await?;
    refused(kind, "something else", here.name(), "eyJhbGciOiJub25lIn0.e30.").await?;
    refused(kind, "a token with a byte changed", here.name(), &broken(&token_of(kind, &agent).await?)).await?;
    kind.settled().await
});

async fn token_of(kind: &Kind, agent: &v1::Pod) -> Result<String> {
    token(kind, names::AGENT, names::CONTROLLER, Some(agent)).await
}

/// The same claims with another signature.
fn broken(token: &str) -> String {
    let (claims, signature) = token.rsplit_once('.').expect("a JWT has three parts");
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{claims}.{first}{}", &signature[1..])
}

kind_test!(the_token_of_a_pod_that_is_gone_is_refused, async |kind: &Kind| {
    let [here, _] = kind.across();
    let old = kind.agent_on(here.name()).await?;
    let token = token_of(kind, &old).await?;
    kind.kill(&old.name_any()).await?;
    weft_e2e::kind::wait::gone(&kind.own::<v1::Pod>(), &old.name_any(), weft_e2e::kind::wait::PATIENCE).await?;
    refused(kind, "the token of a pod that is gone", here.name(), &token).await?;
    kind.settled().await
});

kind_test!(the_agents_account_may_do_no_more_than_any_other, async |kind: &Kind| {
    let mut rights = Vec::new();
    for account in [names::AGENT, "default"] {
        let subject = format!("--as=system:serviceaccount:{NAMESPACE}:{account}");
        let groups = ["--as-group=system:serviceaccounts", "--as-group=system:authenticated"];
        let words = [&["auth", "can-i", "--list", "--namespace", NAMESPACE, &subject][..], &groups].concat();
        let listed = kind.kubectl(&words).await?;
        let mut lines: Vec<_> = listed.lines().map(str::to_owned).collect();
        lines.sort();
        rights.push(lines);
    }
    ensure!(rights[0].len() > 1 && rights[0] == rights[1], "the agent's account has more rights: {rights:#?}");
    Ok(())
});

kind_test!(the_programs_have_no_more_power_than_they_need, async |kind: &Kind| {
    for program in [names::AGENT, names::CONTROLLER] {
        for pod in kind.pods_of(program).await? {
            let spec = pod.spec.as_ref().context("a pod without a spec")?;
            for container in &spec.containers {
                let security = container.security_context.as_ref().context("no security context")?;
                let capabilities = security.capabilities.as_ref().context("no capabilities are said")?;
                let profile = security.seccomp_profile.as_ref().map(|profile| profile.type_.as_str());
                ensure!(security.privileged != Some(true), "{} is privileged", pod.name_any());
                ensure!(security.allow_privilege_escalation == Some(false), "{} may gain rights", pod.name_any());
                ensure!(security.read_only_root_filesystem == Some(true), "{} may write its files", pod.name_any());
                ensure!(profile == Some("RuntimeDefault"), "{}: seccomp {profile:?}", pod.name_any());
                ensure!(capabilities.drop.as_deref() == Some(&["ALL".to_owned()]), "{capabilities:?}");
            }
            ensure!(spec.host_pid != Some(true) && spec.host_ipc != Some(true), "{} sees the host", pod.name_any());
            let node = kind.node(spec.node_name.as_deref().context("a pod without a node")?);
            let effective = node.sh(&format!("grep CapEff /proc/$(pgrep -xo {program})/status | cut -f2")).await?;
            let effective = u64::from_str_radix(effective.trim(), 16)?;
            let allowed = if program == names::AGENT { 1 << CAP_NET_ADMIN | 1 << CAP_NET_RAW } else { 0 };
            ensure!(effective & !allowed == 0, "{} has capabilities {effective:x}", pod.name_any());
        }
    }
    Ok(())
});

kind_test!(pods_cannot_read_the_programs_http, async |kind: &Kind| {
    let scene = Scene::set(kind, "closed").await?;
    let [here, _] = kind.across();
    let client = scene.pod_with("client", "client", here, &json!({})).await?;
    for node in kind.nodes() {
        for family in kind.families() {
            let address = node.address(&kind.client(), family).await?;
            for port in [7888, 7889] {
                let to = SocketAddr::new(address, port);
                ensure!(http::get(client.net(), to, "/metrics").await.is_err(), "{to} answers a pod");
            }
        }
    }
    // It would notice.
    let server = scene.pod("server", here).await?;
    http::get(client.net(), SocketAddr::new(server.address(Family::V4), scene::HTTP_PORT), "/hostname").await?;
    scene.end().await
});
