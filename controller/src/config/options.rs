//! Options as they were given, not checked yet.
//!
//! Owns their names, which are the same as flags and in the file. All are texts here: a number that cannot be read is
//! reported together with everything else that is wrong. Must never hold a default: those are [`super::check`]'s.

use std::{collections::BTreeMap, path::Path};

use super::entry::Entry;

/// Options of `run` and `check-config`.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Options {
    /// Directory that holds ca.crt and ca.key, as `weft-controller init` wrote them
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Where the durable state is: redb:PATH or kubernetes [default: redb:DATA_DIR/weft.redb]
    #[arg(long, value_name = "redb:PATH|kubernetes")]
    pub store: Option<String>,
    /// Address of the gRPC server [default: 0.0.0.0:7887]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// Address of /healthz, /readyz and /metrics [default: 127.0.0.1:7888]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub http_listen: Option<String>,
    /// Name or address in the server's certificate, beside weft-controller; may repeat
    #[arg(long = "server-name", value_name = "NAME_OR_IP")]
    pub server_names: Vec<String>,
    /// Network to cut pod CIDRs from, and their prefix length, such as 10.244.0.0/16=24; may repeat; in Kubernetes
    /// optionally with the labels of the nodes it is for, such as '10.245.0.0/16=26 zone=b,rack!=7'
    #[arg(long = "pool", value_name = "CIDR=NODE_PREFIX[ SELECTOR]")]
    pub pools: Vec<String>,
    /// When to encapsulate: crossSubnet, always or never [default: crossSubnet]
    #[arg(long, value_name = "MODE")]
    pub mode: Option<String>,
    /// VXLAN network identifier [default: 87]
    #[arg(long, value_name = "NUMBER")]
    pub vni: Option<String>,
    /// UDP port of the tunnel [default: 4789]
    #[arg(long, value_name = "PORT")]
    pub port: Option<String>,
    /// Family of the outer packets: ipv4 or ipv6 [default: ipv4]
    #[arg(long, value_name = "FAMILY")]
    pub outer: Option<String>,
    /// The largest packet in bytes that the network between the nodes carries; no node uses more [default: as each node finds]
    #[arg(long, value_name = "BYTES")]
    pub mtu: Option<String>,
    /// Network outside the pools that pods go to under their own addresses, such as 10.0.0.0/8; may repeat [default: none]
    #[arg(long = "non-masquerade-cidr", value_name = "CIDR")]
    pub non_masquerade_cidrs: Vec<String>,
    /// Network where underlay addresses may lie although the nodes' agents connect from elsewhere, as behind NAT or a load
    /// balancer; may repeat [default: the subnets of nodes whose agents connect from their own addresses]
    #[arg(long = "underlay-network", value_name = "CIDR")]
    pub underlay_networks: Vec<String>,
    /// Announce settings although some agents are too old for them: true or false [default: false]
    #[arg(long, value_name = "BOOL")]
    pub force_settings: Option<String>,
    /// How long node certificates are good for [default: 24h; in Kubernetes 1h]
    #[arg(long, value_name = "TIME")]
    pub certificate_lifetime: Option<String>,
    /// How long after its end a node's certificate is still renewed; 0 is not at all [default: 30d]
    #[arg(long, value_name = "TIME")]
    pub renewal_grace: Option<String>,
    /// An agent that has not acknowledged for this long is disconnected [default: 30s]
    #[arg(long, value_name = "TIME")]
    pub acknowledge_timeout: Option<String>,
    /// How long after a start pod CIDRs of departed nodes stay in quarantine at least [default: 60s]
    #[arg(long, value_name = "TIME")]
    pub reconnect_grace: Option<String>,
    /// Changes within this time are announced together [default: 50ms]
    #[arg(long, value_name = "TIME")]
    pub coalesce_window: Option<String>,
    /// Time for one TLS handshake, and as much again for the first request after it [default: 10s]
    #[arg(long, value_name = "TIME")]
    pub handshake_timeout: Option<String>,
    /// Form of the log: text or json [default: text]
    #[arg(long, value_name = "FORM")]
    pub log_format: Option<String>,
    /// Kubernetes: namespace of Weft's own objects [default: POD_NAMESPACE]
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Kubernetes: what this controller is called in the Lease [default: POD_NAME, or the host's name]
    #[arg(long, value_name = "NAME")]
    pub identity: Option<String>,
    /// Kubernetes: where agents reach this controller when it leads [default: HOST_IP and the port of --listen]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub advertise: Option<String>,
    /// Kubernetes: who writes pod CIDRs into Node objects: auto, weft or kube-controller-manager [default: auto]
    #[arg(long, value_name = "WHO")]
    pub node_cidrs: Option<String>,
    /// Kubernetes: a Lease that has not changed for this long may be taken over [default: 15s]
    #[arg(long, value_name = "TIME")]
    pub lease_duration: Option<String>,
    /// Kubernetes: a leader that has not renewed for this long stops leading [default: 10s]
    #[arg(long, value_name = "TIME")]
    pub renew_deadline: Option<String>,
    /// Kubernetes: time between two attempts to renew the Lease or to take it over [default: 2s]
    #[arg(long, value_name = "TIME")]
    pub retry_period: Option<String>,
    /// Kubernetes: audience of the agents' ServiceAccount tokens [default: weft-controller]
    #[arg(long, value_name = "NAME")]
    pub token_audience: Option<String>,
    /// Kubernetes: the agents' ServiceAccount [default: weft-agent]
    #[arg(long, value_name = "NAME")]
    pub agent_service_account: Option<String>,
    /// Kubernetes: nodeSelector and affinity of the agents' pods; Nodes that no agent runs on are no members [default: all
    /// Nodes]
    #[arg(long, value_name = "JSON")]
    pub agent_nodes: Option<String>,
    /// Kubernetes: who enforces NetworkPolicy objects; without it an Event says that nobody does
    #[arg(long, value_name = "NAME")]
    pub network_policy_engine: Option<String>,
}

impl Options {
    /// Reads a file; what it names that is no option goes to `problems`.
    pub(super) fn read(path: &Path, problems: &mut Vec<String>) -> Self {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&path.display().to_string(), &text, problems),
            Err(error) => {
                problems.push(format!("file {} cannot be read: {error}", path.display()));
                Self::default()
            }
        }
    }

    pub(super) fn parse(name: &str, text: &str, problems: &mut Vec<String>) -> Self {
        let mut options = Self::default();
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return options;
        }
        match serde_saphyr::from_str::<BTreeMap<String, Entry>>(text) {
            Ok(entries) => {
                for (key, entry) in entries {
                    if let Err(problem) = options.set(&key, entry) {
                        problems.push(format!("{name}: {problem}"));
                    }
                }
            }
            Err(error) => problems.push(format!("{name} is not a YAML mapping of options: {error}")),
        }
        options
    }

    fn set(&mut self, key: &str, entry: Entry) -> Result<(), String> {
        let many = match key {
            "pools" => Some(&mut self.pools),
            "serverNames" => Some(&mut self.server_names),
            "nonMasqueradeCIDRs" => Some(&mut self.non_masquerade_cidrs),
            "underlayNetworks" => Some(&mut self.underlay_networks),
            _ => None,
        };
        if let Some(values) = many {
            *values = match entry {
                Entry::Many(many) => many,
                Entry::One(one) => vec![one],
            };
            return Ok(());
        }
        let one = match key {
            "dataDir" => &mut self.data_dir,
            "store" => &mut self.store,
            "listen" => &mut self.listen,
            "httpListen" => &mut self.http_listen,
            "mode" => &mut self.mode,
            "vni" => &mut self.vni,
            "port" => &mut self.port,
            "outer" => &mut self.outer,
            "mtu" => &mut self.mtu,
            "forceSettings" => &mut self.force_settings,
            "certificateLifetime" => &mut self.certificate_lifetime,
            "renewalGrace" => &mut self.renewal_grace,
            "acknowledgeTimeout" => &mut self.acknowledge_timeout,
            "reconnectGrace" => &mut self.reconnect_grace,
            "coalesceWindow" => &mut self.coalesce_window,
            "handshakeTimeout" => &mut self.handshake_timeout,
            "logFormat" => &mut self.log_format,
            "namespace" => &mut self.namespace,
            "identity" => &mut self.identity,
            "advertise" => &mut self.advertise,
            "nodeCidrs" => &mut self.node_cidrs,
            "leaseDuration" => &mut self.lease_duration,
            "renewDeadline" => &mut self.renew_deadline,
            "retryPeriod" => &mut self.retry_period,
            "tokenAudience" => &mut self.token_audience,
            "agentServiceAccount" => &mut self.agent_service_account,
            "agentNodes" => &mut self.agent_nodes,
            "networkPolicyEngine" => &mut self.network_policy_engine,
            _ => return Err(format!("option {key} is not known: see `weft-controller run --help` for all of them")),
        };
        match entry {
            Entry::One(text) => {
                *one = Some(text);
                Ok(())
            }
            Entry::Many(_) => Err(format!("option {key} takes one value, not a list")),
        }
    }

    /// These options, completed by those of a file.
    pub(super) fn or(self, file: Self) -> Self {
        let many = |flags: Vec<String>, file: Vec<String>| if flags.is_empty() { file } else { flags };
        Self {
            data_dir: self.data_dir.or(file.data_dir),
            store: self.store.or(file.store),
            listen: self.listen.or(file.listen),
            http_listen: self.http_listen.or(file.http_listen),
            server_names: many(self.server_names, file.server_names),
            pools: many(self.pools, file.pools),
            mode: self.mode.or(file.mode),
            vni: self.vni.or(file.vni),
            port: self.port.or(file.port),
            outer: self.outer.or(file.outer),
            mtu: self.mtu.or(file.mtu),
            non_masquerade_cidrs: many(self.non_masquerade_cidrs, file.non_masquerade_cidrs),
            underlay_networks: many(self.underlay_networks, file.underlay_networks),
            force_settings: self.force_settings.or(file.force_settings),
            certificate_lifetime: self.certificate_lifetime.or(file.certificate_lifetime),
            renewal_grace: self.renewal_grace.or(file.renewal_grace),
            acknowledge_timeout: self.acknowledge_timeout.or(file.acknowledge_timeout),
            reconnect_grace: self.reconnect_grace.or(file.reconnect_grace),
            coalesce_window: self.coalesce_window.or(file.coalesce_window),
            handshake_timeout: self.handshake_timeout.or(file.handshake_timeout),
            log_format: self.log_format.or(file.log_format),
            namespace: self.namespace.or(file.namespace),
            identity: self.identity.or(file.identity),
            advertise: self.advertise.or(file.advertise),
            node_cidrs: self.node_cidrs.or(file.node_cidrs),
            lease_duration: self.lease_duration.or(file.lease_duration),
            renew_deadline: self.renew_deadline.or(file.renew_deadline),
            retry_period: self.retry_period.or(file.retry_period),
            token_audience: self.token_audience.or(file.token_audience),
            agent_service_account: self.agent_service_account.or(file.agent_service_account),
            agent_nodes: self.agent_nodes.or(file.agent_nodes),
            network_policy_engine: self.network_policy_engine.or(file.network_policy_engine),
        }
    }
}
