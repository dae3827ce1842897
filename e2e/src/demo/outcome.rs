//! What the demo found, as `--output json` prints it.
//!
//! Owns the field names: scripts rely on them.

use serde::Serialize;
use serde_json::Value;

use crate::cluster::{Forwarded, Path};

/// The whole.
#[derive(Debug, Default, Serialize)]
pub struct Outcome {
    /// True where everything worked.
    pub ok: bool,
    /// Every ordered pair of pods in each family.
    pub pairs: Vec<Pair>,
    /// What the router forwarded.
    pub router: Forwarded,
    /// What was deleted, and put back.
    pub repairs: Vec<Repair>,
    /// As `weft peers --output json` prints it.
    pub peers: Vec<Value>,
}

/// One direction between two pods in one family.
#[derive(Debug, Serialize)]
pub struct Pair {
    /// The pod that asked.
    pub from: String,
    /// The pod that answered.
    pub to: String,
    /// 4 or 6.
    pub family: u8,
    /// How the packets were seen to travel.
    pub path: Path,
    /// True where it answered and the packets travelled as they should.
    pub ok: bool,
    /// Round trip in microseconds; none where nothing came back.
    pub rtt_us: Option<u64>,
}

/// One deleted object.
#[derive(Debug, Serialize)]
pub struct Repair {
    /// Which.
    pub object: String,
    /// True where it came back.
    pub repaired: bool,
    /// After how many milliseconds.
    pub ms: u64,
}
