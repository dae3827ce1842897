//! An API server for tests that keeps objects by path, minds versions, and can stop answering.

mod changes;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use k8s_openapi::serde_json::{self, Value, json};
use kube::{Client, client::Body};

/// The server's state; clones are the same server.
#[derive(Clone, Default)]
pub(super) struct FakeApi(Arc<Mutex<State>>);

/// What somebody else does.
type Interloper = Box<dyn FnOnce(&FakeApi) + Send>;

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    silent: bool,
    /// Runs once before the next write is looked at.
    interloper: Option<Interloper>,
    requests: Vec<String>,
    /// So many writes are still refused, with that code.
    refusals: (usize, u16),
}

impl FakeApi {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds this")
    }

    /// Adds or replaces an object, as somebody else would.
    pub(super) fn put(&self, path: &str, mut object: Value) {
        let mut state = self.state();
        state.version += 1;
        object["metadata"]["resourceVersion"] = state.version.to_string().into();
        state.objects.insert(path.to_owned(), object);
    }

    pub(super) fn object(&self, path: &str) -> Value {
        self.state().objects[path].clone()
    }

    /// From now on requests are not answered, or are again.
    pub(super) fn set_silent(&self, silent: bool) {
        self.state().silent = silent;
    }

    /// Somebody else comes first at the next write.
    pub(super) fn before_next_write(&self, interloper: impl FnOnce(&Self) + Send + 'static) {
        self.state().interloper = Some(Box::new(interloper));
    }

    pub(super) fn client(&self) -> Client {
        let api = self.clone();
        let serve = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move {
                let silent = api.state().silent;
                if silent {
                    std::future::pending::<()>().await;
                }
                Ok::<_, Infallible>(api.answer(request).await)
            }
        });
        Client::new(serve, "default")
    }

    async fn answer(&self, request: Request<Body>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let body = body.collect().await.expect("a body in memory").to_bytes();
        self.state().requests.push(format!("{} {path}", parts.method));
        let refused = if parts.method == Method::GET { None } else { self.refused() };
        let read = || serde_json::from_slice(&body).expect("JSON");
        let is_strategic =
            parts.headers.get("content-type").is_some_and(|kind| kind == "application/strategic-merge-patch+json");
        let (status, object) = match parts.method {
            _ if refused.is_some() => refused.expect("just seen"),
            Method::GET if parts.uri.query().is_some_and(|query| query.contains("limit=")) => {
                self.list(&path, parts.uri.query().unwrap_or_default())
            }
            Method::GET => self.get(&path),
            Method::PATCH => self.patch(&path, read(), is_strategic),
            Method::DELETE => self.delete(&path),
            Method::POST => self.create(&path, read()),
            Method::PUT => self.replace(&path, serde_json::from_slice(&body).expect("JSON")),
            other => panic!("nothing here uses {other}"),
        };
        let bytes = serde_json::to_vec(&object).expect("JSON");
        Response::builder().status(status).body(Full::new(bytes.into())).expect("a response")
    }

    fn get(&self, path: &str) -> (StatusCode, Value) {
        match self.state().objects.get(path) {
            Some(object) => (StatusCode::OK, object.clone()),
            None => failure(StatusCode::NOT_FOUND, "NotFound"),
        }
    }

    fn replace(&self, path: &str, object: Value) -> (StatusCode, Value) {
        let interloper = self.state().interloper.take();
        if let Some(interloper) = interloper {
            interloper(self);
        }
        let known = self.state().objects.get(path).map(|known| known["metadata"]["resourceVersion"].clone());
        match known {
            None => failure(StatusCode::NOT_FOUND, "NotFound"),
            Some(version) if version != object["metadata"]["resourceVersion"] => {
                failure(StatusCode::CONFLICT, "Conflict")
            }
            Some(_) => {
                self.put(path, object);
                (StatusCode::OK, self.object(path))
            }
        }
    }
}

fn failure(code: StatusCode, reason: &str) -> (StatusCode, Value) {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "code": code.as_u16(), "reason": reason, "message": reason,
    });
    (code, status)
}
