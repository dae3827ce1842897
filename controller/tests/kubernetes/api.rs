//! A kube-apiserver and its etcd on loopback, for one test.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    serde_json::{self, json},
};
use kube::{
    Api, Client, Config,
    api::{ObjectMeta, PostParams},
    client::ClientBuilder,
};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Instant, sleep},
};

/// Weft's namespace in these tests.
pub(crate) const NAMESPACE: &str = "weft-system";
/// Two processors are not enough for several API servers at a time.
static TURN: Mutex<()> = Mutex::const_new(());
/// What the tests' clients show.
const TOKEN: &str = "a-token-for-tests";
const START_TIME: Duration = Duration::from_secs(60);

/// The two processes; they end with this.
pub(crate) struct ApiServer {
    dir: PathBuf,
    port: u16,
    processes: Vec<Child>,
    _turn: MutexGuard<'static, ()>,
}

impl ApiServer {
    /// Starts both, with Weft's resources and objects in them.
    pub(crate) async fn start() -> Self {
        let turn = TURN.lock().await;
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("weft-apiserver-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory for the test");
        let [client, peer, port] = free_ports();
        let etcd = etcd(&dir, client, peer);
        let apiserver = apiserver(&dir, client, port);
        let mut server = Self { dir, port, processes: vec![etcd, apiserver], _turn: turn };
        server.ready().await;
        server.install().await;
        server
    }

    /// How to reach it.
    pub(crate) fn config(&self) -> Config {
        let address = format!("https://127.0.0.1:{}", self.port).parse().expect("an address");
        let mut config = Config::new(address);
        config.accept_invalid_certs = true;
        let bearer = format!("Bearer {TOKEN}").parse().expect("a header's value");
        config.headers.push((http::header::AUTHORIZATION, bearer));
        config
    }

    /// A client without limits.
    pub(crate) fn client(&self) -> Client {
        ClientBuilder::try_from(self.config()).expect("a client").build()
    }

    /// The same as a file, for programs.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        let path = self.dir.join("kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{ "name": "test", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.port), "insecure-skip-tls-verify": true } }],
            "users": [{ "name": "test", "user": { "token": TOKEN } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
        });
        fs::write(&path, config.to_string()).expect("a writable directory");
        path
    }

    async fn ready(&mut self) {
        let begun = Instant::now();
        let client = self.client();
        loop {
            let request = http::Request::get("/readyz").body(Vec::new()).expect("a request");
            match client.request_text(request).await {
                Ok(text) if text == "ok" => return,
                other if begun.elapsed() > START_TIME || self.has_ended() => {
                    panic!("the API server is not ready ({other:?}); its log: {}", self.log("apiserver"))
                }
                // There is nothing to wait on before it listens.
                _ => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    fn has_ended(&mut self) -> bool {
        self.processes.iter_mut().any(|process| !matches!(process.try_wait(), Ok(None)))
    }

    /// What the chart brings.
    async fn install(&self) {
        let client = self.client();
        let definitions = Api::<CustomResourceDefinition>::all(client.clone());
        for text in weft_api::crds_yaml().split("---\n") {
            let definition: serde_json::Value = serde_saphyr::from_str(text).expect("YAML");
            let definition: CustomResourceDefinition = serde_json::from_value(definition).expect("a definition");
            let name = definition.metadata.name.clone().expect("it has a name");
            definitions.create(&PostParams::default(), &definition).await.expect("a sound definition");
            let established = kube::runtime::conditions::is_crd_established();
            kube::runtime::wait::await_condition(definitions.clone(), &name, established).await.expect("a watch");
        }
        let metadata = |name: &str| ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata: metadata(NAMESPACE), ..Namespace::default() };
        Api::all(client.clone()).create(&PostParams::default(), &namespace).await.expect("a namespace");
        let maps = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE);
        for name in [weft_api::names::CLUSTER, weft_api::names::CA] {
            let map = ConfigMap { metadata: metadata(name), ..ConfigMap::default() };
            maps.create(&PostParams::default(), &map).await.expect("a ConfigMap");
        }
        let secret =
            k8s_openapi::api::core::v1::Secret { metadata: metadata(weft_api::names::CA), ..Default::default() };
        Api::namespaced(client.clone(), NAMESPACE).create(&PostParams::default(), &secret).await.expect("a Secret");
        let lease = k8s_openapi::api::coordination::v1::Lease {
            metadata: metadata(weft_api::names::CONTROLLER),
            ..Default::default()
        };
        Api::namespaced(client, NAMESPACE).create(&PostParams::default(), &lease).await.expect("a Lease");
    }

    /// The end of a process's log.
    pub(crate) fn log(&self, name: &str) -> String {
        let text = fs::read_to_string(self.dir.join(format!("{name}.log"))).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Starts a program whose output goes to a log in the test's directory.
    pub(crate) fn spawn(&self, name: &str, command: &mut Command) -> Child {
        spawn(&self.dir, name, command)
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            let _gone = process.kill();
            let _ended = process.wait();
        }
        let _best_effort = fs::remove_dir_all(&self.dir);
    }
}

fn binary(path: &str) -> PathBuf {
    let cache = std::env::var_os("WEFT_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
        let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
        cache.join("weft")
    });
    let path = cache.join("go").join(path);
    assert!(path.exists(), "{} is not there: `./dev cluster up` builds it", path.display());
    path
}

/// Ports that nothing listens on.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let listeners: [TcpListener; N] =
        std::array::from_fn(|_| TcpListener::bind(("127.0.0.1", 0)).expect("loopback has free ports"));
    listeners.map(|listener| listener.local_addr().expect("it listens").port())
}

fn spawn(dir: &Path, name: &str, command: &mut Command) -> Child {
    let log = File::create(dir.join(format!("{name}.log"))).expect("a writable directory");
    let errors = log.try_clone().expect("a second handle");
    command.stdin(Stdio::null()).stdout(log).stderr(errors);
    command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"))
}

fn etcd(dir: &Path, client: u16, peer: u16) -> Child {
    let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    let mut command = Command::new(binary("etcd/server"));
    command.arg("--data-dir").arg(dir.join("etcd")).args([
        // Nothing here is to outlive the test.
        "--unsafe-no-fsync",
        "--listen-client-urls",
        &client,
        "--advertise-client-urls",
        &client,
        "--listen-peer-urls",
        &peer,
        "--initial-advertise-peer-urls",
        &peer,
        "--initial-cluster",
        &format!("default={peer}"),
    ]);
    spawn(dir, "etcd", &mut command)
}

fn apiserver(dir: &Path, etcd: u16, port: u16) -> Child {
    let (key, public, tokens) = (dir.join("accounts.key"), dir.join("accounts.pub"), dir.join("tokens.csv"));
    let pair = rcgen::KeyPair::generate().expect("random numbers");
    for (path, text) in [
        (&key, pair.serialize_pem()),
        (&public, pair.public_key_pem()),
        (&tokens, format!("{TOKEN},tester,tester,\"system:masters\"\n")),
    ] {
        fs::write(path, text).expect("a writable directory");
    }
    let mut command = Command::new(binary("kubernetes/kube-apiserver"));
    command
        .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--service-cluster-ip-range=10.96.0.0/16"])
        .args(["--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount"])
        .args(["--service-account-issuer=https://kubernetes.default.svc", "--endpoint-reconciler-type=none"])
        .arg(format!("--etcd-servers=http://127.0.0.1:{etcd}"))
        .arg(format!("--secure-port={port}"))
        .arg(format!("--cert-dir={}", dir.join("certificates").display()))
        .arg(format!("--token-auth-file={}", tokens.display()))
        .arg(format!("--service-account-key-file={}", public.display()))
        .arg(format!("--service-account-signing-key-file={}", key.display()));
    spawn(dir, "apiserver", &mut command)
}
