//! The README's table of states and reasons has those that there are.

use std::collections::BTreeSet;

use weft_core::standing::Reason;

use crate::readme::README;

#[test]
fn the_readme_says_what_each_reason_means_and_what_to_do() {
    let table = README.split("| state | reason | meaning | do |\n").nth(1).expect("a table of reasons");
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.split('|').nth(2));
    let listed: Vec<&str> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    let all: BTreeSet<&str> = Reason::ALL.iter().map(Reason::as_str).collect();
    assert_eq!(listed.iter().copied().collect::<BTreeSet<_>>(), all);
    assert_eq!(listed.len(), all.len(), "a reason is listed twice: {listed:?}");
}
