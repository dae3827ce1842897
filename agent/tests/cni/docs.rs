//! docs/cni.md names the test behind each of its claims; here each of those tests exists.

use std::{fs, path::Path};

#[test]
fn every_test_that_the_page_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let page = fs::read_to_string(root.join("docs/cni.md")).expect("docs/cni.md");
    let named: Vec<(&str, &str)> = page.split('`').filter_map(|word| word.split_once("::")).collect();
    assert!(named.len() > 50, "only {} tests are named: are they still written as `file::test`?", named.len());
    for (file, test) in named {
        let source = fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let as_function = format!("fn {test}()");
        let in_lab = format!("lab_test!({test},");
        assert!(source.contains(&as_function) || source.contains(&in_lab), "{file} has no test {test}");
    }
}

#[test]
fn every_row_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let page = fs::read_to_string(root.join("docs/cni.md")).expect("docs/cni.md");
    let mut in_table = false;
    for line in page.lines() {
        let last = line.trim_end_matches('|').rsplit('|').next().unwrap_or_default().trim();
        match (line.starts_with('|'), last) {
            (false, _) => in_table = false,
            (true, "shown by") => in_table = true,
            (true, "---") => {}
            (true, test) => assert!(!in_table || test.contains("::"), "a row without a test: {line}"),
        }
    }
}
