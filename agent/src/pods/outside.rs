//! Pods that have lost the network because their node has other pod CIDRs by now.
//!
//! Owns their place in what the agent says of its node: where nothing worse is wrong, they are. Must never keep new pods out,
//! which are the remedy.

use std::{collections::BTreeSet, time::Duration};

use tokio::sync::watch;
use weft_proto::{reason::PODS_OUTSIDE_CIDR, v1};

use super::{HostSide, PodService, Record};
use crate::{controller::Standing, engine::Status};

/// While there are such pods, they are counted again so often: they go one by one.
const AGAIN: Duration = Duration::from_secs(5);
/// So many are named.
const NAMED: usize = 8;

/// Completes what the engine says of the node. Runs until the engine is gone.
pub(crate) async fn run<H: HostSide>(
    service: std::sync::Arc<PodService<H>>,
    mut status: watch::Receiver<Status>,
    mut engine: watch::Receiver<Standing>,
    told: watch::Sender<Standing>,
) {
    loop {
        let cidrs = status.borrow_and_update().pod_cidrs;
        let outside = service.outside();
        let health = with(engine.borrow_and_update().health.clone(), &outside);
        let standing = Standing { health, ..engine.borrow().clone() };
        told.send_if_modified(|before| {
            let is_new = *before != standing;
            *before = standing;
            is_new
        });
        tokio::select! {
            changed = engine.changed() => if changed.is_err() { return },
            moved = status.wait_for(|status| status.pod_cidrs != cidrs) => if moved.is_err() { return },
            () = tokio::time::sleep(AGAIN), if !outside.is_empty() => {}
        }
    }
}

fn with(health: v1::Health, outside: &[Record]) -> v1::Health {
    if outside.is_empty() || !health.reason.is_empty() {
        return health;
    }
    v1::Health { reason: PODS_OUTSIDE_CIDR.to_owned(), message: message(outside), ..health }
}

fn message(outside: &[Record]) -> String {
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
            key: crate::pods::AttachmentKey::new(&format!("c{number}"), "eth0").expect("a key"),
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
    fn what_is_worse_is_told_first() {
        let outside = [pod(2)];
        let told = with(v1::Health::default(), &outside);
        assert_eq!(told.reason, PODS_OUTSIDE_CIDR);
        assert!(told.message.starts_with("1 pod has lost the network"), "{}", told.message);
        let worse = v1::Health { reason: "KernelDiffers".to_owned(), ..v1::Health::default() };
        assert_eq!(with(worse.clone(), &outside), worse);
        assert_eq!(with(v1::Health::default(), &[]), v1::Health::default());
    }

    #[test]
    fn a_few_are_named_and_all_are_counted() {
        let outside: Vec<Record> = (0..20).map(pod).collect();
        let told = message(&outside);
        assert!(told.starts_with("20 pods have") && told.contains("shop/p07 and 12 more"), "{told}");
    }
}
