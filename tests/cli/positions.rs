//! `--at` in every form (CONTRACT sections 1 and 5).

use serde_json::json;

use crate::place::Place;

/// Four commits, ten minutes apart; after commit n the rule finds n violations.
fn history() -> Place {
    let lines: String = (1..=4)
        .map(|n| {
            format!(
                "{{\"commit\": {n}, \"lsn\": \"0/{n}0\", \"xid\": {}, \"time\": \"2026-03-12T10:{n}0:00Z\", \"changes\": \
                 [{{\"table\": \"t\", \"op\": \"insert\", \"after\": {{\"id\": {n}, \"a\": null}}}}]}}\n",
                700 + n
            )
        })
        .collect();
    Place::new()
        .with(
            "d/schema.sql",
            "create table t (id bigint primary key, a text);",
        )
        .with("d/snapshot/t.csv", "id,a\n100,x\n")
        .with("d/changes/1.ndjson", lines)
        .with(
            "d/rules/t.yaml",
            "table: t\nrules:\n  - {id: bad, not_null: [a]}\n",
        )
}

/// The position and the number of violations there.
#[track_caller]
fn at(place: &Place, arguments: &[&str]) -> (i64, i64) {
    let ran = place.check(&[&["d"], arguments].concat());
    assert!(ran.code < 2, "{ran:?}");
    let found = ran.json()["at"]["commit"].as_i64().expect("a commit");
    (
        found,
        ran.rule("bad")["violations"].as_i64().expect("violations"),
    )
}

#[test]
fn every_form_names_a_position() {
    let place = history();
    let forms = [
        ("latest", 4),
        ("#4", 4),
        ("#2", 2),
        ("#0", 0),
        ("0/20", 2),
        ("0/2F", 2),
        ("0/1", 0),
        ("1/0", 4),
        ("2026-03-12T10:20:00Z", 2),
        ("2026-03-12T10:29:59.999999Z", 2),
        ("2026-03-12T12:30:00+02:00", 3),
        ("2026-03-12T00:00:00Z", 0),
        ("2026-03-13", 4),
        ("2027-01-01T00:00:00Z", 4),
        ("-10m", 3),
        ("-11m", 2),
        ("-0s", 4),
        ("-1d", 0),
    ];
    for (form, commit) in forms {
        assert_eq!(at(&place, &["--at", form]), (commit, commit), "--at {form}");
    }
    assert_eq!(at(&place, &[]), (4, 4));
    assert_eq!(at(&place, &["--at=-20m"]), (2, 2));
}

#[test]
fn an_age_counts_from_now() {
    assert_eq!(
        at(
            &history(),
            &["--at", "-10m", "--now", "2026-03-12T10:35:00Z"]
        ),
        (2, 2)
    );
}

#[test]
fn the_report_says_where_it_looked() {
    let place = history();
    let found = place.check(&["d", "--at", "#2"]).exits(1).json();
    assert_eq!(
        found["at"],
        json!({"commit": 2, "lsn": "0/20", "xid": 702, "time": "2026-03-12T10:20:00Z"})
    );
    let found = place.check(&["d", "--at", "#0"]).exits(0).json();
    assert_eq!(
        found["at"],
        json!({"commit": 0, "lsn": null, "xid": null, "time": null})
    );
}

#[test]
fn what_is_no_position_is_refused() {
    let wrong = [
        ("#5", "ends at #4"),
        ("#-1", "no commit"),
        ("#x", "no commit"),
        ("yesterday", "no position"),
        ("-10", "no position"),
        ("99/zz", "no position"),
        ("", "no position"),
    ];
    for (form, text) in wrong {
        history()
            .run(&["check", "d", "--at", form])
            .refused(&["--at", text]);
    }
}

#[test]
fn a_source_without_times_has_no_ages() {
    let place = history().with("d/changes/1.ndjson", "{\"commit\": 1, \"changes\": []}\n");
    place
        .run(&["check", "d", "--at", "-10m"])
        .refused(&["--now"]);
    place
        .run(&["check", "d", "--at", "2026-03-12T10:20:00Z"])
        .refused(&["no times"]);
    place
        .run(&["check", "d", "--at", "0/10"])
        .refused(&["no LSNs"]);
}

#[test]
fn dated_snapshots_are_named() {
    let place = Place::new()
        .with(
            "d/schema.sql",
            "create table t (id bigint primary key, a text);",
        )
        .with("d/snapshots/2026-03-11/t.csv", "id,a\n100,x\n")
        .with("d/snapshots/2026-03-12/t.csv", "id,a\n100,x\n1,\n")
        .with("d/snapshots/2026-03-13/t.csv", "id,a\n100,x\n1,\n2,\n")
        .with(
            "d/rules/t.yaml",
            "table: t\nrules:\n  - {id: bad, not_null: [a]}\n",
        );
    for (name, commit) in [
        ("2026-03-11", 0),
        ("2026-03-12", 1),
        ("2026-03-13", 2),
        ("#1", 1),
        ("latest", 2),
    ] {
        assert_eq!(at(&place, &["--at", name]), (commit, commit), "--at {name}");
    }
    place
        .run(&["check", "d", "--at", "2026-03-14"])
        .refused(&["2026-03-11, 2026-03-12, 2026-03-13"]);
}
