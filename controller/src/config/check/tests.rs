//! The configuration as a whole.

use super::*;

const LEAST: &str = "dataDir: /d\npools: [10.244.0.0/16=24]\n";

#[test]
fn defaults_are_those_of_the_manual() {
    let config = Config::parse(LEAST).expect("a sound configuration");
    assert_eq!(config.listen.to_string(), "0.0.0.0:7887");
    assert_eq!(config.http_listen.to_string(), "127.0.0.1:7888");
    assert_eq!(config.store, StoreLocation::Redb("/d/weft.redb".into()));
    let vni = Vni::new(87).expect("in range");
    assert_eq!(config.settings.encapsulation, Encapsulation::Vxlan { vni, port: 4789, outer: Family::V4 });
    assert_eq!(config.certificate_lifetime, Duration::from_secs(86_400));
    assert_eq!(config.renewal_grace, Duration::from_secs(30 * 86_400));
    assert_eq!(config.acknowledge_timeout, Duration::from_secs(30));
    assert_eq!(config.reconnect_grace, Duration::from_secs(60));
}

#[test]
fn every_problem_is_told_at_once() {
    let text = "
        listen: nowhere
        httpListen: 127.0.0.1
        store: sqlite:/x
        pools: [10.244.0.0/16=24, 10.244.0.0/17=24, 10.1.0.1/16=24, fd00::/64=48]
        mode: sometimes
        vni: 0
        port: 65536
        mtu: 9
        underlayNetworks: [192.0.2.7/24, 198.51.100.7]
        forceSettings: perhaps
        outer: ipx
        certificateLifetime: 1s
        renewalGrace: 400d
        colour: red
        serverNames: ['not a name']
    ";
    let Invalid(problems) = Config::parse(&text.replace("\n        ", "\n")).expect_err("all of it is wrong");
    for word in [
        "listen: \"nowhere\"",
        "httpListen",
        "sqlite",
        "10.1.0.1/16",
        "fd00::/64",
        "10.244.0.0/17",
        "sometimes",
        "vni",
        "65536",
        "mtu",
        "underlayNetworks: \"192.0.2.7/24\"",
        "underlayNetworks: \"198.51.100.7\"",
        "forceSettings",
        "ipx",
        "1s",
        "400d",
        "colour",
        "not a name",
        "dataDir",
    ] {
        assert!(problems.iter().any(|problem| problem.contains(word)), "nothing about {word} in {problems:#?}");
    }
}

#[test]
fn a_broken_file_is_one_problem_among_others() {
    let Invalid(problems) = Config::parse("pools: [").expect_err("no YAML");
    assert!(problems.iter().any(|problem| problem.contains("YAML")), "{problems:?}");
    assert!(problems.iter().any(|problem| problem.contains("dataDir")), "{problems:?}");
}

fn in_kubernetes(text: &str, environment: &Environment) -> Result<Config, Invalid> {
    let (file, problems) = of_text("the file", &format!("store: kubernetes\n{text}"));
    Config::check_in(&file, environment, problems)
}

fn pod() -> Environment {
    let text = |text: &str| Some(text.to_owned());
    Environment { namespace: text("weft-system"), pod: text("weft-controller-x"), host_ip: text("192.0.2.7") }
}

#[test]
fn a_pod_says_of_itself_what_its_controller_needs() {
    let config = in_kubernetes("pools: [10.244.0.0/16=24, '10.245.0.0/16=26 zone=b,rack!=7']", &pod());
    let config = config.expect("a sound configuration");
    assert_eq!((config.certificate_lifetime, config.renewal_grace), (Duration::from_secs(3600), Duration::ZERO));
    assert_eq!(config.pools[1].to_string(), "10.245.0.0/16=26 rack!=7,zone=b");
    let StoreLocation::Kubernetes(own) = config.store else { panic!("another store") };
    assert_eq!((own.namespace.as_str(), own.identity.as_str()), ("weft-system", "weft-controller-x"));
    assert_eq!(own.advertise.to_string(), "192.0.2.7:7887");
    assert_eq!(own.node_cidrs, crate::NodeCidrs::Auto);
    assert_eq!(own.lease.retry_period, Duration::from_secs(2));
    assert_eq!((own.token_audience.as_str(), own.agent_service_account.as_str()), ("weft-controller", "weft-agent"));
}

#[test]
fn a_leader_has_an_address_to_be_found_at() {
    let config = in_kubernetes("pools: [10.244.0.0/16=24]\nlisten: '192.0.2.9:99'", &pod()).expect("sound");
    let StoreLocation::Kubernetes(own) = config.store else { panic!("another store") };
    assert_eq!(own.advertise.to_string(), "192.0.2.9:99");
    for (text, environment) in [("", &Environment::default()), ("advertise: '0.0.0.0:7887'", &pod())] {
        let Invalid(problems) =
            in_kubernetes(&format!("pools: [10.244.0.0/16=24]\n{text}"), environment).expect_err("no such address");
        assert!(problems.iter().any(|problem| problem.contains("advertise")), "{problems:?}");
    }
}

#[test]
fn what_belongs_to_kubernetes_is_refused_elsewhere_and_the_other_way_round() {
    let text = "dataDir: /d\npools: ['10.244.0.0/16=24 zone=b']\nleaseDuration: 9s\nnodeCidrs: weft\n";
    let Invalid(problems) = Config::parse(text).expect_err("none of it fits");
    for word in ["zone=b", "leaseDuration", "nodeCidrs"] {
        assert!(problems.iter().any(|problem| problem.contains(word)), "nothing about {word} in {problems:#?}");
    }
    let text = "dataDir: /d\npools: [10.244.0.0/16=24]\nnodeCidrs: me\nrenewDeadline: 15s\nretryPeriod: 8s\ntokenAudience: ''\nrenewalGrace: 1d\nunderlayNetworks: [192.0.2.0/24]";
    let Invalid(problems) = in_kubernetes(text, &Environment::default()).expect_err("none of it fits");
    let words = ["dataDir", "nodeCidrs", "renewDeadline", "retryPeriod", "tokenAudience", "namespace", "advertise"];
    for word in words.into_iter().chain(["renewalGrace", "underlayNetworks"]) {
        assert!(problems.iter().any(|problem| problem.starts_with(word)), "nothing about {word} in {problems:#?}");
    }
}
