//! The term and the settings, in the ConfigMap of the cluster.
//!
//! Owns these two keys of it and leaves every other as it is: the uninstallation's are there too. A term is taken by a
//! replacement on condition of the version that was read, so that two leaders cannot take the same. Must never create
//! the object: it is the installation's, and where it is missing Weft is not installed.

use k8s_openapi::{
    api::core::v1::ConfigMap,
    serde_json::{self, Value, json},
};
use kube::{Api, Client, api::PostParams};
use weft_api::names::{CLUSTER, EPOCH, SETTINGS};
use weft_core::{encap::Encapsulation, membership::More, settings::Settings};

use super::{
    error::{ApiProblem, failed},
    table::{MANAGER, patiently},
};
use crate::store::{StoreError, Write};

/// How often a replacement is tried over changes of other keys.
const TRIES: usize = 5;

/// The ConfigMap as it was last seen.
pub(super) struct Term {
    api: Api<ConfigMap>,
    store: String,
    known: ConfigMap,
    pub(super) epoch: u64,
    pub(super) settings: Option<Settings>,
}

impl Term {
    pub(super) fn new(client: &Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client.clone(), namespace),
            store: format!("kubernetes:{namespace}"),
            known: ConfigMap::default(),
            epoch: 0,
            settings: None,
        }
    }

    /// Reads it anew.
    pub(super) async fn read(&mut self) -> Result<(), StoreError> {
        let found = patiently(|| self.api.get_opt(CLUSTER)).await;
        let found = found.map_err(|error| failed(format!("read ConfigMap {CLUSTER}"), &error))?;
        self.known = found.ok_or_else(|| ApiProblem::NotInstalled { store: self.store.clone() })?;
        let value = |key: &str| self.known.data.as_ref().and_then(|data| data.get(key)).map(|text| text.trim());
        self.epoch = match value(EPOCH).filter(|text| !text.is_empty()) {
            None => 0,
            Some(text) => text.parse().map_err(|_| self.damaged(EPOCH, text, "a whole number"))?,
        };
        // They are told anew at the beginning of every term; nothing depends on the old ones.
        self.settings = value(SETTINGS).and_then(|text| settings(&serde_json::from_str(text).ok()?));
        Ok(())
    }

    fn damaged(&self, key: &str, text: &str, wanted: &str) -> StoreError {
        let text: String = text.chars().take(32).collect();
        let detail = format!(
            "key {key} of ConfigMap {CLUSTER} holds {text:?} instead of {wanted}: put there the highest number that the agents' logs name as epoch, or remove the key"
        );
        StoreError::Damaged { store: self.store.clone(), detail }
    }

    /// Writes what of a batch belongs here.
    pub(super) async fn write(&mut self, batch: &[Write]) -> Result<(), StoreError> {
        let (before, mut epoch, mut fresh) = (self.epoch, self.epoch, self.settings.clone());
        for write in batch {
            match write {
                Write::Epoch(next) => epoch = *next,
                Write::Settings(next) => fresh = Some(next.clone()),
                _ => {}
            }
        }
        if (epoch, &fresh) == (before, &self.settings) {
            return Ok(());
        }
        for _ in 0..TRIES {
            let mut next = self.known.clone();
            let data = next.data.get_or_insert_default();
            data.insert(EPOCH.to_owned(), epoch.to_string());
            data.extend(fresh.as_ref().map(|settings| (SETTINGS.to_owned(), json(settings).to_string())));
            next.metadata.managed_fields = None;
            let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
            match patiently(|| self.api.replace(CLUSTER, &params, &next)).await {
                Ok(written) => {
                    (self.known, self.epoch, self.settings) = (written, epoch, fresh);
                    return Ok(());
                }
                Err(kube::Error::Api(status)) if status.is_conflict() => self.read().await?,
                Err(error) => return Err(failed(format!("change ConfigMap {CLUSTER}"), &error)),
            }
            if self.epoch != before {
                let detail = format!("term {} was taken by another controller, after {before}", self.epoch);
                return Err(ApiProblem::Conflict { operation: format!("change ConfigMap {CLUSTER}"), detail }.into());
            }
        }
        let detail = format!("it changed {TRIES} times meanwhile");
        Err(ApiProblem::Conflict { operation: format!("change ConfigMap {CLUSTER}"), detail }.into())
    }
}

fn json(settings: &Settings) -> Value {
    let Encapsulation::Vxlan { vni, port, outer } = settings.encapsulation;
    let mut value = json!({
        "pools": settings.pools.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "mode": settings.mode.to_string(),
        "vni": vni.get(),
        "port": port,
        "outerFamily": if outer == weft_core::types::Family::V4 { "ipv4" } else { "ipv6" },
    });
    if !settings.more.is_empty() {
        value["more"] = settings.more.octets().into();
    }
    value
}

/// What later versions say, as numbers; nothing where version 0.1 wrote it.
fn more(value: &Value) -> Option<More> {
    let Some(octets) = value.get("more") else { return Some(More::default()) };
    let octet = |number: &Value| u8::try_from(number.as_u64()?).ok();
    Some(More::new(octets.as_array()?.iter().map(octet).collect::<Option<Vec<u8>>>()?))
}

fn settings(value: &Value) -> Option<Settings> {
    use weft_core::types::{Family, Vni};
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let number = |key: &str| value.get(key).and_then(Value::as_u64);
    let pools = value.get("pools")?.as_array()?.iter().map(|pool| pool.as_str()?.parse().ok());
    Some(Settings {
        pools: pools.collect::<Option<_>>()?,
        mode: text("mode")?.parse().ok()?,
        encapsulation: Encapsulation::Vxlan {
            vni: Vni::new(u32::try_from(number("vni")?).ok()?).ok()?,
            port: u16::try_from(number("port")?).ok()?,
            outer: match text("outerFamily")? {
                "ipv4" => Family::V4,
                "ipv6" => Family::V6,
                _ => return None,
            },
        },
        more: more(value)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_version_0_1_are_read_and_what_later_versions_say_is_kept() {
        let text = r#"{"pools":["10.244.0.0/16"],"mode":"always","vni":87,"port":4789,"outerFamily":"ipv6"}"#;
        let old = settings(&serde_json::from_str(text).expect("JSON")).expect("settings");
        assert_eq!(json(&old), serde_json::from_str::<Value>(text).expect("JSON"), "a rollback would not read it");
        let more = Settings { more: More::new([8, 200]), ..old };
        assert_eq!(settings(&json(&more)), Some(more));
    }
}
