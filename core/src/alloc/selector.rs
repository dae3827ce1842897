//! Which nodes a pool is for: an equality selector over their labels.
//!
//! Owns the text form, `zone=b,rack!=7`, and what it matches, both as Kubernetes has them: `==` is another spelling of
//! `=`, and `!=` is also true of a node without the label. Must never know where labels come from.

use std::{collections::BTreeMap, fmt, str::FromStr};

use crate::types::NodeName;

/// Requirements that must all be met; none are met by every node.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Requirement {
    key: String,
    value: String,
    equal: bool,
}

/// Why a text is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// A part has no operator.
    #[error("{0:?} is no requirement: give KEY=VALUE or KEY!=VALUE, several joined by commas, such as zone=b,rack!=7")]
    Syntax(String),
    /// What stands before the operator can be no label's key.
    #[error(
        "{0:?} is no label key: use at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit, optionally after a DNS subdomain and '/'"
    )]
    Key(String),
    /// What stands behind the operator can be no label's value.
    #[error(
        "{0:?} is no label value: use at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit, or nothing"
    )]
    Value(String),
}

impl Selector {
    /// True of every node.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True where a node with these labels meets every requirement.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|wanted| (labels.get(&wanted.key) == Some(&wanted.value)) == wanted.equal)
    }
}

impl Requirement {
    fn parse(text: &str) -> Result<Self, SelectorError> {
        let (key, value, equal) = match (text.split_once("!="), text.split_once('=')) {
            (Some((key, value)), _) => (key, value, false),
            (None, Some((key, value))) => (key, value.strip_prefix('=').unwrap_or(value), true),
            (None, None) => return Err(SelectorError::Syntax(short(text))),
        };
        let (key, value) = (key.trim(), value.trim());
        if !is_key(key) {
            return Err(SelectorError::Key(short(key)));
        }
        if !value.is_empty() && !is_word(value) {
            return Err(SelectorError::Value(short(value)));
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned(), equal })
    }
}

/// A message quotes the beginning only.
fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

fn is_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => NodeName::new(prefix).is_ok() && is_word(name),
        None => is_word(key),
    }
}

fn is_word(text: &str) -> bool {
    let alphanumeric = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && alphanumeric(bytes.first())
        && alphanumeric(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

impl FromStr for Selector {
    type Err = SelectorError;

    /// Reads requirements joined by commas; an empty text has none.
    fn from_str(text: &str) -> Result<Self, SelectorError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let mut requirements =
            text.split(',').map(|part| Requirement::parse(part.trim())).collect::<Result<Vec<_>, _>>()?;
        // One spelling: equal selectors compare equal however they were written.
        requirements.sort_unstable();
        requirements.dedup();
        Ok(Self(requirements))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Requirement { key, value, equal }) in self.0.iter().enumerate() {
            let (comma, operator) = (if at == 0 { "" } else { "," }, if *equal { "=" } else { "!=" });
            write!(f, "{comma}{key}{operator}{value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn selector(text: &str) -> Selector {
        text.parse().expect(text)
    }

    #[test]
    fn all_requirements_must_be_met() {
        let wanted = selector("zone=b, rack!=7");
        assert!(wanted.matches(&labels(&[("zone", "b"), ("rack", "6")])));
        assert!(wanted.matches(&labels(&[("zone", "b")])), "a node without the label is not equal");
        assert!(!wanted.matches(&labels(&[("zone", "b"), ("rack", "7")])));
        assert!(!wanted.matches(&labels(&[("zone", "a"), ("rack", "6")])));
        assert!(!wanted.matches(&labels(&[])));
        assert!(selector("").matches(&labels(&[])));
    }

    #[test]
    fn an_empty_value_is_a_value() {
        let wanted = selector("node-role.kubernetes.io/control-plane=");
        assert!(wanted.matches(&labels(&[("node-role.kubernetes.io/control-plane", "")])));
        assert!(!wanted.matches(&labels(&[])));
    }

    #[test]
    fn a_selector_has_one_spelling() {
        assert_eq!(selector(" b==2 ,a!=1,b=2"), selector("a!=1,b=2"));
        assert_eq!(selector("b==2,a!=1").to_string(), "a!=1,b=2");
    }

    #[test]
    fn what_can_be_no_label_is_named() {
        let error = |text: &str| text.parse::<Selector>().expect_err(text);
        assert_eq!(error("zone=b,"), SelectorError::Syntax(String::new()));
        assert_eq!(error("zone"), SelectorError::Syntax("zone".to_owned()));
        assert_eq!(error("=b"), SelectorError::Key(String::new()));
        assert_eq!(error("a/b/c=d"), SelectorError::Key("a/b/c".to_owned()));
        assert_eq!(error("UPPER.prefix/x=d"), SelectorError::Key("UPPER.prefix/x".to_owned()));
        assert_eq!(error("zone=b c"), SelectorError::Value("b c".to_owned()));
        assert_eq!(error("zone=a=b"), SelectorError::Value("a=b".to_owned()));
        assert_eq!(error(&format!("zone={}", "x".repeat(64))), SelectorError::Value("x".repeat(64)));
    }
}
