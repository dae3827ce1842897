//! The journal's text: one line an event, each with a checksum of its own.
//!
//! A line is 16 hexadecimal digits of SHA-256 over the rest, a blank, and JSON. The first line names the format. A last
//! line without its line feed is the torn end of a write that nobody was answered for; any other line that does not
//! agree with its checksum is damage.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::record::RecordText;

/// The format written, and the newest one read.
const FORMAT: u32 = 1;

/// One event.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "op")]
pub(super) enum Event {
    /// First line of every journal.
    Format {
        /// Its version.
        version: u32,
    },
    /// Where allocation stands; follows the first line when a journal was rewritten.
    Cursor {
        /// Address last handed out, at most one a family.
        last: Vec<IpAddr>,
        /// Freed addresses, the longest free first.
        cooling: Vec<IpAddr>,
    },
    /// An attachment got addresses.
    Add(RecordText),
    /// An attachment ended.
    Remove {
        /// Its container id.
        container: String,
        /// Its interface.
        interface: String,
    },
}

/// What a journal's bytes say.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// The events that can be read, in order.
    pub(super) events: Vec<Event>,
    /// One sentence for each line that cannot be.
    pub(super) damage: Vec<String>,
    /// True where the last line was torn off.
    pub(super) torn: bool,
}

/// The journal's first line.
pub(super) const fn format() -> Event {
    Event::Format { version: FORMAT }
}

/// Appends the line of `event`.
pub(super) fn write(event: &Event, to: &mut Vec<u8>) {
    let json = serde_json::to_string(event).expect("texts and numbers only");
    to.extend_from_slice(checksum(&json).as_bytes());
    to.push(b' ');
    to.extend_from_slice(json.as_bytes());
    to.push(b'\n');
}

/// Reads a journal. An error where it is of a newer format: then nothing of it may be touched.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    parsed.torn = lines.pop().is_some_and(|rest| !rest.is_empty());
    for (number, line) in lines.into_iter().enumerate() {
        match parse_line(line) {
            Ok(Event::Format { version }) if version > FORMAT => {
                return Err(format!(
                    "it is of format {version} and this version reads up to {FORMAT}: run the version that wrote it"
                ));
            }
            Ok(event) => parsed.events.push(event),
            Err(why) => parsed.damage.push(format!("line {}: {why}", number + 1)),
        }
    }
    Ok(parsed)
}

fn parse_line(line: &[u8]) -> Result<Event, String> {
    let line = std::str::from_utf8(line).map_err(|_| "not text".to_owned())?;
    let (sum, json) = line.split_once(' ').ok_or("no checksum")?;
    if sum != checksum(json) {
        return Err("its checksum does not agree".to_owned());
    }
    serde_json::from_str(json).map_err(|error| error.to_string())
}

fn checksum(json: &str) -> String {
    Sha256::digest(json.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&format(), &mut bytes);
        write(&Event::Remove { container: "a".to_owned(), interface: "eth0".to_owned() }, &mut bytes);
        bytes
    }

    #[test]
    fn a_torn_end_is_no_damage_but_a_changed_byte_is() {
        let bytes = sample();
        let torn = parse(&bytes[..bytes.len() - 1]).expect("readable");
        assert!(torn.torn && torn.damage.is_empty() && torn.events.len() == 1);
        let mut changed = bytes;
        let at = changed.len() - 4;
        changed[at] ^= 1;
        let damaged = parse(&changed).expect("readable");
        assert_eq!(damaged.damage, ["line 2: its checksum does not agree"]);
    }

    #[test]
    fn a_newer_format_is_left_alone() {
        let mut bytes = Vec::new();
        write(&Event::Format { version: 2 }, &mut bytes);
        assert!(parse(&bytes).expect_err("newer").contains("format 2"));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }
    }
}
