//! From options to a configuration.
//!
//! Owns the defaults and every rule, those between options included. Must never stop at the first problem.

use std::{fmt::Display, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use weft_core::{
    alloc::{Allocator, Pool},
    settings::{Mode, Settings},
    types::{Family, PodCidr, Vni},
};
use weft_program::log::Format;

use super::{Config, ConfigError, Options, StoreLocation, size::duration};
use crate::pki::SERVER_NAME;

/// Collects problems, so that all are told.
struct Checker(Vec<String>);

impl Checker {
    /// The value of an option, or the default where it is absent or wrong.
    fn value<T>(
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

    fn time(&mut self, name: &str, text: Option<&str>, default: Duration, range: (Duration, Duration)) -> Duration {
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
        Self::check(&flags.or(file), problems)
    }

    /// Reads the text of a file.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let file = Options::parse("the file", text, &mut problems);
        Self::check(&file, problems)
    }

    fn check(options: &Options, problems: Vec<String>) -> Result<Self, ConfigError> {
        let mut checker = Checker(problems);
        let data_dir = data_dir(&mut checker, options);
        let store = store(&mut checker, options, &data_dir);
        let pools = pools(&mut checker, &options.pools);
        let settings = settings(&mut checker, options, &pools);
        let second = Duration::from_secs(1);
        let address =
            |text: &str| parse::<SocketAddr>(text, "give an address and a port, such as 0.0.0.0:7887 or [::]:7887");
        let config = Self {
            listen: checker.value("listen", options.listen.as_deref(), ([0, 0, 0, 0], 7887).into(), address),
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
                86_400 * second,
                (10 * second, 31_536_000 * second),
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

fn store(checker: &mut Checker, options: &Options, data_dir: &std::path::Path) -> StoreLocation {
    let default = StoreLocation::Redb(data_dir.join("weft.redb"));
    checker.value("store", options.store.as_deref(), default, |text| match text.strip_prefix("redb:") {
        Some(path) if !path.is_empty() => Ok(StoreLocation::Redb(path.into())),
        _ => Err(format!("{text:?} is no store: give redb:PATH")),
    })
}

fn server_names(checker: &mut Checker, names: &[String]) -> Vec<String> {
    for name in names {
        if rustls::pki_types::ServerName::try_from(name.as_str()).is_err() {
            checker.0.push(format!("serverNames: {name:?} is neither a DNS name nor an IP address"));
        }
    }
    names.iter().filter(|name| *name != SERVER_NAME).cloned().collect()
}

/// Reads `CIDR=NODE_PREFIX`.
pub(crate) fn pool(text: &str) -> Result<Pool, String> {
    let wrong = || {
        format!("{text:?} is no pool: give a network and the prefix length of a node's share, such as 10.244.0.0/16=24")
    };
    let (cidr, prefix) = text.split_once('=').ok_or_else(wrong)?;
    let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
    let cidr: PodCidr = cidr.parse().map_err(|error: weft_core::types::CidrError| error.to_string())?;
    Pool::new(cidr, prefix).map_err(|error| error.to_string())
}

fn pools(checker: &mut Checker, texts: &[String]) -> Vec<Pool> {
    if texts.is_empty() {
        checker.0.push("pools: there is none: give at least one, such as 10.244.0.0/16=24".to_owned());
    }
    let pools: Vec<Pool> = texts.iter().filter_map(|text| checker.keep("pools", pool(text))).collect();
    checker.keep("pools", Allocator::new(pools.clone()));
    pools
}

fn settings(checker: &mut Checker, options: &Options, pools: &[Pool]) -> Settings {
    let default_vni = Vni::new(87).expect("87 is in range");
    let mut cidrs: Vec<PodCidr> = pools.iter().map(Pool::cidr).collect();
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
    }
}

#[cfg(test)]
mod tests;
