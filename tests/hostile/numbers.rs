//! Numbers at the ends of what 64 bits hold.

use crate::Source;

/// Rows at both ends, and one in the middle.
fn ends() -> Source {
    let source = Source::new();
    source.file(
        "schema.sql",
        "create table orders(id bigint primary key, n bigint, g text, at timestamp);\n",
    );
    source.file(
        "snapshot/orders.csv",
        format!(
            "id,n,g,at\n1,{},a,\n2,{},a,\n3,{},b,\n4,{},b,\n5,0,c,\n6,,d,9999-12-31 23:59:59\n7,,d,0001-01-01 00:00:00\n",
            i64::MIN,
            i64::MAX,
            i64::MIN,
            i64::MAX
        ),
    );
    source
}

#[test]
fn sequences_reach_from_end_to_end() {
    let (least, most) = (i64::MIN, i64::MAX);
    for (check, verdict, violations) in [
        ("{column: n}", "violated", "18446744073709551613"),
        // Two of them are more than are counted.
        ("{column: n, per: [g]}", "unknown", "null"),
        (
            &format!("{{column: n, from: {least}}}"),
            "violated",
            "18446744073709551613",
        ),
        (&format!("{{column: n, from: {most}}}"), "held", "0"),
        (&format!("{{column: n, step: {most}}}"), "violated", "2"),
        (
            &format!("{{column: n, step: {most}, from: {least}}}"),
            "violated",
            "2",
        ),
        (
            &format!("{{column: n, step: {most}, from: {most}}}"),
            "held",
            "0",
        ),
    ] {
        let source = ends();
        source.rule(&format!("table: orders\nsequence: {check}"));
        let ran = source.check(&[]);
        let outcome = ran.outcome("hostile");
        assert_eq!(outcome["verdict"], verdict, "{check}: {outcome}");
        assert_eq!(outcome["violations"].to_string(), violations, "{check}");
        assert_eq!(ran.verdict("harmless"), "held", "{check}");
    }
}

#[test]
fn what_is_asked_for_in_millions_is_not_made_at_once() {
    for body in [
        "table: orders\nsequence: {column: n}",
        "table: orders\nsequence: {column: n, per: [g]}",
        "table: orders\nwindow_gap: {column: at, every: 1ms}",
        "table: orders\nwindow_gap: {column: at, every: 1h}",
        "table: orders\nwindow_gap: {column: at, every: 1h, min_rows: 2, per: [g]}",
    ] {
        for sample in ["all", "1000000000000", "18446744073709551615"] {
            let source = ends();
            source.rule(body);
            let ran = source.check(&["--sample", sample, "--now", "9999-12-31T23:59:59Z"]);
            let outcome = ran.outcome("hostile");
            assert_eq!(outcome["verdict"], "unknown", "{body}: {outcome}");
            assert_eq!(ran.verdict("harmless"), "held", "{body}");
        }
        // A few of them are cheap.
        let source = ends();
        source.rule(body);
        let ran = source.check(&["--sample", "3", "--now", "9999-12-31T23:59:59Z"]);
        assert_ne!(ran.verdict("hostile"), "held", "{body}");
        assert_eq!(ran.verdict("harmless"), "held", "{body}");
    }
}
