//! The agent's side of the controller, without the rest of an agent.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use weft_agent::controller::{Client, ConnectionStatus, Credentials, Held, Links, Order, Standing, Update};
use weft_core::{
    membership::View,
    standing::Facts,
    types::{PerFamily, Revision},
};

use super::controller::{Authority, Controller};

/// What an agent has on its disk: its token, whom to trust, its state.
pub(crate) struct Disk(PathBuf);

impl Disk {
    pub(crate) fn new(token: &str, trusted: &[&Authority]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let disk = Self(std::env::temp_dir().join(format!("weft-login-{}-{count}", std::process::id())));
        fs::create_dir_all(disk.0.join("state")).expect("a writable temp dir");
        disk.exchange_token(token);
        disk.trust(trusted);
        disk
    }

    /// As the kubelet does, whole.
    pub(crate) fn exchange_token(&self, token: &str) {
        self.replace("token", &format!("{token}\n"));
    }

    pub(crate) fn trust(&self, trusted: &[&Authority]) {
        self.replace("ca.crt", &trusted.iter().map(|authority| authority.pem()).collect::<String>());
    }

    /// As the kubelet does when the leader has written where controllers are.
    pub(crate) fn list(&self, controllers: &[&Controller]) {
        self.replace("controllers", &controllers.iter().map(|one| format!("{}\n", one.address)).collect::<String>());
    }

    fn replace(&self, name: &str, content: &str) {
        let temporary = self.0.join("new");
        fs::write(&temporary, content).expect("write");
        fs::rename(&temporary, self.0.join(name)).expect("rename");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _best_effort = fs::remove_dir_all(&self.0);
    }
}

/// A client that runs until it is dropped.
pub(crate) struct Agent {
    pub(crate) status: watch::Receiver<ConnectionStatus>,
    task: JoinHandle<()>,
    updates: mpsc::Receiver<Update>,
    _kept: (watch::Sender<Held>, watch::Sender<Option<Facts>>, watch::Sender<Standing>, watch::Sender<bool>),
}

impl Agent {
    /// Node `a` with what is on `disk`, which knows `controllers`.
    pub(crate) fn start(disk: &Disk, controllers: &[&Controller]) -> Self {
        let credentials = Credentials::ServiceAccount { token: disk.path("token"), authorities: disk.path("ca.crt") };
        Self::start_with(disk, controllers, credentials)
    }

    /// The same off Kubernetes, with the join token on `disk`.
    pub(crate) fn start_with_join_token(disk: &Disk, controllers: &[&Controller]) -> Self {
        Self::start_with(disk, controllers, Credentials::JoinToken(Some(disk.path("token"))))
    }

    fn start_with(disk: &Disk, controllers: &[&Controller], credentials: Credentials) -> Self {
        let (updates_in, updates) = mpsc::channel(16);
        let digests = Some(View::new().digests());
        let (held, held_out) = watch::channel(Held { revision: Some(Revision::new(1, 1)), digests, resyncs: 0 });
        let underlay = PerFamily { v4: Some("192.0.2.1/24".parse().expect("an address")), v6: None };
        let (facts, facts_out) = watch::channel(Some(Facts {
            underlay,
            underlay_mtu: 1500,
            gateways: Vec::new(),
            agent_version: String::new(),
            generation: 0,
        }));
        let (standing, standing_out) = watch::channel(Standing::default());
        let (cleaned, cleaned_up) = watch::channel(false);
        let (status_in, status) = watch::channel(ConnectionStatus::default());
        let links = Links {
            updates: updates_in,
            held: held_out,
            facts: facts_out,
            standing: standing_out,
            order: watch::channel(Order::default()).0,
            cleaned_up,
            status: status_in,
        };
        let addresses = controllers.iter().map(|controller| controller.address.to_string()).collect();
        let state: &Path = &disk.path("state");
        let client = Client::new("a".parse().expect("a name"), addresses, credentials, state, links);
        let client = client.expect("a state directory").with_list(Some(disk.path("controllers")), state);
        let task = tokio::spawn(client.run());
        Self { status, task, updates, _kept: (held, facts, standing, cleaned) }
    }

    /// Waits until the connection stands as `wanted`.
    pub(crate) async fn until(&mut self, what: &str, wanted: impl FnMut(&ConnectionStatus) -> bool) {
        let waited = tokio::time::timeout(Duration::from_secs(20), self.status.wait_for(wanted)).await;
        let reached = waited.map(|status| drop(status.expect("the client runs")));
        assert!(reached.is_ok(), "{what}: {:?}", self.status.borrow());
    }

    /// Waits for the stream's first message: each stream brings one.
    pub(crate) async fn told(&mut self) {
        let told = tokio::time::timeout(Duration::from_secs(20), self.updates.recv()).await;
        let update = told.unwrap_or_else(|_| panic!("no stream: {:?}", self.status.borrow()));
        assert!(matches!(update, Some(Update::Current { .. })), "{update:?}");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}
