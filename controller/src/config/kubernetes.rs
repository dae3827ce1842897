//! Options of a controller that runs in Kubernetes.
//!
//! Owns their defaults and rules, those taken from the pod's environment included. Must never talk to an API server:
//! a configuration can be checked anywhere.

use std::{net::SocketAddr, str::FromStr, time::Duration};

use weft_program::config::Problems;

use super::{AgentNodes, Options, check::time};

/// Who writes pod CIDRs into Node objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NodeCidrs {
    /// Whoever does it already; the controller where nobody does.
    #[default]
    Auto,
    /// The controller, from its pools.
    Weft,
    /// The kube-controller-manager; the controller announces what it finds.
    KubeControllerManager,
}

/// How leadership is kept and lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTimes {
    /// A Lease that has not changed for this long may be taken over.
    pub duration: Duration,
    /// A leader that has not renewed for this long stops leading.
    pub renew_deadline: Duration,
    /// Time between two attempts to renew or to take over.
    pub retry_period: Duration,
}

/// What a controller in Kubernetes is run with, beside what all are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubernetes {
    /// The namespace of Weft's own objects.
    pub namespace: String,
    /// What the holder's name in the Lease begins with.
    pub identity: String,
    /// Where agents reach this controller when it leads; port 0 stands for the one it listens on.
    pub advertise: SocketAddr,
    /// Who writes pod CIDRs into Node objects.
    pub node_cidrs: NodeCidrs,
    /// How leadership is kept and lost.
    pub lease: LeaseTimes,
    /// Audience of the agents' ServiceAccount tokens.
    pub token_audience: String,
    /// Name of the agents' ServiceAccount.
    pub agent_service_account: String,
    /// The Nodes that agents run on.
    pub agent_nodes: AgentNodes,
    /// Who enforces NetworkPolicy objects, where somebody does.
    pub network_policy_engine: Option<String>,
}

/// A text that names nobody who could write pod CIDRs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} allocates no pod CIDRs: give auto, weft or kube-controller-manager")]
pub struct NodeCidrsError(String);

impl FromStr for NodeCidrs {
    type Err = NodeCidrsError;

    fn from_str(text: &str) -> Result<Self, NodeCidrsError> {
        match text {
            "auto" => Ok(Self::Auto),
            "weft" => Ok(Self::Weft),
            "kube-controller-manager" => Ok(Self::KubeControllerManager),
            _ => Err(NodeCidrsError(text.to_owned())),
        }
    }
}

/// What the pod says of itself, by the downward API.
#[derive(Debug, Clone, Default)]
pub(super) struct Environment {
    pub(super) namespace: Option<String>,
    pub(super) pod: Option<String>,
    pub(super) host_ip: Option<String>,
}

impl Environment {
    pub(super) fn read() -> Self {
        let read = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self { namespace: read("POD_NAMESPACE"), pod: read("POD_NAME"), host_ip: read("HOST_IP") }
    }
}

/// Options that mean nothing without Kubernetes.
fn given(options: &Options) -> Vec<&'static str> {
    [
        ("namespace", &options.namespace),
        ("identity", &options.identity),
        ("advertise", &options.advertise),
        ("nodeCidrs", &options.node_cidrs),
        ("leaseDuration", &options.lease_duration),
        ("renewDeadline", &options.renew_deadline),
        ("retryPeriod", &options.retry_period),
        ("tokenAudience", &options.token_audience),
        ("agentServiceAccount", &options.agent_service_account),
        ("agentNodes", &options.agent_nodes),
        ("networkPolicyEngine", &options.network_policy_engine),
    ]
    .into_iter()
    .filter_map(|(name, value)| value.is_some().then_some(name))
    .collect()
}

/// Refuses what a controller outside of Kubernetes cannot have.
pub(super) fn refuse(problems: &mut Problems, options: &Options) {
    for name in given(options) {
        problems.tell(format!("{name}: is an option of --store kubernetes: leave it out here"));
    }
}

pub(super) fn check(
    problems: &mut Problems,
    options: &Options,
    environment: &Environment,
    listen: SocketAddr,
) -> Kubernetes {
    if options.data_dir.is_some() {
        problems.tell("dataDir: there is none with --store kubernetes: leave it out".to_owned());
    }
    if !options.underlay_networks.is_empty() {
        problems.tell(
            "underlayNetworks: a node's addresses are those of its Node object with --store kubernetes: leave it out"
                .to_owned(),
        );
    }
    if options.renewal_grace.is_some() {
        problems.tell(
            "renewalGrace: agents join again with --store kubernetes, and renew nothing: leave it out".to_owned(),
        );
    }
    Kubernetes {
        namespace: namespace(problems, options, environment),
        identity: identity(problems, options, environment),
        advertise: advertise(problems, options, environment, listen),
        node_cidrs: problems.value("nodeCidrs", options.node_cidrs.as_deref(), NodeCidrs::default(), str::parse),
        lease: lease(problems, options),
        token_audience: word(problems, "tokenAudience", options.token_audience.as_deref())
            .unwrap_or("weft-controller".to_owned()),
        agent_service_account: word(problems, "agentServiceAccount", options.agent_service_account.as_deref())
            .unwrap_or("weft-agent".to_owned()),
        agent_nodes: problems.value("agentNodes", options.agent_nodes.as_deref(), AgentNodes::default(), str::parse),
        network_policy_engine: word(problems, "networkPolicyEngine", options.network_policy_engine.as_deref()),
    }
}

/// A text that must not be empty where it is given.
fn word(problems: &mut Problems, name: &str, text: Option<&str>) -> Option<String> {
    if text.is_some_and(|text| text.trim().is_empty()) {
        problems.tell(format!("{name}: is empty: name one, or leave it out"));
    }
    text.map(str::to_owned)
}

fn namespace(problems: &mut Problems, options: &Options, environment: &Environment) -> String {
    let found = word(problems, "namespace", options.namespace.as_deref()).or_else(|| environment.namespace.clone());
    found.unwrap_or_else(|| {
        problems.tell("namespace: is missing: name the one of Weft's objects, here or in POD_NAMESPACE".to_owned());
        String::new()
    })
}

fn identity(problems: &mut Problems, options: &Options, environment: &Environment) -> String {
    let found = word(problems, "identity", options.identity.as_deref()).or_else(|| environment.pod.clone());
    found.unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned())
}

fn advertise(problems: &mut Problems, options: &Options, environment: &Environment, listen: SocketAddr) -> SocketAddr {
    let example = "such as 192.0.2.7:7887 or [2001:db8::7]:7887";
    let given =
        problems.value("advertise", options.advertise.as_deref(), None, |text| match text.parse::<SocketAddr>() {
            Ok(address) if !address.ip().is_unspecified() => Ok(Some(address)),
            _ => Err(format!(
                "{text:?} is not where an agent could connect: give this node's address and a port, {example}"
            )),
        });
    if let Some(address) = given {
        return address;
    }
    if !listen.ip().is_unspecified() {
        return listen;
    }
    match environment.host_ip.as_deref().map(str::parse) {
        Some(Ok(address)) => SocketAddr::new(address, listen.port()),
        _ if options.advertise.is_some() => listen,
        _ => {
            problems.tell(format!(
                "advertise: is missing, and HOST_IP names no address: say where agents reach this controller, {example}"
            ));
            listen
        }
    }
}

fn lease(problems: &mut Problems, options: &Options) -> LeaseTimes {
    let second = Duration::from_secs(1);
    let times = LeaseTimes {
        duration: time(
            problems,
            "leaseDuration",
            options.lease_duration.as_deref(),
            15 * second,
            (second, 3600 * second),
        ),
        renew_deadline: time(
            problems,
            "renewDeadline",
            options.renew_deadline.as_deref(),
            10 * second,
            (Duration::from_millis(100), 3600 * second),
        ),
        retry_period: time(
            problems,
            "retryPeriod",
            options.retry_period.as_deref(),
            2 * second,
            (Duration::from_millis(10), 600 * second),
        ),
    };
    let LeaseTimes { duration, renew_deadline, retry_period } = times;
    if duration.subsec_nanos() != 0 {
        problems.tell(format!("leaseDuration: {duration:?} is not whole: a Lease counts in seconds"));
    }
    if renew_deadline >= duration {
        problems.tell(format!(
            "renewDeadline: {renew_deadline:?} is not less than leaseDuration, {duration:?}: the old leader would not have stopped before a new one begins"
        ));
    }
    if retry_period * 2 > renew_deadline {
        problems.tell(format!(
            "retryPeriod: {retry_period:?} is more than half of renewDeadline, {renew_deadline:?}: one lost answer would cost the leadership"
        ));
    }
    times
}
