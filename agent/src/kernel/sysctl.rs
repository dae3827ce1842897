//! Sysctls as files below /proc/sys/net, or below where a container has that folder writable.
//!
//! The kernel resolves that folder by the network namespace of the thread that opens a file in it (`net_ctl_root` in
//! net/sysctl_net.c), whoever mounted /proc: what is read and written here is always that of the agent's own namespace.
//! Must never write one that was not asked for.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::io::Errno;
use weft_core::{
    kernel::{Key, Seen, SeenObjects, Sysctl, Value},
    types::LinkName,
};

use crate::kernel::{Failure, KernelError};

/// Where sysctls are unless told otherwise.
const ROOT: &str = "/proc/sys";

/// The network's sysctls.
#[derive(Debug, Clone)]
pub(super) struct Sysctls {
    net: PathBuf,
}

impl Default for Sysctls {
    fn default() -> Self {
        Self::below(Path::new(ROOT))
    }
}

impl Sysctls {
    /// Those of `root`, which is /proc/sys or another mount of it.
    pub(super) fn below(root: &Path) -> Self {
        Self { net: root.join("net") }
    }

    /// False if the kernel was started with `ipv6.disable=1`, or made without.
    fn has_ipv6(&self) -> bool {
        self.net.join("ipv6").exists()
    }

    fn file(&self, sysctl: &Sysctl) -> PathBuf {
        self.net.join(sysctl.path())
    }

    /// Reads the sysctls among `keys` that are there.
    pub(super) fn read_each<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) -> Result<SeenObjects, KernelError> {
        let mut found = SeenObjects::new();
        for key in keys {
            if let Key::Sysctl(sysctl) = key
                && let Some(value) = self.read(sysctl)?
            {
                found.insert(*key, Seen::As(Value::Sysctl(value)));
            }
        }
        Ok(found)
    }

    /// Reads a sysctl; none if there is no such file: the link is not there, or the host has no IPv6. Without IPv6 no router
    /// advertisement is accepted, which is what is read then.
    fn read(&self, sysctl: &Sysctl) -> Result<Option<i32>, KernelError> {
        let failed = |source| KernelError::Io { object: Key::Sysctl(*sysctl).to_string(), source };
        match fs::read_to_string(self.file(sysctl)) {
            Ok(text) => {
                let number = text.trim().parse();
                Ok(Some(number.map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))?))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound || is_of_link_that_goes(&error) => {
                let accepts_none = matches!(sysctl, Sysctl::AcceptRa(_)) && !self.has_ipv6();
                Ok(accepts_none.then_some(0))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// True if the kernel itself handles router advertisements on a link. If accept_ra is 0 somebody else does (systemd-networkd,
    /// NetworkManager), and switching the kernel's own handling on would disturb them.
    pub(super) fn heeds_advertisements(&self, link: LinkName) -> Result<bool, KernelError> {
        Ok(self.read(&Sysctl::AcceptRa(link))?.is_some_and(|value| value != 0))
    }

    /// Writes a sysctl.
    pub(super) fn put(&self, sysctl: &Sysctl, value: &Value) -> Result<(), Failure> {
        let Value::Sysctl(value) = *value else { return Ok(()) };
        fs::write(self.file(sysctl), value.to_string()).map_err(|source| failure(sysctl, value, &source))
    }
}

/// How the kernel refuses to read a file of a link that is just going.
fn is_of_link_that_goes(error: &io::Error) -> bool {
    [Errno::INVAL, Errno::NODEV].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn failure(sysctl: &Sysctl, value: i32, source: &io::Error) -> Failure {
    let remedy = match source.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            "it is read-only here: mount the host's /proc/sys/net into the container and name the mount (--sysctl-dir)"
        }
        io::ErrorKind::PermissionDenied => "the agent needs CAP_NET_ADMIN in the user namespace of its network",
        io::ErrorKind::NotFound => "there is no such file: the link is gone, or the kernel was started without IPv6",
        _ => "the kernel did not take the value",
    };
    let key = Key::Sysctl(*sysctl);
    let text = format!("cannot be set to {value} ({source}): {remedy}");
    let error = KernelError::Io { object: key.to_string(), source: io::Error::new(source.kind(), text) };
    Failure { key, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_ipv6_accepts_no_advertisement_and_has_no_other_setting_of_it() {
        let root = std::env::temp_dir().join(format!("weft-sysctls-{}", std::process::id()));
        fs::create_dir_all(root.join("net/ipv4/conf/weft0")).expect("a writable temp dir");
        fs::write(root.join("net/ipv4/conf/weft0/rp_filter"), "2\n").expect("writable");
        let (sysctls, link) = (Sysctls::below(&root), LinkName::new("weft0").expect("a name"));
        let keys = [Sysctl::RpFilter(link), Sysctl::AcceptRa(link), Sysctl::DisableIpv6(link)].map(Key::Sysctl);
        let read = sysctls.read_each(&keys).expect("readable");
        // With IPv6, a link that is not there has no setting at all.
        fs::create_dir_all(root.join("net/ipv6/conf")).expect("writable");
        let absent = sysctls.read_each(&keys[1..]).expect("readable");
        fs::remove_dir_all(&root).expect("just made");
        let value = |number| Seen::As(Value::Sysctl(number));
        assert_eq!(read, [(keys[0], value(2)), (keys[1], value(0))].into());
        assert_eq!(absent, SeenObjects::new());
    }
}
