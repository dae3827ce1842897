//! From options to a configuration.
//!
//! Owns the defaults and every rule, those between options included. Must never stop at the first problem.

use std::{fmt::Display, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use ipnetwork::IpNetwork;
use weft_core::{
    alloc::{Allocator, PoolRule},
    masquerade::Unmasqueraded,
    settings::{Mode, Settings},
    types::{Family, PodCidr, Vni, parse_underlay_mtu},
};
use weft_program::log::Format;
use weft_proto::convert::to_settings_more;

use super::{
    Config, ConfigError, Options, StoreLocation,
    kubernetes::{self, Environment},
    size::duration,
};
use crate::pki::SERVER_NAME;

/// Collects problems, so that all are told.
pub(super) struct Checker(Vec<String>);

impl Checker {
    pub(super) fn tell(&mut self, problem: String) {
        self.0.push(problem);
    }

    /// The value of an option, or the default where it is absent or wrong.
    pub(super) fn value<T>(
        &mut self,
        name: &str,
        text: Option<&str>,
        default: T,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        match text.map(read) {
            None => default,
            Some(Ok(value)) => value,
            Some(Err(problem)) => {
                self.0.push(format!("{name}: {problem}"));
                default
            }
        }
    }

    pub(super) fn time(
        &mut self,
        name: &str,
        text: Option<&str>,
        default: Duration,
        range: (Duration, Duration),
    ) -> Duration {
        self.value(name, text, default, |text| {
            let time = duration(text)?;
            if time < range.0 || time > range.1 {
                return Err(format!("{text} is out of range: give {:?} to {:?}", range.0, range.1));
            }
            Ok(time)
        })
    }

    fn keep<T, E: Display>(&mut self, name: &str, read: Result<T, E>) -> Option<T> {
        read.map_err(|error| self.0.push(format!("{name}: {error}"))).ok()
    }
}

impl Config {
    /// Completes options by those of a file, if one is named, and checks the whole.
    pub fn load(flags: Options, file: Option<&std::path::Path>) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let file = file.map(|path| Options::read(path, &mut problems)).unwrap_or_default();
        Self::check(&flags.or(file), &Environment::read(), problems)
    }

    /// Reads the text of a file.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let file = Options::parse("the file", text, &mut problems);
        Self::check(&file, &Environment::default(), problems)
    }

    fn check(options: &Options, environment: &Environment, problems: Vec<String>) -> Result<Self, ConfigError> {
        let mut checker = Checker(problems);
        let second = Duration::from_secs(1);
        let address =
            |text: &str| parse::<SocketAddr>(text, "give an address and a port, such as 0.0.0.0:7887 or [::]:7887");
        let listen = checker.value("listen", options.listen.as_deref(), ([0, 0, 0, 0], 7887).into(), address);
        let (data_dir, store) = store(&mut checker, options, environment, listen);
        let in_kubernetes = matches!(store, StoreLocation::Kubernetes(_));
        let pools = pools(&mut checker, &options.pools, in_kubernetes);
        let settings = settings(&mut checker, options, &pools);
        let config = Self {
            listen,
            http_listen: checker.value(
                "httpListen",
                options.http_listen.as_deref(),
                ([127, 0, 0, 1], 7888).into(),
                address,
            ),
            server_names: server_names(&mut checker, &options.server_names),
            certificate_lifetime: checker.time(
                "certificateLifetime",
                options.certificate_lifetime.as_deref(),
                // A Kubernetes node's certificate is renewed with its pod's token, and ends soon after that.
                if in_kubernetes { 3600 } else { 86_400 } * second,
                (10 * second, 31_536_000 * second),
            ),
            renewal_grace: checker.time(
                "renewalGrace",
                options.renewal_grace.as_deref(),
                // A Kubernetes node's certificate is never renewed: its agent joins again.
                if in_kubernetes { Duration::ZERO } else { 30 * 86_400 * second },
                (Duration::ZERO, 31_536_000 * second),
            ),
            acknowledge_timeout: checker.time(
                "acknowledgeTimeout",
                options.acknowledge_timeout.as_deref(),
                30 * second,
                (second, 600 * second),
            ),
            reconnect_grace: checker.time(
                "reconnectGrace",
                options.reconnect_grace.as_deref(),
                60 * second,
                (Duration::ZERO, 3600 * second),
            ),
            coalesce_window: checker.time(
                "coalesceWindow",
                options.coalesce_window.as_deref(),
                Duration::from_millis(50),
                (Duration::ZERO, 5 * second),
            ),
            handshake_timeout: checker.time(
                "handshakeTimeout",
                options.handshake_timeout.as_deref(),
                10 * second,
                (Duration::from_millis(100), 60 * second),
            ),
            mtu: checker.value("mtu", options.mtu.as_deref(), None, |text| {
                parse_underlay_mtu(text).map(Some).map_err(|error| error.to_string())
            }),
            underlay_networks: underlay_networks(&mut checker, &options.underlay_networks),
            force_settings: checker.value("forceSettings", options.force_settings.as_deref(), false, |text| {
                text.parse().map_err(|_| format!("{text:?} is neither true nor false"))
            }),
            log_format: checker.value("logFormat", options.log_format.as_deref(), Format::Text, str::parse),
            data_dir,
            store,
            pools,
            settings,
        };
        if config.listen == config.http_listen && config.listen.port() != 0 {
            checker.0.push(format!("listen and httpListen are both {}: give them different ports", config.listen));
        }
        if checker.0.is_empty() { Ok(config) } else { Err(ConfigError(checker.0)) }
    }
}

fn parse<T: FromStr>(text: &str, remedy: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} cannot be read: {remedy}"))
}

fn data_dir(checker: &mut Checker, options: &Options) -> PathBuf {
    match options.data_dir.as_deref() {
        None | Some("") => {
            checker.0.push("dataDir: is missing: name the directory that `weft-controller init` made".to_owned());
            PathBuf::new()
        }
        Some(path) => path.into(),
    }
}

/// The data directory and the store. What is said of Kubernetes is checked where the store is there.
fn store(
    checker: &mut Checker,
    options: &Options,
    environment: &Environment,
    listen: SocketAddr,
) -> (PathBuf, StoreLocation) {
    if options.store.as_deref() == Some("kubernetes") {
        let kubernetes = kubernetes::check(checker, options, environment, listen);
        return (PathBuf::new(), StoreLocation::Kubernetes(Box::new(kubernetes)));
    }
    kubernetes::refuse(checker, options);
    let data_dir = data_dir(checker, options);
    let default = StoreLocation::Redb(data_dir.join("weft.redb"));
    let store = checker.value("store", options.store.as_deref(), default, |text| match text.strip_prefix("redb:") {
        Some(path) if !path.is_empty() => Ok(StoreLocation::Redb(path.into())),
        _ => Err(format!("{text:?} is no store: give redb:PATH or kubernetes")),
    });
    (data_dir, store)
}

fn server_names(checker: &mut Checker, names: &[String]) -> Vec<String> {
    for name in names {
        if rustls::pki_types::ServerName::try_from(name.as_str()).is_err() {
            checker.0.push(format!("serverNames: {name:?} is neither a DNS name nor an IP address"));
        }
    }
    names.iter().filter(|name| *name != SERVER_NAME).cloned().collect()
}

fn underlay_networks(checker: &mut Checker, texts: &[String]) -> Vec<IpNetwork> {
    let read = |text: &String| match text.parse::<IpNetwork>() {
        Ok(network) if text.contains('/') && network.ip() == network.network() => Ok(network),
        _ => Err(format!("{text:?} is no network: give one such as 192.0.2.0/24")),
    };
    texts.iter().filter_map(|text| checker.keep("underlayNetworks", read(text))).collect()
}

fn pools(checker: &mut Checker, texts: &[String], in_kubernetes: bool) -> Vec<PoolRule> {
    if texts.is_empty() {
        checker.tell("pools: there is none: give at least one, such as 10.244.0.0/16=24".to_owned());
    }
    let rules: Vec<PoolRule> = texts.iter().filter_map(|text| checker.keep("pools", text.parse())).collect();
    for rule in rules.iter().filter(|rule| !in_kubernetes && !rule.selector.is_empty()) {
        checker.tell(format!("pools: {rule} has a selector, and only Kubernetes' nodes have labels: leave it out"));
    }
    checker.keep("pools", Allocator::new(rules.iter().map(|rule| rule.pool).collect()));
    rules
}

fn settings(checker: &mut Checker, options: &Options, pools: &[PoolRule]) -> Settings {
    let default_vni = Vni::new(87).expect("87 is in range");
    let mut cidrs: Vec<PodCidr> = pools.iter().map(|rule| rule.pool.cidr()).collect();
    cidrs.sort_unstable();
    Settings {
        pools: cidrs,
        mode: checker.value("mode", options.mode.as_deref(), Mode::default(), |text| {
            text.parse().map_err(|error: weft_core::settings::ModeError| error.to_string())
        }),
        vni: checker.value("vni", options.vni.as_deref(), default_vni, |text| {
            text.parse().map_err(|error: weft_core::types::VniError| error.to_string())
        }),
        port: checker.value("port", options.port.as_deref(), 4789, |text| match text.parse() {
            Ok(port) if port != 0 => Ok(port),
            _ => Err(format!("{text:?} is no UDP port: give a number from 1 to 65535")),
        }),
        outer: checker.value("outer", options.outer.as_deref(), Family::V4, |text| match text {
            "ipv4" => Ok(Family::V4),
            "ipv6" => Ok(Family::V6),
            _ => Err(format!("{text:?} is no family: give ipv4 or ipv6")),
        }),
        more: checker
            .keep("nonMasqueradeCIDRs", Unmasqueraded::parse(&options.non_masquerade_cidrs))
            .map(|list| to_settings_more(&list))
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
