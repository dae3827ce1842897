//! The agent's configuration: flags over file over defaults, validated as a whole.
//!
//! Owns every check of a value an operator gives; must never touch the kernel or the network.

mod file;

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use weft_core::types::{LinkName, NodeName};
use weft_program::log::Format;

use crate::pods::CACHED_RESULTS;

/// Longer than any ADD takes, in seconds.
const POD_GRACE: u64 = 120;

/// What an operator may say, by flag or in the file; flags win. All fields are optional here, so that both sources
/// can be merged before anything is checked.
#[derive(Debug, Clone, Default, Args)]
pub struct Options {
    /// This node's name: a DNS-1123 subdomain.
    #[arg(long, env = "WEFT_NODE")]
    pub node: Option<String>,
    /// A controller's address as HOST:PORT; repeat it for several.
    #[arg(long = "controller", env = "WEFT_CONTROLLER", value_delimiter = ',')]
    pub controllers: Vec<String>,
    /// File with the join token; needed until the node has its certificate.
    #[arg(long)]
    pub token_file: Option<PathBuf>,
    /// Where the agent keeps its identity, the last good membership and the pods' addresses [default: /var/lib/weft].
    #[arg(long)]
    pub state_dir: Option<PathBuf>,
    /// Unix socket of the local API [default: /run/weft/agent.sock].
    #[arg(long)]
    pub socket: Option<PathBuf>,
    /// Name of the VXLAN device [default: weft0].
    #[arg(long)]
    pub device: Option<String>,
    /// The underlay link; without it the route to the controller names it.
    #[arg(long)]
    pub interface: Option<String>,
    /// Where the container runtime looks for CNI plugins [default: /opt/cni/bin].
    #[arg(long)]
    pub cni_bin_dir: Option<PathBuf>,
    /// Where the container runtime looks for CNI network configurations [default: /etc/cni/net.d].
    #[arg(long)]
    pub cni_conf_dir: Option<PathBuf>,
    /// The weft-cni binary to install [default: beside this program].
    #[arg(long)]
    pub cni_binary: Option<PathBuf>,
    /// Where the container runtime caches CNI results [default: /var/lib/cni/results].
    #[arg(long)]
    pub cni_results_dir: Option<PathBuf>,
    /// How many seconds a pod has to be gone before its addresses are freed without a DEL [default: 120].
    #[arg(long)]
    pub pod_grace: Option<u64>,
    /// Do not install the CNI plugin and its configuration.
    #[arg(long)]
    pub no_cni: bool,
    /// Where Prometheus metrics are served [default: 127.0.0.1:7889]; `off` serves none.
    #[arg(long)]
    pub metrics_listen: Option<String>,
    /// Form of the log; its flag is common to all commands and so not among these.
    #[arg(skip)]
    pub log_format: Option<Format>,
}

/// The agent's configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// This node.
    pub node: NodeName,
    /// Controllers as HOST:PORT, tried in turn.
    pub controllers: Vec<String>,
    /// Where the join token is.
    pub token_file: Option<PathBuf>,
    /// Where state is kept.
    pub state_dir: PathBuf,
    /// The local API's socket.
    pub socket: PathBuf,
    /// The VXLAN device.
    pub device: LinkName,
    /// The underlay link, where named.
    pub interface: Option<LinkName>,
    /// Where the runtime caches CNI results.
    pub cni_results_dir: PathBuf,
    /// How long a pod has to be gone before its addresses are freed without a DEL.
    pub pod_grace: Duration,
    /// The CNI installation, unless switched off.
    pub cni: Option<CniPaths>,
    /// Where metrics are served.
    pub metrics_listen: Option<SocketAddr>,
    /// Form of the log.
    pub log_format: Format,
}

/// Where the CNI plugin goes.
#[derive(Debug, Clone)]
pub struct CniPaths {
    /// The runtime's plugin directory.
    pub bin_dir: PathBuf,
    /// The runtime's configuration directory.
    pub conf_dir: PathBuf,
    /// The binary to install.
    pub binary: PathBuf,
}

/// All problems of a configuration at once.
#[derive(Debug)]
pub struct Invalid(Vec<String>);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0.len() == 1 { "" } else { "s" };
        write!(f, "the configuration has {} problem{plural}:", self.0.len())?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))
    }
}

impl std::error::Error for Invalid {}

impl Options {
    /// These options over those of `file`, checked; every problem of both is told.
    pub fn load(self, file: Option<&Path>) -> Result<Config, Invalid> {
        let mut problems = Problems::default();
        let file = file.map(|path| Self::read(path, &mut problems.0)).unwrap_or_default();
        self.over(file).validate(problems)
    }

    /// These options, and `file`'s where these are silent.
    fn over(self, file: Self) -> Self {
        Self {
            node: self.node.or(file.node),
            controllers: if self.controllers.is_empty() { file.controllers } else { self.controllers },
            token_file: self.token_file.or(file.token_file),
            state_dir: self.state_dir.or(file.state_dir),
            socket: self.socket.or(file.socket),
            device: self.device.or(file.device),
            interface: self.interface.or(file.interface),
            cni_bin_dir: self.cni_bin_dir.or(file.cni_bin_dir),
            cni_conf_dir: self.cni_conf_dir.or(file.cni_conf_dir),
            cni_binary: self.cni_binary.or(file.cni_binary),
            cni_results_dir: self.cni_results_dir.or(file.cni_results_dir),
            pod_grace: self.pod_grace.or(file.pod_grace),
            no_cni: self.no_cni || file.no_cni,
            metrics_listen: self.metrics_listen.or(file.metrics_listen),
            log_format: self.log_format.or(file.log_format),
        }
    }

    /// Checks everything and reports every problem, after those already known.
    fn validate(self, mut problems: Problems) -> Result<Config, Invalid> {
        let node = match self.node {
            Some(name) => problems.check("node", NodeName::new(&name)),
            None => problems.missing("node", "give this node's name with --node"),
        };
        if self.controllers.is_empty() {
            problems.0.push("controller: is missing; give its address with --controller HOST:PORT".to_owned());
        }
        for address in &self.controllers {
            problems.check(&format!("controller {address:?}"), check_address(address));
        }
        let device = problems.check("device", LinkName::new(self.device.as_deref().unwrap_or("weft0")));
        let interface = self.interface.and_then(|name| problems.check("interface", LinkName::new(&name)));
        let metrics_listen = match self.metrics_listen.as_deref() {
            Some("off") => None,
            text => problems.check("metricsListen", parse_listen(text.unwrap_or("127.0.0.1:7889"))),
        };
        let cni = (!self.no_cni).then(|| CniPaths {
            bin_dir: self.cni_bin_dir.unwrap_or_else(|| "/opt/cni/bin".into()),
            conf_dir: self.cni_conf_dir.unwrap_or_else(|| "/etc/cni/net.d".into()),
            binary: self.cni_binary.unwrap_or_else(sibling_plugin),
        });
        match (node, device, problems.0.is_empty()) {
            (Some(node), Some(device), true) => Ok(Config {
                node,
                controllers: self.controllers,
                token_file: self.token_file,
                state_dir: self.state_dir.unwrap_or_else(|| "/var/lib/weft".into()),
                socket: self.socket.unwrap_or_else(|| "/run/weft/agent.sock".into()),
                device,
                interface,
                cni_results_dir: self.cni_results_dir.unwrap_or_else(|| CACHED_RESULTS.into()),
                pod_grace: Duration::from_secs(self.pod_grace.unwrap_or(POD_GRACE)),
                cni,
                metrics_listen,
                log_format: self.log_format.unwrap_or_default(),
            }),
            _ => Err(Invalid(problems.0)),
        }
    }
}

#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn check<T, E: fmt::Display>(&mut self, field: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.0.push(format!("{field}: {error}"))).ok()
    }

    fn missing<T>(&mut self, field: &str, remedy: &str) -> Option<T> {
        self.0.push(format!("{field}: is missing; {remedy}"));
        None
    }
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
            ..Options::default()
        };
        let text = options.load(None).expect_err("four wrong values").to_string();
        for word in ["node", "controller", "device", "metricsListen"] {
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
}
