//! Intervals as text; firstbad keeps them as nothing else.

use std::fmt::Write as _;

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// An interval as Postgres prints it (IntervalStyle `postgres`): `1 year 2 mons -3 days +04:05:06.789`. Digits below a microsecond
/// are kept.
pub(crate) fn interval_text(months: i32, days: i64, nanos: i128) -> String {
    let mut out = String::new();
    let mut after_negative = false;
    let months = i64::from(months);
    for (count, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if count == 0 {
            continue;
        }
        let gap = if out.is_empty() { "" } else { " " };
        let sign = if after_negative && count > 0 { "+" } else { "" };
        let plural = if count == 1 { "" } else { "s" };
        let _ = write!(out, "{gap}{sign}{count} {unit}{plural}");
        after_negative = count < 0;
    }
    if nanos == 0 && !out.is_empty() {
        return out;
    }
    let gap = if out.is_empty() { "" } else { " " };
    let sign = match (nanos < 0, after_negative) {
        (true, _) => "-",
        (false, true) => "+",
        (false, false) => "",
    };
    let (seconds, fraction) = (
        nanos.unsigned_abs() / NANOS_PER_SECOND,
        nanos.unsigned_abs() % NANOS_PER_SECOND,
    );
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let _ = write!(
        out,
        "{gap}{sign}{hours:02}:{minutes:02}:{:02}",
        seconds % 60
    );
    if fraction > 0 {
        let digits = format!("{fraction:09}");
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_printed_as_postgres_prints_them() {
        let second = 1_000_000_000i128;
        let expected = [
            ((0, 0, 0), "00:00:00"),
            ((0, 1, 0), "1 day"),
            ((0, -1, 0), "-1 days"),
            (
                (14, 3, 14_706_789_000_000),
                "1 year 2 mons 3 days 04:05:06.789",
            ),
            (
                (-14, 3, -4 * 3600 * second),
                "-1 years -2 mons +3 days -04:00:00",
            ),
            ((0, -3, 5 * second), "-3 days +00:00:05"),
            ((0, 0, 100 * 3600 * second + 1_000), "100:00:00.000001"),
            ((0, 0, 1), "00:00:00.000000001"),
            ((-1, 0, 0), "-1 mons"),
        ];
        for ((months, days, nanos), text) in expected {
            assert_eq!(interval_text(months, days, nanos), text);
        }
        assert_eq!(
            interval_text(i32::MIN, i64::MIN, i128::MIN)
                .matches('-')
                .count(),
            4
        );
    }
}
