//! One option in a file.
//!
//! Owns its form: a text, a number or a list of them, all kept as text. Must never know which option it is.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};

/// One value or several, each as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    One(String),
    Many(Vec<String>),
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
        f.write_str("a text, a number or a list of them")
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

    fn visit_f64<E: Error>(self, value: f64) -> Result<Entry, E> {
        Ok(Entry::One(value.to_string()))
    }

    fn visit_unit<E: Error>(self) -> Result<Entry, E> {
        Ok(Entry::One(String::new()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Entry, A::Error> {
        let mut many = Vec::new();
        while let Some(entry) = list.next_element::<Entry>()? {
            match entry {
                Entry::One(text) => many.push(text),
                Entry::Many(_) => return Err(A::Error::custom("a list inside a list")),
            }
        }
        Ok(Entry::Many(many))
    }
}
