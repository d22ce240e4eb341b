//! The reader of the file: what it understands, and every mistake with its place.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Config, FILE_BYTES_MAX, Snapshots, Text, parse};
use crate::diagnostic::{Diagnostic, render};

/// The value of every variable that must not be seen; `SHORT` is `ab`.
const SECRET: &str = "s3cr3t-hunter2";

fn environment(name: &str) -> Option<OsString> {
    match name {
        "SECRET" | "DIR" => Some(SECRET.into()),
        "SHORT" => Some("ab".into()),
        "EMPTY" => Some("".into()),
        "AGE" => Some("90d".into()),
        "COUNT" => Some("7".into()),
        "ABSOLUTE" => Some(format!("/{SECRET}/shop").into()),
        "LONG" => Some("x".repeat(9_000).into()),
        "WIDE" => Some("y".repeat(5_000).into()),
        "BYTES" => {
            use std::os::unix::ffi::OsStringExt as _;
            Some(OsString::from_vec(vec![0xff, b'a']))
        }
        _ => None,
    }
}

fn read(text: &str) -> Result<Config, Vec<Diagnostic>> {
    parse(text, Path::new("firstbad.yaml"), &environment)
}

fn good(text: &str) -> Config {
    read(text).unwrap_or_else(|wrong| panic!("{}", render(&wrong, false)))
}

/// `line:column message (hint)` of every mistake.
fn mistakes(text: &str) -> Vec<String> {
    let wrong = read(text).expect_err(text);
    let shown = render(&wrong, false);
    assert!(!shown.contains(SECRET), "{shown}");
    assert!(!format!("{wrong:?}").contains(SECRET), "{wrong:?}");
    wrong
        .iter()
        .map(|one| {
            let hint = one.hint.as_deref().unwrap_or("-");
            format!("{}:{} {} ({hint})", one.line, one.column, one.message)
        })
        .collect()
}

fn values(texts: &[Text]) -> Vec<&str> {
    texts.iter().map(Text::value).collect()
}

#[test]
fn everything_is_read() {
    let config = good(
        "source: [a.csv, b.csv]\nstore: kept\nrules: rules/\nretention: {age: 90d, size: 20GB}\n\
         segments: {max_changes: 500000, max_bytes: 64MiB, max_age: 1h30m}\nsnapshots: {every_changes: '1000000'}\n\
         limits: {rule_timeout: 60s, memory: 4GiB}\n\
         quarantine: {rules: [order-of-nobody], max_rows: 20, database: 'postgres://q:${SECRET}@db/shop'}\n",
    );
    assert_eq!(values(&config.quarantine.rules), ["order-of-nobody"]);
    assert_eq!(config.quarantine.rows_max, Some(20));
    let database = config.quarantine.database.as_ref();
    assert_eq!(
        database.map(Text::shown),
        Some("postgres://q:${SECRET}@db/shop")
    );
    assert!(!format!("{config:?}").contains(SECRET));
    assert_eq!(values(&config.source), ["a.csv", "b.csv"]);
    assert_eq!(config.store.as_ref().map(Text::value), Some("kept"));
    assert_eq!(values(&config.rules), ["rules/"]);
    assert_eq!(
        config.retention.age,
        Some(Duration::from_secs(90 * 24 * 3600))
    );
    assert_eq!(config.retention.size_bytes, Some(20_000_000_000));
    assert_eq!(config.segments.max_changes, Some(500_000));
    assert_eq!(config.segments.max_bytes, Some(64 << 20));
    assert_eq!(config.segments.max_age, Some(Duration::from_secs(5_400)));
    assert_eq!(config.snapshots.every_changes, Some(1_000_000));
    assert_eq!(config.limits.rule_timeout, Some(Duration::from_secs(60)));
    assert_eq!(config.limits.memory_bytes, Some(4 << 30));
    assert_eq!(config.source[1].span().line, 1);
    assert_eq!(config.source[1].span().column, 17);
}

#[test]
fn what_is_left_out_is_left_to_others() {
    for text in ["", "# nothing yet\n", "---\n", "{}\n"] {
        let nothing = Config {
            file: Some(PathBuf::from("firstbad.yaml")),
            ..Config::default()
        };
        assert_eq!(good(text), nothing, "{text}");
    }
    let never = Snapshots {
        every_changes: Some(0),
    };
    for text in [
        "{every_changes: 0}",
        "{every_changes: null}",
        "{every_changes: }",
    ] {
        assert_eq!(
            good(&format!("snapshots: {text}")).snapshots,
            never,
            "{text}"
        );
    }
    assert_eq!(good("snapshots: {}").snapshots, Snapshots::default());
}

#[test]
fn paths_are_relative_to_the_file() {
    let text =
        "source: [shop, /data/shop, 'postgres://host/db', '../x', '${DIR}/y', '${ABSOLUTE}']";
    let config = parse(text, Path::new("conf/prod.yaml"), &environment).expect("well formed");
    let shown: Vec<&str> = config.source.iter().map(Text::shown).collect();
    assert_eq!(
        shown,
        [
            "conf/shop",
            "/data/shop",
            "postgres://host/db",
            "conf/../x",
            "conf/${DIR}/y",
            "${ABSOLUTE}"
        ]
    );
    assert_eq!(config.source[4].value(), format!("conf/{SECRET}/y"));
    assert_eq!(config.source[5].value(), format!("/{SECRET}/shop"));
}

#[test]
fn the_store_lies_beside_the_file_where_nothing_is_said() {
    let given = || Some(PathBuf::from("given"));
    let none = Config::default();
    assert_eq!(none.store_or(None), Path::new(".firstbad"));
    assert_eq!(none.store_or(given()), Path::new("given"));
    assert_eq!(good("").store_or(None), Path::new(".firstbad"));
    assert_eq!(good("store: kept").store_or(None), Path::new("kept"));
    assert_eq!(good("store: kept").store_or(given()), Path::new("given"));
    let elsewhere = parse("", Path::new("conf/prod.yaml"), &environment).expect("well formed");
    assert_eq!(elsewhere.store_or(None), Path::new("conf/.firstbad"));
}

#[test]
fn variables_are_replaced() {
    for (written, value, shown) in [
        ("${DIR}", SECRET.to_owned(), "${DIR}"),
        (
            "a/${DIR}/b/${SHORT}",
            format!("a/{SECRET}/b/ab"),
            "a/${DIR}/b/${SHORT}",
        ),
        ("'${NONE:-shop}'", "shop".into(), "shop"),
        ("'${EMPTY:-shop}'", "shop".into(), "shop"),
        ("'${SHORT:-shop}'", "ab".into(), "${SHORT}"),
        ("'${NONE:-}x'", "x".into(), "x"),
        ("'${NONE:-a:-b}'", "a:-b".into(), "a:-b"),
        ("$${DIR}", "${DIR}".into(), "${DIR}"),
        ("$DIR/$", "$DIR/$".into(), "$DIR/$"),
        ("'x${EMPTY}'", "x".into(), "x${EMPTY}"),
    ] {
        let config = good(&format!("source: {written}"));
        assert_eq!(config.source[0].value(), value, "{written}");
        assert_eq!(config.source[0].shown(), shown, "{written}");
    }
    let config = good("retention: {age: \"${AGE}\"}\nsegments: {max_changes: \"${COUNT}\"}");
    assert_eq!(config.retention.age, Some(Duration::from_secs(7_776_000)));
    assert_eq!(config.segments.max_changes, Some(7));
}

#[test]
fn a_variable_does_not_become_yaml() {
    let with = |value: &'static str| {
        let environment = move |_: &str| Some(OsString::from(value));
        let config = parse("source: ${X}", Path::new("f"), &environment).expect("well formed");
        config.source[0].value().to_owned()
    };
    for value in ["[a, b]", "{a: b}", "*a", "x\nstore: y", "${X}", "# no", "'"] {
        assert_eq!(with(value), value);
    }
}

#[test]
fn mistakes_of_variables_name_the_variable_and_its_place() {
    for (text, want) in [
        (
            "source: a/${NONE}/b",
            "1:11 the environment has no variable `NONE` (set it, or write `${NONE:-default}`)",
        ),
        (
            "retention:\n  age: \"${NONE}d\"",
            "2:9 the environment has no variable `NONE` (set it, or write `${NONE:-default}`)",
        ),
        (
            "source: ${A B}",
            "1:9 `${A B}` names no variable (write `${NAME}` or `${NAME:-default}`, or `$${` for `${` itself)",
        ),
        (
            "source: ${}",
            "1:9 `${}` names no variable (write `${NAME}` or `${NAME:-default}`, or `$${` for `${` itself)",
        ),
        (
            "source: x${DIR",
            "1:10 `${` has no `}` (write `${NAME}`, or `$${` for `${` itself)",
        ),
        (
            "source: ${NONE:-${DIR}}",
            "1:9 the default of `NONE` holds another variable (write the default itself)",
        ),
        (
            "source: ${BYTES}",
            "1:9 the value of the variable `BYTES` is not UTF-8 (set it to a text)",
        ),
        (
            "source: ${LONG}",
            "1:9 the value of the variable `LONG` has more than 8 KiB (set it to a shorter text)",
        ),
        (
            "source: ${WIDE}${WIDE}",
            "1:9 this text has more than 8 KiB with its variables replaced (write a shorter one)",
        ),
        ("source: ${EMPTY}", "1:9 `${EMPTY}` is empty (write a path)"),
        ("retention: {age: ${DIR}}", "1:19 "),
    ] {
        let found = mistakes(text);
        assert!(found[0].starts_with(want), "{text}\n{found:#?}");
    }
    let both = mistakes("source: ${NONE}/${NEITHER}\nstore: ${NOR}");
    assert_eq!(both.len(), 3, "{both:#?}");
}

#[test]
fn the_value_of_a_variable_is_in_no_message() {
    for text in [
        "retention: {age: \"${SECRET}\"}",
        "retention: {age: \"${COUNT}\"}",
        "retention: {size: \"${SECRET}\"}",
        "segments: {max_changes: \"${SECRET}\"}",
        "limits: {memory: \"1${SECRET}\", rule_timeout: \"${SECRET}s\"}",
        "source: ${SECRET}\nsauce: ${SECRET}\nstore: [\"${SECRET}\"]",
        "source: \"${SECRET}${LONG}\"",
    ] {
        for mistake in mistakes(text) {
            assert!(!mistake.contains("`7"), "{mistake}");
        }
    }
    for text in [
        "sorce: postgres://u:s3cr3t-hunter2@h/db",
        "source: ['postgres://h/db?password=s3cr3t-hunter2', '']",
    ] {
        assert_eq!(mistakes(text).len(), 1);
    }
    let literal = good("source: postgres://u:s3cr3t-hunter2@h/db");
    let shown = render(&[literal.source[0].error("no")], false);
    assert!(!shown.contains(SECRET), "{shown}");
    let config = good("source: postgres://u:${SECRET}@h/db\nstore: ${DIR}");
    let debug = format!("{config:?} {:?} {}", config.mask(), config.source[0]);
    assert!(!debug.contains(SECRET), "{debug}");
}

#[test]
fn every_mistake_is_told_in_one_run() {
    let text = "sorce: shop\nstore: [a]\nrules: []\nretention: 90d\nsegments: {max_change: 5, max_bytes: 64XB, max_age: 5 minutes}\n\
                snapshots: {every_changes: -1}\nlimits: {rule_timeout: 0s, memory: 0}\nstore: b\nzzz: 1\n";
    let want = [
        "1:1 there is no key `sorce` (did you mean `source`?)",
        "2:8 a path is expected here, found a list (write a path)",
        "3:8 this list is empty (give it a path, or remove it)",
        "4:12 `retention` needs a mapping, found `90d` (write `retention: {age: 90d, size: 20GB}`)",
        "5:12 `segments` has no key `max_change` (did you mean `max_changes`?)",
        "5:38 a size is expected here, found `64XB` (write e.g. 512MiB or 4GB)",
        "5:53 a duration is expected here, found `5 minutes` (write `5m`)",
        "6:28 a whole number is expected here, found `-1` (write digits only, such as `500000`)",
        "7:24 a duration of nothing (write one that is longer than zero, or remove the key)",
        "7:36 a size of nothing (write one that is larger than zero, or remove the key)",
    ];
    let found = mistakes(text);
    assert_eq!(found[..want.len()], want);
    assert!(found[10].starts_with("8:1 "), "{found:#?}");
    assert!(found[11].starts_with("9:1 there is no key `zzz` (write `source`, `store`"));
    assert_eq!(found.len(), 12, "{found:#?}");
}

#[test]
fn wrong_types_are_mistakes() {
    for (text, want) in [
        ("[a]", "1:1 the file needs a mapping, found a list"),
        ("shop", "1:1 the file needs a mapping, found `shop`"),
        ("source:", "1:1 `source` has no value"),
        ("source: ~", "1:1 `source` has no value"),
        (
            "source: ''",
            "1:9 a path is expected here, found an empty text",
        ),
        (
            "source: {a: b}",
            "1:9 a path is expected here, found a mapping",
        ),
        ("rules: [[a]]", "1:9 a path is expected here, found a list"),
        (
            "rules: [a, ~]",
            "1:12 a path is expected here, found nothing",
        ),
        (
            "retention: {age: 90}",
            "1:18 a duration is expected here, found `90`",
        ),
        (
            "retention: {age: -5m}",
            "1:18 a duration is expected here, found `-5m`",
        ),
        (
            "retention: {size: [1]}",
            "1:19 a size is expected here, found a list",
        ),
        (
            "segments: {max_changes: 0}",
            "1:25 a larger number is expected here, found `0`",
        ),
        (
            "segments: {max_changes: 1e6}",
            "1:25 a whole number is expected here, found `1e6`",
        ),
        (
            "segments: {max_changes: 99999999999999999999}",
            "1:25 a smaller number is expected here, found `99999999999999999999`",
        ),
        ("store: true", "1:8 a path is expected here, found `true`"),
        ("? [a]\n: b", "1:3 "),
        (
            "source: a\n---\nsource: b",
            "2:1 a second YAML document begins here",
        ),
        ("source: \"a", "1:"),
    ] {
        let found = mistakes(text);
        assert!(found[0].starts_with(want), "{text}\n{found:#?}");
    }
}

#[test]
fn bombs_are_bounded() {
    let mut laughs = String::from("a: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let before = level - 1;
        let uses = vec![format!("*a{before}"); 10].join(", ");
        laughs.push_str(&format!("b{level}: &a{level} [{uses}]\n"));
    }
    assert!(
        mistakes(&laughs)
            .iter()
            .any(|one| one.contains("more than"))
    );
    assert!(!mistakes(&format!("source: {}", "[".repeat(20_000))).is_empty());
    assert!(!mistakes(&format!("source: {}", "- ".repeat(20_000))).is_empty());
    let large = format!("source: {}", "x".repeat(FILE_BYTES_MAX));
    assert_eq!(
        mistakes(&large),
        [
            "0:0 this file has at most 64 KiB, this one has more (rules and data belong in files of their own)"
        ]
    );
    let many = format!("source: '{}'", "${WIDE}".repeat(9_000));
    assert_eq!(mistakes(&many).len(), 1);
    let wrong = format!("source: '{}'", "${NONE}".repeat(9_000));
    assert!(mistakes(&wrong).len() <= 1_001);
    assert!(!mistakes("source: a\0b").is_empty());
}

#[test]
fn a_mask_puts_names_for_values() {
    let config = good("source: data/${DIR}\nrules: ${SHORT}/rules\nstore: 'p://${SECRET}@h'");
    let mask = config.mask();
    assert_eq!(
        mask.text(&format!("cannot read {SECRET}/a: {SECRET}{SECRET}")),
        "cannot read ${DIR}/a: ${DIR}${DIR}"
    );
    // Too short to be a secret in a text, and exact in a path.
    assert_eq!(mask.text("able"), "able");
    let path = |path: &str| mask.path(Path::new(path)).display().to_string();
    assert_eq!(path("ab/rules/x.yaml"), "${SHORT}/rules/x.yaml");
    assert_eq!(path("ab/other/x.yaml"), "ab/other/x.yaml");
    assert_eq!(path(&format!("data/{SECRET}")), "data/${DIR}");
    assert_eq!(path(&format!("/mnt/{SECRET}/t.csv")), "/mnt/${DIR}/t.csv");
    assert_eq!(Config::default().mask().text(SECRET), SECRET);
}
