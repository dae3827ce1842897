//! Nodes as API servers tell of them.

use k8s_openapi::serde_json::{self, json};

use super::*;

/// A Node with these pod CIDRs and addresses.
pub(in super::super) fn node(name: &str, cidrs: &[&str], addresses: &[&str]) -> Node {
    let addresses: Vec<_> =
        addresses.iter().map(|address| json!({ "type": "InternalIP", "address": address })).collect();
    serde_json::from_value(json!({
        "metadata": { "name": name, "uid": format!("uid-{name}"), "creationTimestamp": "2024-01-02T03:04:05Z" },
        "spec": { "podCIDR": cidrs.first(), "podCIDRs": cidrs },
        "status": { "addresses": addresses },
    }))
    .expect("a Node")
}

#[test]
fn reads_what_matters() {
    let mut object = node("a", &["10.244.1.0/24", "fd00::/64"], &["192.0.2.1", "host-a", "2001:db8::1"]);
    let read = seen(&object).expect("a sound Node");
    assert_eq!((read.name.as_str(), read.uid.as_str(), read.created_unix), ("a", "uid-a", 1_704_164_645));
    assert_eq!(read.pod_cidrs.iter().count(), 2);
    assert_eq!(read.addresses.len(), 2, "a host name was taken for an address");
    assert!(!read.cidrs_are_ours);
    object.metadata.annotations = Some([(ALLOCATOR_ANNOTATION.to_owned(), ALLOCATOR.to_owned())].into());
    assert!(seen(&object).expect("a sound Node").cidrs_are_ours);
    assert!(seen(&node("b", &[], &[])).expect("a new Node").pod_cidrs.is_empty());
}

#[test]
fn a_single_cidr_without_the_list_counts() {
    let mut object = node("a", &[], &[]);
    object.spec.as_mut().expect("a spec").pod_cidr = Some("10.244.1.0/24".to_owned());
    assert_eq!(seen(&object).expect("a sound Node").pod_cidrs.iter().count(), 1);
}

#[test]
fn what_cannot_be_a_pod_cidr_is_refused_with_its_remedy() {
    for (cidrs, word) in [
        (&["10.244.1.1/24"][..], "host bits"),
        (&["10.244.1.0"], "10.244.1.0"),
        (&["10.244.1.0/24", "10.244.2.0/24"], "two of IPv4"),
        (&["127.0.0.0/24"], "loopback"),
    ] {
        let refusal = seen(&node("a", cidrs, &[])).expect_err(word);
        assert!(matches!(refusal, Refusal::NodeInvalid { .. }));
        let text = refusal.to_string();
        assert!(text.contains(word) && text.contains("Node a") && text.contains("delete it"), "{text}");
    }
}
