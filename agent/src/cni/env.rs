//! The environment a runtime runs the plugin with.
//!
//! Owns the parameters of the specification's section "Parameters"; whatever is wrong is code 4 and names the variable.

use std::{collections::BTreeMap, path::PathBuf};

use super::{CniError, Code};
use crate::veth::AttachmentKey;

/// What the runtime wants (CNI_COMMAND).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

/// Looks up a variable; empty ones count as missing.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Command {
    /// Reads CNI_COMMAND.
    pub(super) fn read(env: Lookup<'_>) -> Result<Self, CniError> {
        match required(env, "CNI_COMMAND")?.as_str() {
            "ADD" => Ok(Self::Add),
            "DEL" => Ok(Self::Del),
            "CHECK" => Ok(Self::Check),
            "GC" => Ok(Self::Gc),
            "STATUS" => Ok(Self::Status),
            "VERSION" => Ok(Self::Version),
            other => Err(invalid(format!(
                "CNI_COMMAND is {:?}: use ADD, DEL, CHECK, GC, STATUS or VERSION",
                shortened(other)
            ))),
        }
    }
}

/// CNI_CONTAINERID and CNI_IFNAME.
pub(super) fn attachment(env: Lookup<'_>) -> Result<AttachmentKey, CniError> {
    let (container, interface) = (required(env, "CNI_CONTAINERID")?, required(env, "CNI_IFNAME")?);
    AttachmentKey::new(&container, &interface)
        .map_err(|error| invalid(format!("CNI_CONTAINERID or CNI_IFNAME: {error}")))
}

/// CNI_NETNS, which DEL may lack.
pub(super) fn netns(env: Lookup<'_>) -> Result<Option<PathBuf>, CniError> {
    let Some(text) = env("CNI_NETNS").filter(|text| !text.is_empty()) else { return Ok(None) };
    if !text.starts_with('/') || text.contains('\0') {
        return Err(invalid(format!("CNI_NETNS is {:?}: give an absolute path", shortened(&text))));
    }
    Ok(Some(text.into()))
}

/// CNI_NETNS where the command needs it.
pub(super) fn required_netns(env: Lookup<'_>) -> Result<PathBuf, CniError> {
    netns(env)?.ok_or_else(|| missing("CNI_NETNS"))
}

/// Namespace and name of the pod from CNI_ARGS, for people: empty where the runtime is not Kubernetes'.
pub(super) fn pod_name(env: Lookup<'_>) -> Result<String, CniError> {
    let args = arguments(&env("CNI_ARGS").unwrap_or_default())?;
    let part = |name: &str| args.get(name).cloned().unwrap_or_default();
    match (part("K8S_POD_NAMESPACE"), part("K8S_POD_NAME")) {
        (namespace, name) if namespace.is_empty() || name.is_empty() => Ok(name),
        (namespace, name) => Ok(format!("{namespace}/{name}")),
    }
}

/// CNI_ARGS: `KEY=VALUE;KEY=VALUE`. Addresses cannot be asked for by argument, and saying nothing would deceive.
fn arguments(text: &str) -> Result<BTreeMap<String, String>, CniError> {
    let mut args = BTreeMap::new();
    for pair in text.split(';').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| invalid(format!("CNI_ARGS: {:?} is not of the form KEY=VALUE", shortened(pair))))?;
        if matches!(key, "IP" | "MAC") {
            return Err(invalid(format!("CNI_ARGS: {key} cannot be chosen, Weft allocates: remove it")));
        }
        args.insert(key.to_owned(), value.to_owned());
    }
    Ok(args)
}

fn required(env: Lookup<'_>, name: &str) -> Result<String, CniError> {
    env(name).filter(|value| !value.is_empty()).ok_or_else(|| missing(name))
}

fn missing(name: &str) -> CniError {
    invalid(format!("{name} is not set: weft-cni is run by a container runtime, see the CNI specification"))
}

fn invalid(message: String) -> CniError {
    CniError::new(Code::InvalidEnvironment, message)
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn every_error_names_its_variable() {
        let error = Command::read(&with(&[])).expect_err("missing");
        assert!(error.code == Code::InvalidEnvironment && error.message.contains("CNI_COMMAND"));
        for (name, value) in [("CNI_CONTAINERID", "a/b"), ("CNI_IFNAME", "much-too-long-a-name")] {
            let mut pairs = vec![("CNI_CONTAINERID", "a"), ("CNI_IFNAME", "eth0")];
            pairs.retain(|(key, _)| *key != name);
            pairs.push((name, value));
            assert!(attachment(&with(&pairs)).expect_err(name).message.contains(name));
        }
        assert!(required_netns(&with(&[("CNI_NETNS", "")])).expect_err("empty").message.contains("CNI_NETNS"));
        assert!(netns(&with(&[("CNI_NETNS", "run/netns/x")])).is_err(), "a relative path was accepted");
        assert!(pod_name(&with(&[("CNI_ARGS", "IP=10.0.0.1")])).is_err(), "an address was ignored");
    }

    #[test]
    fn names_the_pod() {
        let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=web;K8S_POD_NAME=shop-0;K8S_POD_UID=";
        assert_eq!(pod_name(&with(&[("CNI_ARGS", args)])).expect("valid"), "web/shop-0");
        assert_eq!(pod_name(&with(&[])).expect("valid"), "");
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,80}") {
            let env = |_: &str| Some(text.clone());
            let _ = (Command::read(&env), attachment(&env), netns(&env), pod_name(&env));
        }
    }
}
