//! Sizes as people write them: `512MiB`, `4GB`, `1.5 GiB`, `1000000`.

const UNITS: [(&str, u64); 14] = [
    ("", 1),
    ("b", 1),
    ("k", 1_000),
    ("kb", 1_000),
    ("m", 1_000_000),
    ("mb", 1_000_000),
    ("g", 1_000_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("t", 1_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];

/// Digits that are read of a number: more make no size that fits.
const DIGITS_MAX: usize = 20;

/// The bytes of a size: a number that may have a point, and a unit of a thousand (`kB`, `MB`, `GB`, `TB`) or of 1,024 (`KiB`, `MiB`,
/// `GiB`, `TiB`), in capitals or not; without a unit bytes. Parts of a byte are cut off.
///
/// # Errors
/// What to write instead; the text itself is not repeated.
pub fn parse_size(text: &str) -> Result<u64, &'static str> {
    const FORMS: &str = "write e.g. 512MiB or 4GB";
    let text = text.trim();
    let digits = text
        .bytes()
        .take_while(|byte| byte.is_ascii_digit() || *byte == b'.')
        .count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(FORMS)?;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if part.contains('.') || (whole.is_empty() && part.is_empty()) {
        return Err(FORMS);
    }
    // Beyond 20 digits behind the point there is no byte left of any unit.
    let part = part.get(..part.len().min(DIGITS_MAX)).unwrap_or(part);
    let bytes = |digits: &str| match digits {
        "" => Some(0),
        _ => digits
            .parse::<u128>()
            .ok()?
            .checked_mul(u128::from(*factor)),
    };
    let below = bytes(part).map(|bytes| bytes / 10u128.pow(part.len() as u32));
    bytes(whole)
        .zip(below)
        .and_then(|(whole, below)| u64::try_from(whole.checked_add(below)?).ok())
        .ok_or("no store and no machine is as large as that; write a smaller one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact() {
        for (text, bytes) in [
            ("0", 0),
            ("1000000", 1_000_000),
            ("512MiB", 512 << 20),
            ("4GB", 4_000_000_000),
            ("4gb", 4_000_000_000),
            (" 1.5 GiB ", 3 << 29),
            (".5k", 500),
            ("2TiB", 2 << 40),
            ("9007199254740993B", 9_007_199_254_740_993),
            ("18446744073709551615", u64::MAX),
            ("1.999999999999999999999999999999999999999999", 1),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        let enormous = "9".repeat(10_000);
        for text in [
            "",
            "GB",
            "-1GB",
            "1 2",
            "1.2.3MB",
            ".",
            "1PB",
            "1 GB x",
            "18446744073709551616",
            "20000000TB",
            "1e6",
            "1_000",
            &enormous,
            "ä",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
