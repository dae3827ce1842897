//! Sets and maps that other tables' rules ask.
//!
//! Owns asking the kernel for one element, which heeds intervals and concatenations as it does for packets. Must never read a
//! whole set: blocklists have hundreds of thousands of elements.

use std::collections::BTreeMap;

use super::super::{
    socket::{Fault, Netfilter},
    step::DATA_VALUE,
    table::{GET_ELEMENT, GET_SET},
    wire::{Attributes, Parsed},
};

/// What a set says of a key.
pub(super) enum Found {
    /// It is not in it.
    Nothing,
    /// It is; what a map has for it, as `NFTA_SET_ELEM_DATA`.
    Element(Vec<u8>),
}

/// The sets of one table.
pub(super) struct Sets<'a> {
    pub(super) socket: &'a mut Netfilter,
    family: u8,
    table: String,
    /// Length of keys in bytes by set; none for a set that has gone.
    lengths: BTreeMap<String, Option<usize>>,
}

impl<'a> Sets<'a> {
    pub(super) fn new(socket: &'a mut Netfilter, family: u8, table: &str) -> Self {
        Self { socket, family, table: table.to_owned(), lengths: BTreeMap::new() }
    }

    /// `NFTA_SET_KEY_LEN`.
    pub(super) fn key_length(&mut self, set: &str) -> Result<Option<usize>, Fault> {
        if let Some(length) = self.lengths.get(set) {
            return Ok(*length);
        }
        let request = Attributes::new().text(1, &self.table).text(2, set);
        let reply = self.socket.get(GET_SET, self.family, request)?;
        let length = reply.and_then(|reply| reply.attributes().ok()?.number(5)).map(|length| length.min(64) as usize);
        self.lengths.insert(set.to_owned(), length);
        Ok(length)
    }

    /// Asks for one key.
    pub(super) fn find(&mut self, set: &str, key: &[u8]) -> Result<Found, Fault> {
        let element = Attributes::new().nest(1, &Attributes::new().bytes(DATA_VALUE, key));
        let list = Attributes::new().nest(1, &element);
        let request = Attributes::new().text(1, &self.table).text(2, set).nest(3, &list);
        let Some(reply) = self.socket.get(GET_ELEMENT, self.family, request)? else { return Ok(Found::Nothing) };
        let elements = reply.attributes()?.nest(3)?;
        let content = match elements.iter().next() {
            Some((_, bytes)) => Parsed::new(bytes)?.get(2).map(<[u8]>::to_vec),
            None => None,
        };
        Ok(Found::Element(content.unwrap_or_default()))
    }
}
