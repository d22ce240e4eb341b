//! Rule files as users write them, right and wrong.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::file::{load, parse};
use super::*;
use crate::diagnostic::{Level, render};

pub(super) fn files(directory: &str, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .expect("testdata is there")
        .map(|entry| entry.expect("a readable entry").path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

/// Every file in `testdata/rules/invalid` gives exactly the messages beside it; `UPDATE_CASES=1` writes them.
#[test]
fn wrong_rule_files_are_told_mistake_by_mistake() {
    let update = std::env::var_os("UPDATE_CASES").is_some();
    let (mut failed, mut messages) = (String::new(), BTreeSet::new());
    let inputs = files("testdata/rules/invalid", "yaml");
    assert!(inputs.len() >= 25, "the folder is not empty");
    for input in inputs {
        let (_, diagnostics) = load(std::slice::from_ref(&input));
        let shown = render(&diagnostics, false);
        assert!(
            !diagnostics.is_empty(),
            "{}: nothing was said",
            input.display()
        );
        assert!(
            !shown.contains('\u{1b}') && !shown.contains('\u{202e}'),
            "{}: raw control characters",
            input.display()
        );
        for diagnostic in &diagnostics {
            let message = &diagnostic.message;
            assert!(
                !message.ends_with('.') && !message.starts_with(char::is_uppercase),
                "{message}"
            );
            messages.insert(message.clone());
        }
        let expected = input.with_extension("stderr");
        if update {
            std::fs::write(&expected, &shown).expect("testdata is writable");
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != shown {
            let _ = writeln!(failed, "{}:\n{shown}", input.display());
        }
    }
    assert!(
        failed.is_empty(),
        "other messages than in the .stderr beside; UPDATE_CASES=1 rewrites them\n{failed}"
    );
    assert!(
        messages.len() >= 100,
        "only {} different messages",
        messages.len()
    );
}

/// Rules of a text that has no mistakes.
#[track_caller]
fn rules(text: &str) -> Vec<Rule> {
    let (rules, diagnostics) = parse(text, Path::new("rules.yaml"));
    assert!(diagnostics.is_empty(), "{}", render(&diagnostics, false));
    rules
}

/// A check without its places, short enough to read.
fn shown(check: &Check) -> String {
    let text = format!("{check:?}");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find(", span: Span {") {
        out.push_str(&rest[..at]);
        let after = &rest[at..];
        let mut depth = 0;
        let mut in_text = None;
        let mut end = after.len();
        for (index, c) in after.char_indices() {
            match (c, in_text) {
                ('"', None) => in_text = Some(false),
                ('\\', Some(false)) => in_text = Some(true),
                (_, Some(true)) => in_text = Some(false),
                ('"', Some(false)) => in_text = None,
                ('{', None) => depth += 1,
                ('}', None) => {
                    depth -= 1;
                    if depth == 0 {
                        end = index + 1;
                        break;
                    }
                }
                _ => {}
            }
        }
        let after = &after[end..];
        rest = after.strip_prefix(" }").unwrap_or(after);
    }
    out.push_str(rest);
    out.replace("Spanned { value: ", "")
}

/// Each form of each check: what is written, the derived id, the check.
#[test]
fn every_form_of_every_check_is_read() {
    let forms = std::fs::read_to_string("testdata/rules/forms.txt").expect("testdata is there");
    let update = std::env::var_os("UPDATE_CASES").is_some();
    let (mut kinds_seen, mut written) = (BTreeSet::new(), String::new());
    for block in forms.split("\n\n").filter(|block| !block.trim().is_empty()) {
        let yaml: String = block.lines().take_while(|line| *line != "----").fold(
            String::new(),
            |mut text, line| {
                let _ = writeln!(text, "    {line}");
                text
            },
        );
        let text = format!("table: orders\nrules:\n  -\n{yaml}");
        let (rules, diagnostics) = parse(&text, Path::new("rules.yaml"));
        assert!(
            diagnostics.iter().all(|found| found.level == Level::Note),
            "{}",
            render(&diagnostics, false)
        );
        assert!(!rules.is_empty(), "{text}");
        let _ = writeln!(
            written,
            "{}\n----",
            block
                .lines()
                .take_while(|line| *line != "----")
                .collect::<Vec<_>>()
                .join("\n")
        );
        for rule in &rules {
            kinds_seen.insert(rule.check.kind());
            let _ = writeln!(written, "{}  {}", rule.id, shown(&rule.check));
        }
        for diagnostic in &diagnostics {
            let _ = writeln!(written, "note: {}", diagnostic.message);
        }
        written.push('\n');
    }
    let all: BTreeSet<&str> = super::kinds::NAMES.into_iter().collect();
    assert_eq!(kinds_seen, all, "every kind has a form");
    if update {
        std::fs::write("testdata/rules/forms.txt", written).expect("testdata is writable");
    } else {
        assert_eq!(written, forms);
    }
}

#[test]
fn the_example_of_the_contract_means_what_it_says() {
    let text = std::fs::read_to_string("testdata/rules/shop.yaml").expect("testdata is there");
    let rules = rules(&text);
    let ids: Vec<&str> = rules.iter().map(|rule| rule.id.as_str()).collect();
    let expected = [
        "orders.customer_id.null",
        "orders.status.null",
        "orders.status.unaccepted",
        "paid-order-without-shipment",
        "order-total-mismatch",
        "status-jumps",
        "negative-stock",
    ];
    assert_eq!(ids, expected);
    assert!(
        rules.iter().take(3).all(|rule| rule.id_derived)
            && rules.iter().skip(3).all(|rule| !rule.id_derived)
    );
    let paid = &rules[3];
    assert_eq!(paid.severity, Severity::Critical);
    assert_eq!(paid.owner.as_deref(), Some("fulfilment"));
    assert_eq!(paid.within_us, Some(300_000_000));
    assert_eq!(
        paid.filter.as_ref().map(|sql| sql.value.as_str()),
        Some("status = 'paid'")
    );
    let Check::Has {
        table,
        matching,
        filter: None,
        min: 1,
        max: None,
    } = &paid.check
    else {
        panic!("{:?}", paid.check)
    };
    assert_eq!(table.value, TableName::new("public", "shipments"));
    assert_eq!(
        (matching[0].0.value.as_str(), matching[0].1.value.as_str()),
        ("order_id", "id")
    );
    let Check::Balance { tolerance, per, .. } = &rules[4].check else {
        panic!("{:?}", rules[4].check)
    };
    assert_eq!((tolerance.value.as_str(), per.len()), ("0.005", 0));
    let Check::Transitions {
        allowed,
        initial: None,
        ..
    } = &rules[5].check
    else {
        panic!("{:?}", rules[5].check)
    };
    assert_eq!(allowed.len(), 3);
    assert_eq!(
        (paid.span.line, paid.check_span.line, paid.check_span.column),
        (6, 11, 5)
    );
}

#[test]
fn the_cases_of_the_contract_are_read() {
    let text = std::fs::read_to_string("testdata/rules/shop.yaml").expect("testdata is there");
    let rules = rules(&text);
    let stock = &rules[6];
    assert_eq!(stock.key.as_ref().map(Vec::len), Some(2));
    assert_eq!(
        (stock.cases[0].name.as_str(), &stock.cases[0].expect),
        ("zero is fine", &Expectation::Held)
    );
    assert_eq!(stock.cases[1].name, "case 2");
    let Expectation::ViolatedKeys(keys) = &stock.cases[1].expect else {
        panic!("{:?}", stock.cases[1].expect)
    };
    assert_eq!(keys[0][0].1, Literal::Text("A".into()));
    assert_eq!(
        stock.cases[1].given[0].1[0][2].1,
        Literal::Number("-1".into())
    );
}

#[test]
fn headers_defaults_and_cases_are_kept() {
    let text = "table: sales.orders\nowner: data\nseverity: warn\ntags: [nightly]\nrules:\n  - id: two-columns\n    not_null: [a, b]\n    tags: money\n    severity: info\n    \
        key: id\n    threshold: {max_percent: 0.10}\n    since: '#12'\n    expires: 2026-12-31\n    impact: total\n    redact: email\n    runbook: https://wiki.example/x\n    \
        cases:\n      - given: {orders: [{id: 1, tags: [a, {b: 1.50}], ok: yes, at: 2026-01-01, n: 007, no: ~}], sales.lines: }\n        \
        now: 2026-03-12T16:03:51Z\n        changes:\n          - [{op: update, key: {id: 1}, after: {a: x}}, {table: sales.lines, op: truncate}]\n          \
        - {time: 2026-03-12T16:00:00Z, changes: [{op: delete, key: {id: 1}}]}\n          - {op: insert, after: {id: 2}}\n        expect: unknown\n  - not_null: [a, b]\n";
    let rules = rules(text);
    assert_eq!(rules.len(), 3);
    let rule = &rules[0];
    assert_eq!(
        (rule.id.as_str(), rule.severity, rule.owner.as_deref()),
        ("two-columns", Severity::Info, Some("data"))
    );
    assert_eq!(rule.tags, ["nightly", "money"]);
    assert_eq!(
        rule.threshold.as_ref().map(|found| &found.value),
        Some(&Threshold::MaxPercent("0.10".into()))
    );
    assert_eq!(rules[1].severity, Severity::Warn);
    assert_eq!(rules[2].id, "sales.orders.b.null");
    let case = &rule.cases[0];
    assert_eq!(case.given.len(), 2);
    let cells: Vec<Literal> = case.given[0].1[0]
        .iter()
        .map(|(_, literal)| literal.clone())
        .collect();
    let text = |text: &str| Literal::Text(text.to_owned());
    let number = |text: &str| Literal::Number(text.to_owned());
    assert_eq!(
        cells,
        [
            number("1"),
            text("[\"a\",{\"b\":1.50}]"),
            text("yes"),
            text("2026-01-01"),
            number("007"),
            Literal::Null
        ]
    );
    let shapes: Vec<(usize, bool)> = case
        .changes
        .iter()
        .map(|found| (found.changes.len(), found.time.is_some()))
        .collect();
    assert_eq!(shapes, [(2, false), (1, true), (1, false)]);
    assert_eq!(
        case.changes[0].changes[0].table.value,
        TableName::new("sales", "orders")
    );
}

#[test]
fn ids_are_unique_over_files_and_stable() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let write =
        |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("writable");
    std::fs::create_dir(folder.path().join("b")).expect("writable");
    write(
        "a.yaml",
        "table: orders\nrules:\n  - unique: id\n  - unique: id\n  - id: taken\n    no_delete: true\n",
    );
    write(
        "b/c.yml",
        "table: public.orders\nrules:\n  - unique: id\n  - id: taken\n    no_delete: true\n  - no_delete: false\n    id: lost\n",
    );
    write(
        "d.yaml",
        "table: t\nrules:\n  - id: lost\n    no_delete: true\n",
    );
    write(".hidden.yaml", "nonsense");
    write("readme.txt", "nonsense");
    let (rules, diagnostics) = load(&[folder.path().to_path_buf(), folder.path().join("a.yaml")]);
    let ids: Vec<&str> = rules.iter().map(|rule| rule.id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "orders.id.duplicate",
            "orders.id.duplicate-2",
            "taken",
            "orders.id.duplicate-3"
        ]
    );
    let messages: Vec<String> = diagnostics
        .iter()
        .map(|found| found.message.clone())
        .collect();
    assert_eq!(
        messages,
        [
            "the id `taken` is taken",
            "`no_delete: false` judges nothing",
            "the id `lost` is taken"
        ]
    );
    assert!(
        diagnostics[0]
            .hint
            .as_ref()
            .is_some_and(|hint| hint.contains("a.yaml:5")),
        "{:?}",
        diagnostics[0].hint
    );
}

#[test]
fn paths_without_rules_are_told() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(folder.path().join("large.yml"), vec![b'#'; (1 << 20) + 1]).expect("writable");
    std::fs::create_dir(folder.path().join("empty")).expect("writable");
    let paths = ["large.yml", "empty", "missing.yaml"].map(|name| folder.path().join(name));
    let (rules, diagnostics) = load(&paths);
    assert!(rules.is_empty());
    let messages: Vec<&str> = diagnostics
        .iter()
        .map(|found| found.message.split('`').next().unwrap_or(""))
        .collect();
    assert_eq!(
        messages,
        [
            "no rule files in the directory ",
            "a rule file has at most 1 MiB, this one has more",
            "cannot read "
        ]
    );
}

#[test]
fn places_inside_texts_are_found_in_every_style() {
    let text = "table: t\nrules:\n  - expression: a = b\n  - expression: 'a = ''x'' or b'\n  - expression: \"a = \\\"x\\\" or b\"\n  - expression: |\n      a =\n        é or\n\n      b\n  - expression: >-\n      a = c\n      or b\n  - expression: a = c\n      or b\n  - expression: \"a\\u0020or b\"\n";
    let rules = rules(text);
    let places: Vec<(usize, usize)> = rules
        .iter()
        .map(|rule| {
            let Check::Expression { sql, .. } = &rule.check else {
                panic!("{:?}", rule.check)
            };
            let offset = sql
                .value
                .chars()
                .position(|c| c == 'b')
                .expect("each has a b");
            let place = sql.span.within(offset, 1);
            (place.line, place.column)
        })
        .collect();
    assert_eq!(
        places,
        [
            (3, 21),
            (4, 31),
            (5, 31),
            (10, 7),
            (13, 10),
            (15, 10),
            (16, 17)
        ]
    );
}
