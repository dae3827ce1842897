//! What a chart renders, as values.

use serde_json::Value;

use crate::helm;

/// All objects of a variant, hooks included.
pub(crate) fn of(variant: Option<&str>) -> Vec<Value> {
    rendered(&[helm::values(variant), helm::WITH_HOOK.map(str::to_owned).into()].concat())
}

/// All objects that helm renders with these arguments.
pub(crate) fn rendered(arguments: &[String]) -> Vec<Value> {
    let text = helm::template(arguments).expect("the values are sound");
    let documents = text.split("\n---\n").filter(|document| document.contains("kind:"));
    documents.map(|document| serde_saphyr::from_str(document).expect("helm prints YAML")).collect()
}

/// The object of a kind and name.
pub(crate) fn object<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("the chart has no {kind} {name}"))
}

/// The only container of an object with a pod template.
pub(crate) fn container(object: &Value) -> &Value {
    let pod = if object["kind"] == "Pod" { &object["spec"] } else { &object["spec"]["template"]["spec"] };
    let containers = pod["containers"].as_array().expect("a pod has containers");
    assert_eq!(containers.len(), 1, "{}", object["metadata"]["name"]);
    &containers[0]
}

/// A list of texts.
pub(crate) fn texts(list: &Value) -> Vec<String> {
    let entries = list.as_array().map(Vec::as_slice).unwrap_or_default();
    entries.iter().map(|entry| entry.as_str().expect("a text").to_owned()).collect()
}
