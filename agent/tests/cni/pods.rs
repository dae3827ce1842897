//! The address book over a real store: the order between disk and the host's side, whatever overtakes what.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use tokio::sync::{Notify, watch};
use weft_agent::{
    pods::{AddressBook, Allocation, DirDisk, HostSide, NodeState, PodError, PodStore, StoreError},
    veth::{AttachmentKey, Released},
};
use weft_core::{
    desired::Pod,
    types::{LinkName, PerFamily},
};

/// A host's side in memory.
#[derive(Clone, Default)]
struct Host(Arc<State>);

#[derive(Default)]
struct State {
    there: Mutex<BTreeSet<LinkName>>,
    /// Removing fails.
    stuck: Mutex<bool>,
    /// When set: `ensure` reports that it began, and waits.
    hold: Mutex<Option<Arc<(Notify, Notify)>>>,
}

impl Host {
    fn there(&self) -> usize {
        self.0.there.lock().expect("no panic").len()
    }
}

impl HostSide for Host {
    type Error = String;

    async fn ensure(&self, pod: Pod) -> Result<(), String> {
        let hold = self.0.hold.lock().expect("no panic").clone();
        if let Some(hold) = hold {
            hold.0.notify_one();
            hold.1.notified().await;
        }
        self.0.there.lock().expect("no panic").insert(pod.link);
        Ok(())
    }

    async fn remove(&self, link: LinkName) -> Result<(), String> {
        if *self.0.stuck.lock().expect("no panic") {
            return Err("stuck".to_owned());
        }
        self.0.there.lock().expect("no panic").remove(&link);
        Ok(())
    }

    async fn check(&self, _: LinkName) -> Vec<String> {
        Vec::new()
    }
}

struct Node {
    pods: Arc<AddressBook<Host>>,
    host: Host,
    state: watch::Sender<NodeState>,
    released: Released,
    directory: PathBuf,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn ready() -> NodeState {
    let pod_cidrs = PerFamily { v4: Some("10.1.0.0/24".parse().expect("a CIDR")), v6: None };
    NodeState { pod_cidrs, pod_mtu: Some(1450), ready: Ok(()) }
}

fn node(name: &str) -> Node {
    let directory = std::env::temp_dir().join(format!("weft-pods-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    let store = PodStore::open(DirDisk::open(&directory.join("pods")).expect("a disk")).expect("a store").store;
    let (host, released) = (Host::default(), Released::beside(&directory.join("agent.sock")));
    let (state, watched) = watch::channel(ready());
    let pods = Arc::new(AddressBook::new(store, host.clone(), watched, released.clone(), Default::default()));
    Node { pods, host, state, released, directory }
}

fn key(name: &str) -> AttachmentKey {
    AttachmentKey::new(name, "eth0").expect("valid")
}

impl Node {
    async fn allocate(&self, name: &str) -> Result<Allocation, PodError> {
        self.pods.allocate(key(name), String::new(), String::new()).await
    }
}

#[tokio::test]
async fn answers_what_the_plugin_needs() {
    let node = node("answer");
    let Allocation { record, mtu } = node.allocate("a").await.expect("allocated");
    let key = key("a");
    assert_eq!(record.addresses.v4, Some([10, 1, 0, 1].into()));
    assert_eq!((mtu, record.link, record.pod_mac), (1450, key.link(), key.pod_mac()));
    assert_eq!(node.pods.usage(), [("10.1.0.0/24".parse().expect("a CIDR"), 1, 254)]);
}

#[tokio::test]
async fn a_node_that_is_not_ready_says_try_again() {
    let node = node("unready");
    node.state.send(NodeState { ready: Err("no device".to_owned()), ..ready() }).expect("sent");
    let error = node.allocate("a").await.expect_err("not ready");
    assert!(matches!(&error, PodError::NotReady(why) if why == "no device"), "{error}");
    node.state.send(NodeState { pod_cidrs: PerFamily::default(), ..ready() }).expect("sent");
    assert!(matches!(node.allocate("a").await, Err(PodError::NoPodCidr)));
    assert_eq!(node.pods.store().records().len(), 0);
}

#[tokio::test]
async fn an_address_is_freed_only_once_the_host_side_is_gone() {
    let node = node("order");
    node.allocate("a").await.expect("allocated");
    node.pods.attach(&key("a")).await.expect("attached");
    *node.host.0.stuck.lock().expect("no panic") = true;
    assert!(node.pods.end(&key("a")).await.expect_err("stuck").to_string().contains("not gone"));
    assert_eq!(node.pods.store().records().len(), 1, "a route outlives its allocation");
    *node.host.0.stuck.lock().expect("no panic") = false;
    node.pods.end(&key("a")).await.expect("released");
    assert_eq!((node.pods.store().records().len(), node.host.there()), (0, 0));
    node.pods.end(&key("a")).await.expect("again");
}

#[tokio::test]
async fn an_add_that_a_del_overtakes_fails_and_leaves_nothing() {
    let node = node("overtaken");
    node.allocate("a").await.expect("allocated");
    let hold = Arc::new((Notify::new(), Notify::new()));
    *node.host.0.hold.lock().expect("no panic") = Some(Arc::clone(&hold));
    let pods = Arc::clone(&node.pods);
    let adding = tokio::spawn(async move { pods.attach(&key("a")).await });
    hold.0.notified().await;
    node.pods.end(&key("a")).await.expect("released");
    hold.1.notify_one();
    assert!(matches!(adding.await.expect("no panic"), Err(PodError::Released(_))));
    assert_eq!(node.host.there(), 0);
    assert!(matches!(node.pods.attach(&key("a")).await, Err(PodError::Unknown(_))));
}

#[tokio::test]
async fn a_noted_release_ends_the_old_attachment_and_never_a_later_one() {
    let node = node("noted");
    let key = key("a");
    let first = node.allocate("a").await.expect("allocated");
    node.released.note(&key).expect("noted");
    let second = node.allocate("a").await.expect("allocated anew");
    assert_ne!(first.record.addresses, second.record.addresses, "the old attachment was to end");
    assert_eq!(node.pods.take_noted_releases().await, Vec::<String>::new());
    assert_eq!(node.pods.store().records().len(), 1, "the note ended the attachment that came after it");
    node.released.note(&key).expect("noted");
    assert_eq!(node.pods.take_noted_releases().await, Vec::<String>::new());
    assert_eq!(node.pods.store().records().len(), 0);
}

#[tokio::test]
async fn pods_of_a_cidr_that_moved_lose_their_host_side() {
    let node = node("moved");
    for name in ["a", "b"] {
        node.allocate(name).await.expect("allocated");
    }
    assert_eq!((node.pods.host_sides().len(), node.pods.outside().len()), (2, 0));
    let pod_cidrs = PerFamily { v4: Some("10.9.0.0/24".parse().expect("a CIDR")), v6: None };
    node.state.send(NodeState { pod_cidrs, ..ready() }).expect("sent");
    assert_eq!((node.pods.host_sides().len(), node.pods.outside().len()), (0, 2));
    assert!(node.pods.check(&key("a")).await.expect("answered").1[0].contains("10.1.0.1"));
    assert!(matches!(node.allocate("a").await, Err(PodError::Store(StoreError::Outside { .. }))));
    node.allocate("c").await.expect("new pods get new addresses");
}

#[tokio::test]
async fn collect_keeps_the_valid_ones() {
    let node = node("collect");
    for name in ["a", "b", "c"] {
        node.allocate(name).await.expect("allocated");
        node.pods.attach(&key(name)).await.expect("attached");
    }
    let released = node.pods.collect(&[key("b")]).await.expect("collected");
    assert_eq!(released.iter().map(AttachmentKey::container).collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!((node.pods.store().records().len(), node.host.there()), (1, 1));
}
