//! What every format makes of one rich and hostile report, kept in `testdata/report/`; `UPDATE_CASES=1` rewrites the files.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::fixture;
use super::*;
use crate::rule::{Check, Severity};

fn testdata(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(testdata(name)).expect("the file is part of the repository")
}

#[track_caller]
fn golden(name: &str, got: &str) {
    let path = testdata("report").join(name);
    if std::env::var_os("UPDATE_CASES").is_some() {
        std::fs::write(&path, got).expect("testdata/report can be written");
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        got,
        want,
        "{} differs; UPDATE_CASES=1 rewrites it",
        path.display()
    );
}

fn plain(width: usize) -> Options {
    Options {
        color: false,
        width,
        sample: Some(10),
    }
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn every_format_renders_the_rich_report_as_reviewed() {
    let report = fixture::report();
    for (file, format, width) in [
        ("report-80.txt", Format::Text, 80),
        ("report-120.txt", Format::Text, 120),
        ("report.json", Format::Json, 80),
        ("report.jsonl", Format::Jsonl, 80),
        ("report.junit.xml", Format::Junit, 80),
        ("report.sarif", Format::Sarif, 80),
        ("report.github.txt", Format::Github, 80),
        ("report.md", Format::Markdown, 80),
    ] {
        golden(file, &render(&report, format, &plain(width)));
    }
    let color = Options {
        color: true,
        ..plain(80)
    };
    golden("report-color.txt", &render(&report, Format::Text, &color));
    let baselined = fixture::baselined();
    for (file, format) in [
        ("baselined-100.txt", Format::Text),
        ("baselined.json", Format::Json),
        ("baselined.junit.xml", Format::Junit),
        ("baselined.sarif", Format::Sarif),
        ("baselined.md", Format::Markdown),
    ] {
        golden(file, &render(&baselined, format, &plain(100)));
    }
}

#[test]
fn a_run_in_which_all_holds_is_short() {
    let mut report = fixture::report();
    report
        .outcomes
        .retain(|outcome| outcome.rule.id.starts_with("order"));
    report.expired.clear();
    golden("held-80.txt", &render(&report, Format::Text, &plain(80)));
    golden("held.md", &render(&report, Format::Markdown, &plain(80)));
    report.outcomes.clear();
    for (_, format) in Format::ALL {
        assert!(
            !render(&report, format, &plain(80)).is_empty(),
            "{format:?}"
        );
    }
    assert!(render(&report, Format::Text, &plain(80)).starts_with("0 rules: 0 violated, 0 held"));
}

#[test]
fn no_format_lets_a_value_move_the_cursor_or_command_a_build_server() {
    for report in [fixture::report(), fixture::baselined()] {
        for (name, format) in Format::ALL {
            let text = render(
                &report,
                format,
                &Options {
                    sample: None,
                    ..plain(100)
                },
            );
            let wild = text.chars().find(|c| {
                (c.is_control() && *c != '\n')
                    || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            });
            assert_eq!(wild, None, "{name}");
            assert!(!text.contains("##vso["), "{name}");
            let commands: Vec<&str> = text
                .lines()
                .filter(|line| line.trim_start().starts_with("::"))
                .collect();
            let ours = ["::error file=", "::warning file=", "::notice file="];
            assert!(
                commands
                    .iter()
                    .all(|line| ours.iter().any(|start| line.starts_with(start))),
                "{name}: {commands:?}"
            );
            assert_eq!(!commands.is_empty(), format == Format::Github, "{name}");
        }
    }
}

#[test]
fn text_honours_the_width() {
    for report in [fixture::report(), fixture::baselined()] {
        for width in [40, 60, 80, 120, 200] {
            for line in render(
                &report,
                Format::Text,
                &Options {
                    sample: None,
                    ..plain(width)
                },
            )
            .lines()
            {
                // Commands are to be copied, and the summary is two lines at most.
                let whole = line.contains('→')
                    || line.starts_with("(judged")
                    || line.starts_with("16 rules:");
                assert!(whole || table::width(line) <= width, "{width}: {line}");
            }
        }
    }
}

#[test]
fn json_says_exactly_what_the_contract_says_and_keeps_values() {
    let report = fixture::report();
    let document = parsed(&render(&report, Format::Json, &plain(80)));
    let keys = |value: &Value| {
        value
            .as_object()
            .map(|map| map.keys().cloned().collect::<Vec<_>>())
            .unwrap_or_default()
    };
    assert_eq!(
        keys(&document).get(..5),
        Some(&["schema", "source", "at", "rules", "summary"].map(String::from)[..])
    );
    assert_eq!(keys(&document["at"]), ["commit", "lsn", "xid", "time"]);
    let wanted = [
        "id",
        "table",
        "severity",
        "verdict",
        "violations",
        "judged",
        "new",
        "reason",
        "sample",
    ];
    assert_eq!(
        keys(&document["rules"][1]).get(..9),
        Some(&wanted.map(String::from)[..])
    );
    assert_eq!(
        document["rules"][1]["sample"][0]["key"]["email"],
        json!(fixture::HOSTILE)
    );
    assert_eq!(document["rules"][2]["violations"], Value::Null);
    assert_eq!(
        document["summary"],
        json!({"held": 11, "violated": 4, "unknown": 1})
    );

    let mut files = fixture::report();
    files.at = At::default();
    let document = parsed(&render(&files, Format::Json, &plain(80)));
    assert_eq!(
        document["at"],
        json!({"commit": null, "lsn": null, "xid": null, "time": null})
    );
    assert!(!render(&files, Format::Text, &plain(80)).contains("bisect"));
}

#[test]
fn jsonl_has_the_same_facts_a_line_each() {
    let report = fixture::report();
    let document = parsed(&render(&report, Format::Json, &plain(80)));
    let text = render(&report, Format::Jsonl, &plain(80));
    let lines: Vec<Value> = text.lines().map(parsed).collect();
    assert!(
        lines
            .iter()
            .all(|line| line["schema"] == "firstbad/check@1")
    );
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).count();
    assert_eq!((of("rule"), of("violation"), of("summary")), (16, 16, 1));
    assert_eq!(
        lines.last().map(|line| &line["summary"]),
        Some(&document["summary"])
    );
}

#[test]
fn sample_limits_what_is_listed_and_nothing_else() {
    let report = fixture::report();
    let none = Options {
        sample: Some(0),
        ..plain(80)
    };
    let text = render(&report, Format::Text, &none);
    assert!(
        text.contains("37 violations") && !text.contains("4410  "),
        "{text}"
    );
    let sarif = parsed(&render(&report, Format::Sarif, &none));
    assert_eq!(
        sarif["runs"][0]["results"].as_array().map(Vec::len),
        Some(4)
    );
    let two = Options {
        sample: Some(2),
        ..plain(80)
    };
    assert!(render(&report, Format::Text, &two).contains("… and 35 more: --sample all"));
}

#[test]
fn sarif_is_valid_by_the_schema_that_oasis_published() {
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    compiler.enable_format_assertions();
    compiler
        .add_resource(
            "sarif.json",
            parsed(&read("schemas/sarif-schema-2.1.0.json")),
        )
        .expect("the schema is JSON");
    let schema = compiler
        .compile("sarif.json", &mut schemas)
        .expect("the schema compiles");
    let mut empty = fixture::report();
    empty.outcomes.clear();
    for report in [fixture::report(), fixture::baselined(), empty] {
        let document = parsed(&render(&report, Format::Sarif, &plain(80)));
        if let Err(error) = schemas.validate(&document, schema) {
            panic!("{error:#}");
        }
    }
    let mut broken = parsed(&render(&fixture::report(), Format::Sarif, &plain(80)));
    broken["runs"][0]["results"][0]["level"] = json!("fatal");
    assert!(
        schemas.validate(&broken, schema).is_err(),
        "the schema must be able to refuse"
    );
}

#[test]
fn sarif_results_are_the_same_ones_in_every_run() {
    let prints = |report: &CheckReport| {
        let document = parsed(&render(report, Format::Sarif, &plain(80)));
        let results = document["runs"][0]["results"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        results
            .iter()
            .map(|result| result["partialFingerprints"]["firstbadRuleKey/v1"].to_string())
            .collect::<Vec<_>>()
    };
    let before = prints(&fixture::report());
    let mut later = fixture::report();
    later.outcomes.reverse();
    later
        .outcomes
        .iter_mut()
        .for_each(|outcome| outcome.rule.span.line += 7);
    let mut after = prints(&later);
    let mut sorted = before.clone();
    sorted.sort();
    after.sort();
    assert_eq!(sorted, after);
    sorted.dedup();
    assert_eq!(sorted.len(), before.len());
}

#[test]
fn junit_is_valid_by_the_schema_that_jenkins_published() {
    let xsd = read("schemas/junit-10.xsd");
    let schema = uppsala::parse(&xsd).expect("the schema is XML");
    let validator = uppsala::XsdValidator::from_schema(&schema).expect("the schema compiles");
    let mut empty = fixture::report();
    empty.outcomes.clear();
    empty.elapsed_ms = 7_384_012;
    for report in [fixture::report(), fixture::baselined(), empty] {
        let text = render(&report, Format::Junit, &plain(80));
        let errors =
            validator.validate(&uppsala::parse(&text).expect("the report is well-formed XML"));
        assert!(errors.is_empty(), "{errors:?}\n{text}");
    }
    let broken = render(&fixture::report(), Format::Junit, &plain(80))
        .replace("<testcase name=", "<testcase nom=");
    let broken = uppsala::parse(&broken).expect("well-formed");
    assert!(
        !validator.validate(&broken).is_empty(),
        "the schema must be able to refuse"
    );
}

#[test]
fn junit_fails_exactly_where_the_run_does() {
    let count = |report: &CheckReport, element: &str| {
        render(report, Format::Junit, &plain(80))
            .matches(&format!("<{element} "))
            .count()
    };
    let mut report = fixture::report();
    assert_eq!((count(&report, "failure"), count(&report, "error")), (2, 1));
    report.fail_on = Severity::Info;
    assert_eq!(count(&report, "failure"), 4);
    assert_eq!(count(&fixture::baselined(), "failure"), 1);
}

#[test]
fn the_worst_stands_first() {
    let plain = |id: &str, severity| {
        fixture::rule(
            id,
            1,
            severity,
            Check::NotNull {
                columns: Vec::new(),
            },
        )
    };
    let outcome = |id: &str, severity, bad| {
        fixture::outcome(plain(id, severity), "public.t", bad, 100, Vec::new())
    };
    let mut report = fixture::report();
    report.outcomes = vec![
        outcome("held", Severity::Critical, 0),
        outcome("few", Severity::Error, 1),
        Outcome {
            new: Some(0),
            ..outcome("accepted", Severity::Critical, 9)
        },
        Outcome {
            verdict: Verdict::Unknown,
            violations: None,
            judged: None,
            new: None,
            ..outcome("unknown", Severity::Error, 0)
        },
        outcome("many", Severity::Error, 7),
        outcome("worst", Severity::Critical, 1),
        Outcome {
            judged: Some(0),
            ..outcome("vacuous", Severity::Error, 0)
        },
    ];
    let order: Vec<&str> = worst_first(&report)
        .iter()
        .map(|outcome| outcome.rule.id.as_str())
        .collect();
    assert_eq!(
        order,
        [
            "worst", "many", "few", "accepted", "unknown", "vacuous", "held"
        ]
    );
}

#[test]
fn figures_are_exact_and_modest() {
    let percent_of = |violations, judged| {
        let rule = fixture::rule(
            "r",
            1,
            Severity::Error,
            Check::NotNull {
                columns: Vec::new(),
            },
        );
        percent(&fixture::outcome(
            rule,
            "public.t",
            violations,
            judged,
            Vec::new(),
        ))
    };
    for (violations, judged, want) in [
        (37, 1204, Some("3.07%")),
        (1, 1_000_000, Some("<0.01%")),
        (999_999, 1_000_000, Some(">99.99%")),
        (5, 5, Some("100.00%")),
        (u64::MAX, u64::MAX, Some("100.00%")),
        (3, 0, None),
        (3, 2, None),
    ] {
        assert_eq!(
            percent_of(violations, judged).as_deref(),
            want,
            "{violations} of {judged}"
        );
    }
    assert_eq!(
        [0, 999, 1_000, 48_120, 1_234_567].map(grouped),
        ["0", "999", "1,000", "48,120", "1,234,567"]
    );
}

#[test]
fn a_password_in_the_source_stays_out() {
    let mut report = fixture::report();
    for (given, want) in [
        ("testdata/shop", "testdata/shop"),
        (
            "postgres://ann:s3cret@db/shop",
            "postgres://ann:***@db/shop",
        ),
        (
            "postgres://ann:s3:cr@et@db/shop?x=@",
            "postgres://ann:***@db/shop?x=@",
        ),
        (
            "postgres://db/shop?password=s3cret&sslmode=require",
            "postgres://db/shop?password=***&sslmode=require",
        ),
        ("postgres://ann@db/shop", "postgres://ann@db/shop"),
    ] {
        report.source = given.to_owned();
        assert_eq!(source(&report), want);
        for (name, format) in Format::ALL {
            assert!(
                !render(&report, format, &plain(80)).contains("s3c"),
                "{name}"
            );
        }
    }
}

#[test]
fn commands_can_be_pasted_into_a_shell() {
    use super::command::shell_word;
    for (word, want) in [
        ("testdata/shop", "testdata/shop"),
        ("my shop", "'my shop'"),
        ("it's", r"'it'\''s'"),
        ("", "''"),
        ("$(rm)", "'$(rm)'"),
    ] {
        assert_eq!(shell_word(word), want);
    }
}

#[test]
fn formats_have_names_and_wrong_ones_a_hint() {
    for (name, format) in Format::ALL {
        assert_eq!(name.parse::<Format>(), Ok(format));
    }
    assert_eq!(
        "jsn".parse::<Format>(),
        Err("no format `jsn`; did you mean `json`?".to_owned())
    );
    assert!(
        "html5"
            .parse::<Format>()
            .is_err_and(|message| message.contains("text, json, jsonl"))
    );
}

#[test]
fn a_thousand_violated_rules_stay_within_what_a_comment_may_hold() {
    let mut report = fixture::report();
    let bad = report.outcomes[6].clone();
    report.outcomes = vec![bad; 1_000];
    assert!(render(&report, Format::Markdown, &plain(80)).len() < 65_536);
    assert!(render(&report, Format::Text, &plain(80)).contains("… and 950 more violated rules"));
}
