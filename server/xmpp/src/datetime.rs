//! XEP-0082: XMPP Date and Time Profiles

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

/// Why a string is not a `DateTime`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a date and time of XEP-0082")]
pub struct Error;

/// Microseconds since 1970-01-01T00:00:00Z as `2026-01-02T03:04:05.123456Z`; years 0 to 9999,
/// what is outside is cut off there.
pub fn format(unix_micros: i64) -> String {
    write(unix_micros, 6)
}

/// The same with milliseconds.
pub fn format_millis(unix_micros: i64) -> String {
    write(unix_micros, 3)
}

/// The same with whole seconds.
pub fn format_seconds(unix_micros: i64) -> String {
    write(unix_micros, 0)
}

/// 0000-01-01T00:00:00Z.
const FIRST_SECOND: i64 = -62_167_219_200;
/// 9999-12-31T23:59:59Z.
const LAST_SECOND: i64 = 253_402_300_799;

fn write(unix_micros: i64, digits: usize) -> String {
    let seconds = unix_micros
        .div_euclid(1_000_000)
        .clamp(FIRST_SECOND, LAST_SECOND);
    let micros = unix_micros.rem_euclid(1_000_000);
    let at = OffsetDateTime::from_unix_timestamp(seconds).expect("clamped to four-digit years");
    let (date, time) = (at.date(), at.time());
    let whole = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second()
    );
    match digits {
        0 => whole + "Z",
        3 => format!("{whole}.{:03}Z", micros / 1000),
        _ => format!("{whole}.{micros:06}Z"),
    }
}

/// `CCYY-MM-DDThh:mm:ss[.sss]TZD` as microseconds since 1970-01-01T00:00:00Z; finer fractions are
/// cut off. The old `CCYYMMDDThh:mm:ss` of XEP-0091 is not read.
pub fn parse(input: &str) -> Result<i64, Error> {
    let bytes = input.as_bytes();
    // RFC 3339 allows lower case and a space, XEP-0082 §3.2 does not.
    if bytes.len() > 64 || bytes.get(10) != Some(&b'T') || input.contains('z') {
        return Err(Error);
    }
    let at = OffsetDateTime::parse(input, &Rfc3339).map_err(|_| Error)?;
    let nanos = at.to_offset(UtcOffset::UTC).unix_timestamp_nanos();
    i64::try_from(nanos.div_euclid(1000)).map_err(|_| Error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_and_reads() {
        assert_eq!(format(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(format(1_767_323_045_123_456), "2026-01-02T03:04:05.123456Z");
        assert_eq!(
            format_millis(1_767_323_045_123_456),
            "2026-01-02T03:04:05.123Z"
        );
        assert_eq!(format_seconds(-1), "1969-12-31T23:59:59Z");
        assert_eq!(format(i64::MAX).len(), 27);
        assert_eq!(
            parse("2026-01-02T03:04:05.123456Z"),
            Ok(1_767_323_045_123_456)
        );
        assert_eq!(
            parse("2026-01-02T05:04:05+02:00"),
            Ok(1_767_323_045_000_000)
        );
        assert_eq!(parse("1969-07-21T02:56:15Z"), Ok(-14_159_025_000_000));
        assert_eq!(
            parse("2026-01-02T03:04:05.1234567899Z"),
            Ok(1_767_323_045_123_456)
        );
    }

    #[test]
    fn refuses_other_forms() {
        for bad in [
            "",
            "2026-01-02",
            "2026-01-02T03:04:05",
            "2026-01-02 03:04:05Z",
            "2026-01-02T03:04:05z",
            "20260102T03:04:05",
            "2026-13-02T03:04:05Z",
            "2026-02-30T03:04:05Z",
            "2026-01-02T25:04:05Z",
            "2026-01-02T03:04:05.Z",
            "2026-01-02T03:04:05Zx",
        ] {
            assert_eq!(parse(bad), Err(Error), "{bad}");
        }
    }
}
