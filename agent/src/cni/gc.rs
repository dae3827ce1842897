//! GC and STATUS of CNI 1.1.

use super::{CniError, Code, agent::Agent, config::Config};
use crate::{
    fault,
    veth::{self, AttachmentKey},
};

/// Ends every attachment that the runtime does not name, with interface and addresses. All are tried; what failed is
/// in the error.
pub(super) fn gc(config: Config) -> Result<(), CniError> {
    let valid = config.valid.ok_or_else(|| {
        let text = "cni.dev/valid-attachments is missing: without it GC cannot tell what to keep";
        CniError::new(Code::InvalidConfig, text)
    })?;
    let released = Agent::connect(&config.socket)?.collect(&valid)?;
    fault::point("after-collect");
    let mut failures = Vec::new();
    for attachment in released {
        let deleted = AttachmentKey::new(&attachment.container_id, &attachment.interface)
            .map_err(|error| CniError::new(Code::Agent, error.to_string()))
            .and_then(|key| Ok(veth::unplug(&key)?));
        failures.extend(deleted.err());
    }
    match failures.as_slice() {
        [] => Ok(()),
        _ => {
            let text = format!("{} interfaces of gone attachments could not be removed", failures.len());
            Err(failures.iter().fold(CniError::new(Code::Kernel, text), CniError::because))
        }
    }
}

/// Whether an ADD would succeed. Code 50: it would not, and pods there are go on; code 51: the kernel does not hold
/// the whole membership, so that they may lack connectivity too.
pub(super) fn status(config: &Config) -> Result<(), CniError> {
    let status = Agent::connect(&config.socket)
        .and_then(|mut agent| agent.status())
        .map_err(|error| CniError { code: Code::NotAvailable, ..error })?;
    if status.ready {
        return Ok(());
    }
    let text = format!("node {} is not ready for pods: {}", status.node, status.message);
    Err(CniError::new(Code::LimitedConnectivity, text).because(status.reason))
}
