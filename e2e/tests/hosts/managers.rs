//! Real programs that manage a node's network. What firewalld with its defaults and ufw drop is said, and what is said helps;
//! systemd-networkd configures the underlay, and pods go on.
//!
//! Needs root and their programs, unpacked: `./dev managers` does that and runs this. They run in the node's network
//! namespace, with a message bus, configuration and state of their own.

use std::{
    fs,
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tokio::{process::Command, time::timeout};
use weft_core::types::Family;
use weft_e2e::{
    cluster::{Cluster, Pod},
    lab::{
        Host, LabSpec, Process, Stream, UPLINK,
        echo::{Echo, Transport, exchange},
        wait,
    },
    lab_test,
};

const NODE: &str = "a1";
/// Longer than the pause between two checks of the host.
const PATIENCE: Duration = Duration::from_secs(100);

/// Where `./dev managers` unpacked the packages.
fn unpacked() -> Result<PathBuf> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("managers");
    ensure!(path.join("usr").is_dir(), "{} is missing: run `./dev managers`", path.display());
    Ok(path)
}

fn script(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

/// A firewall on a host.
struct Firewall {
    host: Arc<Host>,
    /// Where its command is, for PATH.
    programs: PathBuf,
    _processes: Vec<Process>,
}

impl Firewall {
    /// firewalld as Debian has it, with a bus of its own.
    async fn firewalld(host: Arc<Host>) -> Result<Self> {
        let (root, own) = (unpacked()?, host.directory().join("firewalld"));
        fs::create_dir_all(own.join("etc/zones"))?;
        fs::create_dir_all(own.join("bin"))?;
        let bus = format!("unix:path={}/bus", own.display());
        let config = own.join("bus.conf");
        fs::write(&config, BUS.replace("@ADDRESS@", &bus))?;
        let python = format!(
            "#!/bin/sh\nexport DBUS_SYSTEM_BUS_ADDRESS={bus} PYTHONPATH={root}/usr/lib/python3/dist-packages\n",
            root = root.display()
        );
        let (etc, root) = (own.join("etc"), root.display());
        fs::copy(format!("{root}/etc/firewalld/firewalld.conf"), etc.join("firewalld.conf"))?;
        script(
            &own.join("bin/firewall-cmd"),
            &format!("{python}exec /usr/bin/python3 {root}/usr/bin/firewall-cmd \"$@\"\n"),
        )?;
        let daemon = format!(
            "{python}exec /usr/bin/python3 {root}/usr/sbin/firewalld --nofork --nopid --log-file={}/log \
             --default-config={root}/usr/lib/firewalld --system-config={}\n",
            own.display(),
            etc.display()
        );
        script(&own.join("firewalld"), &daemon)?;
        let mut command = Command::new("dbus-daemon");
        command.arg("--nofork").arg(format!("--config-file={}", config.display()));
        let bus = host.spawn("dbus", command)?;
        wait::until("the message bus", wait::PATIENCE, async || Ok(fs::metadata(own.join("bus"))?)).await?;
        let daemon = host.spawn("firewalld", Command::new(own.join("firewalld")))?;
        let firewall = Self { host, programs: own.join("bin"), _processes: vec![bus, daemon] };
        wait::until("firewalld", wait::PATIENCE, async || firewall.run("firewall-cmd --state").await).await?;
        Ok(firewall)
    }

    /// ufw with its defaults: what comes in or goes through is dropped.
    async fn ufw(host: Arc<Host>) -> Result<Self> {
        let (root, own) = (unpacked()?, host.directory().join("ufw"));
        fs::create_dir_all(own.join("bin"))?;
        let (root, to) = (root.display(), own.display());
        let copy = format!(
            "cp -r {root}/etc {root}/lib {root}/usr {to}
             cp {root}/usr/share/ufw/ufw.conf {root}/usr/share/ufw/*.rules {to}/etc/ufw
             cp {root}/usr/share/ufw/iptables/*.rules {to}/etc/ufw"
        );
        host.run(&["bash", "-euc", &copy]).await?;
        let text = format!(
            "#!/bin/sh\nexport PYTHONPATH={root}/usr/lib/python3/dist-packages\nexec /usr/bin/python3 {root}/usr/sbin/ufw \
             --rootdir={to} --datadir={to} \"$@\"\n"
        );
        script(&own.join("bin/ufw"), &text)?;
        let firewall = Self { host, programs: own.join("bin"), _processes: Vec::new() };
        // It fills two chains of its own with the first change only.
        firewall.run("ufw --force enable; ufw reload").await?;
        Ok(firewall)
    }

    /// All rules of this host but Weft's.
    async fn rules(&self) -> Result<String> {
        let rules = self.host.run(&["nft", "--stateless", "list", "ruleset"]).await?;
        let ours = rules.find("table inet weft {").context("no table of Weft's")?;
        let end = rules[ours..].find("\n}\n").map_or(rules.len(), |end| ours + end + 3);
        // Which of several rules comes first is the tool's affair.
        let mut lines: Vec<&str> = rules[..ours].lines().chain(rules[end..].lines()).collect();
        lines.sort_unstable();
        Ok(lines.join("\n"))
    }

    /// Runs a command line that names the firewall's own command.
    async fn run(&self, line: &str) -> Result<String> {
        let line = format!("PATH={}:$PATH; {line}", self.programs.display());
        self.host.run(&["bash", "-euc", &line]).await
    }
}

const BUS: &str = r#"<busconfig>
<type>system</type><listen>@ADDRESS@</listen><auth>EXTERNAL</auth>
<policy context="default">
<allow user="*"/><allow own="*"/><allow eavesdrop="true"/><allow send_destination="*" eavesdrop="true"/>
</policy>
</busconfig>
"#;

async fn warnings(cluster: &Cluster) -> Result<Vec<String>> {
    let status: serde_json::Value = cluster.agent(NODE).weft().json(&["status"]).await?;
    let warnings = status["warnings"].as_array().context("warnings")?.iter();
    Ok(warnings.filter_map(|warning| warning.as_str()).map(str::to_owned).collect())
}

async fn until_told(cluster: &Cluster, words: &[&str]) -> Result<()> {
    wait::until(&format!("{words:?} to be told"), PATIENCE, async || {
        let told = warnings(cluster).await?;
        ensure!(told.iter().any(|warning| words.iter().all(|word| warning.contains(word))), "{told:?}");
        Ok(())
    })
    .await
}

async fn until_silent(cluster: &Cluster) -> Result<()> {
    wait::until("nothing more to be told of firewalls", PATIENCE, async || {
        let told = warnings(cluster).await?;
        ensure!(!told.iter().any(|warning| warning.contains("nftables chain")), "{told:?}");
        Ok(())
    })
    .await
}

/// Whether a connection of each family comes about.
async fn connects(from: &Pod, to: &Pod) -> Result<Vec<bool>> {
    let mut connected = Vec::new();
    for family in Family::ALL {
        let server = Echo::start(to.net(), Transport::Tcp, (to.address(family), 0).into())?;
        let asked = exchange(from.net(), Transport::Tcp, server.address(), b"are you there?");
        connected.push(matches!(timeout(Duration::from_secs(3), asked).await, Ok(Ok(_))));
    }
    Ok(connected)
}

/// Runs exactly the commands that are printed, between the backticks.
async fn obey(firewall: &Firewall, told: &[String]) -> Result<()> {
    let firewalls = told.iter().filter(|line| line.contains("nftables chain"));
    for command in firewalls.flat_map(|line| line.split('`').skip(1).step_by(2)) {
        firewall.run(command).await?;
    }
    Ok(())
}

/// The installer's own script, with the firewall's commands in its PATH and a note of its own.
async fn script_of_the_installer(firewall: &Firewall, arguments: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/hosts/firewall.sh");
    let note = firewall.host.directory().join("firewall-note");
    firewall.run(&format!("bash {} {arguments} --note {}", path.display(), note.display())).await
}

const OPEN: &str = "open --pool 10.244.0.0/16 --pool fd44:5745::/48 --link eth0";

/// What a firewall drops is said, and the pods of all nodes connect once `help` has done something about it.
async fn is_said_and_helped(
    firewall: impl AsyncFnOnce(Arc<Host>) -> Result<Firewall>,
    chains: [&str; 2],
    help: impl AsyncFnOnce(&Firewall, &[String]) -> Result<()>,
) -> Result<()> {
    let cluster = Cluster::start(LabSpec::default()).await?;
    cluster.ready().await?;
    let here = cluster.pod(NODE, "here").await?;
    let (near, far) = (cluster.pod("a2", "near").await?, cluster.pod("b1", "far").await?);
    for other in [&near, &far] {
        ensure!(connects(other, &here).await? == [true; 2], "this lab is broken already");
    }
    let firewall = firewall(cluster.lab().host(NODE)).await?;
    for other in [&near, &far] {
        ensure!(connects(other, &here).await? == [false; 2], "the firewall lets them pass: this test shows nothing");
    }
    until_told(&cluster, &[chains[0], "UDP port 4789"]).await?;
    until_told(&cluster, &[chains[1], "packets of pods"]).await?;
    help(&firewall, &warnings(&cluster).await?).await?;
    for other in [&near, &far] {
        ensure!(connects(other, &here).await? == [true; 2] && connects(&here, other).await? == [true; 2]);
    }
    until_silent(&cluster).await
}

lab_test!(
    #[ignore = "needs root and what manages hosts: ./dev managers"]
    what_firewalld_drops_is_said_and_its_own_commands_help,
    async || is_said_and_helped(Firewall::firewalld, ["filter_INPUT", "filter_FORWARD"], async |firewall, told| obey(
        firewall, told
    )
    .await)
    .await
);

lab_test!(
    #[ignore = "needs root and what manages hosts: ./dev managers"]
    what_ufw_drops_is_said_and_its_own_commands_help,
    async || is_said_and_helped(Firewall::ufw, ["chain INPUT", "chain FORWARD"], async |firewall, told| obey(
        firewall, told
    )
    .await)
    .await
);

lab_test!(
    #[ignore = "needs root and what manages hosts: ./dev managers"]
    the_installer_opens_firewalld_and_closes_it_again,
    async || opens_and_closes(Firewall::firewalld, ["filter_INPUT", "filter_FORWARD"]).await
);

lab_test!(
    #[ignore = "needs root and what manages hosts: ./dev managers"]
    the_installer_opens_ufw_and_closes_it_again,
    async || opens_and_closes(Firewall::ufw, ["chain INPUT", "chain FORWARD"]).await
);

async fn opens_and_closes(firewall: impl AsyncFnOnce(Arc<Host>) -> Result<Firewall>, chains: [&str; 2]) -> Result<()> {
    is_said_and_helped(firewall, chains, async |firewall, _| {
        let before = firewall.rules().await?;
        script_of_the_installer(firewall, OPEN).await?;
        let opened = firewall.rules().await?;
        ensure!(opened != before, "nothing was opened");
        // Again it changes nothing, and what it opened goes with `close`.
        script_of_the_installer(firewall, OPEN).await?;
        ensure!(firewall.rules().await? == opened, "{}", firewall.rules().await?);
        script_of_the_installer(firewall, "close").await?;
        ensure!(firewall.rules().await? == before, "something stayed: {}", firewall.rules().await?);
        script_of_the_installer(firewall, OPEN).await.map(drop)
    })
    .await
}

/// systemd-networkd on a host: it manages the underlay link with the addresses that it has, and whatever else nobody told it not
/// to. A read-only /sys tells it that there is no udev to wait for.
async fn networkd(host: &Arc<Host>, gateways: &[IpAddr]) -> Result<Process> {
    let own = host.directory().join("networkd");
    fs::create_dir_all(&own)?;
    let addresses: String = host.addresses().iter().map(|address| format!("Address={address}\n")).collect();
    let gateways: String = gateways.iter().map(|gateway| format!("Gateway={gateway}\n")).collect();
    let network = format!("[Match]\nName={UPLINK}\n[Network]\nIPForward=no\nIPv6AcceptRA=no\n{addresses}{gateways}");
    fs::write(own.join("10-underlay.network"), network)?;
    let weft = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/hosts/networkd.network");
    fs::copy(weft, own.join("05-weft.network"))?;
    let start = format!(
        "mount --make-rprivate /
         mount -t tmpfs networkd /run/systemd 2>/dev/null || {{ mkdir -p /run/systemd; mount -t tmpfs networkd /run/systemd; }}
         mount -t tmpfs networkd /etc/systemd
         mkdir -p /etc/systemd/network /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
         chown -R systemd-network:systemd-network /run/systemd/netif
         cp {}/*.network /etc/systemd/network
         mount -t sysfs -o ro sysfs /sys
         exec /lib/systemd/systemd-networkd",
        own.display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "bash", "-euc", &start]).env("SYSTEMD_LOG_LEVEL", "info");
    let process = host.spawn("networkd", command)?;
    // It sets the default route anew with a protocol of its own.
    wait::until("systemd-networkd to configure the underlay", wait::PATIENCE, async || {
        let routes = host.run(&["ip", "route", "show", "default", "proto", "static"]).await?;
        ensure!(routes.contains(UPLINK), "{routes:?}");
        Ok(())
    })
    .await?;
    Ok(process)
}

lab_test!(
    #[ignore = "needs root and what manages hosts: ./dev managers"]
    systemd_networkd_configures_the_underlay_and_pods_go_on,
    async || {
        let cluster = Cluster::start(LabSpec::default()).await?;
        cluster.ready().await?;
        let here = cluster.pod(NODE, "here").await?;
        let (near, far) = (cluster.pod("a2", "near").await?, cluster.pod("b1", "far").await?);
        let host = cluster.lab().host(NODE);
        let gateways = gateways(&host).await?;
        host.run(&["ip", "route", "flush", "default"]).await?;
        host.run(&["ip", "-6", "route", "flush", "default"]).await?;
        let mut process = networkd(&host, &gateways).await?;
        let mut streams = Vec::new();
        for other in [&near, &far] {
            for family in Family::ALL {
                // From and to this node: what comes in by the link is forwarded, too.
                streams.push(Stream::start(other.net(), here.net(), here.address(family), 200)?);
                streams.push(Stream::start(here.net(), other.net(), other.address(family), 200)?);
            }
        }
        for _ in 0..3 {
            process.stop().await?;
            process = networkd(&host, &gateways).await?;
            for stream in &streams {
                stream.pass(400).await;
            }
        }
        process.stop().await?;
        let status: serde_json::Value = cluster.agent(NODE).weft().json(&["status"]).await?;
        ensure!(status["ready"] == true && status["underlayInterface"] == UPLINK, "{status:#}");
        for stream in streams {
            stream.stop().await?.expect_no_loss(1000)?;
        }
        Ok(())
    }
);

/// The routers of the host's default routes.
async fn gateways(host: &Arc<Host>) -> Result<Vec<IpAddr>> {
    let mut found = Vec::new();
    for family in ["-4", "-6"] {
        let routes = host.run(&["ip", family, "route", "show", "default"]).await?;
        let mut words = routes.split_whitespace().skip_while(|word| *word != "via").skip(1);
        found.push(words.next().with_context(|| format!("no router in {routes:?}"))?.parse()?);
    }
    Ok(found)
}
