//! Segmentation offload of the underlay's links, by the old ethtool requests (include/uapi/linux/ethtool.h).

use anyhow::{Context, Result};
use rustix::{
    fd::OwnedFd,
    io::Errno,
    net::{AddressFamily, SocketType, socket},
};

use crate::lab::{Lab, Namespace, UPLINK};

const SIOCETHTOOL: libc::Ioctl = 0x8946;
/// ETHTOOL_STSO and ETHTOOL_SGSO.
const SWITCHES: [u32; 2] = [0x1f, 0x24];

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Switches it on or off on the nodes' links and on the router's ends of them.
pub(super) fn set(lab: &Lab, on: bool) -> Result<()> {
    for node in lab.node_names() {
        let host = lab.host(&node);
        switch(&host.net(), UPLINK, on)?;
        switch(lab.router(), &host.port(), on)?;
    }
    Ok(())
}

fn switch(namespace: &Namespace, link: &str, on: bool) -> Result<()> {
    let name = link.to_owned();
    let done = namespace.enter(move || -> Result<(), Errno> {
        let any = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
        SWITCHES.into_iter().try_for_each(|command| request(&any, &name, command, on))
    });
    done.with_context(|| format!("segmentation offload of {link} cannot be switched"))
}

#[allow(unsafe_code)]
fn request(any: &OwnedFd, link: &str, command: u32, on: bool) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    let mut value = Value { command, data: on.into() };
    // SAFETY: all zeros is a valid ifreq, which holds integers and pointers only.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(link.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the request names a link and points to a value that outlives the call, as SIOCETHTOOL wants it.
    let done = unsafe { libc::ioctl(any.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if done == 0 { Ok(()) } else { Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)) }
}
