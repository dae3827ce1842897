//! The pod service over a real store: the order between disk and the host's side, whatever overtakes what.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use tokio::sync::{Notify, watch};
use tonic::Code;
use weft_agent::{
    pods::{DirDisk, HostSide, NodeState, PodService, PodStore},
    veth::{AttachmentKey, Released},
};
use weft_core::{
    desired::Pod,
    types::{LinkName, PerFamily},
};
use weft_proto::v1;

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
    pods: Arc<PodService<Host>>,
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
    NodeState { pod_cidrs, pod_mtu: 1450, ready: Ok(()) }
}

fn node(name: &str) -> Node {
    let directory = std::env::temp_dir().join(format!("weft-pods-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    let store = PodStore::open(DirDisk::open(&directory.join("pods")).expect("a disk")).expect("a store").store;
    let (host, released) = (Host::default(), Released::beside(&directory.join("agent.sock")));
    let (state, watched) = watch::channel(ready());
    let pods = Arc::new(PodService::new(store, host.clone(), watched, released.clone(), Default::default()));
    Node { pods, host, state, released, directory }
}

fn attachment(name: &str) -> Option<v1::Attachment> {
    Some(v1::Attachment { container_id: name.to_owned(), interface: "eth0".to_owned() })
}

fn allocate(name: &str) -> v1::AllocatePodRequest {
    v1::AllocatePodRequest { attachment: attachment(name), ..Default::default() }
}

fn attach(name: &str) -> v1::AttachPodRequest {
    v1::AttachPodRequest { attachment: attachment(name) }
}

fn release(name: &str) -> v1::ReleasePodRequest {
    v1::ReleasePodRequest { attachment: attachment(name) }
}

#[tokio::test]
async fn answers_what_the_plugin_needs() {
    let node = node("answer");
    let answer = node.pods.allocate(allocate("a")).await.expect("allocated");
    let key = AttachmentKey::new("a", "eth0").expect("valid");
    assert_eq!((answer.addresses[0].address.as_slice(), answer.addresses[0].prefix), ([10, 1, 0, 1].as_slice(), 32));
    assert_eq!(answer.gateways, [vec![169, 254, 87, 1]]);
    assert_eq!((answer.mtu, answer.host_interface), (1450, key.link().to_string()));
    assert_eq!(answer.pod_mac, key.pod_mac().octets());
    assert_eq!(node.pods.usage(), [("10.1.0.0/24".parse().expect("a CIDR"), 1, 254)]);
}

#[tokio::test]
async fn a_node_that_is_not_ready_says_try_again() {
    let node = node("unready");
    node.state.send(NodeState { ready: Err("no device".to_owned()), ..ready() }).expect("sent");
    let status = node.pods.allocate(allocate("a")).await.expect_err("not ready");
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("no device"));
    node.state.send(NodeState { pod_cidrs: PerFamily::default(), ..ready() }).expect("sent");
    assert_eq!(node.pods.allocate(allocate("a")).await.expect_err("no CIDR").code(), Code::Unavailable);
    assert_eq!(node.pods.store().records().len(), 0);
}

#[tokio::test]
async fn an_address_is_freed_only_once_the_host_side_is_gone() {
    let node = node("order");
    node.pods.allocate(allocate("a")).await.expect("allocated");
    node.pods.attach(attach("a")).await.expect("attached");
    *node.host.0.stuck.lock().expect("no panic") = true;
    assert!(node.pods.release(release("a")).await.expect_err("stuck").message().contains("not gone"));
    assert_eq!(node.pods.store().records().len(), 1, "a route outlives its allocation");
    *node.host.0.stuck.lock().expect("no panic") = false;
    node.pods.release(release("a")).await.expect("released");
    assert_eq!((node.pods.store().records().len(), node.host.there()), (0, 0));
    node.pods.release(release("a")).await.expect("again");
}

#[tokio::test]
async fn an_add_that_a_del_overtakes_fails_and_leaves_nothing() {
    let node = node("overtaken");
    node.pods.allocate(allocate("a")).await.expect("allocated");
    let hold = Arc::new((Notify::new(), Notify::new()));
    *node.host.0.hold.lock().expect("no panic") = Some(Arc::clone(&hold));
    let pods = Arc::clone(&node.pods);
    let adding = tokio::spawn(async move { pods.attach(attach("a")).await });
    hold.0.notified().await;
    node.pods.release(release("a")).await.expect("released");
    hold.1.notify_one();
    assert_eq!(adding.await.expect("no panic").expect_err("overtaken").code(), Code::Aborted);
    assert_eq!(node.host.there(), 0);
    assert_eq!(node.pods.attach(attach("a")).await.expect_err("gone").code(), Code::NotFound);
}

#[tokio::test]
async fn a_noted_release_ends_the_old_attachment_and_never_a_later_one() {
    let node = node("noted");
    let key = AttachmentKey::new("a", "eth0").expect("valid");
    let first = node.pods.allocate(allocate("a")).await.expect("allocated");
    node.released.note(&key).expect("noted");
    let second = node.pods.allocate(allocate("a")).await.expect("allocated anew");
    assert_ne!(first.addresses, second.addresses, "the old attachment was to end");
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
        node.pods.allocate(allocate(name)).await.expect("allocated");
    }
    assert_eq!((node.pods.host_sides().len(), node.pods.outside().len()), (2, 0));
    let pod_cidrs = PerFamily { v4: Some("10.9.0.0/24".parse().expect("a CIDR")), v6: None };
    node.state.send(NodeState { pod_cidrs, ..ready() }).expect("sent");
    assert_eq!((node.pods.host_sides().len(), node.pods.outside().len()), (0, 2));
    let check = v1::CheckPodRequest { attachment: attachment("a") };
    assert!(node.pods.check(check).await.expect("answered").problems[0].contains("10.1.0.1"));
    assert_eq!(node.pods.allocate(allocate("a")).await.expect_err("lost").code(), Code::FailedPrecondition);
    node.pods.allocate(allocate("c")).await.expect("new pods get new addresses");
}

#[tokio::test]
async fn collect_keeps_the_valid_ones() {
    let node = node("collect");
    for name in ["a", "b", "c"] {
        node.pods.allocate(allocate(name)).await.expect("allocated");
        node.pods.attach(attach(name)).await.expect("attached");
    }
    let request = v1::CollectPodsRequest { valid: attachment("b").into_iter().collect() };
    let released = node.pods.collect(request).await.expect("collected").released;
    assert_eq!(released.iter().map(|one| one.container_id.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!((node.pods.store().records().len(), node.host.there()), (1, 1));
}
