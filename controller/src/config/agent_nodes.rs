//! Which Nodes have an agent: the nodeSelector and the required node affinity of the agents' pods.
//!
//! Owns reading and evaluating both as the scheduler does. Pure. Must never take a Node in of which it says no: on a simulated
//! one, or one without a kernel of ours, no agent will ever run.

use std::{collections::BTreeMap, str::FromStr};

use k8s_openapi::{
    api::core::v1::{Affinity, NodeSelectorRequirement, NodeSelectorTerm},
    serde::Deserialize,
    serde_json,
};

/// The Nodes that agents run on; all unless something was said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentNodes {
    labels: BTreeMap<String, String>,
    /// Any of these, where there is one.
    terms: Vec<Term>,
}

/// All of these; an empty one matches nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Term(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    /// A label, or none for the Node's name.
    label: Option<String>,
    operator: Operator,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Operator {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    Gt(i64),
    Lt(i64),
}

/// As the chart writes it.
#[derive(Deserialize)]
#[serde(crate = "k8s_openapi::serde", rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    #[serde(default)]
    node_selector: BTreeMap<String, String>,
    #[serde(default)]
    affinity: Option<Affinity>,
}

impl AgentNodes {
    /// True where the scheduler could put an agent on a Node with this name and these labels.
    pub(crate) fn includes(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        let has_labels = self.labels.iter().all(|(key, value)| labels.get(key) == Some(value));
        has_labels && (self.terms.is_empty() || self.terms.iter().any(|term| term.matches(name, labels)))
    }
}

impl Term {
    fn matches(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        !self.0.is_empty() && self.0.iter().all(|requirement| requirement.is_met(name, labels))
    }
}

impl Requirement {
    fn is_met(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        let value = match &self.label {
            None => Some(name),
            Some(key) => labels.get(key).map(String::as_str),
        };
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.operator {
            Operator::In(values) => value.is_some_and(|value| values.iter().any(|one| one == value)),
            Operator::NotIn(values) => value.is_none_or(|value| values.iter().all(|one| one != value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt(least) => number().is_some_and(|number| number > *least),
            Operator::Lt(most) => number().is_some_and(|number| number < *most),
        }
    }
}

/// Why a text says of no Nodes that agents run there.
#[derive(Debug, thiserror::Error)]
pub enum AgentNodesError {
    /// It has another form.
    #[error("{0}: give nodeSelector and affinity of the agents' pods as JSON")]
    Form(#[from] serde_json::Error),
    /// The scheduler does not know such a field of a Node.
    #[error("matchFields knows metadata.name only, not {0}")]
    Field(String),
    /// The operator compares numbers.
    #[error("{key} {operator} {value}: give a whole number")]
    Number {
        /// What is compared.
        key: String,
        /// How.
        operator: String,
        /// With what.
        value: String,
    },
    /// The operator takes one.
    #[error("{key} {operator}: give one value")]
    Values {
        /// What is compared.
        key: String,
        /// How.
        operator: String,
    },
    /// Nothing can be compared so.
    #[error("{key}: {operator:?} is no operator of a node selector")]
    Operator {
        /// What is compared.
        key: String,
        /// How.
        operator: String,
    },
}

impl FromStr for AgentNodes {
    type Err = AgentNodesError;

    fn from_str(text: &str) -> Result<Self, AgentNodesError> {
        let written: Written = serde_json::from_str(text)?;
        let required = written
            .affinity
            .and_then(|affinity| affinity.node_affinity)
            .and_then(|nodes| nodes.required_during_scheduling_ignored_during_execution);
        let terms = required.map(|required| required.node_selector_terms).unwrap_or_default();
        Ok(Self { labels: written.node_selector, terms: terms.into_iter().map(term).collect::<Result<_, _>>()? })
    }
}

fn term(written: NodeSelectorTerm) -> Result<Term, AgentNodesError> {
    let labels = written.match_expressions.unwrap_or_default().into_iter().map(|one| requirement(one, false));
    let fields = written.match_fields.unwrap_or_default().into_iter().map(|one| requirement(one, true));
    labels.chain(fields).collect::<Result<_, _>>().map(Term)
}

fn requirement(written: NodeSelectorRequirement, is_field: bool) -> Result<Requirement, AgentNodesError> {
    let NodeSelectorRequirement { key, operator, values } = written;
    if is_field && key != "metadata.name" {
        return Err(AgentNodesError::Field(key));
    }
    let values = values.unwrap_or_default();
    let compared = || (key.clone(), operator.clone());
    let number = || match values.as_slice() {
        [value] => value.parse().map_err(|_| {
            let (key, operator) = compared();
            AgentNodesError::Number { key, operator, value: value.clone() }
        }),
        _ => {
            let (key, operator) = compared();
            Err(AgentNodesError::Values { key, operator })
        }
    };
    let operator = match operator.as_str() {
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::Gt(number()?),
        "Lt" => Operator::Lt(number()?),
        "In" => Operator::In(values),
        "NotIn" => Operator::NotIn(values),
        _ => return Err(AgentNodesError::Operator { key, operator }),
    };
    Ok(Requirement { label: (!is_field).then_some(key), operator })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the chart writes of its defaults.
    const DEFAULTS: &str = r#"{"nodeSelector":{"kubernetes.io/os":"linux"},"affinity":{"nodeAffinity":{
        "requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[
            {"key":"type","operator":"NotIn","values":["virtual-kubelet","kwok"]},
            {"key":"eks.amazonaws.com/compute-type","operator":"NotIn","values":["fargate"]}]}]}}}}"#;

    fn labels(text: &str) -> BTreeMap<String, String> {
        text.split_whitespace().filter_map(|pair| pair.split_once('=')).map(|(a, b)| (a.into(), b.into())).collect()
    }

    #[test]
    fn nodes_without_an_agent_are_left_out() {
        let nodes: AgentNodes = DEFAULTS.parse().expect("sound");
        for (node, expected) in [
            ("kubernetes.io/os=linux", true),
            ("kubernetes.io/os=linux type=worker", true),
            ("kubernetes.io/os=windows", false),
            ("kubernetes.io/os=linux type=virtual-kubelet", false),
            ("kubernetes.io/os=linux type=kwok", false),
            ("kubernetes.io/os=linux eks.amazonaws.com/compute-type=fargate", false),
            ("", false),
        ] {
            assert_eq!(nodes.includes("n", &labels(node)), expected, "{node}");
        }
        assert!(AgentNodes::default().includes("n", &labels("")));
    }

    #[test]
    fn every_operator_means_what_the_scheduler_takes_it_for() {
        let one = |requirement: &str| -> AgentNodes {
            let terms = format!(r#"{{"nodeSelectorTerms":[{{"matchExpressions":[{requirement}]}}]}}"#);
            let required = format!(r#"{{"requiredDuringSchedulingIgnoredDuringExecution":{terms}}}"#);
            format!(r#"{{"affinity":{{"nodeAffinity":{required}}}}}"#).parse().expect("sound")
        };
        for (requirement, with, without) in [
            (r#"{"key":"a","operator":"In","values":["1","2"]}"#, "a=2", "a=3"),
            (r#"{"key":"a","operator":"Exists"}"#, "a=2", "b=2"),
            (r#"{"key":"a","operator":"DoesNotExist"}"#, "b=2", "a=2"),
            (r#"{"key":"a","operator":"Gt","values":["7"]}"#, "a=8", "a=7"),
            (r#"{"key":"a","operator":"Lt","values":["7"]}"#, "a=6", "a=x"),
        ] {
            assert!(one(requirement).includes("n", &labels(with)), "{requirement}");
            assert!(!one(requirement).includes("n", &labels(without)), "{requirement}");
        }
        assert!(!one("").includes("n", &labels("a=1")), "an empty term matches nothing");
        for wrong in ["", "7", r#"{"nodeselector":{}}"#] {
            assert!(wrong.parse::<AgentNodes>().is_err(), "{wrong:?}");
        }
    }
}
