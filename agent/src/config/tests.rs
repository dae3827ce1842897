//! Options from flags and file, merged and checked.

use weft_program::config::{Invalid, Problems, of_text};

use super::*;

fn load(options: &Options) -> Result<Config, Invalid> {
    Config::check(options, Problems::default())
}

fn good() -> Options {
    Options { node: Some("a".into()), controllers: vec!["192.0.2.1:7887".into()], ..Options::default() }
}

#[test]
fn reports_every_problem_at_once() {
    let options = Options {
        node: Some("Not_A_Name".into()),
        controllers: vec!["2001:db8::1:7887x".into()],
        device: Some("a name too long for a link".into()),
        metrics_listen: Some("nowhere".into()),
        mtu: Some("1279".into()),
        ..Options::default()
    };
    let text = load(&options).expect_err("five wrong values").to_string();
    for word in ["node", "controller", "device", "metricsListen", "mtu"] {
        assert!(text.contains(word), "{word} is missing in: {text}");
    }
}

#[test]
fn problems_of_the_file_and_of_values_are_told_together() {
    let text = "node: Not_A_Name\nnoed: b\npodGrace: -4\nnoCni: maybe\nlogFormat: xml\n";
    let (options, problems) = of_text::<Options>("agent.yaml", text);
    let text = Config::check(&options, problems).expect_err("nothing of it is right").to_string();
    for word in ["noed", "Not_A_Name", "controller", "podGrace", "noCni", "logFormat"] {
        assert!(text.contains(word), "{word} is missing in: {text}");
    }
}

#[test]
fn a_file_says_what_flags_do() {
    let text = "node: a\ncontrollers: [\"192.0.2.1:7887\"]\nmetricsListen: off\nnoCni: true\npodGrace: 5\n\
                logFormat: json\ntokenFile:\nnonMasqueradeCIDRs: [10.0.0.0/8]\n";
    let (options, problems) = of_text::<Options>("agent.yaml", text);
    let config = Config::check(&options, problems).expect("sound");
    assert_eq!((config.controllers.as_slice(), config.metrics_listen), (&["192.0.2.1:7887".to_owned()][..], None));
    assert_eq!((config.log_format, config.pod_grace), (Format::Json, Duration::from_secs(5)));
    assert!(config.cni.is_none() && config.unmasqueraded.is_some());
}

fn on_kubernetes() -> Options {
    let (token, ca) = (Some("/run/token".into()), Some("/run/ca.crt".into()));
    Options { service_account_token_file: token, ca_file: ca, ..good() }
}

#[test]
fn a_service_account_goes_with_authorities_and_without_a_join_token() {
    let config = load(&on_kubernetes()).expect("valid");
    assert!(matches!(config.credentials, Credentials::ServiceAccount { .. }));
    let problem = |options: Options| load(&options).expect_err("not together").to_string();
    assert!(problem(Options { ca_file: None, ..on_kubernetes() }).contains("--ca-file"));
    assert!(problem(Options { token_file: Some("t".into()), ..on_kubernetes() }).contains("tokenFile"));
    assert!(problem(Options { ca_file: Some("c".into()), ..good() }).contains("--service-account-token-file"));
}

#[test]
fn addresses_and_chained_plugins_are_checked() {
    let text = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
    let options = Options {
        node_addresses: text(&["10.0.0.1", "", "fd00::1"]),
        cni_chain: text(&["portmap", "bandwidth"]),
        ..good()
    };
    let config = load(&options).expect("an empty part of a list is none");
    assert_eq!(config.node_addresses.len(), 2);
    assert_eq!(config.cni.expect("on").chain, [Chained::Portmap, Chained::Bandwidth]);
    let options = Options {
        node_addresses: text(&["10.0.0.1/24"]),
        cni_chain: text(&["portmap", "portmap", "cilium"]),
        ..good()
    };
    let text = load(&options).expect_err("three wrong values").to_string();
    for word in ["10.0.0.1/24", "portmap: is named twice", "cilium"] {
        assert!(text.contains(word), "{word} is missing in: {text}");
    }
}
