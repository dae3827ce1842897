//! What the pods and their accounts may do: as little as is written here.

use serde_json::{Value, json};

use crate::{
    documents::{container, object, of, rendered, texts},
    helm,
};

#[test]
#[ignore = "needs helm: ./dev e2e"]
fn agents_have_two_capabilities_and_no_right() {
    for variant in helm::all() {
        let objects = of(variant);
        let agent = object(&objects, "DaemonSet", "weft-agent");
        let security = &container(agent)["securityContext"];
        assert_eq!(security["capabilities"], json!({"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]}));
        assert_eq!(security["privileged"], false);
        assert_eq!(security["allowPrivilegeEscalation"], false);
        assert_eq!(security["readOnlyRootFilesystem"], true);
        assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
        let pod = &agent["spec"]["template"]["spec"];
        assert_eq!((&pod["automountServiceAccountToken"], &pod["hostPID"]), (&json!(false), &Value::Null));
        for binding in objects.iter().filter(|object| object["subjects"].is_array()) {
            let subjects = binding["subjects"].as_array().expect("just asked");
            assert!(subjects.iter().all(|subject| subject["name"] != "weft-agent"), "{binding}");
        }
    }
}

#[test]
#[ignore = "needs helm: ./dev e2e"]
fn all_others_have_no_power_over_their_node() {
    let objects = of(None);
    let others = [
        ("Deployment", "weft-controller"),
        ("Job", "weft-uninstall"),
        ("DaemonSet", "weft-test"),
        ("Pod", "weft-test"),
    ];
    for (kind, name) in others {
        let security = &container(object(&objects, kind, name))["securityContext"];
        assert_eq!(security["runAsNonRoot"], true, "{kind} {name}");
        assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}), "{kind} {name}");
        assert_eq!(security["readOnlyRootFilesystem"], true, "{kind} {name}");
        assert_eq!(security["allowPrivilegeEscalation"], false, "{kind} {name}");
    }
}

#[test]
#[ignore = "needs helm: ./dev e2e"]
fn the_uninstallation_is_no_object_of_those_who_only_render() {
    let text = helm::template(&[]).expect("the defaults are sound");
    assert!(!text.contains("kind: Job"), "kubectl apply would take the pod network of the whole cluster away");
}

#[test]
#[ignore = "needs helm: ./dev e2e"]
fn a_hook_that_cannot_start_does_not_strike_later() {
    let objects = of(None);
    let job = object(&objects, "Job", "weft-uninstall");
    let limit = job["spec"]["activeDeadlineSeconds"].as_u64().expect("a limit");
    assert!(limit < 300, "Helm gives up after five minutes, and the Job would go on");
    let policy = job["metadata"]["annotations"]["helm.sh/hook-delete-policy"].as_str().expect("a policy");
    assert!(policy.contains("hook-failed"), "{policy}");
    let pod = &job["spec"]["template"]["spec"];
    let controller = &object(&objects, "Deployment", "weft-controller")["spec"]["template"]["spec"];
    assert_eq!(pod["tolerations"], controller["tolerations"], "it would be put on a node that is dead");
    assert!(pod["affinity"]["podAffinity"].is_object());
}

#[test]
#[ignore = "needs helm: ./dev e2e"]
fn no_rule_is_wider_than_it_needs_to_be() {
    for role in of(None).iter().filter(|object| object["rules"].is_array()) {
        for rule in role["rules"].as_array().expect("just asked") {
            let words = ["apiGroups", "resources", "verbs"].map(|key| texts(&rule[key])).concat();
            assert!(!words.iter().any(|word| word == "*"), "{role}");
            let named = !texts(&rule["resourceNames"]).is_empty();
            let private = ["secrets", "configmaps", "leases"].iter().any(|kind| words.contains(&(*kind).to_owned()));
            assert!(!private || named, "not limited to objects by name: {rule}");
        }
    }
}

#[test]
#[ignore = "needs helm: ./dev e2e"]
fn what_the_controller_fills_is_left_alone_by_upgrades() {
    let objects = of(None);
    for (kind, name) in [("ConfigMap", "weft-cluster"), ("ConfigMap", "weft-ca"), ("Secret", "weft-ca")] {
        let object = object(&objects, kind, name);
        assert_eq!((&object["data"], &object["stringData"]), (&Value::Null, &Value::Null), "{kind} {name}");
    }
    assert_eq!(object(&objects, "Lease", "weft-controller")["spec"], Value::Null);
}

#[test]
#[ignore = "needs helm: ./dev e2e"]
fn selectors_never_change_and_nothing_surges() {
    let wanted = of(None);
    for variant in helm::all() {
        let objects = of(variant);
        for (kind, name) in [("DaemonSet", "weft-agent"), ("Deployment", "weft-controller")] {
            let (now, first) = (object(&objects, kind, name), object(&wanted, kind, name));
            assert_eq!(now["spec"]["selector"], first["spec"]["selector"], "{variant:?}");
            let labels = &now["spec"]["template"]["metadata"]["labels"];
            assert_eq!(now["spec"]["selector"]["matchLabels"], *labels, "a version among them restarts all pods");
        }
        let strategy = &object(&objects, "Deployment", "weft-controller")["spec"]["strategy"];
        assert_eq!(strategy["rollingUpdate"], json!({"maxSurge": 0, "maxUnavailable": 1}));
    }
}

#[test]
#[ignore = "needs helm: ./dev e2e"]
fn an_image_by_digest_and_a_parents_condition_are_understood() {
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    let set = |text: &str| vec!["--set".to_owned(), text.to_owned()];
    let values =
        [set(&format!("image.digest={digest}")), set("image.repository=registry.example:5000/net/weft")].concat();
    let text = helm::template(&[values, set("enabled=true")].concat()).expect("a parent chart says so");
    assert!(text.contains(&format!("image: \"registry.example:5000/net/weft@{digest}\"")), "{text}");
    assert!(helm::template(&set("image.digest=sha256:0")).is_err());
}

#[test]
#[ignore = "needs helm: ./dev e2e"]
fn critical_classes_can_be_left_out_or_allowed() {
    let set = |text: &str| vec!["--set".to_owned(), text.to_owned()];
    let text = helm::template(&set("resourceQuota.enabled=true")).expect("sound");
    assert!(text.contains("kind: ResourceQuota"), "{text}");
    let none = [set("agent.priorityClassName="), set("controller.priorityClassName=")].concat();
    assert!(!helm::template(&none).expect("sound").contains("priorityClassName"));
}

#[test]
#[ignore = "needs helm: ./dev e2e"]
fn controller_and_scheduler_agree_on_who_has_an_agent() {
    let objects = of(None);
    let pod = &object(&objects, "DaemonSet", "weft-agent")["spec"]["template"]["spec"];
    assert_eq!(pod["nodeSelector"], json!({"kubernetes.io/os": "linux"}));
    let config = object(&objects, "ConfigMap", "weft-controller")["data"]["config.yaml"].as_str().expect("a file");
    let config: Value = serde_saphyr::from_str(config).expect("YAML");
    let told: Value = serde_json::from_str(config["agentNodes"].as_str().expect("a text")).expect("JSON");
    assert_eq!(told, json!({"nodeSelector": pod["nodeSelector"], "affinity": pod["affinity"]}));
    for other in ["podAffinity", "podAntiAffinity"] {
        let set = ["--set-json".to_owned(), format!("agent.affinity={{\"{other}\":{{}}}}")];
        assert!(helm::template(&set).is_err(), "{other} cannot be evaluated by the controller");
    }
}

#[test]
#[ignore = "needs helm: ./dev e2e"]
fn what_operators_add_to_pods_is_added_and_takes_nothing_from_ours() {
    let more = [
        "commonLabels.team=net",
        "controller.podLabels.tier=control",
        "controller.podLabels.app\\.kubernetes\\.io/name=other",
        "controller.podAnnotations.note=here",
        "controller.podDisruptionBudget.enabled=true",
        "controller.extraEnv[0].name=A",
        "controller.extraEnv[0].value=b",
        "agent.podAnnotations.note=there",
        "agent.extraVolumes[0].name=more",
        "agent.extraVolumes[0].hostPath.path=/more",
        "agent.extraVolumeMounts[0].name=more",
        "agent.extraVolumeMounts[0].mountPath=/more",
    ];
    let set = |text: &&str| vec!["--set".to_owned(), (*text).to_owned()];
    let objects = rendered(&more.iter().flat_map(set).collect::<Vec<_>>());
    for (kind, name, note) in [("Deployment", "weft-controller", "here"), ("DaemonSet", "weft-agent", "there")] {
        let spec = &object(&objects, kind, name)["spec"];
        let metadata = &spec["template"]["metadata"];
        let selector = spec["selector"]["matchLabels"].as_object().expect("labels");
        assert!(selector.iter().all(|(key, value)| metadata["labels"][key] == *value), "{name} selects other pods");
        assert_eq!((&metadata["labels"]["team"], &metadata["annotations"]["note"]), (&json!("net"), &json!(note)));
        assert!(!selector.contains_key("team"), "a selector can never change");
    }
    let controller = &object(&objects, "Deployment", "weft-controller")["spec"]["template"];
    assert_eq!(controller["metadata"]["labels"]["tier"], "control");
    assert!(controller["metadata"]["annotations"]["weft.dev/config"].is_string(), "other options are other pods");
    let env = controller["spec"]["containers"][0]["env"].as_array().expect("variables");
    assert!(env.contains(&json!({ "name": "A", "value": "b" })), "{env:?}");
    let agent = &object(&objects, "DaemonSet", "weft-agent")["spec"]["template"]["spec"];
    assert!(agent["volumes"].as_array().expect("volumes").iter().any(|volume| volume["name"] == "more"));
    assert!(objects.iter().any(|object| object["kind"] == "PodDisruptionBudget"));
    let labelled = |object: &Value| object["metadata"]["labels"]["team"] == "net";
    let mut others = objects.iter().filter(|object| object["kind"] != "CustomResourceDefinition");
    assert!(others.all(labelled), "not every object has it");
}
