//! What closes a gate, and what does not.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{AGE_MAX, Answer, Ask, Known, RuleState, UpTo};
use crate::postgres::Lsn;
use crate::rule::Severity;
use crate::verdict::Verdict;

const NOW: i64 = 1_773_331_200_000_000;
const SECOND: i64 = 1_000_000;

fn rule(id: &str, tables: &[&str], verdict: Verdict) -> RuleState {
    RuleState {
        id: id.into(),
        severity: Severity::Error,
        verdict,
        reason: None,
        bad: 0,
        pending: 0,
        tables: tables.iter().map(|name| format!("public.{name}")).collect(),
        incidents: Vec::new(),
        event: false,
    }
}

/// Orders and shipments are bad, customers are fine, payments are not known.
fn shop() -> Known {
    let missing = RuleState {
        severity: Severity::Critical,
        bad: 2,
        incidents: vec!["I-10".into(), "I-3".into()],
        ..rule(
            "paid-order-without-shipment",
            &["orders", "shipments"],
            Verdict::Violated,
        )
    };
    let unknown = RuleState {
        reason: Some("column amount is gone".into()),
        ..rule("payments.amount.range", &["payments"], Verdict::Unknown)
    };
    Known {
        rules: vec![
            rule("customers.email.null", &["customers"], Verdict::Held),
            missing,
            unknown,
        ],
        left: Vec::new(),
        up_to: UpTo {
            commit: Some(1934),
            lsn: Some(Lsn(0x2A0_0F10)),
            time: Some(NOW - 10 * SECOND),
        },
        gaps: Vec::new(),
    }
}

fn of(tables: &[&str]) -> Ask {
    Ask {
        tables: tables.iter().map(|&table| table.to_owned()).collect(),
        ..Ask::default()
    }
}

#[test]
fn a_table_is_clean_when_all_rules_that_read_it_hold() {
    let known = shop();
    for (tables, expected) in [
        (&["customers"][..], Answer::Clean),
        (&["public.customers"], Answer::Clean),
        (&["orders"], Answer::NotClean),
        (&["shipments", "customers"], Answer::NotClean),
        (&["payments"], Answer::Unknown),
        (&["payments", "customers"], Answer::Unknown),
        (&["payments", "orders"], Answer::NotClean),
        (&[], Answer::NotClean),
    ] {
        let gate = known.gate(&of(tables), NOW);
        assert_eq!(gate.answer, expected, "{tables:?}");
    }
    let gate = known.gate(&of(&["orders"]), NOW);
    assert_eq!(gate.tables[0].incidents, ["I-3", "I-10"]);
    assert_eq!(
        gate.text(),
        "not clean up to 0/2A00F10 (#1934, 2026-03-12 15:59:50Z)\n  orders  not clean  paid-order-without-shipment (critical): 2 bad, I-10, I-3\n"
    );
    let gate = known.gate(&of(&["payments"]), NOW);
    let document = gate.document();
    assert_eq!(document["verdict"], "unknown");
    assert_eq!(
        document["tables"][0]["reason"],
        "payments.amount.range: column amount is gone"
    );
    assert_eq!(document["up_to"]["lsn"], "0/2A00F10");
}

#[test]
fn a_table_that_no_rule_reads_is_not_known() {
    let known = shop();
    let gate = known.gate(&of(&["order"]), NOW);
    assert_eq!(gate.answer, Answer::Unknown);
    assert_eq!(
        gate.tables[0].reasons,
        ["no rule reads it; did you mean orders?"]
    );
    let gate = known.gate(&of(&["sales.orders"]), NOW);
    assert_eq!(gate.answer, Answer::Unknown);
    // Where there are no rules, nothing is clean.
    let gate = Known::default().gate(&of(&[]), NOW);
    assert_eq!((gate.answer, gate.tables.len()), (Answer::Unknown, 0));
}

#[test]
fn the_severity_decides_what_closes_it() {
    let mut known = shop();
    known.rules[1].severity = Severity::Warn;
    let ask = of(&["orders"]);
    assert_eq!(known.gate(&ask, NOW).answer, Answer::Clean);
    let ask = Ask {
        fail_on: Severity::Info,
        ..ask
    };
    assert_eq!(known.gate(&ask, NOW).answer, Answer::NotClean);
}

#[test]
fn what_is_behind_or_old_is_not_clean() {
    let known = shop();
    let customers = of(&["customers"]);
    let with = |lsn: u64, age: Option<u64>| Ask {
        lsn: (lsn > 0).then_some(Lsn(lsn)),
        age_max: age.map(Duration::from_secs),
        ..customers.clone()
    };
    for (ask, expected) in [
        (with(0x2A0_0F10, None), Answer::Clean),
        (with(0x2A0_0F11, None), Answer::Unknown),
        (with(0, Some(10)), Answer::Clean),
        (with(0, Some(9)), Answer::Unknown),
        (with(0x2A0_0F10, Some(9)), Answer::Unknown),
    ] {
        let gate = known.gate(&ask, NOW);
        assert_eq!(gate.answer, expected, "{ask:?}");
        assert_eq!(gate.reason.is_some(), expected == Answer::Unknown);
    }
    // What is bad as far as it was judged stays bad.
    let late = Ask {
        lsn: Some(Lsn(u64::MAX)),
        ..of(&["orders"])
    };
    assert_eq!(known.gate(&late, NOW).answer, Answer::NotClean);
    let blind = Known {
        up_to: UpTo::default(),
        ..shop()
    };
    assert_eq!(blind.gate(&with(1, None), NOW).answer, Answer::Unknown);
    assert_eq!(blind.gate(&with(0, Some(1)), NOW).answer, Answer::Unknown);
    // A clock that is behind the server's makes nothing old.
    assert_eq!(
        known.gate(&with(0, Some(1)), i64::MIN).answer,
        Answer::Clean
    );
}

#[test]
fn writes_that_nobody_saw_are_not_known_to_rules_of_writes() {
    let mut known = shop();
    known.gaps = vec![(7, 7), (41, 43)];
    known.rules[0].event = true;
    let gate = known.gate(&of(&["customers"]), NOW);
    assert_eq!(gate.answer, Answer::Unknown);
    assert!(
        gate.tables[0].reasons[0].contains("the writes of #41 to #43 were not seen"),
        "{gate:?}"
    );
    let ask = Ask {
        accept_gaps: true,
        ..of(&["customers"])
    };
    assert_eq!(known.gate(&ask, NOW).answer, Answer::Clean);
    // A rule of states was judged whole after the gap.
    known.rules[0].event = false;
    assert_eq!(known.gate(&of(&["customers"]), NOW).answer, Answer::Clean);
}

#[test]
fn an_open_incident_of_a_rule_that_is_gone_is_not_known() {
    let mut known = shop();
    let tables = BTreeSet::from(["public.customers".to_owned()]);
    known.left = vec![(tables, "customers.vat is not judged any more".into())];
    let gate = known.gate(&of(&["customers"]), NOW);
    assert_eq!(gate.answer, Answer::Unknown);
    assert_eq!(gate.tables[0].reasons.len(), 1);
}

#[test]
fn a_url_says_what_is_asked() {
    let ask = Ask::of_query("table=orders&table=sales.%22x%22&lsn=0/2A00F10").expect("a query");
    assert_eq!(ask.tables, ["orders", "sales.\"x\""]);
    assert_eq!((ask.lsn, ask.age_max), (Some(Lsn(0x2A0_0F10)), None));
    let ask = Ask::of_query("").expect("a query");
    assert_eq!((ask.tables.len(), ask.age_max), (0, Some(AGE_MAX)));
    let ask =
        Ask::of_query("max_age=90s&fail_on=warn&accept_gaps=true&lsn=0%2F1").expect("a query");
    assert_eq!(ask.age_max, Some(Duration::from_secs(90)));
    assert_eq!((ask.fail_on, ask.accept_gaps), (Severity::Warn, true));
    for wrong in [
        "table=",
        "lsn=7",
        "lsn=",
        "max_age=5",
        "max_age=-5m",
        "fail_on=all",
        "accept_gaps=1",
        "tables=orders",
        "orders",
        "%00",
    ] {
        let said = Ask::of_query(wrong).expect_err(wrong);
        assert!(
            !said.contains("orders") && said.is_ascii(),
            "{wrong}: {said}"
        );
    }
    let many = "table=x&".repeat(1_001);
    assert!(Ask::of_query(many.trim_end_matches('&')).is_err());
}

#[test]
fn hostile_names_are_escaped() {
    let mut known = shop();
    known.rules[1].tables = BTreeSet::from(["public.or\u{1b}[2Jders".to_owned()]);
    known.rules[1].id = "a\u{202e}b\n".into();
    let gate = known.gate(&of(&["or\u{1b}[2Jders"]), NOW);
    assert_eq!(gate.answer, Answer::NotClean);
    for text in [gate.text(), gate.json()] {
        assert!(
            !text.contains('\u{1b}') && !text.contains('\u{202e}'),
            "{text:?}"
        );
    }
}
