//! Links: Weft's device, and the one below.

use anyhow::Result;

use super::{Hand, Row, objects::links};
use crate::drift::{
    attributes::Message,
    netlink::{CREATE, Netlink, Request},
};

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const SETLINK: u16 = 19;
const IFINFO: usize = 16;
const UP: u32 = 1;
const IFLA_ADDRESS: u16 = 1;
const IFLA_NAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_ALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const AF_INET6: u16 = 10;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const DEVICE: &str = "weft0";

/// A VXLAN device to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vxlan<'a> {
    pub(crate) name: &'a str,
    pub(crate) vni: u32,
    pub(crate) port: u16,
    /// IFLA_IFALIAS, which marks Weft's.
    pub(crate) alias: Option<&'a str>,
}

/// Everything that can be done to Weft's device but taking its name.
pub(crate) fn rows(socket: &Netlink) -> Result<Vec<Row>> {
    let row = |name: &str, requests: Vec<Request>| Row::new(format!("device {name}"), Hand::Route(requests));
    let with = |kind: u16, value: &[u8]| set(socket, DEVICE, |message| message.add(kind, value));
    let vxlan = Vxlan { name: DEVICE, vni: 99, port: 4789, alias: Some("weft") };
    let plain = Vxlan { vni: 87, alias: Some("weft"), ..vxlan };
    Ok(vec![
        row("deleted", vec![delete(DEVICE)]),
        row("set down", vec![switch(socket, DEVICE, false)?]),
        row("set down and up", vec![switch(socket, DEVICE, false)?, switch(socket, DEVICE, true)?]),
        row("has another MAC", vec![with(IFLA_ADDRESS, &[2, 0, 0, 0, 0, 0x66])?]),
        row("has a smaller MTU", vec![with(IFLA_MTU, &1300_u32.to_ne_bytes())?]),
        row("has an MTU too small for IPv6", vec![with(IFLA_MTU, &1000_u32.to_ne_bytes())?]),
        row("lost its alias", vec![with(IFLA_ALIAS, &[])?]),
        row("has another name", vec![switch(socket, DEVICE, false)?, with(IFLA_NAME, b"stolen0\0")?]),
        row("learns addresses", vec![reshape(socket, 7, &[1])?]),
        row("has another local address", vec![reshape(socket, 4, &[192, 0, 2, 66])?]),
        row("makes IPv6 addresses of its own", vec![generating(socket)?]),
        row("re-created with another VNI", [vec![delete(DEVICE)], create(&vxlan)].concat()).while_stopped(),
        row("re-created with its VNI by another hand", [vec![delete(DEVICE)], create(&plain)].concat()).while_stopped(),
    ])
}

/// Changes a link.
pub(crate) fn set(socket: &Netlink, link: &str, what: impl FnOnce(Message) -> Message) -> Result<Request> {
    let payload = what(Message::new(&header(index(socket, link)?, 0, 0))).bytes();
    Ok(Request { kind: SETLINK, flags: 0, payload })
}

pub(crate) fn switch(socket: &Netlink, link: &str, up: bool) -> Result<Request> {
    let payload = header(index(socket, link)?, if up { UP } else { 0 }, UP).to_vec();
    Ok(Request { kind: SETLINK, flags: 0, payload })
}

/// Sets the MTU in bytes.
pub(crate) fn mtu(socket: &Netlink, link: &str, mtu: u32) -> Result<Request> {
    set(socket, link, |message| message.number(IFLA_MTU, mtu))
}

/// Makes a link the port of a bridge.
pub(crate) fn join(socket: &Netlink, link: &str, bridge: &str) -> Result<Request> {
    let bridge = index(socket, bridge)?;
    set(socket, link, |message| message.number(IFLA_MASTER, bridge))
}

pub(crate) fn delete(link: &str) -> Request {
    Request { kind: DELLINK, flags: 0, payload: Message::new(&[0; IFINFO]).text(IFLA_NAME, link).bytes() }
}

/// Makes a VXLAN device, marks it and switches it on.
pub(crate) fn create(vxlan: &Vxlan<'_>) -> Vec<Request> {
    let data = Message::default().number(1, vxlan.vni).add(15, &vxlan.port.to_be_bytes()).add(7, &[0]);
    let info = Message::default().text(1, "vxlan").nest(2, data);
    let new = Message::new(&[0; IFINFO]).text(IFLA_NAME, vxlan.name).nest(IFLA_LINKINFO, info);
    let named = |flags| Message::new(&header(0, flags, flags)).text(IFLA_NAME, vxlan.name);
    let mut requests = vec![Request { kind: NEWLINK, flags: CREATE, payload: new.bytes() }];
    requests.extend(vxlan.alias.map(|alias| {
        let payload = named(0).add(IFLA_ALIAS, alias.as_bytes()).bytes();
        Request { kind: SETLINK, flags: 0, payload }
    }));
    requests.push(Request { kind: SETLINK, flags: 0, payload: named(UP).bytes() });
    requests
}

/// Changes one of the few attributes of a VXLAN device that the kernel changes in place.
fn reshape(socket: &Netlink, kind: u16, value: &[u8]) -> Result<Request> {
    let info = Message::default().text(1, "vxlan").nest(2, Message::default().add(kind, value));
    let payload = Message::new(&header(index(socket, DEVICE)?, 0, 0)).nest(IFLA_LINKINFO, info).bytes();
    Ok(Request { kind: NEWLINK, flags: 0, payload })
}

/// addrgenmode eui64.
fn generating(socket: &Netlink) -> Result<Request> {
    let mode = Message::default().nest(AF_INET6, Message::default().add(IFLA_INET6_ADDR_GEN_MODE, &[0]));
    set(socket, DEVICE, |message| message.nest(IFLA_AF_SPEC, mode))
}

/// What can happen to the host's end of a pod's cable without the pod being gone.
pub(crate) fn pods(socket: &Netlink, pods: &[String]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for pod in pods {
        let bounce = vec![switch(socket, pod, false)?, switch(socket, pod, true)?];
        rows.push(Row::new(format!("pod's link {pod} set down and up"), Hand::Route(bounce)));
    }
    Ok(rows)
}

pub(crate) fn index(socket: &Netlink, link: &str) -> Result<u32> {
    let links = links(socket)?;
    let found = links.iter().find(|(_, name)| *name == link).map(|(index, _)| *index);
    found.ok_or_else(|| anyhow::anyhow!("there is no link {link}"))
}

fn header(index: u32, flags: u32, mask: u32) -> [u8; IFINFO] {
    let mut header = [0; IFINFO];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&mask.to_ne_bytes());
    header
}
