//! ADD: allocate, wire, have the host's side programmed, answer. A failure takes back all that was made, and must never take
//! away what an earlier ADD of the same attachment had completed.

use std::path::Path;

use super::{CniError, agent::Agent, check, config::Config, plan, turn::Turn};
use crate::{
    fault,
    veth::{self, AttachmentKey, Netlink, Netns, Pair, Released},
};

/// Attaches a pod; returns the result's JSON.
pub(super) fn add(config: &Config, key: &AttachmentKey, netns: &Path, pod: String) -> Result<String, CniError> {
    let netns = Netns::open(netns)?;
    let _turn = Turn::take(&config.socket, key)?;
    let mut agent = Agent::connect(&config.socket)?;
    let answer = agent.allocate(key, netns.path(), pod)?;
    fault::point("after-allocate");
    let mut made = Made { agent: &mut agent, config, key, progress: Progress::Allocated };
    match plan::read(key, &answer).and_then(|pair| made.complete(&pair, &netns).map(|()| pair)) {
        Ok(pair) => {
            let result = plan::result(&pair, &netns.path().display().to_string());
            Ok(config.previous.clone().unwrap_or_default().followed_by(result).to_json(config.version))
        }
        Err(error) => Err(made.take_back(error)),
    }
}

/// How far an attachment has come, and so what a failure takes back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Addresses are held.
    Allocated,
    /// The pair is ours to delete.
    Wired,
    /// An earlier ADD completed it: nothing of it is ours.
    Standing,
}

/// What this ADD made so far.
struct Made<'a> {
    agent: &'a mut Agent,
    config: &'a Config,
    key: &'a AttachmentKey,
    progress: Progress,
}

impl Made<'_> {
    fn complete(&mut self, pair: &Pair, netns: &Netns) -> Result<(), CniError> {
        let mut host = Netlink::open()?;
        if check::stands(&mut host, pair, netns)? {
            self.progress = Progress::Standing;
        } else {
            self.wire(&mut host, pair, netns)?;
        }
        self.agent.attach(self.key)?;
        fault::point("after-attach");
        Ok(())
    }

    fn wire(&mut self, host: &mut Netlink, pair: &Pair, netns: &Netns) -> Result<(), CniError> {
        self.progress = Progress::Wired;
        pair.create(host, netns)?;
        fault::point("after-host");
        pair.configure_pod(netns)?;
        fault::point("after-pod");
        Ok(())
    }

    /// Removes interface and allocation; what cannot be removed is added to the error. A link of the same name that is
    /// not ours stays.
    fn take_back(&mut self, mut error: CniError) -> CniError {
        if self.progress == Progress::Standing {
            return error;
        }
        fault::point("before-rollback");
        if self.progress == Progress::Wired
            && let Err(other) = veth::unplug(self.key).map_err(CniError::from)
        {
            error = error.because(format!("rolling back the interface: {other}"));
        }
        if let Err(other) = self.agent.release(self.key) {
            error = error.because(format!("rolling back the allocation: {other}"));
            if let Err(io) = Released::beside(&self.config.socket).note(self.key) {
                error = error.because(format!("noting the release for later: {io}"));
            }
        }
        error
    }
}
