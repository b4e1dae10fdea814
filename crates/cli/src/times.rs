//! Moments as people write them: UTC, to the microsecond, as RFC 3339.

use jiff::Timestamp;

/// `2026-11-21T09:30:00.123456Z`; a dash for 0, which stands for "not known".
pub fn show(micros: u64) -> String {
    if micros == 0 {
        return "-".to_owned();
    }
    let moment = i64::try_from(micros).ok().and_then(|m| Timestamp::from_microsecond(m).ok());
    moment.map_or_else(|| format!("{micros} µs since 1970"), |moment| format!("{moment:.6}"))
}

/// To the second, for tables.
pub fn short(micros: u64) -> String {
    let moment = i64::try_from(micros).ok().and_then(|m| Timestamp::from_microsecond(m).ok());
    match moment {
        Some(moment) if micros > 0 => moment.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        _ => "-".to_owned(),
    }
}

/// Reads a moment, in microseconds since 1970: RFC 3339, a date, or a time so long ago (`10m`, `2h`).
pub fn parse(typed: &str) -> Result<u64, String> {
    let hint = "write 2026-11-21T09:30:00Z, 2026-11-21, or so long ago: 10m, 2h";
    if let Ok(ago) = crate::console::duration(typed)
        && typed.ends_with(|c: char| c.is_ascii_alphabetic())
    {
        let moment = Timestamp::now().as_microsecond();
        return Ok((moment - i64::try_from(ago.as_micros()).map_err(|_| hint)?).max(0) as u64);
    }
    let moment: Timestamp = typed
        .parse()
        .or_else(|_| format!("{typed}T00:00:00Z").parse())
        .or_else(|_| format!("{}Z", typed.replacen(' ', "T", 1)).parse())
        .map_err(|_| hint.to_owned())?;
    u64::try_from(moment.as_microsecond()).map_err(|_| hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_and_shown() {
        let micros = 1_700_000_000_123_456;
        assert_eq!(show(micros), "2023-11-14T22:13:20.123456Z");
        assert_eq!(parse(&show(micros)), Ok(micros));
        assert_eq!(short(micros), "2023-11-14 22:13:20");
        assert_eq!(parse("2023-11-14"), Ok(1_699_920_000_000_000));
        assert_eq!(parse("2023-11-14 22:13:20"), Ok(1_700_000_000_000_000));
        assert!(parse("10m").is_ok_and(|ago| ago > micros));
        for bad in ["", "yesterday", "2023-13-01", "-1m"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
