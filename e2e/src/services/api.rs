//! A kube-apiserver with its etcd on the controller's host.
//!
//! Owns the two processes, their files and the way to them: programs on hosts reach it over the lab's network, the lab itself
//! through a relay on its own loopback. Must never be told of anything but by its API.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    process::Command,
    sync::Mutex,
    task::AbortHandle,
};
use weft_core::types::Family;

use super::{find, objects::SERVICE_NETWORKS};
use crate::lab::{Host, Process, wait};

const PORT: u16 = 6443;
/// Loopback only.
const ETCD: &str = "http://127.0.0.1:2379";
const ETCD_PEERS: &str = "http://127.0.0.1:2380";
/// What every client shows.
const TOKEN: &str = "a-token-for-the-lab";
/// Both programs are large.
const START_TIME: Duration = Duration::from_secs(120);
/// Its certificate, which is its own authority.
const CERTIFICATE: &str = "apiserver.crt";

/// The API server; it ends with this.
pub(super) struct ApiServer {
    client: Client,
    address: SocketAddr,
    directory: PathBuf,
    relay: AbortHandle,
    processes: Mutex<Vec<Process>>,
}

impl ApiServer {
    /// Starts both on `host`, and waits until they answer.
    pub(super) async fn start(host: &Arc<Host>, family: Family) -> Result<Self> {
        let directory = host.directory().join("kubernetes");
        fs::create_dir_all(&directory)?;
        let address = SocketAddr::new(host.address(family), PORT);
        let processes = vec![
            host.spawn("etcd", etcd(&directory)?)?,
            host.spawn("kube-apiserver", apiserver(&directory, address)?)?,
        ];
        let (near, relay) = relay(host, address).await?;
        // Both of rustls's own providers may be linked in; ours is the one that everything else here uses.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let kubeconfig: Kubeconfig = serde_json::from_value(kubeconfig(near, &directory))?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let client = Client::try_from(config)?;
        let server = Self { client, address, directory, relay, processes: Mutex::new(processes) };
        wait::until("the API server to be ready", START_TIME, async || server.ready().await).await?;
        Ok(server)
    }

    /// A client that may do everything.
    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// How programs on hosts reach it.
    pub(super) fn kubeconfig(&self) -> Value {
        kubeconfig(self.address, &self.directory)
    }

    async fn ready(&self) -> Result<()> {
        for process in self.processes.lock().await.iter_mut() {
            if let Some(status) = process.ended()? {
                bail!("it ended with {status}, see {}", process.log().display());
            }
        }
        let request = http::Request::get("/readyz").body(Vec::new())?;
        match self.client.request_text(request).await?.as_str() {
            "ok" => Ok(()),
            other => bail!("{other}"),
        }
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.relay.abort();
    }
}

fn kubeconfig(server: SocketAddr, directory: &Path) -> Value {
    let cluster =
        json!({ "server": format!("https://{server}"), "certificate-authority": directory.join(CERTIFICATE) });
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "lab",
        "clusters": [{ "name": "lab", "cluster": cluster }],
        "users": [{ "name": "lab", "user": { "token": TOKEN } }],
        "contexts": [{ "name": "lab", "context": { "cluster": "lab", "user": "lab" } }],
    })
}

/// Passes connections to a port of the sandbox's own loopback on to a host's.
async fn relay(host: &Arc<Host>, to: SocketAddr) -> Result<(SocketAddr, AbortHandle)> {
    loopback_up().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen on the sandbox's loopback")?;
    let near = listener.local_addr()?;
    let net = host.net();
    let task = tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let Ok(socket) = net.tcp_towards(to.ip()) else { return };
            tokio::spawn(async move {
                // A client sees that its connection ends.
                let Ok(mut onward) = socket.connect(to).await else { return };
                let _: Result<_, _> = copy_bidirectional::<TcpStream, TcpStream>(&mut from, &mut onward).await;
            });
        }
    });
    Ok((near, task.abort_handle()))
}

/// A new network namespace has its loopback down.
async fn loopback_up() -> Result<()> {
    let done = Command::new("ip").args(["link", "set", "lo", "up"]).output().await.context("cannot start ip")?;
    if !done.status.success() {
        bail!("ip link set lo up: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}

fn etcd(directory: &Path) -> Result<Command> {
    let mut command = Command::new(find("etcd")?);
    command.arg("--data-dir").arg(directory.join("etcd"));
    // Nothing here is to outlive the lab.
    command.arg("--unsafe-no-fsync");
    command.args(["--listen-client-urls", ETCD, "--advertise-client-urls", ETCD]);
    command.args(["--listen-peer-urls", ETCD_PEERS, "--initial-advertise-peer-urls", ETCD_PEERS]);
    command.arg("--initial-cluster").arg(format!("default={ETCD_PEERS}"));
    Ok(command)
}

fn apiserver(directory: &Path, address: SocketAddr) -> Result<Command> {
    let [key, public, certificate, tokens] =
        ["apiserver.key", "apiserver.pub", CERTIFICATE, "tokens.csv"].map(|name| directory.join(name));
    let pair = rcgen::KeyPair::generate().context("cannot make a key")?;
    // The relay's address, too.
    let names = [address.ip().to_string(), Ipv4Addr::LOCALHOST.to_string()];
    for (path, text) in [
        (&key, pair.serialize_pem()),
        (&public, pair.public_key_pem()),
        (&certificate, rcgen::CertificateParams::new(names)?.self_signed(&pair)?.pem()),
        (&tokens, format!("{TOKEN},lab,lab,\"system:masters\"\n")),
    ] {
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut command = Command::new(find("kube-apiserver")?);
    command
        .args(["--authorization-mode=AlwaysAllow", "--disable-admission-plugins=ServiceAccount"])
        .args(["--enable-priority-and-fairness=false", "--endpoint-reconciler-type=none"])
        .args(["--service-account-issuer=https://kubernetes.default.svc", "--allow-privileged=true"])
        .arg(format!("--service-cluster-ip-range={SERVICE_NETWORKS}"))
        .arg(format!("--etcd-servers={ETCD}"))
        .arg(format!("--bind-address={}", address.ip()))
        .arg(format!("--advertise-address={}", address.ip()))
        .arg(format!("--secure-port={}", address.port()))
        .arg(format!("--tls-cert-file={}", certificate.display()))
        .arg(format!("--tls-private-key-file={}", key.display()))
        .arg(format!("--token-auth-file={}", tokens.display()))
        .arg(format!("--service-account-key-file={}", public.display()))
        .arg(format!("--service-account-signing-key-file={}", key.display()));
    Ok(command)
}
