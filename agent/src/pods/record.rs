//! One allocation as a value, and as it is written.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use weft_core::{
    desired::Pod,
    types::{Family, LinkName, Mac, PerFamily, PodCidr},
};

use crate::veth::AttachmentKey;

/// What an attachment holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Whose it is.
    pub key: AttachmentKey,
    /// The pod's addresses.
    pub addresses: PerFamily<Option<IpAddr>>,
    /// Name of the host's end of the veth pair.
    pub link: LinkName,
    /// MAC of the host's end.
    pub host_mac: Mac,
    /// MAC of the pod's end.
    pub pod_mac: Mac,
    /// Path of the pod's network namespace, as the runtime gave it.
    pub netns: String,
    /// Namespace and name of the pod, for people; may be empty.
    pub pod: String,
    /// When it was made, Unix time in seconds.
    pub created: u64,
}

impl Record {
    /// The host's side of the pod.
    pub const fn host_side(&self) -> Pod {
        Pod { link: self.link, mac: self.pod_mac, addresses: self.addresses }
    }

    /// The first address that is in none of `cidrs`, the node's present ones.
    pub fn outside(&self, cidrs: &PerFamily<Option<PodCidr>>) -> Option<IpAddr> {
        let lost = |address: &&IpAddr| !cidrs.get(Family::of(**address)).is_some_and(|cidr| cidr.contains(**address));
        self.addresses.iter().find(lost).copied()
    }
}

/// A record as it is written; every field a text, so that people can read the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RecordText {
    container: String,
    interface: String,
    addresses: Vec<IpAddr>,
    link: String,
    host_mac: String,
    pod_mac: String,
    netns: String,
    pod: String,
    created: u64,
}

impl From<&Record> for RecordText {
    fn from(record: &Record) -> Self {
        Self {
            container: record.key.container().to_owned(),
            interface: record.key.interface().to_string(),
            addresses: record.addresses.iter().copied().collect(),
            link: record.link.to_string(),
            host_mac: record.host_mac.to_string(),
            pod_mac: record.pod_mac.to_string(),
            netns: record.netns.clone(),
            pod: record.pod.clone(),
            created: record.created,
        }
    }
}

impl TryFrom<RecordText> for Record {
    type Error = String;

    fn try_from(text: RecordText) -> Result<Self, String> {
        let mut addresses = PerFamily::<Option<IpAddr>>::default();
        for address in text.addresses {
            if addresses.get_mut(Family::of(address)).replace(address).is_some() {
                return Err(format!("two {} addresses", Family::of(address)));
            }
        }
        Ok(Self {
            key: AttachmentKey::new(&text.container, &text.interface).map_err(|error| error.to_string())?,
            addresses,
            link: text.link.parse().map_err(|error| format!("{error}"))?,
            host_mac: text.host_mac.parse().map_err(|error| format!("{error}"))?,
            pod_mac: text.pod_mac.parse().map_err(|error| format!("{error}"))?,
            netns: text.netns,
            pod: text.pod,
            created: text.created,
        })
    }
}
