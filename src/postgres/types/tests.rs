use super::*;
use crate::schema::value::parse_type;

const TYPES: &[&str] = &[
    "boolean",
    "smallint",
    "integer",
    "bigint",
    "real",
    "double precision",
    "numeric",
    "numeric(12,2)",
    "numeric(4,-2)",
    "text",
    "varchar(3)",
    "char(3)",
    "bytea",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "uuid",
    "json",
    "jsonb",
    "interval",
    "integer[]",
    "numeric[]",
    "text[]",
    "jsonb[]",
    "interval[]",
];

fn of(name: &str) -> DataType {
    parse_type(name).expect("a type")
}

/// A `numeric` as Postgres sends it.
fn digits(weight: i16, sign: u16, scale: u16, groups: &[u16]) -> Vec<u8> {
    let head = [groups.len() as u16, weight as u16, sign, scale];
    head.iter()
        .chain(groups)
        .flat_map(|word| word.to_be_bytes())
        .collect()
}

#[test]
fn numbers_have_the_digits_that_postgres_prints() {
    let cases: &[(i16, u16, u16, &[u16], &str)] = &[
        (0, 0, 0, &[], "0"),
        (0, 0, 2, &[], "0.00"),
        (0, 0, 2, &[1, 5000], "1.50"),
        (0, 0x4000, 0, &[12], "-12"),
        (1, 0, 0, &[1], "10000"),
        (5, 0, 0, &[1], "100000000000000000000"),
        (-1, 0, 4, &[1], "0.0001"),
        (-3, 0, 10, &[100], "0.0000000001"),
        (
            4,
            0x4000,
            9,
            &[1234, 5678, 9012, 3456, 7890, 1234, 5678, 9000],
            "-12345678901234567890.123456789",
        ),
        (0, 0, 6, &[7, 1234, 5600], "7.123456"),
    ];
    for (weight, sign, scale, groups, text) in cases {
        let bytes = digits(*weight, *sign, *scale, groups);
        let found = cell(&of("numeric"), &bytes).expect("a number");
        assert_eq!(
            value::to_text(&of("numeric"), &found).as_deref(),
            Some(*text)
        );
        let Sent::Number(read) = Digits::read(&bytes).expect("digits") else {
            panic!("{text} is a number")
        };
        assert_eq!(read.text(), *text);
    }
    let named = [(0xc000, "NaN"), (0xd000, "Infinity"), (0xf000, "-Infinity")];
    let large = format!("1{}", "0".repeat(60));
    let wide = named.map(|(sign, text)| (digits(0, sign, 0, &[]), text));
    for (bytes, text) in wide
        .into_iter()
        .chain([(digits(15, 0, 0, &[1]), large.as_str())])
    {
        let found = cell(&of("numeric"), &bytes).expect("a number");
        assert!(matches!(found, Cell::Wide(_)), "{text}");
        assert_eq!(
            value::to_text(&of("numeric"), &found).as_deref(),
            Some(text)
        );
    }
    assert_eq!(
        cell(&of("numeric"), &digits(0, 0, 0, &[10_000])),
        Err(Malformed)
    );
}

#[test]
fn any_bytes_are_a_value_or_an_error() {
    let seed =
        std::env::var("FIRSTBAD_SEED").map_or(20_260_312, |seed| seed.parse().expect("a number"));
    println!("FIRSTBAD_SEED={seed}");
    let mut state: u64 = seed;
    let mut next = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let array = |dimensions: &[(i32, i32)]| -> Vec<u8> {
        let head = [dimensions.len() as i32, 0, 23];
        let rest = dimensions
            .iter()
            .flat_map(|(length, bound)| [*length, *bound]);
        head.into_iter()
            .chain(rest)
            .flat_map(i32::to_be_bytes)
            .collect()
    };
    // A few bytes that claim to be very many elements.
    for dimensions in [
        &[(i32::MAX, 1)][..],
        &[(i32::MAX, 1); 6],
        &[(1 << 30, 0), (1 << 30, 0), (16, 0)],
        &[(-1, 1)],
        &[(1, 1); 7],
    ] {
        assert_eq!(cell(&of("integer[]"), &array(dimensions)), Err(Malformed));
    }
    for _ in 0..40_000 {
        let data_type = of(TYPES[next() % TYPES.len()]);
        let mut bytes: Vec<u8> = match next() % 3 {
            0 => digits(next() as i16 >> 8, 0, (next() % 50) as u16, &[1, 2, 3]),
            1 => array(&[((next() % 3) as i32, 1), ((next() % 3) as i32, 1)]),
            _ => Vec::new(),
        };
        bytes.extend((0..next() % 24).map(|_| next() as u8));
        if !bytes.is_empty() && next() % 2 == 0 {
            let at = next() % bytes.len();
            bytes[at] = next() as u8;
        }
        let _ = cell(&data_type, &bytes);
    }
}
