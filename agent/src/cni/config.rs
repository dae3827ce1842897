//! The network configuration on standard input.
//!
//! Owns its strict reading. A field we do not know is refused by name and value (code 2), so that a misspelt or
//! wished-for setting does not vanish; fields with a namespace (`cni.dev/…`, `io.kubernetes.cri.…`) belong to others
//! and pass.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{CniError, Code, Version, result::CniResult};
use crate::veth::{AttachmentKey, is_identifier};

/// Where the agent listens unless the configuration says otherwise.
pub(super) const DEFAULT_SOCKET: &str = "/run/weft/agent.sock";
/// The attachments a runtime still knows, for GC (specification 1.1, section "GC").
const VALID: &str = "cni.dev/valid-attachments";
/// Fields that runtimes add or that need nothing from us.
const PASSING: [&str; 6] = ["type", "capabilities", "args", "disableCheck", "disableGC", "cniVersions"];

/// A network configuration as a plugin gets it.
#[derive(Debug)]
pub(super) struct Config {
    /// `cniVersion`: how to answer.
    pub(super) version: Version,
    /// The agent's socket.
    pub(super) socket: PathBuf,
    /// `prevResult`: of the plugin before in a chain (ADD), or of the ADD (CHECK, DEL).
    pub(super) previous: Option<CniResult>,
    /// For GC: the attachments to keep.
    pub(super) valid: Option<Vec<AttachmentKey>>,
}

/// The version in a configuration, so that even an error about the rest can be answered in it.
pub(super) fn version(stdin: &[u8]) -> Result<(Version, Map<String, Value>), CniError> {
    let fields: Map<String, Value> = serde_json::from_slice(stdin).map_err(|error| {
        CniError::new(Code::Decode, "standard input is not a CNI network configuration (a JSON object)").because(error)
    })?;
    // The specification: a configuration without a version is of 0.1.0.
    let text = match fields.get("cniVersion") {
        None => "0.1.0",
        Some(Value::String(text)) => text,
        Some(other) => return Err(wrong_type("cniVersion", "a string", other)),
    };
    Ok((Version::parse(text)?, fields))
}

impl Config {
    /// Reads the fields of a configuration.
    pub(super) fn read(version: Version, fields: Map<String, Value>) -> Result<Self, CniError> {
        let mut config = Self { version, socket: DEFAULT_SOCKET.into(), previous: None, valid: None };
        let mut named = false;
        for (key, value) in fields {
            match key.as_str() {
                "cniVersion" => {}
                "name" => named = name(&value)?,
                "socket" => config.socket = socket(&value)?,
                "prevResult" => config.previous = previous(value)?,
                VALID => config.valid = Some(valid(value)?),
                "runtimeConfig" => runtime_config(&value)?,
                "ipam" | "dns" if is_empty(&value) => {}
                "ipMasq" if value == Value::Bool(false) => {}
                other if PASSING.contains(&other) || other.contains(['/', '.']) => {}
                other => return Err(unsupported(other, &value)),
            }
        }
        if named { Ok(config) } else { Err(invalid("name is missing: name the network, for instance \"weft\"")) }
    }
}

fn name(value: &Value) -> Result<bool, CniError> {
    let text = value.as_str().ok_or_else(|| wrong_type("name", "a string", value))?;
    if is_identifier(text) { Ok(true) } else { Err(invalid(format!("name {} is not valid", shown(value)))) }
}

fn socket(value: &Value) -> Result<PathBuf, CniError> {
    match value.as_str() {
        Some(text) if text.starts_with('/') && text.len() < 108 && !text.contains('\0') => Ok(text.into()),
        _ => {
            Err(invalid(format!("socket {} is not valid: give an absolute path of less than 108 bytes", shown(value))))
        }
    }
}

fn previous(value: Value) -> Result<Option<CniResult>, CniError> {
    if value.is_null() {
        return Ok(None);
    }
    serde_json::from_value(value)
        .map(Some)
        .map_err(|error| CniError::new(Code::Decode, "prevResult is not a CNI result").because(error))
}

fn valid(value: Value) -> Result<Vec<AttachmentKey>, CniError> {
    #[derive(Deserialize)]
    struct Entry {
        #[serde(rename = "containerID")]
        container_id: String,
        ifname: String,
    }
    let entries: Option<Vec<Entry>> = serde_json::from_value(value)
        .map_err(|error| CniError::new(Code::Decode, format!("{VALID} is not a list of attachments")).because(error))?;
    let key = |entry: Entry| {
        AttachmentKey::new(&entry.container_id, &entry.ifname).map_err(|error| invalid(format!("{VALID}: {error}")))
    };
    entries.unwrap_or_default().into_iter().map(key).collect()
}

/// Wishes that would change the answer are refused, capabilities we did not declare and others pass.
fn runtime_config(value: &Value) -> Result<(), CniError> {
    let wishes = ["ips", "mac"].into_iter().find_map(|key| value.get(key).map(|wish| (key, wish)));
    match wishes {
        Some((key, wish)) if !is_empty(wish) => Err(unsupported(&format!("runtimeConfig.{key}"), wish)),
        _ => Ok(()),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn unsupported(key: &str, value: &Value) -> CniError {
    CniError::new(
        Code::UnsupportedField,
        format!("field {key} = {} is not supported: remove it from the network configuration", shown(value)),
    )
}

fn invalid(message: impl Into<String>) -> CniError {
    CniError::new(Code::InvalidConfig, message)
}

fn wrong_type(key: &str, expected: &str, value: &Value) -> CniError {
    CniError::new(Code::Decode, format!("field {key} is {}: give {expected}", shown(value)))
}

fn shown(value: &Value) -> String {
    value.to_string().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Config, CniError> {
        let (version, fields) = version(text.as_bytes())?;
        Config::read(version, fields)
    }

    #[test]
    fn each_mistake_has_its_code() {
        let code = |text: &str| read(text).expect_err(text).code;
        assert_eq!(code("{"), Code::Decode);
        assert_eq!(code("[]"), Code::Decode);
        assert_eq!(code(r#"{"cniVersion":3,"name":"weft"}"#), Code::Decode);
        assert_eq!(code(r#"{"name":"weft"}"#), Code::IncompatibleVersion);
        assert_eq!(code(r#"{"cniVersion":"2.0.0","name":"weft"}"#), Code::IncompatibleVersion);
        assert_eq!(code(r#"{"cniVersion":"1.0.0"}"#), Code::InvalidConfig);
        assert_eq!(code(r#"{"cniVersion":"1.0.0","name":"a b"}"#), Code::InvalidConfig);
        assert_eq!(code(r#"{"cniVersion":"1.0.0","name":"weft","socket":"agent.sock"}"#), Code::InvalidConfig);
        assert_eq!(
            code(r#"{"cniVersion":"1.0.0","name":"weft","ipam":{"type":"host-local"}}"#),
            Code::UnsupportedField
        );
        assert_eq!(
            code(r#"{"cniVersion":"1.0.0","name":"weft","runtimeConfig":{"mac":"02:00:00:00:00:01"}}"#),
            Code::UnsupportedField
        );
        assert_eq!(code(r#"{"cniVersion":"1.0.0","name":"weft","prevResult":{"ips":3}}"#), Code::Decode);
    }

    #[test]
    fn an_unsupported_field_is_named_with_its_value() {
        let error = read(r#"{"cniVersion":"1.0.0","name":"weft","sokcet":"/x"}"#).expect_err("misspelt");
        assert!(error.message.contains("sokcet") && error.message.contains("/x"), "{error}");
    }

    #[test]
    fn takes_what_runtimes_send() {
        let text = r#"{"cniVersion":"1.1.0","name":"weft","type":"weft-cni","socket":"/run/weft/agent.sock",
            "capabilities":{"portMappings":true},"runtimeConfig":{"portMappings":[]},"args":{},"ipam":{},"dns":{},
            "cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"}],
            "cni.dev/attachments":[],"prevResult":null}"#;
        let config = read(text).expect("valid");
        assert_eq!(config.valid.expect("given"), [AttachmentKey::new("a", "eth0").expect("valid")]);
        assert!(config.previous.is_none());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = version(&bytes);
        }

        #[test]
        fn never_panics_on_json(key in "[a-zA-Z/.]{0,12}", text in "\\PC{0,40}") {
            for key in [key.as_str(), "socket", "prevResult", "runtimeConfig", VALID, "ipam"] {
                for value in [Value::from(text.as_str()), Value::from(vec![text.as_str()]), Value::from(7)] {
                    let fields = [("name".to_owned(), "weft".into()), (key.to_owned(), value)];
                    let _ = Config::read(Version::LATEST, fields.into_iter().collect());
                }
            }
        }
    }
}
