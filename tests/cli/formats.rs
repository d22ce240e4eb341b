//! Reports: the JSON document key by key, and the other formats (CONTRACT section 4).

use serde_json::{Value, json};

use crate::place::{Place, Ran};

/// One row of every type; all rules list it with all of its columns as the key.
fn typed() -> Place {
    Place::new()
        .with(
            "d/schema.sql",
            "create table t (id bigint primary key, i integer, wide bigint, dec numeric(12,2), yes boolean, f double precision, \
             txt text, day date, ts timestamptz, plain timestamp, raw bytea, u uuid, gone text);",
        )
        .with(
            "d/snapshot/t.csv",
            "id,i,wide,dec,yes,f,txt,day,ts,plain,raw,u,gone\n\
             1,-7,9007199254740993,12.50,true,0.5,\"a\tb\",2026-03-12,2026-03-12T17:03:51.5+01:00,2026-03-12 16:03:51,\\x00ff,\
             A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11,\n",
        )
        .with(
            "d/rules/t.yaml",
            "table: t\nrules:\n  - {id: typed, key: [id, i, wide, dec, yes, f, txt, day, ts, plain, raw, u], not_null: [gone]}\n",
        )
}

/// Twelve violating rows, one rule that holds, one that cannot be judged.
fn twelve() -> Place {
    let rows: String = (1..=12).map(|id| format!("{id},,secret-{id}\n")).collect();
    Place::new()
        .with("d/schema.sql", "create table t (id bigint primary key, a text, email text); create table log (id bigint primary key);")
        .with("d/t.csv", format!("id,a,email\n{rows}"))
        .with(
            "d/rules/t.yaml",
            "table: t\nrules:\n  - {id: bad, description: 'There is an <a> & a \"b\".', not_null: [a]}\n  - {id: held, not_null: [email]}\n  \
             - {id: unjudged, append_only: true}\n",
        )
}

#[test]
fn values_have_the_contracts_forms() {
    let ran = typed().check(&["d"]).exits(1);
    assert_eq!(
        ran.keys("typed"),
        json!([{
            "id": 1, "i": -7, "wide": "9007199254740993", "dec": "12.50", "yes": true, "f": 0.5, "txt": "a\tb",
            "day": "2026-03-12", "ts": "2026-03-12T16:03:51.500Z", "plain": "2026-03-12T16:03:51", "raw": "\\x00ff",
            "u": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        }])
    );
}

#[test]
fn the_document_has_the_contracts_keys() {
    let document = twelve().check(&["d"]).exits(1).json();
    let keys = |value: &Value| -> Vec<String> {
        value
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect()
    };
    assert_eq!(
        keys(&document)[..5],
        ["schema", "source", "at", "rules", "summary"]
    );
    assert_eq!(document["schema"], "firstbad/check@1");
    assert_eq!(document["source"], "d");
    assert_eq!(keys(&document["at"]), ["commit", "lsn", "xid", "time"]);
    assert_eq!(
        document["summary"],
        json!({"held": 1, "violated": 1, "unknown": 1})
    );
    let rules = document["rules"].as_array().expect("rules");
    let ids: Vec<&Value> = rules.iter().map(|rule| &rule["id"]).collect();
    assert_eq!(
        ids,
        ["bad", "held", "unjudged"],
        "in the order of the rule files"
    );
    let contract = [
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
    for rule in rules {
        assert_eq!(keys(rule)[..contract.len()], contract);
    }
    let bad = &rules[0];
    let head: Vec<&Value> = contract[..8].iter().map(|key| &bad[key]).collect();
    assert_eq!(
        json!(head),
        json!(["bad", "public.t", "error", "violated", 12, 12, 12, null])
    );
    assert_eq!(
        bad["sample"][0],
        json!({"key": {"id": 1}, "evidence": {"a": null}})
    );
    assert_eq!(
        bad["location"],
        json!({"file": "d/rules/t.yaml", "line": 3})
    );
}

#[test]
fn sample_says_how_many_are_listed() {
    let place = twelve();
    let listed = |ran: Ran| {
        ran.rule("bad")["sample"]
            .as_array()
            .expect("a sample")
            .len()
    };
    for (arguments, expected) in [
        (&["d"][..], 10),
        (&["d", "--sample", "3"], 3),
        (&["d", "--sample", "0"], 0),
        (&["d", "--sample", "all"], 12),
        (&["d", "--sample=99"], 12),
    ] {
        let ran = place.check(arguments).exits(1);
        assert_eq!(ran.rule("bad")["violations"], 12, "{arguments:?}");
        assert_eq!(listed(ran), expected, "{arguments:?}");
    }
    let keys: Vec<Value> = (1..=12).map(|id| json!({"id": id})).collect();
    assert_eq!(
        place.check(&["d", "--sample", "all"]).keys("bad"),
        json!(keys),
        "in key order"
    );
    place
        .run(&["check", "d", "--sample", "2"])
        .exits(1)
        .says(&["… and 10 more", "12"]);
}

#[test]
fn jsonl_is_one_object_a_line() {
    let ran = twelve()
        .run(&["check", "d", "--format", "jsonl", "--sample", "all"])
        .exits(1);
    let lines: Vec<Value> = ran
        .out
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
        .collect();
    let count = |kind: &str| lines.iter().filter(|line| line["type"] == kind).count();
    assert_eq!(
        (count("rule"), count("violation"), count("summary")),
        (3, 12, 1)
    );
    assert_eq!(lines.len(), 16);
    assert!(
        lines
            .iter()
            .filter(|line| line["type"] == "violation")
            .all(|line| line["rule"] == "bad")
    );
    assert_eq!(lines[15]["type"], "summary");
}

#[test]
fn sarif_has_results_with_fingerprints() {
    let ran = twelve()
        .run(&["check", "d", "--format", "sarif", "--sample", "all"])
        .exits(1);
    let log = ran.json();
    assert_eq!(log["version"], "2.1.0");
    let results = log["runs"][0]["results"].as_array().expect("results");
    let prints: std::collections::BTreeSet<String> = results
        .iter()
        .filter(|result| result["ruleId"] == "bad")
        .map(|result| {
            result["partialFingerprints"]
                .as_object()
                .and_then(|map| map.values().next())
                .expect("a fingerprint")
                .to_string()
        })
        .collect();
    assert_eq!(
        prints.len(),
        12,
        "each violation has a fingerprint of its own"
    );
    let place = &results[0]["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "d/rules/t.yaml");
    assert_eq!(place["region"]["startLine"], 3);
}

#[test]
fn junit_is_well_formed_and_agrees_with_the_exit_code() {
    let ran = twelve().run(&["check", "d", "--format", "junit"]).exits(1);
    let mut reader = quick_xml::Reader::from_str(&ran.out);
    let mut names = Vec::new();
    loop {
        match reader.read_event().expect("well-formed XML") {
            quick_xml::events::Event::Eof => break,
            quick_xml::events::Event::Start(start) | quick_xml::events::Event::Empty(start) => {
                names.push(start.name().as_ref().to_owned());
            }
            _ => {}
        }
    }
    let count = |name: &str| names.iter().filter(|have| *have == name).count();
    assert_eq!(
        (
            count("testsuite"),
            count("testcase"),
            count("failure"),
            count("error")
        ),
        (1, 3, 1, 1)
    );
}

#[test]
fn github_annotations_name_the_rules_line() {
    let ran = twelve().run(&["check", "d", "--format", "github"]).exits(1);
    assert!(
        ran.out.lines().any(|line| line.starts_with("::error ")
            && line.contains("file=d/rules/t.yaml")
            && line.contains("line=3")),
        "{}",
        ran.out
    );
    assert!(
        ran.out
            .lines()
            .filter(|line| line.starts_with("::"))
            .count()
            == 2,
        "{}",
        ran.out
    );
}

#[test]
fn markdown_has_a_table() {
    let ran = twelve()
        .run(&["check", "d", "--format", "markdown"])
        .exits(1);
    assert!(
        ran.out
            .lines()
            .any(|line| line.starts_with('|') && line.contains("bad") && line.contains("12")),
        "{}",
        ran.out
    );
    assert!(
        !ran.out.contains("<a>"),
        "text of rules is escaped: {}",
        ran.out
    );
}

#[test]
fn text_is_plain_in_pipes() {
    for variables in [
        &[][..],
        &[("NO_COLOR", "1")],
        &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")],
        &[("TERM", "xterm-256color")],
    ] {
        let ran = twelve().run_with(&["check", "d"], variables).exits(1);
        assert!(
            !ran.out.contains('\u{1b}') && !ran.err.contains('\u{1b}'),
            "{variables:?}: {ran:?}"
        );
        assert!(
            !ran.err.contains("rules  "),
            "no progress in a pipe: {}",
            ran.err
        );
    }
}

#[test]
fn text_shows_the_worst_first() {
    let place = twelve().with(
        "d/rules/u.yaml",
        "table: t\nrules:\n  - {id: few-but-critical, severity: critical, range: {column: id, max: 11}}\n  - {id: a-warning, severity: warn, not_null: [a]}\n",
    );
    let out = place.run(&["check", "d"]).exits(1).out;
    let at = |id: &str| out.find(id).unwrap_or_else(|| panic!("no {id} in {out}"));
    assert!(
        at("few-but-critical") < at("bad")
            && at("bad") < at("a-warning")
            && at("a-warning") < at("unjudged"),
        "{out}"
    );
}

#[test]
fn terminal_escapes_in_data_do_not_reach_the_terminal() {
    let place = Place::new()
        .with(
            "d/schema.sql",
            "create table t (id bigint primary key, a text);",
        )
        .with("d/t.csv", "id,a\n1,\u{1b}[31mred\u{1b}]0;title\u{7}\n")
        .with(
            "d/rules/t.yaml",
            "table: t\nrules:\n  - {id: bad, accepted_values: {column: a, values: [x]}}\n",
        );
    for format in [
        "text", "markdown", "github", "json", "jsonl", "junit", "sarif",
    ] {
        let ran = place.run(&["check", "d", "--format", format]).exits(1);
        assert!(
            !ran.out.contains(['\u{1b}', '\u{7}']),
            "{format}: {}",
            ran.out
        );
    }
}

/// `secret-…` stands in the column `email` only.
#[track_caller]
fn hides(ran: &Ran, what: &str) {
    assert!(
        !ran.out.contains("secret-") && !ran.err.contains("secret-"),
        "{what}: {ran:?}"
    );
}

#[test]
fn redacted_values_are_nowhere() {
    let place = twelve().with(
        "d/rules/t.yaml",
        "table: t\nrules:\n  - {id: bad, key: [email], not_null: [a]}\n  - {id: value, accepted_values: {column: email, values: [x]}}\n",
    );
    for format in [
        "text", "json", "jsonl", "junit", "sarif", "github", "markdown",
    ] {
        let ran = place
            .run(&[
                "check", "d", "--format", format, "--redact", "email", "--sample", "all",
            ])
            .exits(1);
        hides(&ran, format);
    }
    place.run(&["check", "d"]).exits(1).says(&["secret-"]);
    let ran = place
        .check(&["d", "--redact", "email", "--sample", "all"])
        .exits(1);
    let keys = ran.keys("bad");
    let different: std::collections::BTreeSet<String> = keys
        .as_array()
        .expect("keys")
        .iter()
        .map(Value::to_string)
        .collect();
    assert_eq!(different.len(), 12, "redacted keys can still be told apart");
    let ran = place
        .run(&[
            "check",
            "d",
            "--redact",
            "email",
            "--baseline",
            "b.json",
            "--update-baseline",
        ])
        .exits(0);
    hides(&ran, "accepting");
    assert!(
        !place.read("b.json").contains("secret-"),
        "{}",
        place.read("b.json")
    );
    let ran = place
        .check(&["d", "--redact", "email", "--baseline", "b.json"])
        .exits(0);
    assert_eq!(ran.rule("bad")["new"], 0);
    hides(&ran, "baselined");
}

#[test]
fn a_rule_redacts_its_own_columns() {
    let place = twelve().with("d/rules/t.yaml", "table: t\nrules:\n  - {id: value, redact: [email], accepted_values: {column: email, values: [x]}}\n");
    let ran = place.check(&["d"]).exits(1);
    hides(&ran, "redact:");
    assert!(
        ran.rule("value")["sample"][0]["evidence"]["email"]
            .as_str()
            .is_some_and(|text| text.starts_with("redacted:")),
        "{}",
        ran.out
    );
}
