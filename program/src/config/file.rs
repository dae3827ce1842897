//! A file of options: a YAML mapping of names to texts, numbers, truth values, or lists of them.
//!
//! Owns its form. All values are kept as texts, so that one that is wrong does not hide the next. Must never know an option.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::from_str_with_options;

use super::Problems;

/// What stands behind a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// Nothing.
    None,
    One(String),
    Many(Vec<String>),
    /// What cannot be a value, and what to do.
    Unclear(&'static str),
}

/// All entries of a file; what it is if it is no mapping goes to `problems`.
pub(super) fn read(name: &str, text: &str, problems: &mut Problems) -> BTreeMap<String, Entry> {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return BTreeMap::new();
    }
    // `off` is a word, as YAML 1.2 has it.
    let options = serde_saphyr::options! { strict_booleans: true };
    from_str_with_options(text, options).unwrap_or_else(|error| {
        problems.tell(format!("config file {name} is not a YAML mapping of options: {error}"));
        BTreeMap::new()
    })
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number, true, false, or a list of them")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Entry, E> {
        Ok(Entry::One(text.to_owned()))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Entry, E> {
        Ok(Entry::One(value.to_string()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Entry, E> {
        Ok(Entry::One(value.to_string()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Entry, E> {
        Ok(Entry::One(value.to_string()))
    }

    /// No option takes a fraction, and a text that looks like one, such as a name, would lose its last zeros.
    fn visit_f64<E: Error>(self, _: f64) -> Result<Entry, E> {
        Ok(Entry::Unclear("a fraction to YAML, which no option takes: put it in quotes if it is a text"))
    }

    fn visit_unit<E: Error>(self) -> Result<Entry, E> {
        Ok(Entry::None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Entry::Unclear("a mapping, which no option takes: give a value"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Entry, A::Error> {
        let (mut many, mut unclear) = (Vec::new(), None);
        while let Some(entry) = list.next_element::<Entry>()? {
            match entry {
                Entry::None => {}
                Entry::One(text) => many.push(text),
                Entry::Many(_) => unclear = Some("a list inside a list: give values"),
                Entry::Unclear(what) => unclear = Some(what),
            }
        }
        Ok(unclear.map_or(Entry::Many(many), Entry::Unclear))
    }
}
