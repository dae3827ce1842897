//! Allocations and interfaces whose pods are gone without a DEL, and the MTU of those that live.

use std::{fs, path::Path};

use serde_json::Value;
use weft_agent::pods::Round;

use crate::{
    agent::{Agent, GRACE, NodeState, dual_stack, nothing_left, socket},
    lab::{Directory, Plugin, Pod, addresses, asks, ip, on_a_host, pod_links, until_gone},
};

/// Adds pods `names`, one each.
fn add(directory: &Path, names: &[&str]) -> Vec<(Plugin, Pod, Value)> {
    let attach = |name: &&str| {
        let pod = Pod::new();
        let plugin = Plugin::new(&socket(directory), name).pod(&pod);
        let result = plugin.run("ADD").success();
        (plugin, pod, result)
    };
    names.iter().map(attach).collect()
}

/// A path for a pod's namespace, as runtimes make one.
fn mount(directory: &Path, name: &str, pod: &Pod) -> std::path::PathBuf {
    let netns = directory.join("netns");
    fs::create_dir_all(&netns).expect("a directory");
    let path = netns.join(name);
    fs::write(&path, "").expect("a mount point");
    rustix::mount::mount_bind(pod.path(), &path).expect("mounted");
    path
}

fn unmount(path: &Path) {
    rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH).expect("unmounted");
    fs::remove_file(path).expect("removed");
}

/// Two rounds that are a grace period apart: what is suspected in the first is freed in the second.
fn two_rounds(agent: &Agent) -> Round {
    let first = agent.round(0);
    assert_eq!((&first.freed, &first.links), (&Vec::new(), &Vec::new()), "freed on one look alone");
    let early = agent.round(GRACE - 1);
    assert_eq!((early.freed, early.links), (Vec::new(), Vec::new()), "freed before the grace period was over");
    agent.round(GRACE)
}

/// As a runtime built on libcni does.
fn cache(directory: &Path, container: &str) -> std::path::PathBuf {
    let results = directory.join("results");
    fs::create_dir_all(&results).expect("a directory");
    let file = results.join(format!("weft-{container}-eth0"));
    fs::write(&file, "{}").expect("written");
    file
}

#[test]
fn pods_that_ended_without_del_are_freed_after_the_grace_period() {
    on_a_host("keeper::pods_that_ended_without_del_are_freed_after_the_grace_period", || {
        let directory = Directory::new("keeper-lost");
        let agent = Agent::start(&directory.0, dual_stack());
        let mut pods = add(&directory.0, &["a", "b"]);
        // After a power cut a runtime still has its results, and no namespace; the results alone keep nothing.
        let (reborn, cut) = (Pod::new(), Pod::new());
        let (other, path) = (mount(&directory.0, "reborn", &reborn), mount(&directory.0, "cut", &cut));
        let in_directory = Plugin::new(&socket(&directory.0), "cut").env("CNI_NETNS", &path.display().to_string());
        in_directory.run("ADD").success();
        cache(&directory.0, "cut");
        unmount(&path);
        let (plugin, living, result) = pods.remove(0);
        drop((pods, cut));
        until_gone(1);
        let freed = two_rounds(&agent).freed;
        assert_eq!(freed.iter().map(|key| key.container()).collect::<Vec<_>>(), ["b", "cut"]);
        assert_eq!((pod_links().len(), agent.held().len()), (1, 2));
        unmount(&other);
        addresses(&result).into_iter().for_each(|address| living.answers(address, asks));
        plugin.set("prevResult", result).run("CHECK").success();
    });
}

#[test]
fn killed_at_any_step_and_never_repeated_nothing_is_left() {
    on_a_host("keeper::killed_at_any_step_and_never_repeated_nothing_is_left", || {
        let directory = Directory::new("keeper-kill");
        for step in ["after-allocate", "after-create", "after-host", "inside-pod", "after-pod", "after-attach"] {
            let agent = Agent::start(&directory.0, dual_stack());
            let pod = Pod::new();
            Plugin::new(&socket(&directory.0), step).pod(&pod).killed_at("ADD", step);
            drop(pod);
            until_gone(0);
            assert_eq!(two_rounds(&agent).freed.len(), 1, "{step}");
            nothing_left(&agent);
        }
        for step in ["before-unlink", "after-unlink", "after-release"] {
            let agent = Agent::start(&directory.0, dual_stack());
            let (plugin, pod, _) = add(&directory.0, &[step]).remove(0);
            plugin.killed_at("DEL", step);
            drop(pod);
            until_gone(0);
            assert_eq!(two_rounds(&agent).freed.len(), usize::from(step != "after-release"), "{step}");
            nothing_left(&agent);
        }
    });
}

#[test]
fn a_pod_that_may_live_keeps_its_addresses() {
    on_a_host("keeper::a_pod_that_may_live_keeps_its_addresses", || {
        let directory = Directory::new("keeper-lives");
        let agent = Agent::start(&directory.0, dual_stack());
        let pods = add(&directory.0, &["cut", "renamed", "again"]);
        cache(&directory.0, "cut");
        let link = |name: &str| weft_agent::veth::AttachmentKey::new(name, "eth0").expect("valid").link().to_string();
        ip(&format!("link del {}", link("cut")));
        ip(&format!("link set {} down", link("renamed")));
        ip(&format!("link set {} name other0", link("renamed")));
        ip(&format!("link del {}", link("again")));
        assert_eq!(agent.round(0).suspected, 1, "only the one that nobody speaks for");
        pods[2].0.run("ADD").success();
        let round = agent.round(10 * GRACE);
        assert_eq!((round, agent.held().len()), (Round::default(), 6));
    });
}

#[test]
fn a_pod_that_its_runtime_forgot_is_freed_with_its_interface() {
    on_a_host("keeper::a_pod_that_its_runtime_forgot_is_freed_with_its_interface", || {
        let directory = Directory::new("keeper-forgot");
        let agent = Agent::start(&directory.0, dual_stack());
        let pods = [Pod::new(), Pod::new(), Pod::new()];
        let paths = ["a", "b", "c"].map(|name| directory.0.join("netns").join(name));
        for (name, pod) in ["a", "b", "c"].into_iter().zip(&pods) {
            let path = mount(&directory.0, name, pod);
            let plugin = Plugin::new(&socket(&directory.0), name).env("CNI_NETNS", &path.display().to_string());
            plugin.run("ADD").success();
        }
        let cached = cache(&directory.0, "a");
        agent.round(0);
        // Processes still hold both namespaces; of b it is not known whether its runtime keeps results at all.
        unmount(&paths[0]);
        unmount(&paths[1]);
        agent.round(1);
        assert_eq!(agent.round(2 * GRACE), Round::default(), "its runtime still has it");
        fs::remove_file(cached).expect("removed");
        agent.round(2 * GRACE);
        let round = agent.round(3 * GRACE);
        assert_eq!(round.freed.iter().map(|key| key.container()).collect::<Vec<_>>(), ["a"]);
        assert_eq!((pod_links().len(), agent.held().len()), (2, 4));
        unmount(&paths[2]);
    });
}

#[test]
fn interfaces_that_no_allocation_has_go_if_they_are_ours() {
    on_a_host("keeper::interfaces_that_no_allocation_has_go_if_they_are_ours", || {
        let directory = Directory::new("keeper-links");
        let agent = Agent::start(&directory.0, dual_stack());
        let pods = add(&directory.0, &["lost", "kept"]);
        cache(&directory.0, "kept");
        drop(agent);
        fs::remove_dir_all(directory.0.join("pods")).expect("the disk is lost");
        ip("link add wpod0123456789a type veth peer name other0");
        ip("link add wpod0123456789b type bridge");
        ip("link set wpod0123456789b alias weft");
        ip("link add foreign0 type veth peer name other1");
        ip("link set foreign0 alias weft");
        let agent = Agent::start(&directory.0, dual_stack());
        let gone = two_rounds(&agent).links;
        assert_eq!(gone, [pods[0].2["interfaces"][0]["name"].as_str().expect("a name")]);
        let kept = pods[1].2["interfaces"][0]["name"].as_str().expect("a name").to_owned();
        let mut left = pod_links();
        left.sort();
        let mut expected = vec![kept, "wpod0123456789a".to_owned(), "wpod0123456789b".to_owned()];
        expected.sort();
        assert_eq!(left, expected);
        ip("link show foreign0");
    });
}

#[test]
fn running_pods_follow_the_mtu() {
    on_a_host("keeper::running_pods_follow_the_mtu", || {
        let directory = Directory::new("keeper-mtu");
        let agent = Agent::start(&directory.0, dual_stack());
        let pods = add(&directory.0, &["a", "lowered"]);
        let mtu = |pod: &Pod| pod.run(inside_mtu);
        pods[1].1.ip("link set eth0 mtu 1300");
        for (wanted, of_lowered) in [(1350, 1300), (1290, 1290), (1450, 1450)] {
            agent.node.send(NodeState { pod_mtu: Some(wanted), ..dual_stack() }).expect("sent");
            assert_eq!(agent.round(0).resized.len(), 2);
            assert_eq!((mtu(&pods[0].1), mtu(&pods[1].1)), (wanted, of_lowered));
            pods[0].0.clone().set("prevResult", pods[0].2.clone()).run("CHECK").success();
            assert_eq!(agent.round(0).resized, [], "twice");
        }
    });
}

#[test]
fn without_the_right_to_enter_pods_both_ends_keep_their_mtu() {
    on_a_host("keeper::without_the_right_to_enter_pods_both_ends_keep_their_mtu", || {
        let directory = Directory::new("keeper-rights");
        let agent = Agent::start_without_sys_admin(&directory.0, dual_stack());
        let pods = add(&directory.0, &["a"]);
        agent.node.send(NodeState { pod_mtu: Some(1350), ..dual_stack() }).expect("sent");
        assert_eq!(agent.round(0).resized, []);
        assert_eq!(pods[0].1.run(inside_mtu), 1450);
        assert_eq!(mtu_of(&pod_links()[0]), 1450, "a pair of unequal ends loses large packets without a word");
    });
}

/// The MTU of eth0 in the namespace of this thread.
fn inside_mtu() -> u32 {
    mtu_of("eth0")
}

fn mtu_of(link: &str) -> u32 {
    let output = std::process::Command::new("ip").args(["-o", "link", "show", link]).output().expect("ip");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, rest) = text.split_once(" mtu ").expect("an MTU");
    rest.split(' ').next().expect("a word").parse().expect("a number")
}
