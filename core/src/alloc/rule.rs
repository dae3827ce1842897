//! A pool and the nodes it is for.
//!
//! Owns the text form, `10.245.0.0/16=26 zone=b`: a pool, and behind a space a selector where it is not for all nodes.

use std::{collections::BTreeMap, fmt, str::FromStr};

use super::{Pool, PoolError, Selector};

/// A pool and which nodes may have pod CIDRs of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolRule {
    /// The pool.
    pub pool: Pool,
    /// Which nodes it is for.
    pub selector: Selector,
}

impl PoolRule {
    /// True where a node with these labels may have a pod CIDR of the pool.
    pub fn serves(&self, labels: &BTreeMap<String, String>) -> bool {
        self.selector.matches(labels)
    }
}

impl From<Pool> for PoolRule {
    /// A pool for all nodes.
    fn from(pool: Pool) -> Self {
        Self { pool, selector: Selector::default() }
    }
}

impl FromStr for PoolRule {
    type Err = PoolError;

    fn from_str(text: &str) -> Result<Self, PoolError> {
        let text = text.trim();
        let (pool, selector) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let pool: Pool = pool.parse()?;
        let selector = selector.parse().map_err(|error| PoolError::Selector(pool, error))?;
        Ok(Self { pool, selector })
    }
}

impl fmt::Display for PoolRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let space = if self.selector.is_empty() { "" } else { " " };
        write!(f, "{}{space}{}", self.pool, self.selector)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_names_what_is_wrong() {
        for text in ["10.244.0.0/16=24", "10.245.0.0/16=26 rack!=7,zone=b"] {
            assert_eq!(text.parse::<PoolRule>().expect(text).to_string(), text);
        }
        let rule: PoolRule = "10.245.0.0/16=26 zone=b".parse().expect("a rule");
        assert!(rule.serves(&BTreeMap::from([("zone".to_owned(), "b".to_owned())])));
        assert!(!rule.serves(&BTreeMap::new()));
        let error = "10.245.0.0/16=26 zone".parse::<PoolRule>().expect_err("no requirement").to_string();
        assert!(error.contains("10.245.0.0/16=26") && error.contains("KEY=VALUE"), "{error}");
    }
}
