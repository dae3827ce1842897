//! Records that a controller of version 0.1 wrote.

use weft_core::membership::More;

use super::*;

/// Table, key and value in hexadecimal digits, one record a line, as they are in the store of a controller of 0.1.
const BY_0_1: &str = include_str!("../golden/records-1");

/// The same of records with what came after 0.1, as the first version with it writes them.
const PRESENT: &str = include_str!("../golden/records-2");

fn records(text: &'static str) -> Vec<(Table, &'static str, Vec<u8>)> {
    let record = |line: &'static str| {
        let [table, key, hex] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let table = Table::ALL.into_iter().find(|kind| kind.name() == table).expect("a table");
        let octet = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal digits");
        (table, key, (0..hex.len()).step_by(2).map(octet).collect())
    };
    text.lines().map(record).collect()
}

#[test]
fn every_record_of_version_0_1_is_read_and_written_as_that_version_reads_it() {
    let mut stored = Stored::default();
    for (table, key, value) in records(BY_0_1) {
        decode(table, key, &value, &mut stored).expect("a controller that was upgraded starts");
    }
    let Stored { epoch, settings, nodes, tokens, quarantine, lives, .. } = stored;
    assert!(nodes.len() == 2 && tokens.len() == 2 && !quarantine.is_empty() && lives.len() == 1, "one of each kind");
    let writes = [Write::Epoch(epoch), Write::Settings(settings.expect("settings"))].into_iter();
    let writes = writes.chain(nodes.into_iter().map(Write::Node)).chain(tokens.into_iter().map(Write::Token));
    let writes = writes.chain(quarantine.into_iter().map(Write::Quarantine)).chain(lives.into_iter().map(Write::Life));
    let puts: Vec<Put> = writes.map(|write| encode(&write)).chain([schema(1)]).collect();
    for (table, key, value) in records(BY_0_1) {
        let put = puts.iter().find(|put| put.table == table && put.key == key).expect("written too");
        assert!(
            put.value.as_ref() == Some(&value),
            "{key} of {}: a controller that is rolled back reads another record",
            table.name()
        );
    }
}

#[test]
fn what_came_after_version_0_1_keeps_its_form_too() {
    let mut stored = Stored::default();
    for (table, key, value) in records(BY_0_1) {
        decode(table, key, &value, &mut stored).expect("readable");
    }
    let mut node = stored.nodes.remove(0);
    node.facts.as_mut().expect("it has reported").generation = 1;
    node.more = More::new([0x0a, 1, 5]);
    let settings = Settings { more: More::new([8, 1]), ..stored.settings.expect("settings") };
    let life = Life { ended_unix: Some(1_795_687_860), ..stored.lives.remove(0) };
    let puts = [Write::Node(node), Write::Settings(settings), Write::Life(life)].map(|write| encode(&write));
    for (put, (table, key, value)) in puts.iter().zip(records(PRESENT)) {
        assert_eq!((put.table, put.key.as_str()), (table, key));
        assert!(put.value.as_ref() == Some(&value), "{key} of {} has another form", table.name());
        decode(table, key, &value, &mut Stored::default()).expect("readable");
    }
}
