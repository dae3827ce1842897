//! The look at the objects that hold what the cluster lives on.
//!
//! Owns what is done where `kubectl replace`, `helm upgrade --force` and their like have emptied them: what is absent is put
//! back, what differs is named, and an Event tells of both. Must never change a value that is there, nor do anything after
//! its term.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use kube::{Api, Client, api::PostParams};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};
use weft_api::names;

use super::{AuthorityError, Objects};
use crate::{
    kubernetes::{events::Events, is_conflict},
    leader::{Fence, Role},
    pki::Authority,
};

/// Between two looks of the leader.
const LOOK: Duration = Duration::from_secs(3);
/// Between two looks of a standby: the leader should have come first.
const LOOK_OF_STANDBY: Duration = Duration::from_secs(15);
/// Keys of ConfigMap `weft-cluster` that count for longer than a request does.
const KEPT: [&str; 3] = [names::EPOCH, names::SETTINGS, names::ALLOCATION];

/// What the leader looks with.
pub(in super::super) struct Guard {
    objects: Objects,
    cluster: Api<ConfigMap>,
    authority: Arc<Authority>,
    /// Where agents reach this replica.
    address: SocketAddr,
    fence: Fence,
    events: Events,
    /// What [`KEPT`] keys said last.
    known: BTreeMap<String, String>,
    complaint: Option<String>,
}

impl Guard {
    pub(in super::super) fn new(
        client: Client,
        objects: Objects,
        authority: Arc<Authority>,
        address: SocketAddr,
        fence: Fence,
        events: Events,
    ) -> Self {
        let cluster = Api::namespaced(client, &objects.namespace);
        Self { objects, cluster, authority, address, fence, events, known: BTreeMap::new(), complaint: None }
    }

    /// Looks every few seconds, until it is dropped.
    pub(in super::super) async fn run(mut self) -> anyhow::Result<()> {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.fence.holds() {
                self.look().await;
            }
        }
    }

    /// One look at all three.
    pub(super) async fn look(&mut self) {
        let secret = self.objects.refill_secret(&self.authority).await;
        let map = self.objects.refill_map(&self.authority).await;
        if let Err(error) = self.objects.publish_address(self.address).await {
            tracing::debug!("{error}");
        }
        let cluster = self
            .refill_cluster()
            .await
            .map_err(|source| self.objects.failed("read or fill", "ConfigMap weft-cluster", source));
        let looks =
            [("Secret", names::CA, secret), ("ConfigMap", names::CA, map), ("ConfigMap", names::CLUSTER, cluster)];
        let mut complaints = Vec::new();
        for (kind, name, look) in looks {
            match look {
                Ok(true) => self.tell_refilled(kind, name),
                Ok(false) => {}
                Err(error) => {
                    self.tell_trouble(kind, name, &error);
                    complaints.push(error.to_string());
                }
            }
        }
        let complaint = (!complaints.is_empty()).then(|| complaints.join("; "));
        if complaint.is_some() && complaint != self.complaint {
            tracing::warn!("{}", complaints.join("; "));
        }
        self.complaint = complaint;
    }

    fn tell_refilled(&self, kind: &str, name: &str) {
        let note = format!(
            "{kind} {name} had lost what the controller keeps in it, and was filled again; something replaces objects as a whole, such as helm upgrade --force, kubectl replace or Argo CD's Replace=true"
        );
        tracing::warn!("{note}");
        self.events.warn(&self.reference(kind, name), "Refilled", &note);
    }

    fn tell_trouble(&self, kind: &str, name: &str, error: &AuthorityError) {
        let reason = match error {
            AuthorityError::Api { source, .. } if is_missing(source) => "ObjectMissing",
            // The API server is away, or refuses: an Event would not come through either.
            AuthorityError::Api { .. } | AuthorityError::Made(_) => return,
            AuthorityError::Damaged { .. } => "AuthorityDamaged",
            AuthorityError::Replaced { .. } | AuthorityError::Misnamed { .. } => "AuthorityDiffers",
        };
        self.events.warn(&self.reference(kind, name), reason, &error.to_string());
    }

    fn reference(&self, kind: &str, name: &str) -> ObjectReference {
        ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some(kind.to_owned()),
            namespace: Some(self.objects.namespace.clone()),
            name: Some(name.to_owned()),
            ..ObjectReference::default()
        }
    }

    /// Puts back the keys of ConfigMap `weft-cluster` that were there before; true where one was absent.
    async fn refill_cluster(&mut self) -> Result<bool, kube::Error> {
        loop {
            let mut map = self.cluster.get(names::CLUSTER).await?;
            let data = map.data.get_or_insert_default();
            let mut lost = false;
            for key in KEPT {
                match (data.get(key).filter(|text| !text.is_empty()), self.known.get(key)) {
                    (Some(text), _) => drop(self.known.insert(key.to_owned(), text.clone())),
                    (None, Some(known)) => {
                        data.insert(key.to_owned(), known.clone());
                        lost = true;
                    }
                    (None, None) => {}
                }
            }
            if !lost {
                return Ok(false);
            }
            match self.cluster.replace(names::CLUSTER, &PostParams::default(), &map).await {
                Err(error) if is_conflict(&error) => {}
                written => return written.map(|_| true),
            }
        }
    }
}

fn is_missing(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Puts the authority of a replica that does not lead back where nobody who leads holds it; never resolves.
pub(in super::super) async fn put_back(objects: Objects, own: Arc<Authority>, role: watch::Receiver<Role>) {
    loop {
        sleep(LOOK_OF_STANDBY).await;
        if matches!(*role.borrow(), Role::Leading(..)) {
            continue;
        }
        match objects.refill_secret(&own).await {
            Ok(true) => tracing::warn!("Secret weft-ca was empty: this replica's authority was put back"),
            Ok(false) => {}
            // The leader names what is wrong.
            Err(error) => tracing::debug!("{error}"),
        }
    }
}
