//! The lab: hosts as network namespaces, subnets joined by a router, and the real programs on them.
//!
//! Owns the topology. A [`Lab`] lives in a [`sandbox`] and is gone with it. Nothing here may depend on the product's
//! insides: the programs are started as users start them.

pub mod binaries;
mod capture;
pub mod echo;
pub mod frame;
pub mod harness;
mod host;
mod namespace;
pub mod nat;
pub mod packet;
pub mod ping;
mod process;
pub mod raw;
pub mod sandbox;
mod spec;
mod stream;
pub mod throughput;
pub mod wait;
mod wire;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use anyhow::{Context, Result, bail};

pub use binaries::Build;
pub use capture::Capture;
pub use host::{Host, UPLINK};
pub use namespace::{Namespace, any};
pub use process::{Process, print_logs};
use spec::Subnet;
pub use spec::{BEYOND, CONTROL, LabSpec, MANAGEMENT, OUTSIDE, ROUTER, SubnetSpec, Underlay};
pub use stream::{Account, Stream};
pub use wire::{Wire, default_network};

use wire::End;

/// The first host number of a subnet; below are the network's and the router's.
const FIRST: u8 = 11;

/// A running lab.
#[derive(Debug)]
pub struct Lab {
    spec: Arc<LabSpec>,
    router: Arc<Namespace>,
    subnets: Vec<Subnet>,
    hosts: Mutex<BTreeMap<String, Arc<Host>>>,
}

impl Lab {
    /// Builds the network. The process has to be inside a prepared sandbox ([`sandbox::prepare`]).
    ///
    /// # Errors
    /// Where the specification has no room in the address plan, or the kernel refuses.
    pub async fn start(spec: LabSpec) -> Result<Self> {
        let spec = Arc::new(spec);
        let router = Arc::new(Namespace::create(ROUTER)?);
        router.set_defaults(spec.strict).await?;
        router.sysctl("ipv4/ip_forward", "1")?;
        router.sysctl("ipv6/conf/all/forwarding", "1")?;
        let mut subnets = vec![Subnet::new(MANAGEMENT, 0)];
        for (index, subnet) in spec.subnets.iter().enumerate() {
            let number = u8::try_from(index + 1).ok().filter(|number| *number < u8::MAX);
            subnets.push(Subnet::new(&subnet.name, number.context("a lab has room for 254 subnets")?));
        }
        subnets.push(Subnet::new(BEYOND, u8::MAX));
        let lab = Self { spec, router, subnets, hosts: Mutex::default() };
        for subnet in &lab.subnets {
            lab.add_subnet(subnet).await?;
        }
        lab.add_hosts().await?;
        Ok(lab)
    }

    /// What it was built from.
    pub fn spec(&self) -> &LabSpec {
        &self.spec
    }

    /// The router's namespace. Its link towards subnet `a` is called `net-a`.
    pub fn router(&self) -> &Arc<Namespace> {
        &self.router
    }

    /// A host by name.
    ///
    /// # Panics
    /// Where there is none of that name.
    pub fn host(&self, name: &str) -> Arc<Host> {
        let hosts = self.hosts.lock().expect("nobody panics while holding it");
        Arc::clone(hosts.get(name).unwrap_or_else(|| panic!("the lab has no host {name}")))
    }

    /// The names of all hosts that can be nodes, in order.
    pub fn node_names(&self) -> Vec<String> {
        let hosts = self.hosts.lock().expect("nobody panics while holding it");
        hosts.keys().filter(|name| *name != CONTROL && *name != OUTSIDE).cloned().collect()
    }

    /// Adds a host to a subnet.
    ///
    /// # Errors
    /// Where there is no such subnet, the name is taken, or the kernel refuses.
    pub async fn add_host(&self, subnet: &str, name: &str) -> Result<Arc<Host>> {
        let found = self.subnets.iter().find(|candidate| candidate.name == subnet);
        let subnet = found.with_context(|| format!("the lab has no subnet {subnet}"))?;
        let number = {
            let hosts = self.hosts.lock().expect("nobody panics while holding it");
            if hosts.contains_key(name) {
                bail!("the lab has a host {name} already");
            }
            let neighbours = hosts.values().filter(|host| host.subnet() == subnet.name).count();
            u8::try_from(neighbours).ok().map(|n| n + FIRST).filter(|n| *n < 128)
        };
        let number = number.with_context(|| format!("subnet {} is full", subnet.name))?;
        let host = Arc::new(Host::create(name, subnet, number, &self.spec, &self.router).await?);
        self.hosts.lock().expect("nobody panics while holding it").insert(name.to_owned(), Arc::clone(&host));
        Ok(host)
    }

    async fn add_subnet(&self, subnet: &Subnet) -> Result<()> {
        let bridge = subnet.bridge();
        let wire = self.router.wire();
        wire.add_bridge(End { name: &bridge, mac: subnet.mac(1) }, self.spec.mtu).await?;
        for address in subnet.addresses(1, self.spec.underlay).iter() {
            wire.add_address(&bridge, address.address(), address.prefix()).await?;
        }
        Ok(())
    }

    async fn add_hosts(&self) -> Result<()> {
        self.add_host(MANAGEMENT, CONTROL).await?;
        self.add_host(BEYOND, OUTSIDE).await?;
        for subnet in &self.spec.subnets {
            for n in 1..=subnet.hosts {
                self.add_host(&subnet.name, &format!("{}{n}", subnet.name)).await?;
            }
        }
        Ok(())
    }
}
