//! Options from flags and file, merged and checked.

use super::*;

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
    let text = options.load(None).expect_err("five wrong values").to_string();
    for word in ["node", "controller", "device", "metricsListen", "mtu"] {
        assert!(text.contains(word), "{word} is missing in: {text}");
    }
}

#[test]
fn flags_win_over_the_file() {
    let file = Options { device: Some("vx1".into()), interface: Some("eth1".into()), ..good() };
    let flags = Options { device: Some("vx2".into()), ..Options::default() };
    let config = flags.over(file).load(None).expect("valid");
    assert_eq!((config.device.as_str(), config.interface.map(|i| i.to_string())), ("vx2", Some("eth1".into())));
}

#[test]
fn problems_of_the_file_and_of_values_are_told_together() {
    let path = std::env::temp_dir().join(format!("weft-config-{}", std::process::id()));
    std::fs::write(&path, "node: Not_A_Name\nnoed: b\n").expect("a writable temp dir");
    let text = Options::default().load(Some(&path)).expect_err("an unknown key, a wrong name").to_string();
    std::fs::remove_file(&path).expect("just written");
    for word in ["noed", "Not_A_Name", "controller"] {
        assert!(text.contains(word), "{word} is missing in: {text}");
    }
}

fn on_kubernetes() -> Options {
    let (token, ca) = (Some("/run/token".into()), Some("/run/ca.crt".into()));
    Options { service_account_token_file: token, ca_file: ca, ..good() }
}

#[test]
fn a_service_account_goes_with_authorities_and_without_a_join_token() {
    let config = on_kubernetes().load(None).expect("valid");
    assert!(matches!(config.credentials, Credentials::ServiceAccount { .. }));
    let problem = |options: Options| options.load(None).expect_err("not together").to_string();
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
    let config = options.load(None).expect("an empty part of a list is none");
    assert_eq!(config.node_addresses.len(), 2);
    assert_eq!(config.cni.expect("on").chain, [Chained::Portmap, Chained::Bandwidth]);
    let options = Options {
        node_addresses: text(&["10.0.0.1/24"]),
        cni_chain: text(&["portmap", "portmap", "cilium"]),
        ..good()
    };
    let text = options.load(None).expect_err("three wrong values").to_string();
    for word in ["10.0.0.1/24", "portmap: is named twice", "cilium"] {
        assert!(text.contains(word), "{word} is missing in: {text}");
    }
}
