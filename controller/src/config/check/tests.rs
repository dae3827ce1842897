//! The configuration as a whole.

use super::*;

const LEAST: &str = "dataDir: /d\npools: [10.244.0.0/16=24]\n";

#[test]
fn defaults_are_those_of_the_manual() {
    let config = Config::parse(LEAST).expect("a sound configuration");
    assert_eq!(config.listen.to_string(), "0.0.0.0:7887");
    assert_eq!(config.http_listen.to_string(), "127.0.0.1:7888");
    assert_eq!(config.store, StoreLocation::Redb("/d/weft.redb".into()));
    assert_eq!(config.settings.vni.get(), 87);
    assert_eq!(config.settings.port, 4789);
    assert_eq!(config.certificate_lifetime, Duration::from_secs(86_400));
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
        outer: ipx
        certificateLifetime: 1s
        colour: red
        serverNames: ['not a name']
    ";
    let ConfigError(problems) = Config::parse(&text.replace("\n        ", "\n")).expect_err("all of it is wrong");
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
        "ipx",
        "1s",
        "colour",
        "not a name",
        "dataDir",
    ] {
        assert!(problems.iter().any(|problem| problem.contains(word)), "nothing about {word} in {problems:#?}");
    }
}

#[test]
fn flags_win_over_the_file() {
    let mut problems = Vec::new();
    let file = Options::parse("the file", &format!("{LEAST}vni: 5\nport: 1000\n"), &mut problems);
    let flags = Options { vni: Some("6".to_owned()), ..Options::default() };
    let config = Config::check(&flags.or(file), problems).expect("a sound configuration");
    assert_eq!((config.settings.vni.get(), config.settings.port), (6, 1000));
}

#[test]
fn a_broken_file_is_one_problem_among_others() {
    let ConfigError(problems) = Config::parse("pools: [").expect_err("no YAML");
    assert!(problems.iter().any(|problem| problem.contains("YAML")), "{problems:?}");
    assert!(problems.iter().any(|problem| problem.contains("dataDir")), "{problems:?}");
}
