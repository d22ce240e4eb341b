use bigdecimal::BigDecimal;
use std::str::FromStr;

use super::*;
use crate::schema::value::parse_number;

fn number(text: &str) -> Number {
    parse_number(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn key(text: &str) -> Vec<u8> {
    let mut key = Vec::new();
    number(text).put_key(&mut key);
    key
}

fn random(state: &mut u64, below: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state % below
}

#[test]
fn decimals_are_exact_and_keep_their_scale() {
    let shown = |text: &str| Decimal::parse(text).map(|d| d.to_string());
    assert_eq!(shown("99.950"), Some("99.950".into()));
    assert_eq!(shown("-0.05"), Some("-0.05".into()));
    assert_eq!(shown("1e3"), Some("1000".into()));
    assert_eq!(shown("1.5E-2"), Some("0.015".into()));
    assert_eq!(shown(".5"), Some("0.5".into()));
    assert_eq!(
        shown("12345678901234567890123456789012345678"),
        Some("12345678901234567890123456789012345678".into())
    );
    assert_eq!(shown("123456789012345678901234567890123456789"), None);
    assert_eq!(shown("1e999999999"), None);
    for bad in ["", "-", ".", "1.2.3", "0x10", "1_000", " 1", "NaN"] {
        assert_eq!(shown(bad), None, "{bad}");
    }
    assert_eq!(Decimal::parse("1.50"), Decimal::parse("1.5"));
    assert_eq!(
        Decimal::parse("1.25")
            .and_then(|d| d.rescale(1))
            .map(|d| d.to_string()),
        None
    );
}

#[test]
fn wide_numbers_are_shown_as_postgres_shows_them_and_take_little_room() {
    let nines = "9".repeat(39);
    let long = format!("-0.{}1", "0".repeat(60));
    let padded = format!("{nines}.10");
    for text in ["NaN", "Infinity", "-Infinity", &nines, &long, &padded] {
        let Number::Wide(wide) = number(text) else {
            panic!("{text} is a decimal")
        };
        assert_eq!(wide.to_string(), text);
        assert_eq!(
            number(&wide.short_text()).to_string(),
            text,
            "{}",
            wide.short_text()
        );
    }
    assert_eq!(number("-1e131071").to_string().len(), 131_073);
    let huge = Wide::clone(match &number("1e131071") {
        Number::Wide(wide) => wide,
        Number::Decimal(_) => panic!("a decimal"),
    });
    assert_eq!((huge.short_text().as_str(), huge.bytes()), ("1e131071", 1));
    let tiny = number("2e-16383");
    assert_eq!(tiny.to_string().len(), 16_385);
    assert_eq!(
        number(&format!("{nines}.1")),
        number(&padded),
        "zeros say nothing"
    );
    // As many zeros as have room beside 38 digits.
    assert!(matches!(
        number("1.0000000000000000000000000000000000000000000"),
        Number::Decimal(_)
    ));
    assert!(matches!(number("0e500"), Number::Decimal(_)));
}

#[test]
fn bytes_of_numbers_are_in_their_order_and_tell_the_number() {
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let mut texts: Vec<String> = ["0", "NaN", "Infinity", "-Infinity", "1e131071", "-1e131071"]
        .map(str::to_owned)
        .into();
    texts.extend([
        "1e-16383".into(),
        "-1e-16383".into(),
        "1e-38".into(),
        "-1e-38".into(),
    ]);
    for digits in [1, 2, 36, 37, 38, 39, 40, 77] {
        for point in -45i64..=45 {
            for _ in 0..2 {
                let first = random(&mut state, 9) + 1;
                let mut text = first.to_string();
                // Nines and zeros are where rounding shows.
                let few = random(&mut state, 3);
                text.extend((1..digits).map(|_| match few {
                    0 => '9',
                    1 => ['0', '9'][random(&mut state, 2) as usize],
                    _ => char::from(b'0' + random(&mut state, 10) as u8),
                }));
                let sign = if random(&mut state, 2) == 0 { "-" } else { "" };
                texts.push(format!("{sign}{text}e{point}"));
                texts.push(format!("{sign}9{}e{point}", "9".repeat(digits - 1)));
            }
        }
    }
    for text in &texts {
        assert_eq!(Number::from_key(&key(text)), Some(number(text)), "{text}");
    }
    let rank = |text: &str| match text {
        "-Infinity" => 0,
        "Infinity" => 2,
        "NaN" => 3,
        _ => 1,
    };
    let value = |text: &str| BigDecimal::from_str(text).unwrap_or_default();
    let mut numbers: Vec<(u8, BigDecimal, &String)> = texts
        .iter()
        .map(|text| (rank(text), value(text), text))
        .collect();
    numbers.sort();
    // Whatever follows, the end of a row's key or its next column.
    for (after_a, after_b) in [
        (&[][..], &[][..]),
        (&[4, 0xFF], &[]),
        (&[], &[4, 0xFF]),
        (&[1], &[4]),
    ] {
        for pair in numbers.windows(2) {
            let (a, b) = (&pair[0], &pair[1]);
            let (mut x, mut y) = (key(a.2), key(b.2));
            if (a.0, &a.1) == (b.0, &b.1) {
                assert_eq!(x, y, "{} {}", a.2, b.2);
                continue;
            }
            x.extend_from_slice(after_a);
            y.extend_from_slice(after_b);
            assert!(x < y, "{} {}", a.2, b.2);
        }
    }
}

#[test]
fn other_bytes_are_of_no_number() {
    let mut state = 42;
    for text in [
        "1.5",
        "-1e-40",
        "9e99",
        "-123456789012345678901234567890123456789012",
    ] {
        let key = key(text);
        for cut in 0..key.len() {
            assert_eq!(Number::from_key(&key[..cut]), None, "{text} {cut}");
        }
        for _ in 0..2000 {
            let mut bytes = key.clone();
            let at = random(&mut state, bytes.len() as u64) as usize;
            bytes[at] = random(&mut state, 256) as u8;
            if let Some(found) = Number::from_key(&bytes) {
                assert!(found.to_string().len() < 200_000);
            }
        }
    }
    assert_eq!(
        Number::from_key(&[0xCD, 0x7F, 0xFF, 0xFF, 0xFF, 2, 0]),
        None
    );
}
