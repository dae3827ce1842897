//! A newcomer's hour: hosts without Weft, and nothing but the commands of README.md.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft_core::types::Family;
use weft_e2e::{
    lab::{CONTROL, Lab, LabSpec, OUTSIDE, binaries, sandbox::STATE, wait},
    lab_test,
};

use super::{PROGRAMS, checkout, readme, shell::Shell};

/// Stands in for `./dev build --release`, which takes minutes: the programs that all other tests run too.
const BUILD: &str = "#!/bin/sh\n[ \"$*\" = 'build --release' ]\n";

/// The capabilities of weft-agent.service.
const CONFINED: &str = "setpriv --no-new-privs --inh-caps=-all --bounding-set=-all,+net_admin,+net_raw -- ";

struct Hosts(BTreeMap<String, Shell>);

impl Hosts {
    /// A shell on every host that README.md names. Their directories are named as `scp` addresses them.
    async fn open(lab: &Lab) -> Result<Self> {
        let mut shells = BTreeMap::new();
        for (name, host) in [("build", OUTSIDE), ("control", CONTROL), ("a1", "a1"), ("b1", "b1")] {
            let host = lab.host(host);
            let home = home(&format!("{}:", host.address(Family::V4)));
            if name == "build" {
                fill(&home)?;
            }
            shells.insert(name.to_owned(), Shell::open(name, &host.net(), &home).await?);
        }
        Ok(Self(shells))
    }

    async fn run(&mut self, host: &str, commands: &str) -> Result<String> {
        self.0.get_mut(host).with_context(|| format!("README.md names host {host:?}"))?.run(commands).await
    }

    /// Runs a command until its JSON is as wanted.
    async fn until(&mut self, host: &str, command: &str, wanted: impl Fn(&Value) -> Result<()>) -> Result<()> {
        let tried = format!("{command} 2>&1 || true");
        wait::until(&format!("{command} on {host}"), wait::PATIENCE, async || {
            let printed = self.run(host, &tried).await?;
            wanted(&serde_json::from_str(&printed).with_context(|| printed.clone())?)
        })
        .await
    }

    /// Without systemd the installer prints how to start a service.
    async fn start_as_told(&mut self, host: &str, printed: &str) -> Result<()> {
        let mut lines = printed.lines().skip_while(|line| !line.contains("Start it by hand"));
        let command = lines.nth(1).context("the installer did not say how to start what it installed")?.trim();
        // An agent gets what its unit leaves it, so that the unit is known to leave enough.
        let confined = if host == "control" { "" } else { CONFINED };
        let log = format!("{STATE}/{host}.log");
        self.run(host, &format!("{confined}{command} >{log} 2>&1 &")).await.map(drop)
    }
}

fn home(name: &str) -> PathBuf {
    PathBuf::from(STATE).join("plain").join(name)
}

/// The checkout on the machine that builds.
fn fill(home: &std::path::Path) -> Result<()> {
    let release = home.join("target/release");
    fs::create_dir_all(&release)?;
    fs::write(home.join("dev"), BUILD)?;
    let run = |command: &mut Command| -> Result<bool> { Ok(command.status()?.success()) };
    ensure!(run(Command::new("chmod").arg("755").arg(home.join("dev")))?, "cannot make the stand-in for ./dev");
    ensure!(run(Command::new("cp").arg("-r").arg(checkout().join("deploy")).arg(home))?, "cannot copy deploy/");
    for program in PROGRAMS {
        let (built, to) = (binaries::find(program)?, release.join(program));
        // A lab's files are in memory, and most of these are symbols.
        let is_stripped = run(Command::new("strip").arg("-o").arg(&to).arg(&built)).unwrap_or(false);
        ensure!(is_stripped || run(Command::new("cp").arg(&built).arg(&to))?, "cannot copy {program}");
    }
    Ok(())
}

fn all_ready(count: usize) -> impl Fn(&Value) -> Result<()> {
    move |peers| {
        let peers = peers.as_array().context("no list")?;
        ensure!(peers.len() == count, "{} of {count} nodes", peers.len());
        ensure!(peers.iter().all(|peer| peer["state"] == "Ready"), "not all are ready: {peers:?}");
        Ok(())
    }
}

/// On a node: the other one answers through the tunnel in both families.
fn answers_through_the_tunnel(peers: &Value) -> Result<()> {
    all_ready(2)(peers)?;
    let paths = peers.as_array().context("no list")?.iter().flat_map(|peer| peer["paths"].as_array()).flatten();
    let tunnels = paths.filter(|path| path["path"] == "vxlan" && path["rttUs"].as_u64() > Some(0)).count();
    ensure!(tunnels == 2, "{tunnels} of 2 families answer through VXLAN: {peers}");
    Ok(())
}

fn is_ready(status: &Value) -> Result<()> {
    ensure!(status["ready"] == true, "{status}");
    Ok(())
}

async fn follow(hosts: &mut Hosts, section: &str) -> Result<()> {
    let blocks = readme::blocks(section)?;
    ensure!(!blocks.is_empty(), "section {section} has no commands");
    for block in blocks {
        let printed = hosts.run(&block.host, &block.commands).await?;
        if !printed.contains("Start it by hand") {
            continue;
        }
        hosts.start_as_told(&block.host, &printed).await?;
        if block.host == "control" {
            let status = "weft --controller 10.87.0.11:7887 --identity /etc/weft/operator status --output json";
            hosts.until("control", status, |_| Ok(())).await?;
        } else {
            hosts.until(&block.host, "weft status --output json", is_ready).await?;
        }
    }
    Ok(())
}

lab_test!(two_plain_hosts_become_nodes_by_the_commands_of_the_readme, async || {
    let lab = Lab::start(LabSpec::default().hosts(1)).await?;
    let mut hosts = Hosts::open(&lab).await?;
    follow(&mut hosts, "Install on plain hosts").await?;
    hosts.until("a1", "weft peers --output json", answers_through_the_tunnel).await?;
    hosts.until("b1", "weft peers --output json", answers_through_the_tunnel).await?;
    hosts.until("control", "weft peers --output json", all_ready(2)).await?;

    // Every key that the installed file shows as a default is one that the agent knows.
    hosts.run("a1", "sed 's/^#\\([a-zA-Z]*:\\)/\\1/' /etc/weft/agent.yaml >all.yaml; cat all.yaml").await?;
    hosts.run("a1", "grep -c '^[a-zA-Z]*:' all.yaml | grep -qx 14; weft-agent check --config all.yaml").await?;
    hosts
        .run("a1", "for file in /etc/weft/token /run/weft/agent.sock; do stat -c %a $file; done | uniq | grep -qx 600")
        .await?;
    let confined = hosts.run("a1", "grep CapEff /proc/$!/status").await?;
    ensure!(confined.ends_with("0000000000003000"), "the agent runs with {confined}");
    hosts.run("control", "stat -c %a /var/lib/weft-controller /etc/weft/operator | uniq | grep -qx 700").await?;

    // An upgrade of a running agent, then the way out. What keeps its process here is this shell.
    let again = hosts.run("a1", "./deploy/hosts/install.sh agent").await?;
    ensure!(
        !again.contains("installed ") && !again.contains("wrote "),
        "nothing differs, yet it did something:\n{again}"
    );
    let refused = hosts.run("a1", "! ./deploy/hosts/install.sh uninstall").await?;
    ensure!(refused.contains("an agent is running"), "it says nothing of the running agent:\n{refused}");
    hosts.run("a1", "grep -q weft0 /proc/net/dev; kill %1; wait || true; grep -q weft0 /proc/net/dev").await?;
    follow(&mut hosts, "Remove").await?;
    let links = hosts.run("a1", "cat /proc/net/dev").await?;
    ensure!(!links.contains("weft0") && !links.contains("wpod"), "links of ours are left:\n{links}");
    let left = hosts
        .run("a1", "find /etc /usr/local /opt /var/lib /run -path /run/lab -prune -o -iname '*weft*' -print")
        .await?;
    ensure!(left.is_empty(), "files of ours are left:\n{left}");
    Ok(())
});
