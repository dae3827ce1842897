//! The objects of one kind.
//!
//! Owns what the API server said last about each, and the only three ways to change one: create (which is exclusive by
//! name), replace the spec where it is still what we believe, delete the very object that we know. So a leader that was
//! paused cannot write over what its successor wrote. The status is another's and no obstacle: what is compared is the
//! spec, not the resourceVersion. Must never repeat a request whose answer was "no".

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use k8s_openapi::serde_json::{self, Value, json};
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, PostParams, Preconditions},
};
use tokio::time::timeout;

use super::{error::failed, read::Found};
use crate::store::StoreError;

/// What we sign our writes with.
pub(super) const MANAGER: &str = "weft-controller";
/// Objects in one answer to a list.
const PAGE: u32 = 500;
/// Requests under way at a time.
const PARALLEL: usize = 32;
/// Time for one request.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pauses before a request is repeated that the server had no time for.
const PAUSES: [Duration; 3] = [Duration::from_millis(50), Duration::from_millis(250), Duration::from_millis(1000)];

/// An object as the API server knows it.
#[derive(Debug, Clone)]
struct Known {
    uid: String,
    spec: Value,
}

/// All objects of a kind.
pub(super) struct Table {
    client: Client,
    api: Api<DynamicObject>,
    resource: ApiResource,
    known: BTreeMap<String, Known>,
}

/// What to do to one object.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Create(String, Value),
    Replace(String, Value),
    Delete(String),
}

/// What came of it.
enum Done {
    Is(String, Known),
    Gone(String),
}

impl Table {
    pub(super) fn new<K: Resource<DynamicType = ()>>(client: &Client) -> Self {
        let resource = ApiResource::erase::<K>(&());
        let api = Api::all_with(client.clone(), &resource);
        Self { client: client.clone(), api, resource, known: BTreeMap::new() }
    }

    pub(super) const fn kind(&self) -> &String {
        &self.resource.kind
    }

    /// The UID of an object.
    pub(super) fn uid(&self, name: &str) -> Option<String> {
        self.known.get(name).map(|known| known.uid.clone())
    }

    /// Reads all of them anew, page by page of one version.
    pub(super) async fn read(&mut self) -> Result<Vec<Found>, StoreError> {
        self.known.clear();
        let mut token = None;
        loop {
            let params = ListParams { limit: Some(PAGE), continue_token: token, ..ListParams::default() };
            let page = patiently(|| self.api.list(&params)).await;
            let page = page.map_err(|error| failed(format!("list {}", self.resource.plural), &error))?;
            for object in page.items {
                let (Some(name), Some(uid)) = (object.metadata.name, object.metadata.uid) else { continue };
                let spec = object.data.get("spec").cloned().unwrap_or_default();
                self.known.insert(name, Known { uid, spec });
            }
            token = page.metadata.continue_.filter(|token| !token.is_empty());
            if token.is_none() {
                let found = |(name, known): (&String, &Known)| Found { name: name.clone(), spec: known.spec.clone() };
                return Ok(self.known.iter().map(found).collect());
            }
        }
    }

    /// How an object becomes what it is to be; none where it is so.
    pub(super) fn step(&self, name: String, wanted: Option<Value>) -> Option<Step> {
        match (wanted, self.known.get(&name)) {
            (Some(wanted), None) => Some(Step::Create(name, wanted)),
            (Some(wanted), Some(known)) => (known.spec != wanted).then_some(Step::Replace(name, wanted)),
            (None, Some(_)) => Some(Step::Delete(name)),
            (None, None) => None,
        }
    }

    /// Carries steps out, several at a time. After a failure no more are begun, and those under way are waited for, so
    /// that as little as possible arrives after the next reading.
    pub(super) async fn carry_out(&mut self, steps: Vec<Step>) -> Result<(), StoreError> {
        let mut waiting = steps.into_iter();
        let mut running = FuturesUnordered::new();
        let (mut done, mut failure) = (Vec::new(), None);
        loop {
            while failure.is_none() && running.len() < PARALLEL {
                let Some(step) = waiting.next() else { break };
                running.push(self.one(step));
            }
            match running.next().await {
                None => break,
                Some(Ok(outcome)) => done.push(outcome),
                Some(Err(error)) => failure = failure.or(Some(error)),
            }
        }
        drop(running);
        for outcome in done {
            match outcome {
                Done::Is(name, known) => drop(self.known.insert(name, known)),
                Done::Gone(name) => drop(self.known.remove(&name)),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    async fn one(&self, step: Step) -> Result<Done, StoreError> {
        let kind = self.kind();
        match step {
            Step::Create(name, spec) => {
                let result = self.create(&name, &spec).await;
                let known = result.map_err(|error| failed(format!("create {kind} {name}"), &error))?;
                Ok(Done::Is(name, known))
            }
            Step::Replace(name, spec) => {
                let result = self.replace(&name, &spec).await;
                let known = result.map_err(|error| failed(format!("change {kind} {name}"), &error))?;
                Ok(Done::Is(name, known))
            }
            Step::Delete(name) => {
                self.delete(&name).await.map_err(|error| failed(format!("delete {kind} {name}"), &error))?;
                Ok(Done::Gone(name))
            }
        }
    }

    async fn create(&self, name: &str, spec: &Value) -> kube::Result<Known> {
        let object = DynamicObject::new(name, &self.resource).data(json!({ "spec": spec }));
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        patiently(|| self.api.create(&params, &object)).await.map(known)
    }

    /// A JSON patch (RFC 6902) whose tests make it one of the object and the spec that we know, or nothing.
    async fn replace(&self, name: &str, spec: &Value) -> kube::Result<Known> {
        let before = &self.known[name];
        let patch = json!([
            { "op": "test", "path": "/metadata/uid", "value": before.uid },
            { "op": "test", "path": "/spec", "value": before.spec },
            { "op": "replace", "path": "/spec", "value": spec },
        ]);
        let body = serde_json::to_vec(&patch).map_err(kube::Error::SerdeError)?;
        let path = format!("{}/{name}?fieldManager={MANAGER}", self.api.resource_url());
        let request = || {
            http::Request::patch(&path)
                .header(http::header::CONTENT_TYPE, "application/json-patch+json")
                .body(body.clone())
                .map_err(kube::Error::HttpError)
        };
        patiently(|| async { self.client.request::<DynamicObject>(request()?).await }).await.map(known)
    }

    async fn delete(&self, name: &str) -> kube::Result<()> {
        let preconditions = Preconditions { uid: Some(self.known[name].uid.clone()), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match patiently(|| self.api.delete(name, &params)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn known(object: DynamicObject) -> Known {
    Known { uid: object.metadata.uid.unwrap_or_default(), spec: object.data.get("spec").cloned().unwrap_or_default() }
}

/// Asks once, and again where the server had no time or no ear. A write that was carried out although its answer got
/// lost is then refused as a conflict, which leads to another reading.
pub(in super::super) async fn patiently<T, F: Future<Output = kube::Result<T>>>(
    ask: impl Fn() -> F,
) -> kube::Result<T> {
    let mut pauses = PAUSES.iter();
    loop {
        let answer = timeout(PATIENCE, ask()).await;
        let answer = answer.unwrap_or_else(|_| {
            Err(kube::Error::Service(format!("no answer within {} seconds", PATIENCE.as_secs()).into()))
        });
        let is_passing = match &answer {
            Ok(_) => return answer,
            Err(kube::Error::Api(status)) => matches!(status.code, 429 | 500 | 502 | 503 | 504),
            Err(kube::Error::HyperError(_) | kube::Error::Service(_)) => true,
            Err(_) => false,
        };
        match pauses.next() {
            Some(pause) if is_passing => tokio::time::sleep(*pause).await,
            _ => return answer,
        }
    }
}
