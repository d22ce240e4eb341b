//! The life of an entry, the file, and what is said of a broken one.

use serde_json::json;

use super::*;

fn date(text: &str) -> NaiveDate {
    NaiveDate::parse_from_str(text, "%Y-%m-%d").expect("a date")
}

fn key(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn found<'a>(rule_id: &'a str, keys: &'a [Map<String, Value>]) -> Found<'a> {
    Found {
        rule_id,
        judged: true,
        violated: !keys.is_empty(),
        complete: true,
        keys: keys.iter().collect(),
        redacted: false,
    }
}

fn at(commit: Commit) -> At {
    let meta = crate::change::TransactionMeta {
        time: Some(1_773_479_564_000_000),
        ..Default::default()
    };
    At {
        commit: Some(commit),
        meta,
    }
}

fn parse(text: &str) -> Result<Baseline, Diagnostic> {
    Baseline::parse(text, Path::new("baseline.json"))
}

#[test]
fn accepted_fixed_and_come_back() {
    let keys: Vec<_> = [10, 9, 7].map(|id| key(json!({"id": id}))).into();
    let today = date("2026-03-14");
    let first = Baseline::default().update(&[found("r", &keys)], &at(17), today, None);
    assert!(keys.iter().all(|key| first.accepts("r", key, today)));
    assert!(!first.accepts("other", &keys[0], today));
    assert_eq!(
        first.entry("r", &keys[0]).and_then(|entry| entry.commit),
        Some(17)
    );

    // 9 is fixed: it counts as such, an update drops it, and when it comes back it is new.
    let left = [keys[0].clone(), keys[2].clone()];
    assert_eq!(first.fixed(&[found("r", &left)]), [("r".to_owned(), 1)]);
    let second = first.update(&[found("r", &left)], &at(20), date("2026-03-20"), None);
    assert!(!second.accepts("r", &keys[1], today) && second.accepts("r", &keys[0], today));
    assert_eq!(
        second.entry("r", &keys[0]).map(|entry| entry.accepted_on),
        Some(today)
    );
    let third = second.update(&[found("r", &keys)], &at(30), date("2026-03-30"), None);
    assert_eq!(
        third.entry("r", &keys[1]).and_then(|entry| entry.commit),
        Some(30)
    );

    // All fixed, the file is empty and still a baseline.
    let none = third.update(&[found("r", &[])], &at(31), today, None);
    assert!(none.is_empty());
    assert_eq!(parse(&none.to_text()), Ok(none));
}

#[test]
fn rules_that_were_not_judged_keep_their_entries() {
    let keys = [key(json!({"id": 1}))];
    let today = date("2026-03-14");
    let baseline = Baseline::default().update(&[found("r", &keys)], &at(1), today, None);
    let unknown = Found {
        judged: false,
        complete: false,
        ..found("r", &[])
    };
    let part = Found {
        complete: false,
        violated: true,
        ..found("r", &[])
    };
    for found in [vec![], vec![unknown], vec![part]] {
        assert_eq!(baseline.update(&found, &at(2), today, None), baseline);
        assert!(baseline.fixed(&found).is_empty());
    }
    // A rule that holds within its threshold adds nothing, and keeps what is still there.
    let tolerated = Found {
        violated: false,
        ..found("r", &keys)
    };
    assert_eq!(
        baseline.update(std::slice::from_ref(&tolerated), &at(2), today, None),
        baseline
    );
    assert!(
        Baseline::default()
            .update(&[tolerated], &at(2), today, None)
            .is_empty()
    );
}

#[test]
fn entries_expire_after_their_last_day_and_keep_their_note_when_renewed() {
    let text = r#"{"schema": "firstbad/baseline@1", "entries": [
{"rule":"r","key":{"id":1},"accepted_on":"2026-01-01","expires":"2026-03-14","note":"ticket 12"}
]}"#;
    let baseline = parse(text).expect("well-formed");
    let keys = [key(json!({"id": 1}))];
    assert!(baseline.accepts("r", &keys[0], date("2026-03-14")));
    assert!(!baseline.accepts("r", &keys[0], date("2026-03-15")));
    let kept = baseline.update(
        &[found("r", &keys)],
        &at(5),
        date("2026-03-14"),
        Some(date("2027-01-01")),
    );
    assert_eq!(kept, baseline);
    let renewed = baseline.update(
        &[found("r", &keys)],
        &at(5),
        date("2026-03-15"),
        Some(date("2027-01-01")),
    );
    let want = r#"{"rule":"r","key":{"id":1},"accepted_on":"2026-03-15","expires":"2027-01-01","commit":5,"time":"2026-03-14T09:12:44Z","note":"ticket 12"}"#;
    assert!(renewed.to_text().contains(want), "{}", renewed.to_text());
}

#[test]
fn the_file_diffs_well_and_reads_back() {
    let keys: Vec<_> = [
        json!({"id": 10, "sku": "a"}),
        json!({"id": 9, "sku": "b"}),
        json!({"id": 9, "sku": "a"}),
        json!({"id": null, "sku": "x"}),
        json!({}),
        json!({"id": "\u{1b}[2J\n\"}]", "sku": "…"}),
    ]
    .into_iter()
    .map(key)
    .collect();
    let doubles = [key(json!({"x": 0.1 + 0.2})), key(json!({"x": 1e300}))];
    let rules = [
        found("r", &keys),
        found("a-rule", &keys[..1]),
        found("doubles", &doubles),
    ];
    let baseline = Baseline::default().update(&rules, &at(3), date("2026-03-14"), None);
    let text = baseline.to_text();
    assert_eq!(text.lines().count(), 2 + 9);
    let order: Vec<usize> = [
        "a-rule",
        r#"{"id":9,"sku":"a"}"#,
        r#"{"id":9,"sku":"b"}"#,
        r#""r","key":{"id":10"#,
    ]
    .iter()
    .map(|part| text.find(part).expect("written"))
    .collect();
    assert!(order.is_sorted(), "{text}");
    let again = parse(&text).expect("well-formed");
    assert_eq!(again.to_text(), text);
    for one in &rules {
        assert!(
            one.keys
                .iter()
                .all(|key| again.accepts(one.rule_id, key, date("2026-03-14"))),
            "{text}"
        );
    }
}

#[test]
fn redacted_keys_are_kept_as_hashes() {
    let keys = [key(json!({"email": "ann@example.com"}))];
    let today = date("2026-03-14");
    let rule = Found {
        redacted: true,
        ..found("r", &keys)
    };
    let baseline = Baseline::default().update(&[rule], &at(3), today, None);
    let text = baseline.to_text();
    assert!(!text.contains("example"), "{text}");
    let again = parse(&text).expect("well-formed");
    assert!(again.accepts("r", &keys[0], today));
    assert_eq!(again.fixed(&[found("r", &[])]), [("r".to_owned(), 1)]);
}

#[test]
fn the_order_of_key_columns_does_not_count_and_everything_else_does() {
    let print = |rule: &str, value: Value| fingerprint(rule, &key(value));
    assert_eq!(
        print("r", json!({"a": 1, "b": {"c": 2, "d": 3}})),
        print("r", json!({"b": {"d": 3, "c": 2}, "a": 1}))
    );
    let all = [
        print("r", json!({})),
        print("r", json!({"a": 1})),
        print("r", json!({"a": "1"})),
        print("r", json!({"a": null})),
        print("r", json!({"b": 1})),
        print("r2", json!({"a": 1})),
        print("r", json!({"a": [1]})),
    ];
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    // Written into files: this must never change.
    assert_eq!(all[1], PINNED);
}

const PINNED: &str = "1fcda8297c4a5547d21531d6d99ebe17";

#[test]
fn malformed_files_are_one_located_message_without_values() {
    let entry =
        |body: &str| format!("{{\"schema\": \"firstbad/baseline@1\", \"entries\": [\n{body}\n]}}");
    let good = r#""rule":"r","key":{"id":1},"accepted_on":"2026-03-14""#;
    for (text, location, message) in [
        (String::new(), "baseline.json:1", "malformed baseline: EOF"),
        (
            "[]".into(),
            "baseline.json:1",
            "malformed baseline: expected an object with",
        ),
        (
            r#"{"schema": "firstbad/check@1", "entries": []}"#.into(),
            "baseline.json",
            "no baseline of the form",
        ),
        (
            r#"{"schema": "firstbad/baseline@1"}"#.into(),
            "baseline.json:1:33",
            "missing field `entries`",
        ),
        (
            entry(r#"{"rule":"r","accepted_on":"2026-03-14"}"#),
            "baseline.json",
            "entry 1 of the baseline has neither",
        ),
        (
            entry(&format!("{{{good},\"until\":1}}")),
            "baseline.json:2",
            "unknown field `until`",
        ),
        (
            entry(&format!("{{{good},\"commit\":\"s3cret\"}}")),
            "baseline.json:2",
            "expected u32",
        ),
        (
            entry(&format!("{{{good},\"expires\":\"s3cret\"}}")),
            "baseline.json:2",
            "a date must look like",
        ),
        (
            entry(r#"{"rule":"r","key":"s3cret","accepted_on":"2026-03-14"}"#),
            "baseline.json:2:",
            "expected a map",
        ),
        (
            entry(&format!("{{{good},\"fingerprint\":\"s3cret\"}}")),
            "baseline.json",
            "not 32 hexadecimal digits",
        ),
        (entry("<<<<<<< ours"), "baseline.json:2:1", "expected value"),
        (
            entry(&"[".repeat(100_000)),
            "baseline.json:2",
            "malformed baseline",
        ),
        (
            entry(&format!("{{{good}}},")),
            "baseline.json:3",
            "trailing comma",
        ),
    ] {
        let error = parse(&text).expect_err(message);
        assert!(
            error.location().starts_with(location),
            "{} is not at {location}",
            error.location()
        );
        assert!(
            error.message.contains(message),
            "{:?} does not say {message:?}",
            error.message
        );
        assert!(!error.message.contains("s3cret"), "{}", error.message);
    }
    assert!(parse(&entry("<<<<<<< ours")).is_err_and(|error| error.hint.is_some()));
}

#[test]
fn files_are_replaced_whole() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("baseline.json");
    let missing = Baseline::read(&path).expect_err("there is none");
    assert!(missing.message.contains("no such baseline") && missing.hint.is_some());
    let keys = [key(json!({"id": 1}))];
    let baseline =
        Baseline::default().update(&[found("r", &keys)], &at(1), date("2026-03-14"), None);
    baseline.write(&path).expect("written");
    Baseline::default().write(&path).expect("written over");
    baseline.write(&path).expect("and again");
    assert_eq!(Baseline::read(&path), Ok(baseline.clone()));
    assert_eq!(
        fs::read_dir(folder.path()).map(Iterator::count).ok(),
        Some(1)
    );
    assert!(
        baseline
            .write(&folder.path().join("no/such/folder.json"))
            .is_err()
    );
    fs::write(&path, b"\xff\xfe").expect("written");
    assert!(Baseline::read(&path).is_err());
}
