//! Lengths of time as text: `250ms`, `30s`, `15m`, `24h`, `7d`; and `0`, which is the same in any unit.
//!
//! Owns the form. Must never guess a unit.

use std::time::Duration;

/// Why a text is no length of time that can be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TimeError {
    #[error("{0:?} is no length of time: give a whole number with a unit, such as 250ms, 30s, 15m, 24h or 7d")]
    Form(String),
    #[error("{text} is out of range: give {least:?} to {most:?}")]
    Range { text: String, least: Duration, most: Duration },
}

/// Reads a length of time.
pub(crate) fn duration(text: &str) -> Result<Duration, TimeError> {
    let wrong = || TimeError::Form(text.to_owned());
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = |factor: u64| number.checked_mul(factor).map(Duration::from_secs).ok_or_else(wrong);
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3600),
        "d" => seconds(86_400),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86_400)));
        for bad in ["", "30", "s", "-1s", "1.5s", "1 s", "99999999999999999999d", "213503982334602d"] {
            assert!(duration(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
