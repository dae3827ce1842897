//! Whether network sysctls can be set: in containers /proc/sys is read-only, and another mount of it takes its place.
//!
//! Opens for writing, and writes nothing.

use std::{fs::OpenOptions, io, path::Path};

use super::{Finding, error};

/// There on every host, and one of those that the agent sets.
const ONE_OF_THEM: &str = "net/ipv4/ip_forward";

pub(super) fn check(root: &Path) -> Option<Finding> {
    let cause = OpenOptions::new().write(true).open(root.join(ONE_OF_THEM)).err()?;
    Some(judge(root, &cause))
}

fn judge(root: &Path, cause: &io::Error) -> Finding {
    let remedy = match cause.kind() {
        io::ErrorKind::NotFound => "it is no mount of the host's /proc/sys: mount /proc/sys/net at its folder net",
        io::ErrorKind::ReadOnlyFilesystem => {
            "it is read-only: mount the host's /proc/sys/net into the container somewhere else, writable, and name that \
             place (--sysctl-dir)"
        }
        _ => {
            "run the agent as root with CAP_NET_ADMIN; where AppArmor or SELinux confines it, mount /proc/sys/net \
             elsewhere, as the chart does, and name that place (--sysctl-dir)"
        }
    };
    error("SysctlsNotWritable", format!("network sysctls below {} cannot be set ({cause}): {remedy}", root.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_remedy() {
        let message = |kind: io::ErrorKind| judge(Path::new("/proc/sys"), &kind.into()).message;
        assert!(message(io::ErrorKind::ReadOnlyFilesystem).contains("--sysctl-dir"));
        assert!(message(io::ErrorKind::PermissionDenied).contains("AppArmor"));
        let finding = check(Path::new("/nonexistent")).expect("nothing is mounted there");
        assert_eq!(finding.code, "SysctlsNotWritable");
        assert!(finding.message.contains("/nonexistent"), "{}", finding.message);
    }
}
