//! The pages that list the options are the programs' own, and the README leads to them.

use weft_program::config::reference;

use crate::readme::README;

fn compare(program: &str, expected: &str) {
    let path = format!("docs/reference/{program}.md");
    let page = std::fs::read_to_string(format!("{}/../{path}", env!("CARGO_MANIFEST_DIR")));
    assert_eq!(page.expect(&path), expected, "{path} is old: write it anew with `{program} reference > {path}`");
    assert!(README.contains(&format!("]({path})")), "the README does not lead to {path}");
}

#[test]
fn the_agents_page_is_its_own() {
    compare("weft-agent", &reference::<weft_agent::config::Options>("weft-agent"));
}

#[test]
fn the_controllers_page_is_its_own() {
    compare("weft-controller", &reference::<weft_controller::Options>("weft-controller"));
}
