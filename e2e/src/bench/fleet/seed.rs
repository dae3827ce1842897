//! A cluster that has been there for a while: its store, its authority, and the identities of its nodes.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use ipnetwork::IpNetwork;
use tokio::process::Command;
use weft_controller::{
    pki::{Authority, PublicKey, generate_key},
    store::{NodeFacts, NodeRecord, RedbStore, Store, Write},
};
use weft_core::{
    encap::Endpoint,
    membership::More,
    settings::GENERATION,
    standing::Facts,
    types::{Mac, NodeName, PerFamily, PodCidr, UnderlayAddress, UnixMs},
};

use crate::lab::binaries;

/// Where the controller listens.
pub(super) const PORT: u16 = 7887;
/// Longer than any run.
const LIFETIME: Duration = Duration::from_secs(86_400);
const VERSION: &str = "hollow";

/// The cluster's files.
#[derive(Debug)]
pub(super) struct Seed {
    directory: PathBuf,
}

/// Node `n`.
pub(super) fn name(n: usize) -> NodeName {
    NodeName::new(&format!("node-{n:05}")).expect("a valid name")
}

/// What node `n` says of itself, at its first address or at the one it moves to.
pub(super) fn facts(n: usize, moved: bool) -> Facts {
    let host = u32::try_from(n).expect("few enough") + if moved { 0x8_0000 } else { 0 };
    let address = IpAddr::from(Ipv4Addr::from(0xac10_0001 + host));
    let underlay = UnderlayAddress::new(address, 12).expect("a host address of 172.16.0.0/12");
    Facts {
        underlay: PerFamily { v4: Some(underlay), v6: None },
        gateways: Vec::new(),
        underlay_mtu: 1500,
        agent_version: VERSION.to_owned(),
        generation: GENERATION,
    }
}

fn record(n: usize, has_reported: bool) -> NodeRecord {
    let index = u32::try_from(n).expect("few enough");
    let octets = index.to_be_bytes();
    let pods = IpNetwork::new(Ipv4Addr::from(0x0a00_0000 + (index << 8)).into(), 24).expect("a network");
    NodeRecord {
        name: name(n),
        incarnation: 1,
        pod_cidrs: PerFamily { v4: Some(PodCidr::new(pods).expect("a pod CIDR")), v6: None },
        endpoint: Endpoint::Vxlan { mac: Mac::local([2, 0x57, octets[0], octets[1], octets[2], octets[3]]) },
        more: More::default(),
        facts: has_reported.then(|| {
            let Facts { underlay, underlay_mtu, agent_version, generation, .. } = facts(n, false);
            NodeFacts { underlay, underlay_mtu, agent_version, generation }
        }),
        joined: UnixMs(1),
        node_uid: None,
    }
}

impl Seed {
    /// `members` nodes that have been there, and `newcomers` that have a certificate and were never seen.
    pub(super) async fn plant(directory: PathBuf, members: usize, newcomers: usize) -> Result<Self> {
        let seed = Self { directory };
        fs::create_dir_all(&seed.directory)?;
        seed.init().await?;
        let records = (0..members + newcomers).map(|n| Write::Node(record(n, n < members)));
        let store = RedbStore::open(&seed.controller_dir().join("weft.redb"))?;
        store.commit(records.collect()).await?;
        drop(store);
        let read = |name: &str| fs::read_to_string(seed.controller_dir().join(name));
        let (ca, key) = (read("ca.crt")?, read("ca.key")?);
        let authority = Authority::from_pem(&ca, &key)?;
        for n in 0..members + newcomers {
            seed.identify(&authority, &ca, n).with_context(|| format!("identity of node {}", name(n)))?;
        }
        Ok(seed)
    }

    async fn init(&self) -> Result<()> {
        let mut command = Command::new(binaries::find("weft-controller")?);
        command.arg("init").arg("--data-dir").arg(self.controller_dir());
        command.args([
            "--pool",
            "10.0.0.0/9=24",
            "--underlay-network",
            "172.16.0.0/12",
            "--listen",
            &self.address(),
            "--http-listen",
            "127.0.0.1:7888",
        ]);
        let done = command.output().await.context("cannot start weft-controller")?;
        ensure!(done.status.success(), "weft-controller init: {}", String::from_utf8_lossy(&done.stderr).trim());
        Ok(())
    }

    fn identify(&self, authority: &Authority, ca: &str, n: usize) -> Result<()> {
        let key = generate_key()?;
        let request = rcgen::CertificateParams::default().serialize_request(&key)?;
        let certificate = authority.node(&PublicKey::of_request(request.der())?, &name(n), 1, LIFETIME)?;
        let directory = self.state_dir(n).join("identity");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        fs::write(directory.join("node.key"), key.serialize_pem())?;
        fs::write(directory.join("node.crt"), certificate.pem())?;
        Ok(fs::write(directory.join("ca.crt"), ca)?)
    }

    /// The controller's data directory.
    pub(super) fn controller_dir(&self) -> PathBuf {
        self.directory.join("controller")
    }

    /// Node `n`'s state directory.
    pub(super) fn state_dir(&self, n: usize) -> PathBuf {
        self.directory.join("agents").join(name(n).as_str())
    }

    /// Where the controller is reached.
    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{PORT}")
    }

    /// Removes all of it.
    pub(super) fn remove(self) -> Result<()> {
        remove(&self.directory)
    }
}

fn remove(directory: &Path) -> Result<()> {
    fs::remove_dir_all(directory).with_context(|| format!("cannot remove {}", directory.display()))
}
