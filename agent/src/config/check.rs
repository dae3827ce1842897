//! From options to a configuration.
//!
//! Owns the defaults and every rule, those between options included. Must never stop at the first problem.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use weft_core::{
    masquerade::Unmasqueraded,
    types::{LinkName, NodeName, parse_underlay_mtu},
};
use weft_program::{
    config::{Invalid, Problems, parse},
    log::Format,
};

use super::{CniPaths, Config, Options};
use crate::{config::Chained, controller::Credentials, pods::CACHED_RESULTS};

/// Longer than any ADD takes, in seconds.
const POD_GRACE: u64 = 120;

impl Config {
    /// Checks options, and reports every problem after those already known.
    ///
    /// # Errors
    /// All problems, if there is one.
    pub fn check(options: &Options, problems: Problems) -> Result<Self, Invalid> {
        options.clone().checked(problems)
    }
}

impl Options {
    fn checked(mut self, mut problems: Problems) -> Result<Config, Invalid> {
        let node = match &self.node {
            Some(name) => problems.check("node", NodeName::new(name)),
            None => {
                problems.say("node", "is missing; give this node's name with --node");
                None
            }
        };
        let credentials = self.credentials(&mut problems);
        let controllers = self.controllers(&credentials, &mut problems);
        let device = problems.check("device", LinkName::new(self.device.as_deref().unwrap_or("weft0")));
        let interface = self.interface.take().and_then(|name| problems.check("interface", LinkName::new(&name)));
        let mtu = self.mtu.take().and_then(|text| problems.check("mtu", parse_underlay_mtu(&text)));
        let unmasqueraded = (!self.non_masquerade_cidrs.is_empty())
            .then(|| problems.check("nonMasqueradeCIDRs", Unmasqueraded::parse(&self.non_masquerade_cidrs)))
            .flatten();
        let node_addresses = addresses(&self.node_addresses, &mut problems);
        let metrics_listen = match self.metrics_listen.as_deref() {
            Some("off") => None,
            text => problems.check("metricsListen", parse_listen(text.unwrap_or("127.0.0.1:7889"))),
        };
        let pod_grace = problems.value("podGrace", self.pod_grace.as_deref(), POD_GRACE, |text| {
            parse(text, "give whole seconds, such as 120")
        });
        let no_cni = problems.value("noCni", self.no_cni.as_deref(), false, |text| parse(text, "give true or false"));
        let log_format = problems.value("logFormat", self.log_format.as_deref(), Format::default(), str::parse);
        let chain = chain(&self.cni_chain, &mut problems);
        let cni = (!no_cni).then(|| CniPaths {
            bin_dir: self.cni_bin_dir.unwrap_or_else(|| "/opt/cni/bin".into()),
            conf_dir: self.cni_conf_dir.unwrap_or_else(|| "/etc/cni/net.d".into()),
            binary: self.cni_binary.unwrap_or_else(sibling_plugin),
            chain,
        });
        match (node, device, problems.is_empty()) {
            (Some(node), Some(device), true) => Ok(Config {
                node,
                controllers,
                controllers_file: self.controllers_file,
                credentials,
                node_addresses,
                sysctl_dir: self.sysctl_dir.unwrap_or_else(|| "/proc/sys".into()),
                state_dir: self.state_dir.unwrap_or_else(|| "/var/lib/weft".into()),
                socket: self.socket.unwrap_or_else(|| "/run/weft/agent.sock".into()),
                device,
                interface,
                mtu,
                unmasqueraded,
                cni_results_dir: self.cni_results_dir.unwrap_or_else(|| CACHED_RESULTS.into()),
                pod_grace: Duration::from_secs(pod_grace),
                cni,
                metrics_listen,
                log_format,
            }),
            _ => Err(problems.into()),
        }
    }

    fn credentials(&mut self, problems: &mut Problems) -> Credentials {
        let (token, authorities) = (self.service_account_token_file.take(), self.ca_file.take());
        match (token, authorities) {
            (Some(token), Some(authorities)) => {
                if self.token_file.is_some() {
                    problems
                        .say("tokenFile", "a node joins with a ServiceAccount token or a join token: leave one out");
                }
                return Credentials::ServiceAccount { token, authorities };
            }
            (Some(_), None) => {
                problems.say("serviceAccountTokenFile", "whom to show the token is not known: give --ca-file too");
            }
            (None, Some(_)) => {
                problems.say("caFile", "is for ServiceAccount tokens only: give --service-account-token-file too");
            }
            (None, None) => {}
        }
        Credentials::JoinToken(self.token_file.take())
    }

    fn controllers(&mut self, credentials: &Credentials, problems: &mut Problems) -> Vec<String> {
        let mut controllers = std::mem::take(&mut self.controllers);
        if controllers.is_empty() && matches!(credentials, Credentials::ServiceAccount { .. }) {
            let variable = |name: &str| std::env::var(name).ok();
            let found = service(variable("WEFT_CONTROLLER_SERVICE_HOST"), variable("WEFT_CONTROLLER_SERVICE_PORT"));
            controllers.extend(found);
        }
        if controllers.is_empty() {
            problems.say("controller", "is missing; give its address with --controller HOST:PORT");
        }
        for address in &controllers {
            problems.check(&format!("controller {address:?}"), check_address(address));
        }
        controllers
    }
}

/// HOST:PORT of a Service as Kubernetes writes it into a container's environment: IPv6 without brackets there.
fn service(host: Option<String>, port: Option<String>) -> Option<String> {
    let (host, port) = (host?, port?);
    Some(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
}

fn check_address(text: &str) -> Result<(), String> {
    let wrong = || "is not HOST:PORT; IPv6 addresses stand in brackets, such as [2001:db8::1]:7887".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    match port.parse::<u16>() {
        Ok(1..) if !host.is_empty() && !bare_v6 => Ok(()),
        _ => Err(wrong()),
    }
}

fn addresses(texts: &[String], problems: &mut Problems) -> Vec<IpAddr> {
    let remedy = "give an address without a prefix, such as 10.0.0.1 or 2001:db8::1";
    let read = |text: &String| text.parse().map_err(|_| format!("{text:?} is no address: {remedy}"));
    // A variable that is there and empty says nothing.
    texts.iter().filter(|text| !text.is_empty()).filter_map(|text| problems.check("nodeAddress", read(text))).collect()
}

fn chain(names: &[String], problems: &mut Problems) -> Vec<Chained> {
    let mut seen = BTreeSet::new();
    let mut chain = Vec::new();
    for name in names.iter().filter(|name| !name.is_empty()) {
        if seen.insert(name) {
            chain.extend(problems.check("cniChain", name.parse::<Chained>()));
        } else {
            problems.say("cniChain", format!("{name}: is named twice; once is enough"));
        }
    }
    chain
}

fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not ADDRESS:PORT, such as 127.0.0.1:7889, or `off`"))
}

fn sibling_plugin() -> PathBuf {
    let beside = |path: PathBuf| path.with_file_name("weft-cni");
    std::env::current_exe().map_or_else(|_| "weft-cni".into(), beside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_an_address_of_either_family() {
        let of = |host: &str| service(Some(host.to_owned()), Some("7887".to_owned())).expect("both are there");
        for (host, address) in [("10.96.0.9", "10.96.0.9:7887"), ("fd00:96::9", "[fd00:96::9]:7887")] {
            assert_eq!(of(host), address);
            assert_eq!(check_address(address), Ok(()));
        }
        assert_eq!(service(Some("10.96.0.9".to_owned()), None), None);
    }
}
