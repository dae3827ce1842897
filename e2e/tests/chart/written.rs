//! What is written down twice is the same twice.

use std::{collections::BTreeMap, fs};

use serde_json::Value;

use crate::helm::chart;

#[test]
fn resources_are_those_of_the_programs() {
    let path = chart().join("templates/crds.yaml");
    let text = fs::read_to_string(&path).expect("the chart has its resources");
    assert!(
        text == weft_api::crds_yaml(),
        "the chart's resources are out of date: cargo run -p weft-controller -- crds > deploy/chart/templates/crds.yaml"
    );
}

#[test]
fn the_readme_lists_every_value_with_its_default() {
    let values: Value =
        serde_saphyr::from_str(&fs::read_to_string(chart().join("values.yaml")).expect("values.yaml")).expect("YAML");
    let readme = fs::read_to_string(chart().join("README.md")).expect("README.md");
    let mut wanted = BTreeMap::new();
    flatten("", &values, &mut wanted);
    let told: BTreeMap<String, String> = readme.lines().filter_map(row).collect();
    for (name, default) in &wanted {
        let shown = told.get(name).unwrap_or_else(|| panic!("README.md does not list {name}"));
        assert!(shown == default || shown == "values.yaml", "README.md says {shown} of {name}, values.yaml {default}");
    }
    for name in told.keys() {
        assert!(wanted.contains_key(name), "README.md lists {name}, which is no value");
    }
}

/// Values by their path, as JSON. Objects that users fill as a whole are one value.
fn flatten(path: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    const WHOLE: [&str; 4] = ["resources", "updateStrategy", "nodeSelector", "affinity"];
    let last = path.rsplit('.').next().unwrap_or_default();
    match value {
        Value::Object(map) if !map.is_empty() && !WHOLE.contains(&last) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, found);
            }
        }
        Value::String(text) if !text.is_empty() => drop(found.insert(path.to_owned(), text.clone())),
        other => drop(found.insert(path.to_owned(), other.to_string())),
    }
}

/// Name and default of a line of the table; a link stands for a default that is long.
fn row(line: &str) -> Option<(String, String)> {
    let mut cells = line.strip_prefix("| `")?.split(" | ");
    let name = cells.next()?.trim_end_matches('`');
    let default = cells.next()?;
    let default = if default.contains("](values.yaml)") { "values.yaml" } else { default.trim_matches('`') };
    Some((name.to_owned(), default.to_owned()))
}
