//! Checks of the host before, and while, the agent programs it.
//!
//! Finds what would keep pods from talking although every object of ours is in place, and says what to do about it.
//! Must never change the host: what the kernel can do is asked by requests that it checks and then refuses.

mod capabilities;
mod features;
mod firewall;
mod host;
mod overlap;
mod policy_routing;
mod ports;
mod reverse_path;
mod strays;
mod sysctls;
mod taken;
pub(crate) mod unmasqueraded;

use std::{fmt, net::IpAddr, path::PathBuf, sync::Arc};

use rustix::net::{AddressFamily, SocketType};
use weft_core::{
    masquerade::Unmasqueraded,
    settings::Settings,
    types::{Family, LinkName, NodeName, PerFamily},
};

use self::host::Host;
use crate::kernel::{KernelError, nft::Nft, rtnl::connection::Connection};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Something works less well, not always, or cannot be told for sure.
    Warning,
    /// Pods cannot talk before this is put right.
    Error,
}

/// One problem of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Which kind of problem, one word in CamelCase.
    pub code: &'static str,
    /// The object, its value and the remedy.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// What the host is checked against.
#[derive(Debug, Clone)]
pub struct Input {
    /// Name of our tunnel device.
    pub device: LinkName,
    /// The underlay link, where it is known; else the links of default routes stand for it.
    pub interface: Option<LinkName>,
    /// The cluster's settings, where they are known: port and pools are checked with them only.
    pub settings: Option<Settings>,
    /// Where pods go under their own addresses.
    pub unmasqueraded: Unmasqueraded,
    /// The underlay addresses that other nodes are told of.
    pub announced: Vec<IpAddr>,
    /// This node's own overlay addresses.
    pub vteps: PerFamily<Option<IpAddr>>,
    /// Addresses of pods here, each with the host's end of its link; a few are enough.
    pub pods: Vec<(LinkName, IpAddr)>,
    /// Overlay addresses of peers; a few are enough.
    pub peers: Vec<IpAddr>,
    /// Underlay addresses of all other nodes.
    pub nodes: Arc<[(NodeName, IpAddr)]>,
    /// Where sysctls are set.
    pub sysctl_dir: PathBuf,
}

impl Default for Input {
    fn default() -> Self {
        let device = LinkName::new("weft0").expect("a valid name");
        Self {
            device,
            interface: None,
            settings: None,
            unmasqueraded: Unmasqueraded::default(),
            announced: Vec::new(),
            vteps: PerFamily::default(),
            pods: Vec::new(),
            peers: Vec::new(),
            nodes: Arc::default(),
            sysctl_dir: "/proc/sys".into(),
        }
    }
}

impl Input {
    /// True where the overlay may have pods of `family`: pools say it, and before they are known, nothing excludes it.
    fn may_carry(&self, family: Family) -> bool {
        self.settings.as_ref().is_none_or(|settings| settings.pools.iter().any(|pool| pool.family() == family))
    }
}

/// Checks the host of the thread's network namespace, inside a runtime; everything that is wrong, the worst first.
pub async fn preflight(input: &Input) -> Vec<Finding> {
    let mut findings = capabilities::check();
    match Connection::open() {
        Ok(mut route) => {
            findings.extend(features::check_links(&mut route).await);
            match Host::read(&mut route, input.device).await {
                Ok(host) => {
                    findings.extend(check_host(input, &host));
                    if let Some(settings) = &input.settings {
                        findings.extend(policy_routing::check(&mut route, settings, input, &host).await);
                    }
                }
                Err(error) => findings.push(unread("links, addresses and routes", &error)),
            }
        }
        Err(error) => findings.push(features::no_netlink(&error)),
    }
    match Nft::open() {
        Ok(mut nft) => {
            findings.extend(features::check_nftables(&mut nft).await);
            findings.extend(firewall::check(&mut nft, input).await);
        }
        Err(error) => findings.push(features::no_netfilter(&error)),
    }
    findings.extend(features::check_ipv6(input));
    findings.extend(sysctls::check(&input.sysctl_dir));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// What follows from links, addresses and routes.
fn check_host(input: &Input, host: &Host) -> Vec<Finding> {
    let mut findings = reverse_path::check(input, host);
    findings.extend(taken::check(&input.nodes, host));
    findings.extend(unmasqueraded::check(&input.unmasqueraded, &input.announced, host));
    if let Some(settings) = &input.settings {
        findings.extend(ports::check(settings, host));
        findings.extend(overlap::check(settings, host));
        findings.extend(strays::check(settings, input.device, host));
    }
    findings
}

/// The index of a link of this thread's network namespace, whatever /sys shows.
fn link_index(link: &str) -> Option<u32> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).ok()?;
    rustix::net::netdevice::name_to_index(&socket, link).ok()
}

/// What could not be looked at.
fn unread(what: &str, error: &KernelError) -> Finding {
    let message = format!("{what} could not be read ({error}), so they were not checked; start again to check them");
    Finding { severity: Severity::Warning, code: "NotChecked", message }
}

fn error(code: &'static str, message: String) -> Finding {
    Finding { severity: Severity::Error, code, message }
}

fn warning(code: &'static str, message: String) -> Finding {
    Finding { severity: Severity::Warning, code, message }
}
