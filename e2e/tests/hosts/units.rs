//! The units, and the files for those who manage links.

use std::{collections::BTreeMap, fs, process::Command};

use anyhow::{Context, Result, ensure};
use weft_core::kernel::POD_LINK_PREFIX;

use super::install::Root;

const UNITS: [&str; 2] = ["weft-controller.service", "weft-agent.service"];
/// Units of the system that ours name; a root without a system has none.
const NEIGHBOURS: [&str; 6] = [
    "sysinit.target",
    "basic.target",
    "shutdown.target",
    "network.target",
    "network-online.target",
    "multi-user.target",
];

/// Sections with their keys; a key that repeats has all its values.
type Unit = BTreeMap<String, BTreeMap<String, Vec<String>>>;

fn parse(text: &str) -> Result<Unit> {
    let mut unit = Unit::new();
    let mut section = None;
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = Some(unit.entry(name.to_owned()).or_default());
            continue;
        }
        let (key, value) = line.split_once('=').with_context(|| format!("{line:?} is no assignment"))?;
        ensure!(key.trim() == key && value.trim() == value, "{line:?} has blanks around");
        section.as_mut().context("a key before any section")?.entry(key.to_owned()).or_default().push(value.to_owned());
    }
    Ok(unit)
}

fn read(root: &Root, path: &str) -> Result<Unit> {
    parse(&fs::read_to_string(root.path(path))?).with_context(|| path.to_owned())
}

fn one<'a>(unit: &'a Unit, section: &str, key: &str) -> Result<&'a str> {
    let values = unit.get(section).and_then(|section| section.get(key)).with_context(|| format!("no {key}"))?;
    ensure!(values.len() == 1, "{key} repeats: {values:?}");
    Ok(&values[0])
}

#[test]
fn systemd_accepts_the_units() -> Result<()> {
    let analyze = |root: &Root, unit: &str| -> Result<String> {
        let mut command = Command::new("systemd-analyze");
        command.args(["verify", "--man=no", "--root"]).arg(root.path("")).arg(unit);
        let done = command.output()?;
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        Ok(if done.status.success() { said } else { format!("{}: {said}", done.status) })
    };
    let root = Root::installed("units")?;
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        // Without systemd the other tests' own reading has to do; what it is strict about is strict here.
        return UNITS.iter().try_for_each(|unit| read(&root, &format!("etc/systemd/system/{unit}")).map(drop));
    }
    for unit in NEIGHBOURS {
        fs::write(root.path("etc/systemd/system").join(unit), "[Unit]\nDescription=of the system\n")?;
    }
    for unit in UNITS {
        let said = analyze(&root, unit)?;
        ensure!(said.is_empty(), "{unit}: {said}");
    }
    // The judge itself has to be able to say no.
    let path = root.path("etc/systemd/system/weft-agent.service");
    fs::write(&path, fs::read_to_string(&path)?.replace("KillMode=", "KilMode="))?;
    ensure!(analyze(&root, "weft-agent.service")?.contains("KilMode"), "a wrong key was accepted");
    Ok(())
}

#[test]
fn the_agent_has_two_capabilities_and_its_runtime_directory_outlives_it() -> Result<()> {
    let root = Root::installed("agent")?;
    let unit = read(&root, "etc/systemd/system/weft-agent.service")?;
    let service = |key| one(&unit, "Service", key);
    ensure!(service("CapabilityBoundingSet")? == "CAP_NET_ADMIN CAP_NET_RAW");
    ensure!(service("NoNewPrivileges")? == "yes" && service("ProtectSystem")? == "strict");
    ensure!(service("RuntimeDirectory")? == "weft" && service("RuntimeDirectoryPreserve")? == "yes");
    ensure!(service("StateDirectory")? == "weft" && service("Restart")? == "always");
    for key in ["ExecStop", "ExecStopPost", "ExecReload"] {
        ensure!(!unit["Service"].contains_key(key), "{key}: stopping must not run anything");
    }
    for directory in service("ReadWritePaths")?.split(' ') {
        let directory = directory.trim_start_matches(['-', '/']);
        ensure!(root.path(directory).is_dir(), "{directory} is writable by the unit and does not exist");
    }
    Ok(())
}

#[test]
fn the_controller_is_nobody_special() -> Result<()> {
    let root = Root::installed("controller")?;
    let unit = read(&root, "etc/systemd/system/weft-controller.service")?;
    ensure!(one(&unit, "Service", "User")? == "weft" && one(&unit, "Service", "CapabilityBoundingSet")?.is_empty());
    let files: u64 = one(&unit, "Service", "LimitNOFILE")?.parse()?;
    ensure!(files >= 25_000, "{files} files are too few for 10,000 agents that reconnect");
    ensure!(one(&unit, "Service", "StateDirectory")? == "weft-controller");
    Ok(())
}

#[test]
fn units_start_programs_that_are_installed_with_files_that_are_there() -> Result<()> {
    let root = Root::installed("start")?;
    for unit in UNITS {
        let read = read(&root, &format!("etc/systemd/system/{unit}"))?;
        ensure!(one(&read, "Install", "WantedBy")? == "multi-user.target");
        let command: Vec<&str> = one(&read, "Service", "ExecStart")?.split(' ').collect();
        let [program, "run", "--config", config] = command[..] else { anyhow::bail!("{unit} starts {command:?}") };
        // By its name alone: packages have it elsewhere.
        for path in [&format!("usr/local/bin/{program}"), config.trim_start_matches('/')] {
            ensure!(root.path(path).is_file(), "{unit} needs {path}");
        }
    }
    Ok(())
}

#[test]
fn who_manages_links_is_told_of_every_link_of_ours() -> Result<()> {
    let root = Root::installed("links")?;
    let (device, pods) = ("weft0", format!("{POD_LINK_PREFIX}*"));
    let network = read(&root, "etc/systemd/network/05-weft.network")?;
    ensure!(one(&network, "Match", "Name")? == format!("{device} {pods}"));
    ensure!(one(&network, "Link", "Unmanaged")? == "yes");
    let link = read(&root, "etc/systemd/network/05-weft.link")?;
    ensure!(one(&link, "Match", "OriginalName")? == format!("{device} {pods}"));
    ensure!(one(&link, "Link", "MACAddressPolicy")? == "none");
    let manager = read(&root, "etc/NetworkManager/conf.d/90-weft.conf")?;
    let wanted = format!("interface-name:{device};interface-name:{pods}");
    // Added to what the operator's own files say, not put in its place.
    ensure!(one(&manager, "keyfile", "unmanaged-devices+")? == wanted);
    Ok(())
}
