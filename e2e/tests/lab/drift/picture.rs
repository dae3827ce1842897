//! A picture of one namespace: every link, address, permanent neighbour, forwarding entry, nexthop, route, table and
//! sysctl that matters, one line each, so that two pictures can be compared and their difference read.
//!
//! Owns what is left out: what the kernel counts, numbers or forgets by itself (indexes, handles, ages), and nothing
//! else. It holds what is Weft's and what is not, and makes no difference.

mod lines;
mod tables;

use std::collections::BTreeSet;

use anyhow::Result;
use weft_e2e::lab::Namespace;

use crate::drift::netlink::{NETFILTER, Netlink, ROUTE};

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Picture(BTreeSet<String>);

/// Watches one namespace.
pub(crate) struct Eye {
    pub(crate) route: Netlink,
    pub(crate) tables: Netlink,
}

impl Eye {
    pub(crate) fn open(net: &Namespace) -> Result<Self> {
        Ok(Self { route: Netlink::open(net, ROUTE)?, tables: Netlink::open(net, NETFILTER)? })
    }

    /// Looks at everything. `sysctls` are paths below /proc/sys/net.
    pub(crate) fn look(&self, net: &Namespace, sysctls: &[String]) -> Result<Picture> {
        let mut all = lines::read(&self.route)?;
        all.extend(tables::read(&self.tables)?);
        all.extend(settings(net, sysctls.to_vec()));
        Ok(Picture(all.into_iter().collect()))
    }
}

impl Picture {
    /// The same with one text for another: an address that moved.
    pub(crate) fn replaced(&self, from: &str, to: &str) -> Self {
        Self(self.0.iter().map(|line| line.replace(from, to)).collect())
    }

    /// Only the lines that `keep` says.
    pub(crate) fn only(&self, keep: impl Fn(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|line| keep(line)).cloned().collect())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// What this one has and `other` has not.
    pub(crate) fn missing_in<'a>(&'a self, other: &'a Self) -> Vec<&'a String> {
        self.0.difference(&other.0).collect()
    }

    /// True where a line begins so and contains that.
    pub(crate) fn has(&self, begin: &str, part: &str) -> bool {
        self.0.iter().any(|line| line.starts_with(begin) && line.contains(part))
    }

    /// Fails with the difference where there is one.
    pub(crate) fn expect(&self, now: &Self) -> Result<()> {
        let (missing, added) = (self.missing_in(now), now.missing_in(self));
        anyhow::ensure!(missing.is_empty() && added.is_empty(), "missing: {missing:#?}\ntoo much: {added:#?}");
        Ok(())
    }
}

fn settings(net: &Namespace, paths: Vec<String>) -> Vec<String> {
    net.enter(move || {
        let read = |path: &String| {
            let value = std::fs::read_to_string(format!("/proc/sys/net/{path}"));
            format!("sysctl {path} = {}", value.map_or_else(|_| "missing".to_owned(), |value| value.trim().to_owned()))
        };
        paths.iter().map(read).collect()
    })
}
