//! Who else uses the tunnel's UDP port.
//!
//! The kernel tells it in three ways and none in words: another VXLAN device of the same VNI makes the creation of ours
//! fail; beside a device that takes all VNIs (`external`, as Cilium's) ours is created and cannot be set up; and so it
//! is beside a socket of a program.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with, sockopt},
};
use weft_core::{encap::Encapsulation, settings::Settings, types::Family};

use super::{Finding, error, host::Host};

pub(super) fn check(settings: &Settings, host: &Host) -> Vec<Finding> {
    let mut findings: Vec<Finding> = devices(settings, host).collect();
    let in_use_by_vxlan = host.device_is_up
        || host.links.iter().any(|link| {
            link.up && link.vxlan.as_ref().is_some_and(|vxlan| vxlan.port == settings.encapsulation.port())
        });
    if !in_use_by_vxlan && is_taken(settings) {
        findings.push(taken(settings));
    }
    findings
}

/// Other VXLAN devices on our port that leave no room for ours.
fn devices<'a>(settings: &Settings, host: &'a Host) -> impl Iterator<Item = Finding> + use<'a> {
    let Encapsulation::Vxlan { vni, port, outer } = settings.encapsulation;
    let on_port = host.links.iter().filter_map(|link| Some((&link.name, link.vxlan.as_ref()?)));
    let same = on_port.filter(move |(_, vxlan)| vxlan.port == port && vxlan.family == outer);
    same.filter_map(move |(name, vxlan)| match vxlan.vni {
        _ if vxlan.external => Some(error(
            "PortTaken",
            format!(
                "VXLAN device {name} takes every VNI on UDP port {port}, so that ours cannot be set up beside it: \
                 give the cluster another port (weft-controller init --port), or remove {name}"
            ),
        )),
        Some(theirs) if theirs == vni => Some(error(
            "VniTaken",
            format!(
                "VXLAN device {name} already has VNI {vni} on UDP port {port}: give the cluster another VNI or port \
                 (weft-controller init --vni, --port), or remove {name} (ip link delete {name})"
            ),
        )),
        _ => None,
    })
}

/// Tries to bind the port as the kernel will for the device, and lets go at once.
fn is_taken(settings: &Settings) -> bool {
    let (family, address): (_, SocketAddr) = match settings.outer() {
        Family::V4 => (AddressFamily::INET, (Ipv4Addr::UNSPECIFIED, settings.encapsulation.port()).into()),
        Family::V6 => (AddressFamily::INET6, (Ipv6Addr::UNSPECIFIED, settings.encapsulation.port()).into()),
    };
    let Ok(socket) = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(ipproto::UDP)) else {
        return false;
    };
    let only = settings.outer() == Family::V4 || sockopt::set_ipv6_v6only(&socket, true).is_ok();
    only && bind(&socket, &address) == Err(Errno::ADDRINUSE)
}

fn taken(settings: &Settings) -> Finding {
    let port = settings.encapsulation.port();
    let holder = holder(port).map_or_else(|| "another socket".to_owned(), |holder| format!("a socket of {holder}"));
    error(
        "PortTaken",
        format!(
            "UDP port {port} is held by {holder}, so that the tunnel's device cannot be set up: stop that program \
         (ss -lunp 'sport = :{port}'), or give the cluster another port (weft-controller init --port)"
        ),
    )
}

/// The program with a socket on the port, where /proc lets us see it.
fn holder(port: u16) -> Option<String> {
    let sockets = ["udp", "udp6"].map(|file| std::fs::read_to_string(format!("/proc/net/{file}")).unwrap_or_default());
    let inodes: Vec<&str> =
        sockets.iter().flat_map(|table| table.lines()).filter_map(|line| inode(line, port)).collect();
    let wanted: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let holds = std::fs::read_dir(process.path().join("fd")).ok()?.flatten().any(|file| {
            std::fs::read_link(file.path()).is_ok_and(|to| wanted.iter().any(|name| to.as_os_str() == name.as_str()))
        });
        let name = std::fs::read_to_string(process.path().join("comm")).ok()?;
        holds.then(|| format!("{} (process {})", name.trim(), process.file_name().to_string_lossy()))
    })
}

/// The inode in a line of /proc/net/udp whose local port is this.
fn inode(line: &str, port: u16) -> Option<&str> {
    let mut fields = line.split_whitespace();
    let local = fields.nth(1)?.rsplit_once(':')?.1;
    let found = u16::from_str_radix(local, 16).ok()?;
    fields.nth(7).filter(|_| found == port)
}
