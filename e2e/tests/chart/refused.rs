//! Values that helm refuses, each with a message that names it.

use crate::helm;

/// What is set, and words that the refusal has to hold.
const BAD: [(&str, &[&str]); 21] = [
    ("mode=\"vxlan\"", &["/mode", "crossSubnet"]),
    ("vni=0", &["/vni", "1"]),
    ("vni=16777216", &["/vni", "maximum"]),
    ("port=70000", &["/port", "65,535"]),
    ("outerFamily=\"IPv4\"", &["/outerFamily", "ipv4"]),
    ("pools=[]", &["/pools", "minItems"]),
    ("pools=[{\"cidr\":\"10.244.0.0\",\"nodePrefix\":24}]", &["/pools/0/cidr", "10.244.0.0"]),
    ("pools=[{\"cidr\":\"10.244.0.0/16\"}]", &["/pools/0", "nodePrefix"]),
    ("pools=[{\"cidr\":\"10.244.0.0/16\",\"nodePrefix\":12}]", &["pools[0].nodePrefix", "16 to 30"]),
    ("pools=[{\"cidr\":\"10.244.0.0/16\",\"nodePrefix\":24,\"nodeSelector\":\"zone\"}]", &["nodeSelector", "zone"]),
    ("nodeCidrs=\"kcm\"", &["/nodeCidrs", "kube-controller-manager"]),
    ("cni.binDir=\"opt/cni/bin\"", &["/cni/binDir", "opt/cni/bin"]),
    ("cni.chained=\"portmap\"", &["/cni/chained", "array"]),
    ("cni.chained=[\"tuning\"]", &["/cni/chained/0", "portmap"]),
    ("controller.replicas=0", &["/controller/replicas"]),
    ("controller.httpListen=\"127.0.0.1:7887\"", &["controller.httpListen", "controller.listenPort"]),
    ("agent.metricsListen=\"7889\"", &["/agent/metricsListen"]),
    ("uninstall.timeout=4", &["/uninstall/timeout", "string"]),
    ("agent.extraEnv=[{\"name\":\"WEFT_NODE\",\"value\":\"other\"}]", &["/agent/extraEnv/0/name"]),
    ("nonMasqueradeCIDRs=[\"10.0.0.0\"]", &["/nonMasqueradeCIDRs/0", "10.0.0.0"]),
    ("podCidr=\"10.244.0.0/16\"", &["podCidr", "not allowed"]),
];

#[test]
#[ignore = "needs helm: ./dev e2e"]
fn bad_values_are_refused_by_name() {
    for (set, words) in BAD {
        let complaint = helm::template(&["--set-json".to_owned(), set.to_owned()]).expect_err(set);
        for word in words {
            assert!(complaint.contains(word), "{set}: {word} is missing in: {complaint}");
        }
    }
}

#[test]
#[ignore = "needs helm: ./dev e2e"]
fn all_problems_between_values_are_told_at_once() {
    let set = "pools=[{\"cidr\":\"10.0.0.0/16\",\"nodePrefix\":32},{\"cidr\":\"fd00::/48\",\"nodePrefix\":40}]";
    let complaint = helm::template(&["--set-json".to_owned(), set.to_owned()]).expect_err("two wrong prefixes");
    assert!(complaint.contains("pools[0].nodePrefix") && complaint.contains("pools[1].nodePrefix"), "{complaint}");
}

#[test]
#[ignore = "needs helm: ./dev e2e"]
fn sound_values_pass_lint() {
    for variant in helm::all() {
        let lint = [vec!["lint".to_owned(), helm::chart().display().to_string()], helm::values(variant)].concat();
        let said = helm::run(&lint).unwrap_or_else(|complaint| panic!("{variant:?}: {complaint}"));
        assert!(!said.contains("[WARNING]") && !said.contains("[ERROR]"), "{variant:?}: {said}");
    }
}
