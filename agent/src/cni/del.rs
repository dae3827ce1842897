//! DEL: the veth pair goes, then the addresses. Repeatable; needs neither namespace nor earlier result nor agent.

use std::path::Path;

use super::{CniError, Code, agent::Agent, config::Config, turn::Turn};
use crate::{
    fault,
    veth::{self, AttachmentKey, Released},
};

/// Detaches a pod.
pub(super) fn del(config: &Config, key: &AttachmentKey) -> Result<(), CniError> {
    let _turn = match Turn::take(&config.socket, key) {
        // A pod must be able to end on a host whose /run is full or read-only.
        Err(error) if error.code == Code::Io => None,
        other => Some(other?),
    };
    fault::point("before-unlink");
    // While the interface is there the pod can still use its address: then the address is not freed.
    veth::unplug(key)?;
    fault::point("after-unlink");
    release(&config.socket, key)?;
    fault::point("after-release");
    Ok(())
}

/// Tells the agent, or leaves a note for it. The note comes before the second attempt: an agent that starts in between
/// either answers that attempt or finds the note.
fn release(socket: &Path, key: &AttachmentKey) -> Result<(), CniError> {
    let error = match deliver(socket, key) {
        Err(error) if error.code == Code::TryAgainLater => error,
        other => return other,
    };
    let released = Released::beside(socket);
    released.note(key).map_err(|io| {
        let text = format!("the release of {key} can be neither delivered nor noted for later");
        CniError::new(Code::TryAgainLater, text).because(error).because(io)
    })?;
    fault::point("after-note");
    if deliver(socket, key).is_ok() {
        // A note that stays is harmless: the agent finds nothing to release.
        let _ = released.clear(key);
    }
    Ok(())
}

fn deliver(socket: &Path, key: &AttachmentKey) -> Result<(), CniError> {
    Agent::connect(socket)?.release(key)
}
