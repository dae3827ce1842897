//! What the chart writes, the programs read: options, flags, names of objects.

use clap::Parser;
use serde_json::{Value, json};
use weft_api::names;
use weft_controller::Config;
use weft_program::config::of_text;

use crate::{
    documents::{container, object, of, texts},
    helm,
};

#[test]
#[ignore = "needs helm: ./dev e2e"]
fn the_controller_understands_its_options() {
    for variant in helm::all() {
        let objects = of(variant);
        let options = object(&objects, "ConfigMap", "weft-controller")["data"]["config.yaml"].as_str().expect("a text");
        // The rest comes from the pod's environment.
        let text = format!("{options}\nnamespace: weft-system\nidentity: pod\nadvertise: 192.0.2.1:7887\n");
        let (options, problems) = of_text("the file", &text);
        Config::check(&options, problems).unwrap_or_else(|error| panic!("{variant:?}: {error}\n{text}"));
    }
}

#[test]
#[ignore = "needs helm: ./dev e2e"]
fn the_agent_understands_its_flags() {
    for variant in helm::all() {
        let objects = of(variant);
        let container = container(object(&objects, "DaemonSet", "weft-agent"));
        let mut words = [texts(&container["command"]), texts(&container["args"])].concat();
        // What the kubelet puts into the environment.
        words.extend(["--node=a", "--controller=192.0.2.1:7887"].map(str::to_owned));
        let cli = weft_agent::cli::Cli::try_parse_from(&words).unwrap_or_else(|error| panic!("{variant:?}: {error}"));
        let weft_agent::cli::Command::Run(source) = cli.command else { panic!("{words:?} does not run an agent") };
        let (options, problems) = source.read();
        let config = weft_agent::config::Config::check(&options, problems);
        config.unwrap_or_else(|error| panic!("{variant:?}: {error}"));
    }
}

#[test]
#[ignore = "needs helm: ./dev e2e"]
fn objects_are_called_what_the_programs_call_them() {
    let objects = of(None);
    for (kind, name) in [
        ("Deployment", names::CONTROLLER),
        ("Service", names::CONTROLLER),
        ("Lease", names::CONTROLLER),
        ("ServiceAccount", names::CONTROLLER),
        ("ServiceAccount", names::AGENT),
        ("DaemonSet", names::AGENT),
        ("ConfigMap", names::CLUSTER),
        ("ConfigMap", names::CA),
        ("Secret", names::CA),
    ] {
        object(&objects, kind, name);
    }
    let volumes = &object(&objects, "DaemonSet", names::AGENT)["spec"]["template"]["spec"]["volumes"];
    let key = volumes
        .as_array()
        .expect("volumes")
        .iter()
        .find_map(|volume| volume["projected"]["sources"][1]["configMap"]["items"][0]["key"].as_str());
    assert_eq!(key, Some(names::CA_CERTIFICATE));
}

#[test]
#[ignore = "needs helm: ./dev e2e"]
fn agents_mount_where_controllers_are_and_start_without_it() {
    let agent = object(&of(None), "DaemonSet", "weft-agent").clone();
    let volumes = agent["spec"]["template"]["spec"]["volumes"].as_array().expect("volumes").clone();
    let sources = volumes.iter().filter_map(|volume| volume["projected"]["sources"].as_array()).flatten();
    let maps: Vec<&Value> = sources.map(|source| &source["configMap"]).collect();
    let list = maps.iter().find(|map| map["items"][0]["key"] == names::CONTROLLERS).expect("the list is mounted");
    assert_eq!((&list["name"], &list["optional"]), (&json!(names::CA), &json!(true)));
    let path = format!("/var/run/secrets/weft/{}", list["items"][0]["path"].as_str().expect("a path"));
    assert!(texts(&container(&agent)["args"]).contains(&format!("--controllers-file={path}")));
}

#[test]
#[ignore = "needs helm: ./dev e2e"]
fn probes_ask_where_the_servers_listen() {
    let probe = |variant, kind, name| container(object(&of(variant), kind, name))["readinessProbe"]["httpGet"].clone();
    let dual = Some("dual-stack");
    assert_eq!(probe(None, "Deployment", "weft-controller")["host"], "127.0.0.1");
    assert_eq!(probe(dual, "Deployment", "weft-controller")["host"], "::1");
    assert_eq!(probe(Some("other-allocator"), "Deployment", "weft-controller")["port"], 17888);
    let everywhere = ["--set".to_owned(), "controller.httpListen=0.0.0.0:7888".to_owned()];
    let text = helm::template(&everywhere).expect("sound");
    assert!(text.contains("host: \"127.0.0.1\"") && !text.contains("host: \"0.0.0.0\""), "it listens on all addresses");
}

/// Somebody else may have the port of its metrics, and they may be off.
#[test]
#[ignore = "needs helm: ./dev e2e"]
fn an_agents_readiness_is_asked_at_its_own_socket() {
    for variant in helm::all() {
        let objects = of(variant);
        let agent = container(object(&objects, "DaemonSet", "weft-agent"));
        let probe = &agent["readinessProbe"];
        assert_eq!(probe["httpGet"], Value::Null, "{variant:?}");
        let words = texts(&probe["exec"]["command"]);
        assert!(words.iter().any(|word| word == "--socket=/run/weft/agent.sock"), "{words:?}");
        let mounts = agent["volumeMounts"].as_array().expect("mounts");
        assert!(mounts.iter().any(|mount| mount["mountPath"] == "/run/weft"), "the socket is elsewhere");
    }
}
