//! `weft-cni` as a container runtime runs it, against a real kernel and a real store: every verb, every way to fail.

use std::{collections::BTreeSet, net::IpAddr, sync::atomic::Ordering};

use serde_json::{Value, json};
use weft_core::types::PerFamily;

use crate::{
    agent::{Agent, NodeState, VTEP_V4, VTEP_V6, dual_stack, nothing_left, socket},
    lab::{Directory, Plugin, Pod, addresses, asks, host_answers, ip, on_a_host, pod_links, pod_routes},
};

#[test]
fn host_and_pods_reach_each_other_in_both_families() {
    on_a_host("verbs::host_and_pods_reach_each_other_in_both_families", || {
        let directory = Directory::new("reach");
        let _agent = Agent::start(&directory.0, dual_stack());
        let (a, b) = (Pod::new(), Pod::new());
        let plugin = |name: &str, pod| Plugin::new(&socket(&directory.0), name).pod(pod);
        let first = plugin("a", &a).run("ADD").success();
        let second = plugin("b", &b).run("ADD").success();
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("forward");
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").expect("forward");
        for (to_a, to_b) in addresses(&first).into_iter().zip(addresses(&second)) {
            a.answers(to_a, asks);
            a.answers(to_a, |address| b.run(|| asks(address)));
            b.answers(to_b, |address| a.run(|| asks(address)));
            a.answers(to_a, |address| a.run(|| asks(address)));
        }
        for vtep in [VTEP_V4, VTEP_V6] {
            host_answers(vtep.parse().expect("an address"), |address| b.run(|| asks(address)));
        }
    });
}

#[test]
fn the_result_has_the_format_of_each_version() {
    on_a_host("verbs::the_result_has_the_format_of_each_version", || {
        let directory = Directory::new("versions");
        let agent = Agent::start(&directory.0, dual_stack());
        for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            let pod = Pod::new();
            let plugin = Plugin::new(&socket(&directory.0), "c").pod(&pod).set("cniVersion", version);
            let result = plugin.run("ADD").success();
            assert_eq!(result["cniVersion"], version);
            assert_eq!(result["interfaces"][0]["name"], pod_links()[0]);
            assert_eq!(result["interfaces"][1]["name"], "eth0");
            assert_eq!(result["interfaces"][1]["sandbox"], pod.path());
            assert_eq!(result["ips"][1]["interface"], 1);
            assert_eq!(result["ips"][0]["gateway"], "169.254.87.1");
            assert_eq!(result["ips"][1]["gateway"], "fe80::5745");
            assert_eq!(result["routes"][1], json!({"dst": "::/0", "gw": "fe80::5745"}));
            let old = version.starts_with('0');
            assert_eq!(result["ips"][0]["version"], if old { json!("4") } else { Value::Null }, "{version}");
            plugin.run("DEL").success();
        }
        nothing_left(&agent);
    });
}

#[test]
fn a_node_of_one_family_has_pods_of_one() {
    on_a_host("verbs::a_node_of_one_family_has_pods_of_one", || {
        let directory = Directory::new("single");
        let agent = Agent::start(&directory.0, dual_stack());
        let cidrs = dual_stack().pod_cidrs;
        for (pod_cidrs, gateway) in
            [(PerFamily { v6: None, ..cidrs }, "169.254.87.1"), (PerFamily { v4: None, ..cidrs }, "fe80::5745")]
        {
            agent.node.send(NodeState { pod_cidrs, ..dual_stack() }).expect("sent");
            let pod = Pod::new();
            // Some runtimes switch IPv6 off in new namespaces.
            pod.run(|| std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").expect("off"));
            let plugin = Plugin::new(&socket(&directory.0), gateway.replace(':', "-").as_str()).pod(&pod);
            let result = plugin.run("ADD").success();
            assert_eq!((addresses(&result).len(), &result["ips"][0]["gateway"]), (1, &json!(gateway)));
            pod.answers(addresses(&result)[0], asks);
            plugin.run("DEL").success();
        }
        nothing_left(&agent);
    });
}

#[test]
fn forged_router_advertisements_do_not_count_in_a_pod() {
    on_a_host("verbs::forged_router_advertisements_do_not_count_in_a_pod", || {
        let directory = Directory::new("ra");
        let _agent = Agent::start(&directory.0, dual_stack());
        let pod = Pod::new();
        let plugin = Plugin::new(&socket(&directory.0), "c").pod(&pod);
        let result = plugin.run("ADD").success();
        let read = || std::fs::read_to_string("/proc/sys/net/ipv6/conf/eth0/accept_ra").expect("a sysctl");
        assert_eq!(pod.run(read).trim(), "0");
        pod.run(|| std::fs::write("/proc/sys/net/ipv6/conf/eth0/accept_ra", "1").expect("on"));
        assert!(plugin.set("prevResult", result).run("CHECK").error(103).contains("accept_ra"));
    });
}

#[test]
fn a_chain_gets_both_results() {
    on_a_host("verbs::a_chain_gets_both_results", || {
        let directory = Directory::new("chain");
        let _agent = Agent::start(&directory.0, dual_stack());
        let pod = Pod::new();
        let before = json!({"cniVersion": "1.0.0", "interfaces": [{"name": "other0"}], "ips": []});
        let plugin = Plugin::new(&socket(&directory.0), "c").pod(&pod).set("prevResult", before);
        let result = plugin.run("ADD").success();
        assert_eq!(result["interfaces"][0]["name"], "other0");
        assert_eq!((&result["interfaces"][2]["name"], &result["ips"][0]["interface"]), (&json!("eth0"), &json!(2)));
        plugin.set("prevResult", result).run("CHECK").success();
    });
}

#[test]
fn add_and_del_may_be_repeated() {
    on_a_host("verbs::add_and_del_may_be_repeated", || {
        let directory = Directory::new("repeat");
        let agent = Agent::start(&directory.0, dual_stack());
        let pod = Pod::new();
        let plugin = Plugin::new(&socket(&directory.0), "c").pod(&pod).env("CNI_ARGS", "K8S_POD_NAME=shop-0");
        let first = plugin.run("ADD").success();
        assert_eq!(plugin.run("ADD").success(), first, "another answer for the same attachment");
        assert_eq!(pod_links().len(), 1);
        pod.answers(addresses(&first)[0], asks);
        plugin.run("DEL").success();
        plugin.run("DEL").success();
        nothing_left(&agent);
        let next = plugin.run("ADD").success();
        assert_ne!(addresses(&next), addresses(&first), "the address just freed was handed out again at once");
    });
}

#[test]
fn del_needs_neither_namespace_nor_agent() {
    on_a_host("verbs::del_needs_neither_namespace_nor_agent", || {
        let directory = Directory::new("del");
        let agent = Agent::start(&directory.0, dual_stack());
        let plugin = |name: &str| Plugin::new(&socket(&directory.0), name);
        let pods = [Pod::new(), Pod::new()];
        for (name, pod) in ["a", "b"].into_iter().zip(&pods) {
            plugin(name).pod(pod).run("ADD").success();
        }
        plugin("a").run("DEL").success();
        assert_eq!((pod_links().len(), agent.held().len()), (1, 2), "without CNI_NETNS");
        drop(pods);
        drop(agent);
        plugin("b").run("DEL").success();
        plugin("b").run("DEL").success();
        plugin("never-added").run("DEL").success();
        assert_eq!(pod_links(), Vec::<String>::new(), "the interface does not wait for the agent");
        let agent = Agent::start(&directory.0, dual_stack());
        nothing_left(&agent);
        let left = std::fs::read_dir(directory.0.join("released")).expect("the notes' directory").count();
        assert_eq!(left, 0, "a note stayed");
    });
}

#[test]
fn a_restarted_agent_knows_its_pods() {
    on_a_host("verbs::a_restarted_agent_knows_its_pods", || {
        let directory = Directory::new("restart");
        let agent = Agent::start(&directory.0, dual_stack());
        let pod = Pod::new();
        let plugin = Plugin::new(&socket(&directory.0), "c").pod(&pod);
        let result = plugin.run("ADD").success();
        let held = agent.held();
        drop(agent);
        pod.answers(addresses(&result)[0], asks);
        let agent = Agent::start(&directory.0, dual_stack());
        assert_eq!(agent.held(), held);
        plugin.set("prevResult", result).run("CHECK").success();
    });
}

#[test]
fn check_finds_each_kind_of_damage() {
    on_a_host("verbs::check_finds_each_kind_of_damage", || {
        let directory = Directory::new("check");
        let _agent = Agent::start(&directory.0, dual_stack());
        let pod = Pod::new();
        let plugin = Plugin::new(&socket(&directory.0), "c").pod(&pod);
        let undo = |damage: &str| -> String {
            plugin.run("DEL").success();
            let result = plugin.run("ADD").success();
            let all = addresses(&result);
            let host = pod_links()[0].clone();
            let damage =
                damage.replace("HOST", &host).replace("V4", &all[0].to_string()).replace("V6", &all[1].to_string());
            match damage.strip_prefix("pod ") {
                Some(inside) => pod.ip(inside),
                None => ip(&damage),
            }
            let run = plugin.clone().set("prevResult", result).run("CHECK");
            assert!(!run.status.success(), "{damage} was not found");
            run.error(103)
        };
        let cases = [
            ("link del HOST", "missing on the host"),
            ("link set HOST down", "is down"),
            ("link set HOST mtu 1400", "MTU 1400 instead of 1450"),
            ("link set HOST address 02:00:00:00:00:01", "02:00:00:00:00:01"),
            ("route flush dev HOST", "host route"),
            ("pod link set eth0 name eth9", "eth0 is missing in the pod"),
            ("pod link set eth0 mtu 1300", "MTU 1300"),
            ("pod link set eth0 address 02:00:00:00:00:02", "02:00:00:00:00:02"),
            ("pod link set eth0 down", "default route via 169.254.87.1"),
            ("pod addr del V4/32 dev eth0", "is missing on eth0"),
            ("pod addr del V6/128 dev eth0", "is missing on eth0"),
            ("pod neigh del 169.254.87.1 dev eth0", "neighbour 169.254.87.1"),
            ("pod neigh change fe80::5745 dev eth0 lladdr 02:00:00:00:00:03", "neighbour fe80::5745"),
            ("pod route del default", "default route via 169.254.87.1"),
            ("pod -6 route del default", "default route via fe80::5745"),
        ];
        for (damage, expected) in cases {
            let found = undo(damage);
            assert!(found.contains(expected), "{damage}: {found}");
        }
    });
}

#[test]
fn check_compares_with_the_earlier_result() {
    on_a_host("verbs::check_compares_with_the_earlier_result", || {
        let directory = Directory::new("previous");
        let agent = Agent::start(&directory.0, dual_stack());
        let pod = Pod::new();
        let plugin = Plugin::new(&socket(&directory.0), "c").pod(&pod);
        let good = plugin.run("ADD").success();
        plugin.clone().set("prevResult", good.clone()).run("CHECK").success();
        plugin.run("CHECK").error(7);
        let mut bad = good.clone();
        bad["ips"][0]["address"] = json!("10.244.1.99/32");
        assert!(plugin.clone().set("prevResult", bad).run("CHECK").error(103).contains("10.244.1.99"));
        // The node got another CIDR: the pod is told to go.
        let mut moved = dual_stack();
        moved.pod_cidrs.v4 = Some("10.244.9.0/24".parse().expect("a CIDR"));
        agent.node.send(moved).expect("the agent listens");
        let text = plugin.clone().set("prevResult", good.clone()).run("CHECK").error(103);
        assert!(text.contains("delete the pod"), "{text}");
        plugin.run("ADD").error(104);
        plugin.run("DEL").success();
        assert!(plugin.clone().set("prevResult", good).run("CHECK").error(102).contains("no allocation"));
    });
}

#[test]
fn every_error_has_its_code_and_leaves_nothing() {
    on_a_host("verbs::every_error_has_its_code_and_leaves_nothing", || {
        let directory = Directory::new("errors");
        let agent = Agent::start(&directory.0, dual_stack());
        let pod = Pod::new();
        let bare = Plugin::new(&socket(&directory.0), "c");
        let plugin = bare.clone().pod(&pod);
        assert!(plugin.clone().set("cniVersion", "0.2.0").run("ADD").error(1).contains("0.3.1, 0.4.0, 1.0.0, 1.1.0"));
        assert!(plugin.clone().set("mtu", 9000).run("ADD").error(2).contains("mtu = 9000"));
        bare.clone().env("CNI_NETNS", "/run/netns/gone").run("ADD").error(3);
        bare.run("ADD").error(4);
        plugin.clone().env("CNI_IFNAME", "a/b").run("ADD").error(4);
        plugin.run("FLY").error(4);
        bare.clone().env("CNI_NETNS", "/etc/passwd").run("ADD").error(4);
        bare.clone().env("CNI_NETNS", "/proc/self/ns/net").run("ADD").error(4);
        plugin.clone().set("prevResult", 3).run("ADD").error(6);
        plugin.clone().set("name", Value::from("")).run("ADD").error(7);
        plugin.clone().set("socket", "/nonexistent/agent.sock").run("ADD").error(11);
        agent.node.send(NodeState { ready: Err("the device is missing".to_owned()), ..dual_stack() }).expect("sent");
        assert!(plugin.run("ADD").error(11).contains("the device is missing"));
        agent.node.send(NodeState { pod_cidrs: PerFamily::default(), ..dual_stack() }).expect("sent");
        assert!(plugin.run("ADD").error(11).contains("no pod CIDR"));
        agent.node.send(dual_stack()).expect("sent");
        agent.switches.refuse.store(true, Ordering::SeqCst);
        assert!(plugin.run("ADD").error(102).contains("refused by the test"));
        nothing_left(&agent);
    });
}

#[test]
fn exhaustion_names_the_remedy() {
    on_a_host("verbs::exhaustion_names_the_remedy", || {
        let directory = Directory::new("exhausted");
        let mut small = dual_stack();
        small.pod_cidrs.v4 = Some("10.244.1.0/30".parse().expect("a CIDR"));
        let agent = Agent::start(&directory.0, small);
        let pods = [Pod::new(), Pod::new(), Pod::new()];
        for (name, pod) in ["a", "b"].into_iter().zip(&pods) {
            Plugin::new(&socket(&directory.0), name).pod(pod).run("ADD").success();
        }
        let text = Plugin::new(&socket(&directory.0), "c").pod(&pods[2]).run("ADD").error(100);
        assert!(text.contains("10.244.1.0/30") && text.contains("all 2") && text.contains("prefix"), "{text}");
        assert_eq!((pod_links().len(), agent.held().len()), (2, 4), "an IPv6 address without its IPv4 one stayed");
    });
}

#[test]
fn what_is_not_ours_stays() {
    on_a_host("verbs::what_is_not_ours_stays", || {
        let directory = Directory::new("foreign");
        let agent = Agent::start(&directory.0, dual_stack());
        let pod = Pod::new();
        let plugin = Plugin::new(&socket(&directory.0), "c").pod(&pod);
        plugin.run("ADD").success();
        let host = pod_links()[0].clone();
        plugin.run("DEL").success();

        // A veth too: only alias and MAC tell it from ours.
        ip(&format!("link add {host} type veth peer name other0"));
        assert!(plugin.run("ADD").error(101).contains("not Weft's"));
        assert!(plugin.run("DEL").error(101).contains("not Weft's"));
        assert_eq!(pod_links(), std::slice::from_ref(&host));
        ip(&format!("link del {host}"));

        pod.ip("link add eth0 type veth peer name other1");
        assert!(plugin.run("ADD").error(101).contains("eth0 exists in the pod"));
        pod.ip("link show eth0");
        nothing_left(&agent);
    });
}

#[test]
fn killed_at_any_step_of_add_it_is_repaired_by_add_and_by_del() {
    on_a_host("verbs::killed_at_any_step_of_add_it_is_repaired_by_add_and_by_del", || {
        let directory = Directory::new("kill-add");
        let agent = Agent::start(&directory.0, dual_stack());
        for step in ["after-allocate", "after-create", "after-host", "inside-pod", "after-pod", "after-attach"] {
            let pod = Pod::new();
            let plugin = Plugin::new(&socket(&directory.0), step).pod(&pod);
            plugin.killed_at("ADD", step);
            plugin.run("DEL").success();
            nothing_left(&agent);
            plugin.killed_at("ADD", step);
            let result = plugin.run("ADD").success();
            assert_eq!((pod_links().len(), agent.held().len()), (1, 2), "{step}");
            addresses(&result).into_iter().for_each(|address| pod.answers(address, asks));
            plugin.clone().set("prevResult", result).run("CHECK").success();
            plugin.run("DEL").success();
            nothing_left(&agent);
        }
    });
}

#[test]
fn killed_at_any_step_of_del_it_is_repaired_by_del() {
    on_a_host("verbs::killed_at_any_step_of_del_it_is_repaired_by_del", || {
        let directory = Directory::new("kill-del");
        let mut agent = Some(Agent::start(&directory.0, dual_stack()));
        for step in ["before-unlink", "after-unlink", "after-release", "after-note"] {
            let pod = Pod::new();
            let plugin = Plugin::new(&socket(&directory.0), step).pod(&pod);
            plugin.run("ADD").success();
            if step == "after-note" {
                drop(agent.take());
            }
            plugin.killed_at("DEL", step);
            let agent = agent.get_or_insert_with(|| Agent::start(&directory.0, dual_stack()));
            plugin.run("DEL").success();
            nothing_left(agent);
        }
    });
}

#[test]
fn many_at_once_get_an_address_each() {
    on_a_host("verbs::many_at_once_get_an_address_each", || {
        let directory = Directory::new("many");
        let agent = Agent::start(&directory.0, dual_stack());
        let pods: Vec<Pod> = (0..60).map(|_| Pod::new()).collect();
        let run = |number: usize, command: &str| {
            Plugin::new(&socket(&directory.0), &format!("c{number}")).pod(&pods[number]).run(command).success()
        };
        let all = |command: &'static str| -> Vec<Value> {
            std::thread::scope(|scope| {
                let runs: Vec<_> = (0..pods.len()).map(|number| scope.spawn(move || run(number, command))).collect();
                runs.into_iter().map(|run| run.join().expect("it succeeds")).collect()
            })
        };
        let results = all("ADD");
        let distinct: BTreeSet<IpAddr> = results.iter().flat_map(addresses).collect();
        assert_eq!(distinct.len(), 2 * pods.len());
        for (pod, result) in pods.iter().zip(&results) {
            addresses(result).into_iter().for_each(|address| pod.answers(address, asks));
        }
        all("DEL");
        nothing_left(&agent);
    });
}

#[test]
fn gc_frees_what_the_runtime_no_longer_has() {
    on_a_host("verbs::gc_frees_what_the_runtime_no_longer_has", || {
        let directory = Directory::new("gc");
        let agent = Agent::start(&directory.0, dual_stack());
        let pods = [Pod::new(), Pod::new(), Pod::new()];
        let plugin = |name: &str| Plugin::new(&socket(&directory.0), name).set("cniVersion", "1.1.0");
        for (name, pod) in ["a", "b", "c"].into_iter().zip(&pods) {
            plugin(name).pod(pod).run("ADD").success();
        }
        plugin("x").run("GC").error(7);
        assert_eq!(pod_links().len(), 3, "GC without a list freed something");
        let valid = json!([{"containerID": "b", "ifname": "eth0"}]);
        plugin("x").set("cni.dev/valid-attachments", valid.clone()).run("GC").success();
        assert_eq!((pod_links().len(), agent.held().len(), pod_routes("wpod")), (1, 2, 2));
        plugin("x").set("cni.dev/valid-attachments", valid).set("cniVersion", "1.0.0").run("GC").error(1);
    });
}

#[test]
fn status_tells_whether_an_add_would_succeed() {
    on_a_host("verbs::status_tells_whether_an_add_would_succeed", || {
        let directory = Directory::new("status");
        let agent = Agent::start(&directory.0, dual_stack());
        let plugin = Plugin::new(&socket(&directory.0), "x").set("cniVersion", "1.1.0");
        plugin.run("STATUS").success();
        agent.status.send_modify(|status| status.ready = false);
        plugin.run("STATUS").error(51);
        drop(agent);
        plugin.run("STATUS").error(50);
    });
}
