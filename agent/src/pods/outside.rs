//! Pods that have lost the network because their node has other pod CIDRs by now.
//!
//! Owns the sentence about them. Must never keep new pods out, which are the remedy.

use std::collections::BTreeSet;

use super::Record;

/// So many are named.
const NAMED: usize = 8;

/// How many there are, which, and what to do; there is one at least.
pub(crate) fn left_behind(outside: &[Record]) -> String {
    let names: BTreeSet<&str> = outside.iter().map(|record| record.pod.as_str()).collect();
    let mut named = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    if names.len() > NAMED {
        named = format!("{named} and {} more", names.len() - NAMED);
    }
    let pods = if outside.len() == 1 { "1 pod has" } else { &format!("{} pods have", outside.len()) };
    format!(
        "{pods} lost the network, with addresses outside this node's present pod CIDRs: delete {named}, so that they are made anew"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(number: u8) -> Record {
        let address = format!("10.244.1.{number}").parse().expect("an address");
        Record {
            key: crate::veth::AttachmentKey::new(&format!("c{number}"), "eth0").expect("a key"),
            addresses: weft_core::types::PerFamily { v4: Some(address), v6: None },
            link: "wpod1".parse().expect("a name"),
            host_mac: "02:00:00:00:00:01".parse().expect("a MAC"),
            pod_mac: "02:00:00:00:00:02".parse().expect("a MAC"),
            netns: "/run/netns/p".to_owned(),
            pod: format!("shop/p{number:02}"),
            created: 1,
        }
    }

    #[test]
    fn a_few_are_named_and_all_are_counted() {
        let outside: Vec<Record> = (0..20).map(pod).collect();
        let told = left_behind(&outside);
        assert!(left_behind(&[pod(2)]).starts_with("1 pod has lost the network"));
        assert!(told.starts_with("20 pods have") && told.contains("shop/p07 and 12 more"), "{told}");
    }
}
