//! The peer list from the Kubernetes API.
//!
//! Owns saying how fresh it is: the list is the leader's, and without one it stays as it was. Must never keep that to
//! itself, nor fail because of it: a viewer may lack the right to see the Lease.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{print, render, row::Row};
use crate::{
    args::PeersArgs,
    kubernetes::{Cluster, leader},
};

/// Two lists are at least so far apart, as a controller's are.
const INTERVAL: Duration = Duration::from_millis(500);
/// How often somebody who follows is told that nobody leads, or that somebody does again.
const LEASE_PERIOD: Duration = Duration::from_secs(5);

/// Prints the list once.
pub(super) async fn list(cluster: &Cluster, args: &PeersArgs) -> anyhow::Result<()> {
    let (vteps, absence) = tokio::join!(cluster.vteps(), absence(cluster));
    let rows: Vec<Row> = vteps?.iter().map(Row::from_vtep).collect();
    print(&rows, args)?;
    warn(absence.as_deref());
    Ok(())
}

/// Prints it after every change.
pub(super) async fn watch(cluster: &Cluster, args: &PeersArgs) -> anyhow::Result<()> {
    let mut follow = cluster.follow();
    let mut lease = tokio::time::interval(LEASE_PERIOD);
    lease.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut shown, mut said): (Option<String>, Option<String>) = (None, None);
    let mut next = Instant::now();
    let mut is_news = false;
    loop {
        tokio::select! {
            changed = follow.changed() => {
                changed?;
                is_news = true;
            }
            () = tokio::time::sleep_until(next), if is_news => {
                is_news = false;
                next = Instant::now() + INTERVAL;
                let rows: Vec<Row> = follow.vteps().map(Row::from_vtep).collect();
                // Neither what this form leaves out nor the mere passing of time is a change.
                let visible = render(&rows, args, SystemTime::UNIX_EPOCH)?;
                if shown.as_ref() != Some(&visible) {
                    print(&rows, args)?;
                    shown = Some(visible);
                }
            }
            _ = lease.tick() => {
                let absence = absence(cluster).await;
                if absence != said {
                    match &absence {
                        Some(_) => warn(absence.as_deref()),
                        None => eprintln!("weft: a controller leads again"),
                    }
                    said = absence;
                }
            }
        }
    }
}

/// Why nobody leads, as far as the Lease may be seen.
async fn absence(cluster: &Cluster) -> Option<String> {
    cluster.lease().await.ok().and_then(|lease| leader::absence(&lease, SystemTime::now()))
}

fn warn(absence: Option<&str>) {
    if let Some(absence) = absence {
        eprintln!("weft: {absence}; the list is as it was then");
    }
}
