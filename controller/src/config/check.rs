//! From options to a configuration.
//!
//! Owns the defaults and every rule, those between options included. Must never stop at the first problem.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnetwork::IpNetwork;
use weft_core::{
    alloc::{Allocator, PoolRule},
    encap::Encapsulation,
    masquerade::Unmasqueraded,
    settings::{Mode, Settings},
    types::{Family, PodCidr, Vni, parse_underlay_mtu},
};
#[cfg(test)]
use weft_program::config::of_text;
use weft_program::{
    config::{Invalid, Problems, parse},
    log::Format,
};
use weft_proto::convert::to_settings_more;

use super::{
    Config, Options, StoreLocation,
    kubernetes::{self, Environment},
    size::{TimeError, duration},
};
use crate::pki::SERVER_NAME;

/// The length of time that an option says, or the default if it is absent, wrong, or out of range.
pub(super) fn time(
    problems: &mut Problems,
    name: &str,
    text: Option<&str>,
    default: Duration,
    (least, most): (Duration, Duration),
) -> Duration {
    problems.value(name, text, default, |text| {
        let time = duration(text)?;
        if time < least || time > most {
            return Err(TimeError::Range { text: text.to_owned(), least, most });
        }
        Ok(time)
    })
}

impl Config {
    /// Checks options, and reports every problem after those already known.
    ///
    /// # Errors
    /// All problems, if there is one.
    pub fn check(options: &Options, problems: Problems) -> Result<Self, Invalid> {
        Self::check_in(options, &Environment::read(), problems)
    }

    /// Reads the text of a file.
    #[cfg(test)]
    pub(crate) fn parse(text: &str) -> Result<Self, Invalid> {
        let (file, problems) = of_text("the file", text);
        Self::check_in(&file, &Environment::default(), problems)
    }

    fn check_in(options: &Options, environment: &Environment, mut problems: Problems) -> Result<Self, Invalid> {
        let second = Duration::from_secs(1);
        let address =
            |text: &str| parse::<SocketAddr>(text, "give an address and a port, such as 0.0.0.0:7887 or [::]:7887");
        let listen = problems.value("listen", options.listen.as_deref(), ([0, 0, 0, 0], 7887).into(), address);
        let (data_dir, store) = store(&mut problems, options, environment, listen);
        let in_kubernetes = matches!(store, StoreLocation::Kubernetes(_));
        let pools = pools(&mut problems, &options.pools, in_kubernetes);
        let settings = settings(&mut problems, options, &pools);
        let config = Self {
            listen,
            http_listen: problems.value(
                "httpListen",
                options.http_listen.as_deref(),
                ([127, 0, 0, 1], 7888).into(),
                address,
            ),
            server_names: server_names(&mut problems, &options.server_names),
            certificate_lifetime: time(
                &mut problems,
                "certificateLifetime",
                options.certificate_lifetime.as_deref(),
                // A Kubernetes node's certificate is renewed with its pod's token, and ends soon after that.
                if in_kubernetes { 3600 } else { 86_400 } * second,
                (10 * second, 31_536_000 * second),
            ),
            renewal_grace: time(
                &mut problems,
                "renewalGrace",
                options.renewal_grace.as_deref(),
                // A Kubernetes node's certificate is never renewed: its agent joins again.
                if in_kubernetes { Duration::ZERO } else { 30 * 86_400 * second },
                (Duration::ZERO, 31_536_000 * second),
            ),
            acknowledge_timeout: time(
                &mut problems,
                "acknowledgeTimeout",
                options.acknowledge_timeout.as_deref(),
                30 * second,
                (second, 600 * second),
            ),
            reconnect_grace: time(
                &mut problems,
                "reconnectGrace",
                options.reconnect_grace.as_deref(),
                60 * second,
                (Duration::ZERO, 3600 * second),
            ),
            coalesce_window: time(
                &mut problems,
                "coalesceWindow",
                options.coalesce_window.as_deref(),
                Duration::from_millis(50),
                (Duration::ZERO, 5 * second),
            ),
            handshake_timeout: time(
                &mut problems,
                "handshakeTimeout",
                options.handshake_timeout.as_deref(),
                10 * second,
                (Duration::from_millis(100), 60 * second),
            ),
            mtu: problems.value("mtu", options.mtu.as_deref(), None, |text| {
                parse_underlay_mtu(text).map(Some).map_err(|error| error.to_string())
            }),
            underlay_networks: underlay_networks(&mut problems, &options.underlay_networks),
            force_settings: problems.value("forceSettings", options.force_settings.as_deref(), false, |text| {
                text.parse().map_err(|_| format!("{text:?} is neither true nor false"))
            }),
            log_format: problems.value("logFormat", options.log_format.as_deref(), Format::Text, str::parse),
            data_dir,
            store,
            pools,
            settings,
        };
        if config.listen == config.http_listen && config.listen.port() != 0 {
            problems.tell(format!("listen and httpListen are both {}: give them different ports", config.listen));
        }
        if problems.is_empty() { Ok(config) } else { Err(problems.into()) }
    }
}

fn data_dir(problems: &mut Problems, options: &Options) -> PathBuf {
    match options.data_dir.as_deref() {
        None | Some("") => {
            problems.tell("dataDir: is missing: name the directory that `weft-controller init` made".to_owned());
            PathBuf::new()
        }
        Some(path) => path.into(),
    }
}

/// The data directory and the store. What is said of Kubernetes is checked where the store is there.
fn store(
    problems: &mut Problems,
    options: &Options,
    environment: &Environment,
    listen: SocketAddr,
) -> (PathBuf, StoreLocation) {
    if options.store.as_deref() == Some("kubernetes") {
        let kubernetes = kubernetes::check(problems, options, environment, listen);
        return (PathBuf::new(), StoreLocation::Kubernetes(Box::new(kubernetes)));
    }
    kubernetes::refuse(problems, options);
    let data_dir = data_dir(problems, options);
    let default = StoreLocation::Redb(data_dir.join("weft.redb"));
    let store = problems.value("store", options.store.as_deref(), default, |text| match text.strip_prefix("redb:") {
        Some(path) if !path.is_empty() => Ok(StoreLocation::Redb(path.into())),
        _ => Err(format!("{text:?} is no store: give redb:PATH or kubernetes")),
    });
    (data_dir, store)
}

fn server_names(problems: &mut Problems, names: &[String]) -> Vec<String> {
    for name in names {
        if rustls::pki_types::ServerName::try_from(name.as_str()).is_err() {
            problems.tell(format!("serverNames: {name:?} is neither a DNS name nor an IP address"));
        }
    }
    names.iter().filter(|name| *name != SERVER_NAME).cloned().collect()
}

fn underlay_networks(problems: &mut Problems, texts: &[String]) -> Vec<IpNetwork> {
    let read = |text: &String| match text.parse::<IpNetwork>() {
        Ok(network) if text.contains('/') && network.ip() == network.network() => Ok(network),
        _ => Err(format!("{text:?} is no network: give one such as 192.0.2.0/24")),
    };
    texts.iter().filter_map(|text| problems.check("underlayNetworks", read(text))).collect()
}

fn pools(problems: &mut Problems, texts: &[String], in_kubernetes: bool) -> Vec<PoolRule> {
    if texts.is_empty() {
        problems.tell("pools: there is none: give at least one, such as 10.244.0.0/16=24".to_owned());
    }
    let rules: Vec<PoolRule> = texts.iter().filter_map(|text| problems.check("pools", text.parse())).collect();
    for rule in rules.iter().filter(|rule| !in_kubernetes && !rule.selector.is_empty()) {
        problems.tell(format!("pools: {rule} has a selector, and only Kubernetes' nodes have labels: leave it out"));
    }
    problems.check("pools", Allocator::new(rules.iter().map(|rule| rule.pool).collect()));
    rules
}

fn settings(problems: &mut Problems, options: &Options, pools: &[PoolRule]) -> Settings {
    let default_vni = Vni::new(87).expect("87 is in range");
    let mut cidrs: Vec<PodCidr> = pools.iter().map(|rule| rule.pool.cidr()).collect();
    cidrs.sort_unstable();
    Settings {
        pools: cidrs,
        mode: problems.value("mode", options.mode.as_deref(), Mode::default(), |text| {
            text.parse().map_err(|error: weft_core::settings::ModeError| error.to_string())
        }),
        encapsulation: Encapsulation::Vxlan {
            vni: problems.value("vni", options.vni.as_deref(), default_vni, |text| {
                text.parse().map_err(|error: weft_core::types::VniError| error.to_string())
            }),
            port: problems.value("port", options.port.as_deref(), 4789, |text| match text.parse() {
                Ok(port) if port != 0 => Ok(port),
                _ => Err(format!("{text:?} is no UDP port: give a number from 1 to 65535")),
            }),
            outer: problems.value("outer", options.outer.as_deref(), Family::V4, |text| match text {
                "ipv4" => Ok(Family::V4),
                "ipv6" => Ok(Family::V6),
                _ => Err(format!("{text:?} is no family: give ipv4 or ipv6")),
            }),
        },
        more: problems
            .check("nonMasqueradeCIDRs", Unmasqueraded::parse(&options.non_masquerade_cidrs))
            .map(|list| to_settings_more(&list))
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
