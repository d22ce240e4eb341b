//! A report with everything in it, hostile values among them.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::change::TransactionMeta;
use crate::rule::{Check, Rule, Severity, Span, Spanned};
use crate::verdict::{At, CheckReport, Given, Outcome, Verdict, Violation};

/// Text that tries every renderer at once.
pub(super) const HOSTILE: &str = "\u{1b}[2J\u{9b}31m]]>|<b>&amp;`x`\n::error::pwn\r\n%0A::error::%25 ##vso[task.setvariable]a##[add-mask] \u{202e}gpj.exe\u{2066} @team #1 [click](https://evil.example) {0} \u{fffe}\u{0}";

fn span(line: usize) -> Span {
    Span {
        file: PathBuf::from("rules/shop.yaml"),
        line,
        column: 5,
        length: 3,
        source_line: String::new(),
        runs: None,
    }
}

fn spanned<T>(value: T) -> Spanned<T> {
    Spanned {
        value,
        span: span(3),
    }
}

/// A rule with nothing but its id and kind.
pub(super) fn rule(id: &str, line: usize, severity: Severity, check: Check) -> Rule {
    Rule {
        id: id.to_owned(),
        id_derived: false,
        description: None,
        severity,
        owner: None,
        tags: Vec::new(),
        runbook: None,
        table: None,
        filter: None,
        key: None,
        within_us: None,
        threshold: None,
        since: None,
        expires: None,
        impact: None,
        redact: Vec::new(),
        cases: Vec::new(),
        refused: None,
        check,
        span: span(line),
        check_span: span(line + 1),
    }
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("not an object: {other}"),
    }
}

/// A violation from two JSON objects.
pub(super) fn violation(key: Value, evidence: Value) -> Violation {
    Violation {
        key: map(key),
        evidence: map(evidence),
        accepted: false,
    }
}

/// A judged outcome; the verdict follows from the number of violations.
pub(super) fn outcome(
    rule: Rule,
    table: &str,
    violations: u64,
    judged: u64,
    sample: Vec<Violation>,
) -> Outcome {
    Outcome {
        rule,
        table: Some(table.to_owned()),
        verdict: if violations > 0 {
            Verdict::Violated
        } else {
            Verdict::Held
        },
        violations: Some(violations),
        judged: Some(judged),
        new: Some(violations),
        reason: None,
        sample,
        impact: None,
        pending: 0,
        elapsed_ms: 12,
    }
}

fn missing_shipment() -> Outcome {
    let mut rule = rule(
        "paid-order-without-shipment",
        12,
        Severity::Critical,
        Check::NotNull {
            columns: Vec::new(),
        },
    );
    rule.description =
        Some("A paid order is handed to the warehouse within five minutes.".to_owned());
    rule.owner = Some("fulfilment".to_owned());
    rule.runbook = Some("https://runbooks.example.com/fulfilment/missing-shipment".to_owned());
    rule.tags = vec!["money".to_owned(), "orders".to_owned()];
    rule.impact = Some(spanned("total".to_owned()));
    let totals = [
        "99.95", "1204.00", "15.50", "7.25", "310.00", "42.10", "18.00", "64.99", "5.00", "220.40",
        "11.11", "9.90",
    ];
    let row = |(at, total): (usize, &&str)| {
        let evidence = json!({"status": "paid", "total": total, "paid_at": format!("2026-03-12T16:{:02}:51.221Z", at + 3)});
        violation(json!({"id": 4410 + at * 31}), evidence)
    };
    let sample = totals.iter().enumerate().map(row).collect();
    let mut outcome = outcome(rule, "public.orders", 37, 1204, sample);
    outcome.impact = Some("4410.95".to_owned());
    outcome.pending = 3;
    outcome
}

fn hostile() -> Outcome {
    let mut rule = rule(
        "customer-email-shape",
        31,
        Severity::Error,
        Check::NotNull {
            columns: Vec::new(),
        },
    );
    rule.description = Some(format!("::error::An email looks like one. {HOSTILE}"));
    rule.owner = Some(HOSTILE.to_owned());
    rule.span.file = PathBuf::from("rules/more rules/ünïcode #1.yaml");
    let long = "long ".repeat(2_000);
    let sample = vec![
        violation(
            json!({"email": HOSTILE, "tenant": null}),
            json!({"email": HOSTILE, "note": long}),
        ),
        violation(
            json!({"email": "::stop-commands::x", "tenant": ""}),
            json!({"note": "NULL"}),
        ),
        violation(
            json!({"email": "日本語のテキスト@例え.jp", "tenant": " a "}),
            json!({"tags": ["a", {"b": null}]}),
        ),
    ];
    outcome(rule, "crm.customers", 3, 250_000, sample)
}

fn unknown() -> Outcome {
    let rule = rule(
        "stock-not-fresh",
        44,
        Severity::Error,
        Check::NotNull {
            columns: Vec::new(),
        },
    );
    Outcome {
        verdict: Verdict::Unknown,
        violations: None,
        judged: None,
        new: None,
        reason: Some("the source carries no times: say with --now TIME what time it is".to_owned()),
        ..outcome(rule, "public.stock", 0, 0, Vec::new())
    }
}

fn outcomes() -> Vec<Outcome> {
    let plain = |id: &str, line, severity| {
        rule(
            id,
            line,
            severity,
            Check::NotNull {
                columns: Vec::new(),
            },
        )
    };
    let mut vacuous = plain("refund-without-payment", 50, Severity::Warn);
    vacuous.filter = Some(spanned("status = 'done'".to_owned()));
    let whole = violation(json!({}), json!({"rows": 12, "min": 100}));
    let sql = rule(
        "negative-stock",
        60,
        Severity::Warn,
        Check::Sql {
            sql: spanned("select 1".to_owned()),
        },
    );
    let stock = violation(
        json!({"sku": "A-100", "warehouse": "W1"}),
        json!({"sku": "A-100", "on_hand": -4}),
    );
    let tolerated = violation(json!({"id": 9}), json!({"phone": "12"}));
    let mut outcomes = vec![
        outcome(
            plain("orders.customer_id.null", 4, Severity::Error),
            "public.orders",
            0,
            1934,
            Vec::new(),
        ),
        hostile(),
        unknown(),
        outcome(
            plain("too-few-orders", 55, Severity::Info),
            "public.orders",
            1,
            12,
            vec![whole],
        ),
        Outcome {
            table: None,
            ..outcome(sql, "", 1, 1, vec![stock])
        },
        outcome(vacuous, "public.refunds", 0, 0, Vec::new()),
        missing_shipment(),
        Outcome {
            verdict: Verdict::Held,
            ..outcome(
                plain("phone-shape", 66, Severity::Warn),
                "crm.customers",
                1,
                900,
                vec![tolerated],
            )
        },
    ];
    for at in 0..8 {
        let id = format!("order-lines-rule-{at}");
        outcomes.push(outcome(
            plain(&id, 70 + at, Severity::Error),
            "public.order_lines",
            0,
            5_000,
            Vec::new(),
        ));
    }
    outcomes
}

/// A report with one outcome of every sort; no baseline.
pub(super) fn report() -> CheckReport {
    let meta = TransactionMeta {
        lsn: Some("0/2A00F10".to_owned()),
        xid: Some(9071),
        time: Some(1_773_479_564_000_000),
        ..TransactionMeta::default()
    };
    CheckReport {
        source: "testdata/shop".to_owned(),
        given: Given {
            source: vec!["testdata/shop".to_owned()],
            flags: Vec::new(),
        },
        at: At {
            commit: Some(1934),
            meta,
        },
        outcomes: outcomes(),
        expired: vec!["old-promise".to_owned()],
        fail_on: Severity::Error,
        fixed: Vec::new(),
        elapsed_ms: 834,
    }
}

/// The same report after a baseline: the hostile rule is accepted as a whole, the missing shipments in part.
pub(super) fn baselined() -> CheckReport {
    let mut report = report();
    for outcome in &mut report.outcomes {
        let accepted = match outcome.rule.id.as_str() {
            "customer-email-shape" => 3,
            "paid-order-without-shipment" => 2,
            _ => 0,
        };
        outcome
            .sample
            .iter_mut()
            .take(accepted)
            .for_each(|violation| violation.accepted = true);
        outcome.new = outcome.new.map(|new| new - accepted as u64);
    }
    report.fixed = vec![
        ("negative-stock".to_owned(), 2),
        ("too-few-orders".to_owned(), 1),
    ];
    report
}
