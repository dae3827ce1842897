//! Forms of output.

use std::{
    io::{self, Write},
    process,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use comfy_table::{Table, presets::NOTHING};
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Prints text. A reader that has seen enough, such as head(1), ends the program in peace.
pub(crate) fn text(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => process::exit(0),
        written => written.context("standard output cannot be written"),
    }
}

/// One JSON document.
pub(crate) fn json(value: &impl Serialize, one_line: bool) -> anyhow::Result<String> {
    let text = if one_line { serde_json::to_string(value) } else { serde_json::to_string_pretty(value) };
    Ok(format!("{}\n", text.context("this cannot be written as JSON")?))
}

/// One YAML document.
pub(crate) fn yaml(value: &impl Serialize) -> anyhow::Result<String> {
    serde_saphyr::to_string(value).context("this cannot be written as YAML")
}

/// A table without lines, as kubectl prints them.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    table
}

/// A table without the blanks at the ends of its lines.
pub(crate) fn lines(table: &Table) -> String {
    let mut lines = String::new();
    for line in table.to_string().lines() {
        lines.push_str(line.strip_prefix(' ').unwrap_or(line).trim_end());
        lines.push('\n');
    }
    lines
}

/// A time as RFC 3339 in UTC; none for 0, which means never.
pub(crate) fn rfc3339(unix_ms: i64) -> Option<String> {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000).ok()?;
    (unix_ms != 0).then(|| at.format(&Rfc3339).ok()).flatten()
}

/// How long ago, as kubectl prints ages.
pub(crate) fn age(unix_ms: i64, now: SystemTime) -> String {
    let Ok(ms) = u64::try_from(unix_ms) else { return "-".to_owned() };
    if ms == 0 {
        return "-".to_owned();
    }
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
    let seconds = now.duration_since(at).unwrap_or_default().as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_for_people_and_for_scripts() {
        assert_eq!(rfc3339(1_700_000_000_250).as_deref(), Some("2023-11-14T22:13:20.25Z"));
        assert_eq!(rfc3339(0), None);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert_eq!(age(999_999_000, now), "1s");
        assert_eq!(age((1_000_000 - 7_300) * 1_000, now), "2h");
        assert_eq!(age(0, now), "-");
        assert_eq!(age(2_000_000_000, now), "0s");
    }
}
