//! The agent's configuration file.
//!
//! Owns what its values look like. All are read as texts, so that one that is wrong does not hide the next. Must never
//! hold a default.

use std::{fmt, fmt::Display, path::Path, str::FromStr};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

use super::Options;

impl Options {
    /// Reads a YAML file; what is wrong in it goes to `problems`.
    pub(super) fn read(path: &Path, problems: &mut Vec<String>) -> Self {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&path.display().to_string(), &text, problems),
            Err(error) => {
                problems.push(format!("config file {} cannot be read: {error}; check --config", path.display()));
                Self::default()
            }
        }
    }

    pub(super) fn parse(name: &str, text: &str, problems: &mut Vec<String>) -> Self {
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Self::default();
        }
        match serde_saphyr::from_str::<File>(text) {
            Ok(file) => {
                problems.extend(file.problems.iter().map(|problem| format!("config file {name}: {problem}")));
                file.options
            }
            Err(error) => {
                problems.push(format!("config file {name}: {error}"));
                Self::default()
            }
        }
    }
}

#[derive(Default)]
struct File {
    options: Options,
    problems: Vec<String>,
}

impl File {
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        let Self { options, problems } = self;
        match key {
            "node" => options.node = map.next_value()?,
            "controllers" => options.controllers = map.next_value()?,
            "controllersFile" => options.controllers_file = map.next_value()?,
            "tokenFile" => options.token_file = map.next_value()?,
            "serviceAccountTokenFile" => options.service_account_token_file = map.next_value()?,
            "caFile" => options.ca_file = map.next_value()?,
            "nodeAddresses" => options.node_addresses = map.next_value()?,
            "sysctlDir" => options.sysctl_dir = map.next_value()?,
            "stateDir" => options.state_dir = map.next_value()?,
            "socket" => options.socket = map.next_value()?,
            "device" => options.device = map.next_value()?,
            "interface" => options.interface = map.next_value()?,
            "nonMasqueradeCIDRs" => options.non_masquerade_cidrs = map.next_value()?,
            "mtu" => options.mtu = map.next_value()?,
            "cniBinDir" => options.cni_bin_dir = map.next_value()?,
            "cniConfDir" => options.cni_conf_dir = map.next_value()?,
            "cniBinary" => options.cni_binary = map.next_value()?,
            "cniChain" => options.cni_chain = map.next_value()?,
            "cniResultsDir" => options.cni_results_dir = map.next_value()?,
            "metricsListen" => options.metrics_listen = map.next_value()?,
            "podGrace" => options.pod_grace = read(key, map.next_value()?, "give whole seconds, such as 120", problems),
            "noCni" => {
                options.no_cni = read(key, map.next_value()?, "give true or false", problems).unwrap_or_default();
            }
            "logFormat" => options.log_format = read(key, map.next_value()?, "give text or json", problems),
            _ => {
                let _whatever_it_is: IgnoredAny = map.next_value()?;
                let remedy = "see `weft-agent run --help` for all of them";
                problems.push(format!("option {key} is not known: {remedy}"));
            }
        }
        Ok(())
    }
}

fn read<T: FromStr>(key: &str, text: Option<String>, remedy: &str, problems: &mut Vec<String>) -> Option<T> {
    let text = text?;
    let value = text.parse().ok();
    if value.is_none() {
        problems.push(format!("{key}: {text:?} cannot be read: {remedy}"));
    }
    value
}

impl<'de> Deserialize<'de> for File {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FileVisitor)
    }
}

struct FileVisitor;

impl<'de> Visitor<'de> for FileVisitor {
    type Value = File;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        "a mapping of options".fmt(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<File, A::Error> {
        let mut file = File::default();
        while let Some(key) = map.next_key::<String>()? {
            file.take(&key, &mut map)?;
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Options, Vec<String>) {
        let mut problems = Vec::new();
        (Options::parse("agent.yaml", text, &mut problems), problems)
    }

    #[test]
    fn every_wrong_value_is_told() {
        let (options, problems) = parse("node: 12\nnoed: [b]\npodGrace: -4\nnoCni: maybe\nlogFormat: xml\n");
        assert_eq!(options.node.as_deref(), Some("12"), "one wrong value must not hide the others");
        let words = ["noed", "podGrace", "noCni", "logFormat"];
        assert_eq!(problems.len(), words.len(), "{problems:?}");
        for (word, problem) in words.iter().zip(&problems) {
            assert!(problem.contains(word) && problem.contains("agent.yaml"), "{problem}");
        }
    }

    #[test]
    fn values_look_as_yaml_writes_them() {
        let (options, problems) = parse(
            "controllers: [\"192.0.2.1:7887\"]\nmetricsListen: off\nnoCni: true\npodGrace: 5\nlogFormat: json\ntokenFile:\n",
        );
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(options.controllers, ["192.0.2.1:7887"]);
        assert_eq!(options.metrics_listen.as_deref(), Some("off"));
        assert!(options.no_cni && options.log_format.is_some() && options.token_file.is_none());
        assert_eq!(options.pod_grace, Some(5));
    }

    #[test]
    fn a_file_without_options_is_one() {
        assert_eq!(parse("# nothing yet\n\n").1, Vec::<String>::new());
        assert_eq!(parse("- a\n").1.len(), 1);
    }
}
