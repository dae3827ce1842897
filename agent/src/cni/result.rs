//! Results: read in any supported version, written in the one that was asked for.
//!
//! Fields of others (a chained plugin's, a later specification's) are kept as they came.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use super::Version;

/// The result of an ADD.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct CniResult {
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub(super) interfaces: Vec<Interface>,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub(super) ips: Vec<Ip>,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub(super) routes: Vec<Route>,
    /// `dns`, `cniVersion` and whatever else.
    #[serde(flatten)]
    pub(super) other: Map<String, Value>,
}

/// An interface, of the host or in the pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Interface {
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mac: Option<String>,
    /// Bytes; from 1.1.0 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mtu: Option<u32>,
    /// Path of the namespace; none for interfaces of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sandbox: Option<String>,
    #[serde(flatten)]
    pub(super) other: Map<String, Value>,
}

/// An address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Ip {
    /// "4" or "6"; up to 0.4.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<String>,
    #[serde(with = "text")]
    pub(super) address: IpNetwork,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) gateway: Option<IpAddr>,
    /// Position in `interfaces`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) interface: Option<usize>,
    #[serde(flatten)]
    pub(super) other: Map<String, Value>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Route {
    #[serde(with = "text")]
    pub(super) dst: IpNetwork,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) gw: Option<IpAddr>,
    #[serde(flatten)]
    pub(super) other: Map<String, Value>,
}

/// Networks as text.
mod text {
    use super::{Deserialize, Deserializer, IpNetwork};

    pub(super) fn serialize<S: serde::Serializer>(network: &IpNetwork, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(network)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<IpNetwork, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Go writes empty lists as null.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl CniResult {
    /// Puts `more` behind what the plugins before in the chain made; its addresses keep pointing at its interfaces.
    #[must_use]
    pub(super) fn followed_by(mut self, more: Self) -> Self {
        let shift = self.interfaces.len();
        self.interfaces.extend(more.interfaces);
        self.ips.extend(more.ips.into_iter().map(|ip| Ip { interface: ip.interface.map(|at| at + shift), ..ip }));
        self.routes.extend(more.routes);
        self
    }

    /// The JSON of `version`.
    pub(super) fn to_json(&self, version: Version) -> String {
        let mut result = self.clone();
        for ip in &mut result.ips {
            let number = if ip.address.is_ipv4() { "4" } else { "6" };
            ip.version = (version < Version::V1_0_0).then(|| number.to_owned());
        }
        for interface in &mut result.interfaces {
            interface.mtu = interface.mtu.filter(|_| version >= Version::V1_1_0);
        }
        result.other.insert("cniVersion".to_owned(), version.as_str().into());
        result.other.entry("dns").or_insert_with(|| json!({}));
        serde_json::to_string(&result).expect("texts and numbers")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> CniResult {
        serde_json::from_value(json!({
            "interfaces": [{"name": "wpod0", "mac": "02:00:00:00:00:01"},
                {"name": "eth0", "mtu": 1450, "sandbox": "/x"}],
            "ips": [{"address": "10.1.0.5/32", "interface": 1}, {"address": "fd00::5/128", "interface": 1}],
            "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.87.1"}],
        }))
        .expect("a result")
    }

    fn written(version: Version) -> Value {
        serde_json::from_str(&sample().to_json(version)).expect("JSON")
    }

    #[test]
    fn each_version_has_its_format() {
        for version in Version::ALL {
            let value = written(version);
            assert_eq!(value["cniVersion"], version.as_str());
            let expected = if version < Version::V1_0_0 { json!("6") } else { Value::Null };
            assert_eq!(value["ips"][1]["version"], expected, "{version}");
            assert_eq!(value["interfaces"][1]["mtu"].is_null(), version < Version::V1_1_0, "{version}");
        }
    }

    #[test]
    fn a_chain_keeps_what_came_before() {
        let before: CniResult = serde_json::from_value(json!({
            "cniVersion": "0.4.0", "interfaces": [{"name": "lo", "x": 1}], "ips": null, "dns": {"domain": "a"}}))
        .expect("a result");
        let both = before.followed_by(sample());
        assert_eq!(both.ips[0].interface, Some(2));
        let value: Value = serde_json::from_str(&both.to_json(Version::V1_0_0)).expect("JSON");
        assert_eq!((&value["interfaces"][0]["x"], &value["dns"]["domain"]), (&json!(1), &json!("a")));
        assert_eq!(value["cniVersion"], "1.0.0");
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,60}") {
            let value = json!({"ips": [{"address": text}], "interfaces": [{"name": text}]});
            let _ = serde_json::from_value::<CniResult>(value);
        }
    }
}
