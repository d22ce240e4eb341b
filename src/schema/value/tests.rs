use serde_json::json;

use super::*;
use crate::change::Decimal;

fn data_type(name: &str) -> DataType {
    parse_type(name).unwrap_or_else(|| panic!("no type {name}"))
}

fn status() -> DataType {
    DataType::Enum {
        name: "status".into(),
        labels: vec!["open".into(), "it's".into()],
    }
}

/// The fixture holds what a real Postgres printed, or `-` where it refused.
#[test]
fn texts_are_read_and_printed_as_postgres_does() {
    let golden = include_str!("../../../testdata/schema/values-pg15.tsv");
    let mut wrong = Vec::new();
    let mut rows = 0;
    for line in golden.lines().filter(|line| !line.starts_with('#')) {
        let [name, input, output] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let input: String = serde_json::from_str(input).expect("a JSON string");
        let expected: Option<String> =
            (output != "-").then(|| serde_json::from_str(output).expect("a JSON string"));
        let data_type = data_type(name);
        let cell = parse_text(&data_type, &input);
        let mut shown = cell
            .as_ref()
            .ok()
            .and_then(|cell| to_text(&data_type, cell));
        if data_type == DataType::Bool {
            // A cast to text spells it out, output does not.
            shown = shown.map(|text| {
                if text == "t" {
                    "true".into()
                } else {
                    "false".into()
                }
            });
        }
        if shown != expected {
            wrong.push(format!("{line}: {shown:?}"));
        }
        if let Ok(cell) = cell {
            let text = to_text(&data_type, &cell).expect("a value has a text");
            assert_eq!(
                parse_text(&data_type, &text),
                Ok(cell),
                "round trip of {line}"
            );
        }
        rows += 1;
    }
    assert!(rows > 200);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn values_that_cannot_be_kept_are_errors_that_do_not_show_them() {
    let cases = [
        (
            "numeric(10,2)",
            "-Infinity",
            "an infinite value, which a declared precision excludes",
        ),
        (
            "numeric",
            "1e999999999999999999999",
            "more digits than a numeric has",
        ),
        ("numeric", "1e-140000", "more digits than a numeric has"),
        ("numeric", "1e131072", "more digits than a numeric has"),
        ("numeric", "1e-16384", "more digits than a numeric has"),
        ("integer", "99999999999999999999", "out of range"),
        ("text", "a\0b", "holds a NUL character"),
        ("integer[]", "{{{{{{{1}}}}}}}", "more than 6 dimensions"),
        ("timestamp", "294276-12-31 00:00:00", "out of range"),
    ];
    for (name, text, reason) in cases {
        let error = parse_text(&data_type(name), text).expect_err(text);
        assert_eq!(
            (error.reason, error.expected),
            (reason, data_type(name).to_string()),
            "{text}"
        );
    }
    let error = parse_text(&status(), "secret").expect_err("no label");
    assert_eq!(
        error.to_string(),
        "not a valid status: no label of this enum"
    );
    assert_eq!(parse_text(&status(), "it's"), Ok(Cell::Text("it's".into())));
}

#[test]
fn a_numeric_with_more_declared_digits_than_fit_keeps_its_value() {
    let wide = data_type("numeric(50,20)");
    let cell = parse_text(&wide, "1234567890123456789012.5").expect("38 digits are enough");
    let Cell::Decimal(value) = cell else {
        panic!("{cell:?}")
    };
    assert_eq!(Some(value), Decimal::parse("1234567890123456789012.5"));
    assert_eq!(
        parse_text(&data_type("numeric(60,50)"), "0.1").map(|cell| cell == Cell::Decimal(value)),
        Ok(false)
    );
    let rounded = parse_text(
        &data_type("numeric(10,2)"),
        "1.00500000000000000000000000000000000000000000000001",
    );
    assert_eq!(
        rounded.ok().and_then(|cell| to_text(&wide, &cell)),
        Some("1.01".into())
    );
}

#[test]
fn jsonb_is_kept_compact_and_json_as_it_stands() {
    let text = r#"{"b": [1, 2.50, 1e3], "a": "x \" : y\\"}"#;
    let compact = r#"{"b":[1,2.50,1e3],"a":"x \" : y\\"}"#;
    assert_eq!(
        parse_text(&DataType::Jsonb, text),
        Ok(Cell::Text(compact.into()))
    );
    assert_eq!(
        parse_json(&DataType::Jsonb, text),
        Ok(Cell::Text(compact.into()))
    );
    assert_eq!(
        parse_json(&DataType::Json, text),
        Ok(Cell::Text(compact.into()))
    );
    assert_eq!(
        parse_text(&DataType::Json, text),
        Ok(Cell::Text(text.into()))
    );
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    assert_eq!(parse_text(&DataType::Jsonb, &deep), Ok(Cell::Text(deep)));
}

#[test]
fn json_values_are_read_from_their_digits() {
    let decimal = |text| Ok(Cell::Decimal(Decimal::parse(text).expect("a decimal")));
    let text = |text: &str| Ok(Cell::Text(text.into()));
    let cases: Vec<(&str, &str, Result<Cell, &str>)> = vec![
        ("bigint", "9223372036854775807", Ok(Cell::Int(i64::MAX))),
        ("bigint", "\"9223372036854775807\"", Ok(Cell::Int(i64::MAX))),
        ("integer", "1e3", Ok(Cell::Int(1000))),
        ("integer", "12.00", Ok(Cell::Int(12))),
        ("integer", "12.5", Err("not a whole number")),
        ("smallint", "1e5", Err("out of range")),
        ("integer", "true", Err("a JSON boolean")),
        ("integer", "null", Ok(Cell::Null)),
        ("integer", "{}", Err("a JSON array or object")),
        ("integer", "12 13", Err("malformed JSON")),
        ("integer", "", Err("malformed JSON")),
        ("integer", "nul", Err("malformed JSON")),
        (
            "numeric",
            "0.1000000000000000055511151231257827",
            decimal("0.1000000000000000055511151231257827"),
        ),
        ("numeric(6,2)", "99.955", decimal("99.96")),
        ("double precision", "0.1", Ok(Cell::Float(0.1))),
        ("double precision", "\"NaN\"", Ok(Cell::Float(f64::NAN))),
        ("boolean", "true", Ok(Cell::Bool(true))),
        ("boolean", "\"f\"", Ok(Cell::Bool(false))),
        ("boolean", "1", Err("a JSON number")),
        ("text", "12.50", text("12.50")),
        ("text", "\"a\\u00e4\\n\"", text("aä\n")),
        ("text", "\"\\ud800\"", Err("malformed JSON")),
        ("text", "\"\\u0000\"", Err("holds a NUL character")),
        ("text", "false", text("false")),
        ("text", "{\"a\": 1}", text("{\"a\":1}")),
        ("uuid", "7", Err("a JSON number")),
        (
            "timestamptz",
            "\"2026-03-12T16:03:51.221Z\"",
            Ok(Cell::Timestamp(1_773_331_431_221_000)),
        ),
        ("timestamptz", "1773331431", Err("a JSON number")),
        ("date", "\"1970-01-02\"", Ok(Cell::Date(1))),
        ("bytea", "\"\\\\x00ff\"", Ok(Cell::Bytes(vec![0, 255]))),
        ("jsonb", "\"{\\\"a\\\": 1}\"", text("{\"a\":1}")),
        ("jsonb", "[1, {\"a\": null}]", text("[1,{\"a\":null}]")),
        (
            "integer[]",
            "[1, null, \"3\"]",
            Ok(Cell::List(vec![Cell::Int(1), Cell::Null, Cell::Int(3)])),
        ),
        (
            "integer[]",
            "\"{1,2}\"",
            Ok(Cell::List(vec![Cell::Int(1), Cell::Int(2)])),
        ),
        (
            "integer[]",
            "[[1],[2]]",
            Ok(Cell::List(vec![
                Cell::List(vec![Cell::Int(1)]),
                Cell::List(vec![Cell::Int(2)]),
            ])),
        ),
        (
            "integer[]",
            "[[1],[2,3]]",
            Err("sub-arrays of different lengths"),
        ),
        (
            "integer[]",
            "[1,[2]]",
            Err("sub-arrays of different lengths"),
        ),
        (
            "integer[]",
            "[[[[[[[1]]]]]]]",
            Err("more than 6 dimensions"),
        ),
        (
            "jsonb[]",
            "[[1], {}]",
            Ok(Cell::List(vec![
                Cell::Text("[1]".into()),
                Cell::Text("{}".into()),
            ])),
        ),
    ];
    for (name, raw, expected) in cases {
        let read = parse_json(&data_type(name), raw).map_err(|error| error.reason);
        assert_eq!(read, expected, "{name} {raw}");
    }
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    assert!(parse_json(&data_type("integer[]"), &deep).is_err());
}

#[test]
fn json_shows_values_as_the_contract_says() {
    let cases = [
        (
            "bigint",
            "9007199254740992",
            json!(9_007_199_254_740_992_i64),
        ),
        ("bigint", "9007199254740993", json!("9007199254740993")),
        ("bigint", "-9007199254740993", json!("-9007199254740993")),
        ("numeric(12,2)", "99.5", json!("99.50")),
        (
            "timestamptz",
            "2026-03-12 16:03:51.5+02",
            json!("2026-03-12T14:03:51.500Z"),
        ),
        (
            "timestamptz",
            "2026-03-12 16:03:51",
            json!("2026-03-12T16:03:51Z"),
        ),
        (
            "timestamp",
            "2026-03-12 16:03:51.000001",
            json!("2026-03-12T16:03:51.000001"),
        ),
        ("timestamp", "-infinity", json!("-infinity")),
        ("date", "2026-03-12", json!("2026-03-12")),
        ("date", "infinity", json!("infinity")),
        ("time", "16:03:51.22", json!("16:03:51.220")),
        ("bytea", "\\x00FF", json!("\\x00ff")),
        ("real", "0.1", json!(0.1)),
        ("double precision", "NaN", json!("NaN")),
        ("double precision", "-Infinity", json!("-Infinity")),
        ("boolean", "t", json!(true)),
        ("jsonb", "{\"a\": 1}", json!("{\"a\":1}")),
        ("numeric[]", "{{1.50},{NULL}}", json!([["1.50"], [null]])),
        (
            "timestamptz[]",
            "{2026-03-12}",
            json!(["2026-03-12T00:00:00Z"]),
        ),
    ];
    for (name, text, expected) in cases {
        let data_type = data_type(name);
        let cell = parse_text(&data_type, text).expect(text);
        let shown = to_json(&data_type, &cell);
        assert_eq!(shown, expected, "{name} {text}");
        assert_eq!(
            parse_json(&data_type, &shown.to_string()),
            Ok(cell),
            "round trip of {name} {text}"
        );
    }
    assert_eq!(to_json(&DataType::Text, &Cell::Unknown), json!(null));
    assert_eq!(to_text(&DataType::Text, &Cell::Unknown), None);
}

#[test]
fn timestamps_of_commits_are_read_in_every_usual_form() {
    let micros = 1_773_331_431_221_000;
    for text in [
        "2026-03-12T16:03:51.221Z",
        "2026-03-12 16:03:51.221+00",
        "2026-03-12t21:33:51.221+05:30",
    ] {
        assert_eq!(parse_timestamp(text), Some(micros), "{text}");
    }
    assert_eq!(format_timestamp(micros), "2026-03-12T16:03:51.221Z");
    assert_eq!(parse_timestamp("1970-01-02"), Some(86_400_000_000));
    for text in [
        "",
        "infinity",
        "yesterday",
        "12:00",
        "2026-02-30",
        "2026-03-12T",
        "2026-03-12T16:03:51Zé",
    ] {
        assert_eq!(parse_timestamp(text), None, "{text}");
    }
    for micros in [
        0,
        -1,
        i64::MIN + 1,
        i64::MAX - 1,
        -62_135_596_800_000_000,
        951_782_400_000_000,
    ] {
        assert_eq!(parse_timestamp(&format_timestamp(micros)), Some(micros));
    }
}

#[test]
fn every_day_of_a_thousand_years_survives_its_text() {
    for days in -200_000..200_000 {
        let text = to_text(&DataType::Date, &Cell::Date(days)).expect("a date");
        assert_eq!(
            parse_text(&DataType::Date, &text),
            Ok(Cell::Date(days)),
            "{text}"
        );
    }
}

#[test]
fn every_spelling_of_a_type_is_known() {
    let cases = [
        ("int8", "bigint"),
        ("BIGINT", "bigint"),
        ("bigserial", "bigint"),
        ("pg_catalog.int4", "integer"),
        ("\"int4\"", "integer"),
        ("varchar(20)", "character varying(20)"),
        ("Character  Varying ( 20 )", "character varying(20)"),
        ("national character varying(3)", "character varying(3)"),
        ("char", "character(1)"),
        ("\"char\"", "\"char\""),
        ("bpchar", "character"),
        ("numeric(12,2)", "numeric(12,2)"),
        ("numeric(12)", "numeric(12,0)"),
        ("numeric(3,-2)", "numeric(3,-2)"),
        ("decimal", "numeric"),
        ("timestamptz(3)", "timestamp with time zone"),
        ("timestamp(6) with time zone", "timestamp with time zone"),
        ("timestamp without time zone", "timestamp without time zone"),
        ("time", "time without time zone"),
        ("time(3) with time zone", "time with time zone"),
        ("double precision", "double precision"),
        ("float(24)", "real"),
        ("float(25)", "double precision"),
        ("_int4", "integer[]"),
        ("text[]", "text[]"),
        ("integer[][]", "integer[]"),
        ("integer[3]", "integer[]"),
        ("integer array", "integer[]"),
        ("numeric(4,1)[]", "numeric(4,1)[]"),
        ("interval day to second(3)", "interval day to second(3)"),
        ("bit varying(5)", "bit varying(5)"),
        ("name", "text"),
        ("tstzrange", "tstzrange"),
    ];
    for (name, canonical) in cases {
        assert_eq!(
            parse_type(name).map(|found| found.to_string()),
            Some(canonical.into()),
            "{name}"
        );
    }
    let canonical = cases.map(|(_, canonical)| canonical);
    for name in canonical.into_iter().filter(|name| *name != "character") {
        assert_eq!(
            parse_type(name).map(|found| found.to_string()),
            Some(name.into()),
            "canonical names are stable"
        );
    }
    let deep = "(".repeat(10_000);
    for wrong in [
        "",
        "money2",
        "public.int4",
        "int4 int4",
        "numeric(0)",
        "varchar(x)",
        "float(99)",
        "int[",
        "'x'",
        &deep,
    ] {
        assert_eq!(parse_type(wrong), None, "{wrong}");
    }
}
