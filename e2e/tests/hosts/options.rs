//! The pages that list the options are the programs' own, and the README leads to them.

use weft_program::config::reference;

/// A file of this repository.
fn file(path: &str) -> String {
    let place = format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&place).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn compare(program: &str, expected: &str) {
    let path = format!("docs/reference/{program}.md");
    assert_eq!(file(&path), expected, "{path} is old: write it anew with `{program} reference > {path}`");
    assert!(file("README.md").contains(&format!("]({path})")), "the README does not lead to {path}");
}

#[test]
fn the_agents_page_is_its_own() {
    compare("weft-agent", &reference::<weft_agent::config::Options>("weft-agent"));
}

#[test]
fn the_controllers_page_is_its_own() {
    compare("weft-controller", &reference::<weft_controller::Options>("weft-controller"));
}
