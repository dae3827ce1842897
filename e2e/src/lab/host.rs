//! A host: a network namespace on one subnet, with a directory of its own that outlives a reboot.
//!
//! Owns its namespace, its address and its files. Must never know what runs on it.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Output,
    sync::{Arc, Mutex},
};

use anyhow::{Context, Result, bail};
use tokio::process::Command;
use weft_core::types::{Family, PerFamily, UnderlayAddress};

use super::{
    Namespace, Process,
    process::output,
    sandbox::STATE,
    spec::{LabSpec, Subnet},
    wire::{End, default_network},
};

/// The link of every host towards its subnet.
pub const UPLINK: &str = "eth0";

/// A host.
#[derive(Debug)]
pub struct Host {
    name: String,
    subnet: Subnet,
    number: u8,
    addresses: PerFamily<Option<UnderlayAddress>>,
    spec: Arc<LabSpec>,
    router: Arc<Namespace>,
    directory: PathBuf,
    net: Mutex<Arc<Namespace>>,
}

impl Host {
    /// Creates the host and connects it to its subnet's bridge in the router.
    pub(super) async fn create(
        name: &str,
        subnet: &Subnet,
        number: u8,
        spec: &Arc<LabSpec>,
        router: &Arc<Namespace>,
    ) -> Result<Self> {
        let directory = Path::new(STATE).join("hosts").join(name);
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let host = Self {
            name: name.to_owned(),
            subnet: subnet.clone(),
            number,
            addresses: subnet.addresses(number, spec.underlay),
            spec: Arc::clone(spec),
            router: Arc::clone(router),
            directory,
            net: Mutex::new(Arc::new(Namespace::create(name)?)),
        };
        host.connect().await?;
        Ok(host)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of its subnet.
    pub fn subnet(&self) -> &str {
        &self.subnet.name
    }

    /// Its underlay addresses.
    pub const fn addresses(&self) -> PerFamily<Option<UnderlayAddress>> {
        self.addresses
    }

    /// Its underlay address of a family.
    ///
    /// # Panics
    /// Where the underlay does not carry that family.
    pub fn address(&self, family: Family) -> IpAddr {
        self.addresses.get(family).as_ref().expect("the caller asks for a family of the underlay").address()
    }

    /// Its namespace as it is now; a reboot replaces it.
    pub fn net(&self) -> Arc<Namespace> {
        Arc::clone(&self.net.lock().expect("nobody panics while holding it"))
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The router's end of its cable.
    pub fn port(&self) -> String {
        format!("to-{}", self.name)
    }

    /// Pulls its cable, or puts it back: the host itself sees its link lose carrier.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub async fn set_connected(&self, connected: bool) -> Result<()> {
        self.router.wire().set_up(&self.port(), connected).await
    }

    /// Impairs its cable in both directions, as netem does: `loss 30% delay 500ms` (tc-netem(8)).
    ///
    /// # Errors
    /// Where the kernel has no netem, or tc(8) is missing.
    pub async fn impair(&self, how: &str) -> Result<()> {
        let netem: Vec<&str> = ["root", "netem"].into_iter().chain(how.split_whitespace()).collect();
        self.at_both_ends("replace", &netem).await
    }

    /// Its cable is as good as new.
    ///
    /// # Errors
    /// Where it was not impaired.
    pub async fn repair(&self) -> Result<()> {
        self.at_both_ends("delete", &["root"]).await
    }

    async fn at_both_ends(&self, verb: &str, what: &[&str]) -> Result<()> {
        let near = (self.net(), UPLINK.to_owned());
        for (net, link) in [near, (Arc::clone(&self.router), self.port())] {
            let mut command = Command::new("tc");
            command.args(["qdisc", verb, "dev", &link]).args(what);
            let done = output(&net, command, &[]).await?;
            if !done.status.success() {
                let stderr = String::from_utf8_lossy(&done.stderr);
                bail!("{}: tc qdisc {verb} dev {link} {what:?}: {}", self.name, stderr.trim());
            }
        }
        Ok(())
    }

    /// Runs a program on it to its end.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub async fn output(&self, command: Command, input: &[u8]) -> Result<Output> {
        output(&self.net(), command, input).await
    }

    /// Runs a program on it and returns what it prints.
    ///
    /// # Errors
    /// Where it cannot be started or fails.
    pub async fn run(&self, argv: &[&str]) -> Result<String> {
        let (program, arguments) = argv.split_first().context("nothing to run")?;
        let mut command = Command::new(program);
        command.args(arguments);
        let done = self.output(command, &[]).await?;
        if !done.status.success() {
            let stderr = String::from_utf8_lossy(&done.stderr);
            bail!("{}: {argv:?} ended with {}: {}", self.name, done.status, stderr.trim());
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// Starts a program on it; its output goes to the log `HOST-NAME`.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn spawn(&self, name: &str, command: Command) -> Result<Process> {
        Process::spawn(&self.net(), &format!("{}-{name}", self.name), command)
    }

    /// Loses all kernel state, as a machine that boots: a new namespace in the old one's place, same addresses, same
    /// directory. Everything that still runs in the old one is cut off.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub async fn reboot(&self) -> Result<()> {
        self.router.wire().delete_link(&self.port()).await?;
        let old = self.net();
        // The name has to be free before the new namespace can have it.
        old.forget();
        let new = Arc::new(Namespace::create(&self.name)?);
        *self.net.lock().expect("nobody panics while holding it") = new;
        self.connect().await
    }

    /// Loses its link, as a driver that is loaded anew: the link is deleted, made again and configured as before.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub async fn replug(&self) -> Result<()> {
        self.router.wire().delete_link(&self.port()).await?;
        self.connect().await
    }

    async fn connect(&self) -> Result<()> {
        let net = self.net();
        net.set_defaults(self.spec.strict).await?;
        let near = End { name: &self.port(), mac: self.subnet.mac(128 + self.number) };
        let far = End { name: UPLINK, mac: self.subnet.mac(self.number) };
        let router = self.router.wire();
        router.add_cable(near, far, net.fd(), self.spec.mtu).await?;
        router.join(near.name, &self.subnet.bridge()).await?;
        router.set_up(near.name, true).await?;
        net.wire().set_up(UPLINK, true).await?;
        let gateways = self.subnet.addresses(1, self.spec.underlay);
        for (address, gateway) in self.addresses.iter().zip(gateways.iter()) {
            net.wire().add_address(UPLINK, address.address(), address.prefix()).await?;
            let default = default_network(address.family());
            net.wire().add_route(default, Some(gateway.address())).await?;
        }
        router.carries(near.name).await?;
        net.wire().carries(UPLINK).await
    }
}
