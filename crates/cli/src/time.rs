//! Points in time, as people type and read them.
//!
//! ```text
//! 2026-11-21T15:03:23Z           with a zone or an offset
//! 2026-11-21 15:03:23            local time; fractions of a second are allowed
//! 2026-11-21                     the start of that day, local time
//! 10m ago, or 10m                a time span before now: ms, s, m, h
//! ```
//!
//! Invariant: what [`show`] prints, [`read`] takes for the same second; JSON has microseconds since 1970.

use crate::console::duration;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Microseconds since 1970 as local time with its offset.
pub fn show(micros: u64) -> String {
    let at = i64::try_from(micros).ok().and_then(|micros| Timestamp::from_microsecond(micros).ok());
    match at {
        Some(at) => at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S%:z").to_string(),
        None => format!("{micros} µs after 1970"),
    }
}

/// What stands above a column of [`short`].
pub const HEADING: &str = "time (local)";

/// Microseconds since 1970 as local time to the second, for columns; a dash for 0, which is "not known".
pub fn short(micros: u64) -> String {
    let at = i64::try_from(micros).ok().and_then(|micros| Timestamp::from_microsecond(micros).ok());
    match at.filter(|_| micros > 0) {
        Some(at) => at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        None => "-".to_owned(),
    }
}

/// `2026-11-21T09:30:00.123456Z`, for JSON; null for 0, which is "not known".
pub fn utc(micros: u64) -> Option<String> {
    let at = i64::try_from(micros).ok().and_then(|micros| Timestamp::from_microsecond(micros).ok());
    at.filter(|_| micros > 0).map(|at| format!("{at:.6}"))
}

/// Reads a point in time; gives microseconds since 1970.
pub fn read(typed: &str) -> Result<u64, String> {
    let hint = "write it as 2026-11-21T15:03:23Z, \"2026-11-21 15:03:23\" or \"10m ago\"";
    let at = if let Some(span) = span(typed) {
        let span = duration(span.trim())?;
        Timestamp::now().checked_sub(span).map_err(|_| hint.to_owned())?
    } else if let Ok(at) = typed.parse::<Timestamp>() {
        at
    } else {
        let civil: DateTime = typed.parse().map_err(|_| hint.to_owned())?;
        let zoned = civil.to_zoned(TimeZone::system()).map_err(|_| hint.to_owned())?;
        zoned.timestamp()
    };
    u64::try_from(at.as_microsecond()).map_err(|_| "a time before 1970; ".to_owned() + hint)
}

/// What is a span of time before now.
fn span(typed: &str) -> Option<&str> {
    typed.strip_suffix(" ago").or_else(|| {
        let has_unit = typed.starts_with(|c: char| c.is_ascii_digit())
            && typed.ends_with(['s', 'm', 'h'])
            && duration(typed).is_ok();
        has_unit.then_some(typed)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_shown() {
        assert_eq!(read("1970-01-01T00:00:01.5Z"), Ok(1_500_000));
        assert_eq!(read("2026-11-21T15:03:23+02:00"), Ok(1_795_266_203_000_000));
        let micros = 1_795_273_403_000_000;
        assert_eq!(read(&show(micros)), Ok(micros));
        assert!(read("2026-11-21").is_ok() && read("2026-11-21 15:03:23").is_ok());
        let now = u64::try_from(Timestamp::now().as_microsecond()).unwrap();
        assert!(now.abs_diff(read("10m ago").unwrap() + 600_000_000) < 60_000_000);
        assert!(now.abs_diff(read("10m").unwrap() + 600_000_000) < 60_000_000);
        assert_eq!(read(&short(micros)), Ok(micros));
        assert_eq!(utc(micros).as_deref(), Some("2026-11-21T15:03:23.000000Z"));
        assert_eq!((short(0), utc(0)), ("-".to_owned(), None));
        for bad in ["", "ago", "10", "yesterday", "2026-13-01", "1969-12-31T23:59:59Z", "é ago"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(!show(u64::MAX).is_empty());
    }
}
