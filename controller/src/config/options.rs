//! Options as they were given, not checked yet.
//!
//! Owns their names, which are the same as flags and in the file. All are texts here: a number that cannot be read is
//! reported together with everything else that is wrong. Must never hold a default: those are [`super::check`]'s.

/// Options of `run` and `check-config`.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Options {
    /// Directory that holds ca.crt and ca.key, as `weft-controller init` wrote them
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Where the durable state is: redb:PATH or kubernetes [default: redb:DATA_DIR/weft.redb]
    #[arg(long, value_name = "redb:PATH|kubernetes")]
    pub store: Option<String>,
    /// Address of the gRPC server; for IPv6 too: [::]:7887 [default: 0.0.0.0:7887]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// Address of /healthz, /readyz and /metrics [default: 127.0.0.1:7888]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub http_listen: Option<String>,
    /// Name or address in the server's certificate, beside weft-controller, which Weft's own programs ask for; may repeat
    #[arg(long = "server-name", value_name = "NAME_OR_IP")]
    pub server_names: Vec<String>,
    /// Network to cut pod CIDRs from, and their prefix length, such as 10.244.0.0/16=24; one or more for each family you want; in
    /// Kubernetes optionally with the labels of the nodes it is for, such as '10.245.0.0/16=26 zone=b,rack!=7'
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
    /// Network outside the pools that pods go to under their own addresses, such as 10.0.0.0/8; may repeat: see docs/masquerading.md
    /// [default: none]
    #[arg(id = "nonMasqueradeCIDRs", long = "non-masquerade-cidr", value_name = "CIDR")]
    pub non_masquerade_cidrs: Vec<String>,
    /// Standalone: network where underlay addresses may lie although the nodes' agents connect from elsewhere, as behind NAT or a
    /// load balancer, or on links that the controller does not reach; may repeat [default: the subnets of nodes whose agents connect from their own addresses]
    #[arg(long = "underlay-network", value_name = "CIDR")]
    pub underlay_networks: Vec<String>,
    /// Announce settings although some agents are too old for them, which `weft status` names: true or false [default: false]
    #[arg(long, value_name = "BOOL")]
    pub force_settings: Option<String>,
    /// How long node certificates are good for [default: 24h; in Kubernetes 1h]
    #[arg(long, value_name = "TIME")]
    pub certificate_lifetime: Option<String>,
    /// Standalone: how long after its end a node's certificate is still renewed; 0 is not at all [default: 30d]
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
