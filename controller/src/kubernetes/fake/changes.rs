//! Lists, patches and deletions, and what was asked.

use http::StatusCode;
use k8s_openapi::serde_json::{Value, json};

use super::{FakeApi, failure};

impl FakeApi {
    /// What was asked since the last call, as `METHOD path`.
    pub(in super::super) fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state().requests)
    }

    /// The next so many writes are answered with this code, and have no effect.
    pub(in super::super) fn refuse_writes(&self, count: usize, code: u16) {
        self.state().refusals = (count, code);
    }

    /// True where there is such an object.
    pub(in super::super) fn has(&self, path: &str) -> bool {
        self.state().objects.contains_key(path)
    }

    /// All objects right below a path.
    pub(in super::super) fn below(&self, path: &str) -> Vec<Value> {
        let prefix = format!("{path}/");
        self.state()
            .objects
            .iter()
            .filter(|(key, _)| key.starts_with(&prefix))
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// A new object below a path.
    pub(super) fn create(&self, path: &str, object: Value) -> (StatusCode, Value) {
        let path = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap_or("generated"));
        if self.has(&path) {
            return failure(StatusCode::CONFLICT, "AlreadyExists");
        }
        self.put(&path, object);
        (StatusCode::CREATED, self.object(&path))
    }

    pub(super) fn refused(&self) -> Option<(StatusCode, Value)> {
        let mut state = self.state();
        let (left, code) = &mut state.refusals;
        *left = left.checked_sub(1)?;
        Some(failure(StatusCode::from_u16(*code).expect("a code"), "Refused"))
    }

    /// All objects right below a path, page by page.
    pub(super) fn list(&self, path: &str, query: &str) -> (StatusCode, Value) {
        let option = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let limit = option("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
        let after = option("continue").unwrap_or_default();
        let prefix = format!("{path}/");
        let state = self.state();
        let below = state.objects.iter().filter_map(|(key, object)| Some((key.strip_prefix(&prefix)?, object)));
        let mut rest = below.filter(|(name, _)| !name.contains('/') && *name > after);
        let page: Vec<(&str, &Value)> = rest.by_ref().take(limit).collect();
        let next = rest.next().and(page.last()).map(|(name, _)| *name);
        let items: Vec<&Value> = page.iter().map(|(_, object)| *object).collect();
        let metadata = json!({ "continue": next.unwrap_or_default(), "resourceVersion": state.version.to_string() });
        (StatusCode::OK, json!({ "apiVersion": "v1", "kind": "List", "metadata": metadata, "items": items }))
    }

    /// RFC 7386 (JSON merge patch); conditions of a status by their type where the patch is a strategic one.
    pub(super) fn patch(&self, path: &str, patch: Value, is_strategic: bool) -> (StatusCode, Value) {
        let path = path.strip_suffix("/status").unwrap_or(path);
        let Some(mut object) = self.state().objects.get(path).cloned() else {
            return failure(StatusCode::NOT_FOUND, "NotFound");
        };
        if is_strategic {
            by_type(&mut object, &patch);
        } else {
            merge(&mut object, patch);
        }
        self.put(path, object);
        (StatusCode::OK, self.object(path))
    }

    pub(super) fn delete(&self, path: &str) -> (StatusCode, Value) {
        match self.state().objects.remove(path) {
            Some(_) => {
                (StatusCode::OK, json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" }))
            }
            None => failure(StatusCode::NOT_FOUND, "NotFound"),
        }
    }
}

fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let target = target.as_object_mut().expect("made one just now");
    for (key, value) in patch {
        if value.is_null() {
            target.remove(&key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

fn by_type(object: &mut Value, patch: &Value) {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let changes = patch["status"]["conditions"].as_array().expect("nothing else is patched that way");
    let is_changed = |condition: &Value| changes.iter().any(|change| change["type"] == condition["type"]);
    let kept = conditions.into_iter().filter(|condition| !is_changed(condition));
    let new = changes.iter().filter(|change| change["$patch"] != "delete").cloned();
    object["status"]["conditions"] = kept.chain(new).collect();
}
