//! Dates, times and timestamps: microseconds in 64 bits, days in 32, Postgres' two infinities at the ends.

use super::{OUT_OF_RANGE, Reason, trim};

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;
const NOT_A_TIME: Reason = "not a time";
const NOT_A_DATE: Reason = "not a date";
const NOT_A_TIMESTAMP: Reason = "not a date and time";

/// What a timestamp's text says.
struct Stamp {
    days: i64,
    micros: i64,
    offset_seconds: Option<i64>,
}

/// Days since 1970-01-01; a time of day behind the date is passed over, as Postgres does.
pub(super) fn parse_date(text: &str) -> Result<i32, Reason> {
    match infinity(text) {
        Some(true) => Ok(i32::MAX),
        Some(false) => Ok(i32::MIN),
        None => {
            let stamp = read_stamp(text).map_err(|reason| {
                if reason == OUT_OF_RANGE {
                    reason
                } else {
                    NOT_A_DATE
                }
            })?;
            let days = i32::try_from(stamp.days).map_err(|_| OUT_OF_RANGE)?;
            if days == i32::MAX || days == i32::MIN {
                Err(OUT_OF_RANGE)
            } else {
                Ok(days)
            }
        }
    }
}

/// Microseconds since midnight, up to 24:00:00; an offset is passed over.
pub(super) fn parse_time(text: &str) -> Result<i64, Reason> {
    let (micros, rest) = read_clock(trim(text)).ok_or(NOT_A_TIME)?;
    let rest = rest.trim_start();
    if rest.is_empty() || read_offset(rest).is_some_and(|(_, rest)| rest.is_empty()) {
        Ok(micros)
    } else {
        Err(NOT_A_TIME)
    }
}

/// A timestamp without time zone: an offset in the text is passed over, as Postgres does.
pub(super) fn parse_local(text: &str) -> Result<i64, Reason> {
    parse_stamp(text, |stamp| Stamp {
        offset_seconds: None,
        ..stamp
    })
}

/// A timestamp with time zone; without an offset it is UTC.
pub(super) fn parse_instant(text: &str) -> Result<i64, Reason> {
    parse_stamp(text, |stamp| stamp)
}

/// Microseconds since the epoch (UTC) from RFC 3339 or Postgres' text; a bare date is its midnight. None for anything else,
/// the infinities included.
pub fn parse_timestamp(text: &str) -> Option<i64> {
    match infinity(text) {
        Some(_) => None,
        None => parse_instant(text).ok(),
    }
}

/// RFC 3339 with `Z`, with 0, 3 or 6 digits after the point as needed; `infinity` and `-infinity` for the ends of the range.
pub fn format_timestamp(micros: i64) -> String {
    rfc3339(micros, "Z")
}

fn parse_stamp(text: &str, adjust: impl Fn(Stamp) -> Stamp) -> Result<i64, Reason> {
    match infinity(text) {
        Some(true) => return Ok(i64::MAX),
        Some(false) => return Ok(i64::MIN),
        None => {}
    }
    let stamp = adjust(read_stamp(text)?);
    let micros = i128::from(stamp.days) * i128::from(MICROS_PER_DAY) + i128::from(stamp.micros)
        - i128::from(stamp.offset_seconds.unwrap_or(0)) * i128::from(MICROS_PER_SECOND);
    match i64::try_from(micros) {
        Ok(value) if value != i64::MAX && value != i64::MIN => Ok(value),
        _ => Err(OUT_OF_RANGE),
    }
}

/// True for `infinity`, false for `-infinity`.
fn infinity(text: &str) -> Option<bool> {
    let text = trim(text);
    if text.eq_ignore_ascii_case("infinity") || text.eq_ignore_ascii_case("+infinity") {
        Some(true)
    } else if text.eq_ignore_ascii_case("-infinity") {
        Some(false)
    } else {
        None
    }
}

/// `date`, `date time`, `dateTtime`, each with an offset and ` BC` behind it.
fn read_stamp(text: &str) -> Result<Stamp, Reason> {
    let text = trim(text);
    let (text, before_christ) = match text
        .len()
        .checked_sub(3)
        .and_then(|at| text.split_at_checked(at))
    {
        Some((head, tail)) if tail.eq_ignore_ascii_case(" bc") => (head, true),
        _ => (text, false),
    };
    let (year, rest) = digits(text, 4, 7).ok_or(NOT_A_TIMESTAMP)?;
    let rest = rest.strip_prefix('-').ok_or(NOT_A_TIMESTAMP)?;
    let (month, rest) = digits(rest, 1, 2).ok_or(NOT_A_TIMESTAMP)?;
    let rest = rest.strip_prefix('-').ok_or(NOT_A_TIMESTAMP)?;
    let (day, rest) = digits(rest, 1, 2).ok_or(NOT_A_TIMESTAMP)?;
    if year == 0 || !(1..=12).contains(&month) {
        return Err(OUT_OF_RANGE);
    }
    let year = if before_christ { 1 - year } else { year };
    if day < 1 || day > days_in_month(year, month) {
        return Err(OUT_OF_RANGE);
    }
    let days = days_from_civil(year, month, day);
    let (micros, rest) = match rest.strip_prefix(['T', 't', ' ']) {
        Some(rest) => read_clock(rest.trim_start()).ok_or(NOT_A_TIMESTAMP)?,
        None => (0, rest),
    };
    let rest = rest.trim_start();
    let (offset_seconds, rest) = match rest.is_empty() {
        true => (None, rest),
        false => read_offset(rest)
            .map(|(offset, rest)| (Some(offset), rest))
            .ok_or(NOT_A_TIMESTAMP)?,
    };
    if rest.is_empty() {
        Ok(Stamp {
            days,
            micros,
            offset_seconds,
        })
    } else {
        Err(NOT_A_TIMESTAMP)
    }
}

/// `least` to `most` digits at the start.
fn digits(text: &str, least: usize, most: usize) -> Option<(i64, &str)> {
    let len = text.bytes().take_while(u8::is_ascii_digit).count();
    if len < least || len > most {
        return None;
    }
    let (head, rest) = text.split_at(len);
    Some((head.parse().ok()?, rest))
}

/// `16:03`, `16:03:51`, `16:03:51.221`: microseconds, rounded.
fn read_clock(text: &str) -> Option<(i64, &str)> {
    let (hours, rest) = digits(text, 1, 2)?;
    let (minutes, mut rest) = digits(rest.strip_prefix(':')?, 2, 2)?;
    let (mut seconds, mut micros) = (0, 0);
    if let Some(after) = rest.strip_prefix(':') {
        (seconds, rest) = digits(after, 2, 2)?;
        if let Some(after) = rest.strip_prefix('.') {
            let len = after.bytes().take_while(u8::is_ascii_digit).count();
            let (fraction, after) = after.split_at(len);
            micros = fraction_micros(fraction);
            rest = after;
        }
    }
    // Second 60 is a leap second, which Postgres carries into the next minute.
    if hours > 24 || minutes > 59 || seconds > 60 {
        return None;
    }
    let total = ((hours * 60 + minutes) * 60 + seconds) * MICROS_PER_SECOND + micros;
    (total <= MICROS_PER_DAY).then_some((total, rest))
}

fn fraction_micros(fraction: &str) -> i64 {
    let digit = |at: usize| {
        fraction
            .as_bytes()
            .get(at)
            .map_or(0, |b| i64::from(b - b'0'))
    };
    let micros = (0..6).fold(0, |sum, at| sum * 10 + digit(at));
    if digit(6) >= 5 { micros + 1 } else { micros }
}

/// `Z`, `UTC`, `+05`, `+05:30`, `+0530`, `-00:01:15`: seconds east of Greenwich.
fn read_offset(text: &str) -> Option<(i64, &str)> {
    for name in ["utc", "gmt", "z"] {
        if let Some((head, rest)) = text.split_at_checked(name.len())
            && head.eq_ignore_ascii_case(name)
        {
            return Some((0, rest));
        }
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let text = text.get(1..)?;
    if let Some((packed, rest)) = digits(text, 4, 4) {
        let (hours, minutes) = (packed / 100, packed % 100);
        return (hours < 16 && minutes < 60).then_some((sign * (hours * 60 + minutes) * 60, rest));
    }
    let (hours, mut rest) = digits(text, 1, 2)?;
    let mut parts = [0, 0];
    for part in &mut parts {
        if let Some(after) = rest.strip_prefix(':') {
            (*part, rest) = digits(after, 2, 2)?;
        }
    }
    let [minutes, seconds] = parts;
    let in_range = hours < 16 && minutes < 60 && seconds < 60;
    in_range.then_some((sign * ((hours * 60 + minutes) * 60 + seconds), rest))
}

fn is_leap(year: i64) -> bool {
    year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar; years count from 1 BC = 0. March begins the counted year, so
/// that the leap day is its last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// The date's text, and the ` BC` that goes to the very end.
fn civil_text(days: i64) -> (String, &'static str) {
    let (year, month, day) = civil_from_days(days);
    let (year, suffix) = if year > 0 {
        (year, "")
    } else {
        (1 - year, " BC")
    };
    (format!("{year:04}-{month:02}-{day:02}"), suffix)
}

/// How many digits stand after the point.
#[derive(Clone, Copy)]
pub(super) enum Fraction {
    /// As many as are not zero, as Postgres prints.
    Needed,
    /// 0, 3 or 6.
    Thousands,
}

/// `2026-03-12`, `infinity`.
pub(super) fn date_text(days: i32) -> String {
    match days {
        i32::MAX => "infinity".to_owned(),
        i32::MIN => "-infinity".to_owned(),
        days => {
            let (date, suffix) = civil_text(i64::from(days));
            date + suffix
        }
    }
}

/// `16:03:51.221`.
pub(super) fn clock_text(micros: i64, fraction: Fraction) -> String {
    let seconds = micros.div_euclid(MICROS_PER_SECOND);
    let rest = micros.rem_euclid(MICROS_PER_SECOND);
    let mut out = format!(
        "{:02}:{:02}:{:02}",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60
    );
    match fraction {
        _ if rest == 0 => {}
        Fraction::Needed => {
            let digits = format!(".{rest:06}");
            out.push_str(digits.trim_end_matches('0'));
        }
        Fraction::Thousands if rest % 1_000 == 0 => out.push_str(&format!(".{:03}", rest / 1_000)),
        Fraction::Thousands => out.push_str(&format!(".{rest:06}")),
    }
    out
}

fn stamp_text(micros: i64, separator: char, fraction: Fraction, zone: &str) -> String {
    match micros {
        i64::MAX => return "infinity".to_owned(),
        i64::MIN => return "-infinity".to_owned(),
        _ => {}
    }
    let (date, suffix) = civil_text(micros.div_euclid(MICROS_PER_DAY));
    let clock = clock_text(micros.rem_euclid(MICROS_PER_DAY), fraction);
    format!("{date}{separator}{clock}{zone}{suffix}")
}

/// RFC 3339 with the zone given (`Z` or nothing).
pub(super) fn rfc3339(micros: i64, zone: &str) -> String {
    stamp_text(micros, 'T', Fraction::Thousands, zone)
}

/// As Postgres prints with DateStyle ISO: `2026-03-12 16:03:51.221+00`; the zone is `+00` or nothing.
pub(super) fn postgres_text(micros: i64, zone: &str) -> String {
    stamp_text(micros, ' ', Fraction::Needed, zone)
}
