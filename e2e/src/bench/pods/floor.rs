//! The floor: a process that makes a namespace and one veth pair into it, or takes both away.
//!
//! This program itself, started with a first argument that no user types. Must do nothing that the job does not need.

use std::{ffi::OsString, fs::File, io, os::fd::AsRawFd, path::Path, process::ExitCode};

use anyhow::{Context, Result, bail};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};

use super::side::{mount_own, unmount};

/// The first argument.
pub const COMMAND: &str = "__floor";

/// Runs `add NAME PATH` or `delete NAME PATH`.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<String> = arguments.map(|argument| argument.to_string_lossy().into_owned()).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["add", name, path] => add(name, Path::new(path)),
        ["delete", name, path] => delete(name, Path::new(path)),
        _ => Err(anyhow::anyhow!("usage: {COMMAND} add|delete NAME PATH")),
    };
    done.map_or_else(
        |error| {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn add(name: &str, path: &Path) -> Result<()> {
    let host = connect()?;
    mount_own(path)?;
    let namespace = File::open(path)?;
    let mut pod = LinkMessage::default();
    pod.attributes.extend([LinkAttribute::IfName("eth0".to_owned()), LinkAttribute::NetNsFd(namespace.as_raw_fd())]);
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(pod))),
    ]));
    ask(&host, RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL).context("veth pair")
}

fn delete(name: &str, path: &Path) -> Result<()> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    ask(&connect()?, RouteNetlinkMessage::DelLink(message), 0).context("veth pair")?;
    unmount(path)
}

fn connect() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

fn ask(socket: &Socket, message: RouteNetlinkMessage, flags: u16) -> Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    match NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)?.payload {
        NetlinkPayload::Error(error) if error.code.is_none() => Ok(()),
        NetlinkPayload::Error(error) => Err(error.to_io().into()),
        _ => bail!("the kernel's answer is none"),
    }
}
