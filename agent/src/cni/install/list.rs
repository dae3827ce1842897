//! The network configuration list: which of its entries are ours, and which are other people's.
//!
//! Meshes put their plugin behind the main one in the file that a runtime reads. Owns what of a list is ours: our own entry,
//! and what we chain, as we write it. Must never lose an entry that somebody put behind ours.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{super::Version, BINARY};
use crate::config::Chained;

/// The network's name.
const NAME: &str = "weft";

/// A list that has our entry in it.
#[derive(Debug, Clone)]
pub(super) struct List {
    whole: Map<String, Value>,
    /// Entries that somebody put before ours: no longer our network.
    before: Vec<Value>,
    /// Entries behind ours, those that we chain included.
    behind: Vec<Value>,
}

impl List {
    /// Reads a file's content. None where it is no list of ours.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let whole: Map<String, Value> = serde_json::from_slice(bytes).ok()?;
        let is_ours = |entry: &Value| entry["type"] == BINARY;
        let plugins = whole.get("plugins")?.as_array()?;
        let ours = plugins.iter().position(is_ours).filter(|_| whole.get("name") == Some(&NAME.into()))?;
        let (before, behind) = plugins.split_at(ours);
        let behind = behind.iter().filter(|entry| !is_ours(entry)).cloned().collect();
        Some(Self { before: before.to_vec(), behind, whole })
    }

    /// Types of the entries that others put before ours.
    pub(super) fn before(&self) -> Vec<String> {
        self.before.iter().map(kind).collect()
    }

    /// Entries behind ours that are somebody else's. Of what is in `chain` there is one entry, and it is ours.
    pub(super) fn others(&self, chain: &[Chained]) -> Vec<&Value> {
        let is_ours =
            |entry: &Value| Chained::wrote(entry) || chain.iter().any(|chained| entry["type"] == chained.name());
        self.behind.iter().filter(|entry| !is_ours(entry)).collect()
    }

    /// True where it is as `wanted` says, in whatever order and layout of its fields somebody wrote it.
    pub(super) fn is(&self, wanted: &Value) -> bool {
        wanted.as_object() == Some(&self.whole)
    }
}

/// The type of a plugin's entry.
pub(super) fn kind(entry: &Value) -> String {
    entry["type"].as_str().unwrap_or("?").to_owned()
}

/// The list as it should be: our entry, what we chain, what others put behind it, and what fields they added.
/// `cniVersion` 1.0.0 is what the runtimes of today speak; `cniVersions` lets newer ones choose.
pub(super) fn wanted(socket: &Path, chain: &[Chained], found: Option<&List>, others: &[&Value]) -> Value {
    let mut list = found.map(|found| found.whole.clone()).unwrap_or_default();
    let ours = json!({"type": BINARY, "socket": socket});
    let chained = chain.iter().map(|chained| chained.entry());
    let plugins: Vec<Value> =
        std::iter::once(ours).chain(chained).chain(others.iter().map(|entry| (*entry).clone())).collect();
    list.insert("cniVersion".to_owned(), Version::V1_0_0.as_str().into());
    list.insert("cniVersions".to_owned(), Version::ALL.map(Version::as_str).to_vec().into());
    list.insert("name".to_owned(), NAME.into());
    list.insert("plugins".to_owned(), plugins.into());
    Value::Object(list)
}
