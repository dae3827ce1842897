//! The store in Kubernetes' objects.
//!
//! Owns Vteps' specs, PodCidrClaims and the term. There are no transactions over several objects; this order makes every
//! part of a commit safe: first the term, then what takes CIDRs or marks them as let go (claims), then what members
//! say of themselves (Vteps), at last what is removed. A CIDR is therefore nobody's before a claim says so, a member
//! never has one without a claim, and a node is forgotten after its CIDRs are in quarantine. What a commit that was cut
//! short left behind is told apart by [`read`]: nothing of it was announced, so it counts as not begun; a claim that
//! nobody uses stays its node's. Must never write what is so already, nor trust its own memory after an error.

mod error;
mod model;
mod read;
mod table;
mod term;

use std::collections::BTreeSet;

use futures::future::BoxFuture;
use k8s_openapi::serde_json;
use kube::{Client, Resource as _};
use tokio::sync::Mutex;
use weft_api::{PodCidrClaim, Vtep, claim_name};

pub(super) use self::table::patiently;
use self::{
    error::ApiProblem,
    model::{Model, Touched},
    read::{Reading, Unreadable},
    table::{Step, Table},
    term::Term,
};
use super::events::Events;
use crate::store::{Store, StoreError, Stored, Write};

/// The store; one leader writes to it at a time.
pub struct KubeStore {
    state: Mutex<State>,
    events: Option<Events>,
}

struct State {
    term: Term,
    vteps: Table,
    claims: Table,
    model: Model,
    /// Objects that are not what the model says.
    unfinished: Touched,
    /// Cleared by an error, and before the first reading: then nothing may be written.
    is_current: bool,
    told: BTreeSet<(String, String)>,
}

impl KubeStore {
    /// A store in the cluster that `client` talks to, with its own objects in `namespace`.
    pub fn new(client: &Client, namespace: &str) -> Self {
        let state = State {
            term: Term::new(client, namespace),
            vteps: Table::new::<Vtep>(client),
            claims: Table::new::<PodCidrClaim>(client),
            model: Model::default(),
            unfinished: Touched::default(),
            is_current: false,
            told: BTreeSet::new(),
        };
        Self { state: Mutex::new(state), events: None }
    }

    /// Tells of objects that cannot be read by events, too.
    pub(crate) fn with_events(self, events: Events) -> Self {
        Self { events: Some(events), ..self }
    }
}

impl Store for KubeStore {
    fn load(&self) -> BoxFuture<'_, Result<Stored, StoreError>> {
        Box::pin(async {
            let mut state = self.state.lock().await;
            let (stored, unreadable) = state.load().await?;
            for problem in unreadable {
                self.tell(&mut state, &problem);
            }
            Ok(stored)
        })
    }

    fn commit(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.state.lock().await.commit(&batch).await })
    }
}

impl KubeStore {
    fn tell(&self, state: &mut State, problem: &Unreadable) {
        let Unreadable { kind, name, detail } = problem;
        if !state.told.insert((format!("{kind}/{name}"), detail.clone())) {
            return;
        }
        tracing::error!(kind, name, "object is not as Weft wrote it: {detail}");
        let Some(events) = &self.events else { return };
        let (mut about, table) = match *kind {
            "Vtep" => (Vtep::new(name, weft_api::VtepSpec::default()).object_ref(&()), &state.vteps),
            _ => (PodCidrClaim::new(name, weft_api::PodCidrClaimSpec::default()).object_ref(&()), &state.claims),
        };
        about.uid = table.uid(name);
        events.warn(&about, "Unreadable", detail);
    }
}

impl std::fmt::Debug for KubeStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KubeStore")
    }
}

impl State {
    async fn load(&mut self) -> Result<(Stored, Vec<Unreadable>), StoreError> {
        self.is_current = false;
        self.term.read().await?;
        let (vteps, claims) = (self.vteps.read().await?, self.claims.read().await?);
        let Reading { model, unfinished, unreadable, nodes } = read::read(&vteps, &claims);
        (self.model, self.unfinished, self.is_current) = (model, unfinished, true);
        let (epoch, settings) = (self.term.epoch, self.term.settings.clone());
        Ok((Stored { epoch, settings, unreadable: nodes, ..self.model.stored() }, unreadable))
    }

    async fn commit(&mut self, batch: &[Write]) -> Result<(), StoreError> {
        if !std::mem::replace(&mut self.is_current, false) {
            let detail = "nothing was read since the last error".to_owned();
            return Err(ApiProblem::Conflict { operation: "commit".to_owned(), detail }.into());
        }
        if batch.iter().any(|write| matches!(write, Write::Token(_))) {
            let detail = "there are no join tokens in Kubernetes".to_owned();
            return Err(ApiProblem::Request { operation: "keep a join token".to_owned(), detail }.into());
        }
        self.term.write(batch).await?;
        let mut touched = self.model.apply(batch);
        touched.vteps.append(&mut self.unfinished.vteps);
        touched.claims.append(&mut self.unfinished.claims);
        let is_removal = |step: &Step| matches!(step, Step::Delete(_));
        let (gone_claims, claims) = self.claim_steps(&touched).into_iter().partition(is_removal);
        let (gone_vteps, vteps) = self.vtep_steps(&touched).into_iter().partition(is_removal);
        self.claims.carry_out(claims).await?;
        self.vteps.carry_out(vteps).await?;
        self.vteps.carry_out(gone_vteps).await?;
        self.claims.carry_out(gone_claims).await?;
        self.is_current = true;
        Ok(())
    }

    fn vtep_steps(&self, touched: &Touched) -> Vec<Step> {
        let wanted = |name| self.model.vtep(name).and_then(|spec| serde_json::to_value(spec).ok());
        touched.vteps.iter().filter_map(|name| self.vteps.step(name.to_string(), wanted(name))).collect()
    }

    fn claim_steps(&self, touched: &Touched) -> Vec<Step> {
        let wanted = |cidr| self.model.claim(cidr).and_then(|spec| serde_json::to_value(spec).ok());
        let name = |cidr: &weft_core::types::PodCidr| claim_name(cidr.network()).expect("a pod CIDR has no host bits");
        touched.claims.iter().filter_map(|cidr| self.claims.step(name(cidr), wanted(cidr))).collect()
    }
}
