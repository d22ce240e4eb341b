//! What becomes of a store over time: nights, gaps, merging, retention, a recording that goes on; and every kind of source in it.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use firstbad::source;
use serde_json::{Value, json};

use crate::place::Place;
use crate::store::{RULES, begin, grow, intact, line, no_difference, place, record, same, status};
use crate::stream_forms::{FORMS, Form, World};
use crate::streams::{FIRST_SEED, shown, written};

const ORDERS: &str =
    "create table orders (id bigint primary key, status text, total numeric(12,2));";
const ORDER_RULES: &str = "table: orders
rules:
  - {id: no-status, not_null: [status]}
  - {id: total-rewritten, immutable: [total]}
";
/// What the table held each night: order 2 loses its status in the third, order 1 its total in the fourth.
const NIGHTS: [(&str, &str); 4] = [
    ("2026-03-11", "1,paid,10.00\n2,placed,5.00\n"),
    ("2026-03-12", "1,paid,10.00\n2,paid,5.00\n3,placed,7.00\n"),
    ("2026-03-13", "1,paid,10.00\n2,,5.00\n3,paid,7.00\n"),
    ("2026-03-14", "1,paid,11.00\n2,,5.00\n"),
];

fn night(place: &Place, path: &str, rows: &str) {
    place.write(path, format!("id,status,total\n{rows}"));
}

/// Asserts that the rules of orders are bounded by the second and third, and the third and fourth states.
#[track_caller]
fn bounded(place: &Place, store: &str) {
    let ran = place.run(&[
        "bisect",
        store,
        "--rules",
        "orders.yaml",
        "--format",
        "json",
    ]);
    let ran = ran.exits(1);
    for (id, good, bad, key) in [("no-status", 1, 2, 2), ("total-rewritten", 2, 3, 1)] {
        let rule = ran.rule(id);
        assert_eq!(rule["certainty"], "bounded", "{id}");
        assert_eq!(
            [&rule["last_good"]["commit"], &rule["first_bad"]["commit"]],
            [&json!(good), &json!(bad)],
            "{id}"
        );
        assert_eq!(rule["onsets"][0]["key"], json!({"id": key}), "{id}");
    }
}

#[test]
fn a_file_that_is_snapshotted_every_night_becomes_a_history() {
    let place = Place::new()
        .with("now/schema.sql", ORDERS)
        .with("orders.yaml", ORDER_RULES);
    for (commit, (day, rows)) in NIGHTS.iter().enumerate() {
        night(&place, "now/orders.csv", rows);
        let time = format!("{day}T02:00:00Z");
        let arguments = ["snapshot", "now", "--store", "s", "--now", &time];
        let made = place.run(&[&arguments[..], &["--format", "json"]].concat());
        let made = made.exits(0).json();
        assert_eq!(made["at"], commit);
        assert_eq!(made["commits"], u64::from(commit > 0));
    }
    bounded(&place, "s");
    let query = "select id, status, total from orders order by id";
    for (commit, (day, rows)) in NIGHTS.iter().enumerate() {
        for at in [format!("#{commit}"), format!("{day}T02:00:00Z")] {
            let ran = place.run(&["sql", "s", query, "--at", &at, "--format", "csv"]);
            assert_eq!(ran.exits(0).out, format!("id,status,total\n{rows}"), "{at}");
        }
    }
    let found = status(&place, "s");
    assert_eq!(found["snapshots"]["at"], json!([0, 1, 2, 3]));
    assert_eq!(found["covered"][0]["seen"], true);
    place
        .run(&["status", "s"])
        .exits(0)
        .says(&["#1 to #3, each a snapshot\n"]);
    let early = [
        "snapshot",
        "now",
        "--store",
        "s",
        "--now",
        "2026-03-13T00:00:00Z",
    ];
    place.run(&early).refused(&[
        "its last state is of 2026-03-14 02:00:00Z, this one would be of 2026-03-13 00:00:00Z",
        "in the order of time",
    ]);
    place.run(&["record", "now", "--store", "s"]).refused(&[
        "`now` holds one state and no changes",
        "`firstbad snapshot now`",
    ]);
    // The file by itself is the same table, if the schema says so.
    place
        .run(&["snapshot", "now/orders.csv", "--store", "s"])
        .exits(0)
        .says(&["snapshot #4 of now/orders.csv in s: 2 rows", "0 changes"]);
    intact(&place, "s");
}

#[test]
fn dated_snapshots_are_recorded_as_they_come() {
    let place = Place::new()
        .with("d/schema.sql", ORDERS)
        .with("orders.yaml", ORDER_RULES);
    for (commit, (day, rows)) in NIGHTS.iter().enumerate() {
        night(&place, &format!("d/snapshots/{day}/orders.csv"), rows);
        assert_eq!(record(&place, "d", "s")["at"], commit);
    }
    bounded(&place, "s");
    no_difference(&place, "d", "s");
    let rules = ["--rules", "orders.yaml"];
    for (day, _) in NIGHTS {
        same(
            &place,
            ("d", "s"),
            "check",
            &[&rules[..], &["--at", day]].concat(),
        );
    }
    let [bisected, kept] = ["d", "s"].map(|source| {
        let ran = place.run(&["bisect", source, "--rules", "orders.yaml"]);
        let (body, _) = ran.out.split_once("\n  →").expect("commands follow");
        body.to_owned()
    });
    assert_eq!(bisected, kept, "the first state has its name");
    intact(&place, "s");
}

#[test]
fn a_snapshot_of_dated_snapshots_keeps_their_numbers() {
    let place = Place::new()
        .with("d/schema.sql", ORDERS)
        .with("orders.yaml", ORDER_RULES);
    let write =
        |(day, rows): (&str, &str)| night(&place, &format!("d/snapshots/{day}/orders.csv"), rows);
    NIGHTS[..2].iter().for_each(|night| write(*night));
    record(&place, "d", "s");
    let snapshot = |arguments: &[&str]| {
        let all = ["snapshot", "d", "--store", "s", "--format", "json"];
        place.run(&[&all[..], arguments].concat()).exits(0).json()
    };
    for (at, commit, snapshots) in [("latest", 1, 1), ("2026-03-11", 0, 0), ("latest", 1, 0)] {
        let made = snapshot(&["--at", at]);
        assert_eq!(
            [&made["at"], &made["commits"], &made["snapshots"]],
            [&json!(commit), &json!(0), &json!(snapshots)]
        );
    }
    NIGHTS[2..].iter().for_each(|night| write(*night));
    let made = snapshot(&[]);
    assert_eq!(made["at"], 3);
    assert_eq!(made["gap"], json!({"from": 2, "to": 3}));
    assert_eq!(record(&place, "d", "s")["commits"], 0);
    no_difference(&place, "d", "s");
    intact(&place, "s");
}

/// Commits 1 to 3 in `s`, then the state after 6, then 7 and 8.
fn gapped() -> Place {
    let place = place();
    begin(&place, "young");
    grow(&place, "young", 1..=3);
    record(&place, "young", "s");
    let ran = place.run(&["snapshot", "h", "--store", "s", "--at", "#6"]);
    ran.exits(0).says(&[
        "snapshot #6 of h in s: 4 rows\n",
        "  a gap: of #4 to #6 only the state after #6 was seen\n",
    ]);
    let recorded = record(&place, "h", "s");
    assert_eq!(
        [&recorded["commits"], &recorded["at"]],
        [&json!(2), &json!(8)]
    );
    place
}

#[test]
fn what_was_not_seen_is_a_gap() {
    let place = gapped();
    assert_eq!(
        status(&place, "s")["covered"],
        json!([
            {"from": 1, "to": 3, "seen": true, "lsn_from": "0/1010", "lsn_to": "0/1030"},
            {"from": 4, "to": 6, "seen": false, "lsn_from": "0/1060", "lsn_to": "0/1060"},
            {"from": 7, "to": 8, "seen": true, "lsn_from": "0/1070", "lsn_to": "0/1080"},
        ])
    );
    place.run(&["status", "s"]).exits(0).says(&[
        "  gap         #4 to #5 not seen; then the state at #6, lsn 0/1060\n",
        "1 gap",
    ]);
    let verdicts = |at: &str| {
        let ran = place.check(&["s", "--at", at]);
        let verdict = |id: &str| ran.rule(id)["verdict"].as_str().map(str::to_owned);
        let [empty, rewritten] = ["empty-a", "rewritten"].map(verdict);
        (
            ran.code,
            empty.unwrap_or_default(),
            rewritten.unwrap_or_default(),
        )
    };
    let said = |code: i32, a: &str, b: &str| (code, a.to_owned(), b.to_owned());
    assert_eq!(verdicts("#2").1, "held");
    assert_eq!(verdicts("#4"), said(4, "unknown", "unknown"));
    assert_eq!(verdicts("#5"), said(4, "unknown", "unknown"));
    assert_eq!(
        verdicts("2026-03-12T16:05:30Z"),
        said(4, "unknown", "unknown")
    );
    assert_eq!(verdicts("#6"), said(1, "violated", "unknown"));
    assert_eq!(verdicts("#8"), said(1, "violated", "unknown"));
    let ran = place.run(&["bisect", "s", "--format", "json"]).exits(1);
    let rule = ran.rule("empty-a");
    assert_eq!(rule["certainty"], "bounded");
    assert_eq!(
        [&rule["last_good"]["commit"], &rule["first_bad"]["commit"]],
        [&json!(3), &json!(6)]
    );
    assert_eq!(ran.rule("rewritten")["verdict"], "unknown");
    place
        .run(&["sql", "s", "select * from t", "--at", "#5"])
        .exits(4)
        .warns(&["commits #4 to #5 were not seen"]);
    for at in ["#4", "0/1045", "2026-03-12T16:04:00Z", "-4m", "-150s"] {
        let at = format!("--at={at}");
        let only = ["--rule", "empty-a", &at];
        place.run(&[&["check", "s"], &only[..]].concat()).exits(4);
        place.run(&["sql", "s", "select * from t", &at]).exits(4);
        place.run(&["bisect", "s", &at]).exits(4);
    }
    place.run(&["diff", "s", "#2", "#4"]).exits(4);
    place
        .run(&["snapshot", "s", "--store", "other", "--at", "#5"])
        .exits(4)
        .warns(&["commits #4 to #5 were not seen"]);
    no_difference(&place, "h", "s");
    intact(&place, "s");
    // What was seen later does not close it, and it is taken along.
    assert_eq!(record(&place, "h", "s")["commits"], 0);
    record(&place, "s", "copy");
    assert_eq!(
        status(&place, "copy")["covered"],
        status(&place, "s")["covered"]
    );
    same(&place, ("s", "copy"), "bisect", &[]);
}

#[test]
fn a_source_that_begins_later_is_no_continuation() {
    let place = place();
    begin(&place, "young");
    grow(&place, "young", 1..=3);
    record(&place, "young", "s");
    let ran = place.run(&["snapshot", "h", "--store", "late", "--at", "#6"]);
    ran.exits(0);
    record(&place, "h", "late");
    place.run(&["record", "late", "--store", "s"]).refused(&[
        "the store ends at #3, the source begins at #6",
        "`firstbad snapshot` takes its state over and records the gap",
    ]);
}

#[test]
fn small_segments_become_one() {
    let place = Place::new().with("rules/t.yaml", RULES).with(
        "firstbad.yaml",
        "source: h\nstore: s\nsegments: {max_changes: 100}\n",
    );
    begin(&place, "h");
    let mut merged = 0;
    for commit in 1..=8 {
        grow(&place, "h", commit..=commit);
        let ran = place.run(&["record", "--format", "json"]).exits(0);
        merged += ran.json()["merged"].as_u64().expect("a number");
    }
    assert_eq!(merged, 7);
    let found = status(&place, "s");
    assert_eq!(found["segments"]["count"], 1);
    assert_eq!(found["segments"]["changes"], 9);
    assert_eq!(
        found["covered"],
        json!([{"from": 1, "to": 8, "seen": true, "lsn_from": "0/1010", "lsn_to": "0/1080"}])
    );
    same(&place, ("h", "s"), "bisect", &[]);
    same(
        &place,
        ("h", "s"),
        "sql",
        &["select * from firstbad.transactions order by commit"],
    );
    intact(&place, "s");
    record(&place, "h", "s");
}

/// A store in `s` that makes a segment of every second change and a snapshot of every third.
fn often(retention: &str) -> Place {
    let place = place();
    let config = format!(
        "source: h\nstore: s\nsegments: {{max_changes: 2}}\nsnapshots: {{every_changes: 3}}\n{retention}"
    );
    place.write("firstbad.yaml", config);
    place
}

#[test]
fn settings_say_when_segments_and_snapshots_are_made() {
    let place = often("");
    place
        .run(&["record"])
        .exits(0)
        .says(&["9 changes in 5 segments"]);
    let found = status(&place, "s");
    assert_eq!(found["snapshots"]["at"], json!([0, 4, 6]));
    same(&place, ("h", "s"), "bisect", &[]);
    assert_eq!(intact(&place, "s")["snapshots"], 3);
}

#[test]
fn positions_mean_the_same_however_little_is_read() {
    let place = often("");
    record(&place, "h", "s");
    let mut positions: Vec<String> = (0..=8).map(|commit| format!("#{commit}")).collect();
    for commit in 1..=8 {
        positions.push(format!("-{commit}m"));
        positions.push(format!("-{}s", 60 * commit - 30));
        for second in ["00", "30"] {
            positions.push(format!("2026-03-12T16:{commit:02}:{second}Z"));
        }
        for digit in ["0", "8"] {
            positions.push(format!("0/10{commit}{digit}"));
        }
    }
    for at in positions {
        let at = format!("--at={at}");
        same(&place, ("h", "s"), "check", &["--rule", "empty-a", &at]);
        same(
            &place,
            ("h", "s"),
            "sql",
            &["select * from t order by id", &at],
        );
        let query = [
            "select count(*) as n from t",
            &at,
            "--now=2026-03-12T16:07:30Z",
        ];
        same(&place, ("h", "s"), "sql", &query);
    }
}

#[test]
fn retention_drops_what_is_too_old_or_too_much() {
    for retention in ["retention: {age: 1h}\n", "retention: {size: 1}\n"] {
        let place = often(retention);
        let ran = place.run(&["record"]).exits(0);
        ran.says(&[
            "  retention: the store begins at #6 now; dropped 4 segments and 2 snapshots (",
        ]);
        let found = status(&place, "s");
        assert_eq!(
            [&found["first"], &found["at"], &found["snapshots"]["at"]],
            [&json!(6), &json!(8), &json!([6])]
        );
        for at in ["#0", "#5", "2026-03-12T16:05:30Z"] {
            place
                .run(&["check", "s", "--at", at])
                .refused(&["lies before the first state that is known: the history begins at #6"]);
        }
        for at in ["#6", "#7", "latest"] {
            let rule = ["--rule", "empty-a", "--at", at];
            same(&place, ("h", "s"), "check", &rule);
        }
        no_difference(&place, "h", "s");
        intact(&place, "s");
        // It goes on as before, and nothing more goes without a later snapshot.
        let again = record(&place, "h", "s");
        assert_eq!(
            [&again["commits"], &again["dropped"]],
            [&json!(0), &Value::Null]
        );
        // What was bad already where the history begins is blamed on nobody.
        let ran = place.run(&["bisect", "s", "--rule", "empty-a", "--format", "json"]);
        let rule = ran.rule("empty-a");
        assert_eq!(
            [&rule["first_bad"], &rule["pre_existing"]],
            [&Value::Null, &json!(1)]
        );
    }
}

#[test]
fn nothing_is_dropped_without_a_later_snapshot() {
    let place = place();
    let config = "source: h\nstore: s\nretention: {age: 1s, size: 1}\n";
    place.write("firstbad.yaml", config);
    let recorded = record(&place, "h", "s");
    assert_eq!(recorded["dropped"], Value::Null);
    assert_eq!(status(&place, "s")["first"], 0);
    let made = place
        .run(&["snapshot", "--at", "#5", "--format", "json"])
        .exits(0)
        .json();
    assert_eq!(made["dropped"]["first"], 5);
    assert_eq!(made["dropped"]["snapshots"], 1);
    // A segment of which some is needed stays.
    assert_eq!(made["dropped"]["segments"], 0);
    no_difference(&place, "h", "s");
    same(
        &place,
        ("h", "s"),
        "sql",
        &["select * from t order by id", "--at=#6"],
    );
    intact(&place, "s");
}

/// A process that is ended when the test is over, and what it prints.
struct Following {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Following {
    fn start(place: &Place, arguments: &[&str]) -> Following {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firstbad"));
        command.current_dir(place.path(".")).args(arguments);
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        let out = child.stdout.take().expect("stdout is piped");
        Following {
            child,
            lines: BufReader::new(out).lines(),
        }
    }

    /// The next document of its output.
    fn next(&mut self) -> Value {
        let line = self.lines.next().expect("the program runs");
        serde_json::from_str(&line.expect("stdout is UTF-8")).expect("a document a line")
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_recording_follows_its_source() {
    let place = Place::new();
    begin(&place, "h");
    grow(&place, "h", 1..=3);
    let mut following = Following::start(
        &place,
        &[
            "record", "h", "--store", "s", "--follow", "--every", "50ms", "--format", "json",
        ],
    );
    assert_eq!(following.next()["at"], 3);
    grow(&place, "h", 4..=6);
    // The files come one by one, and a look may fall between two.
    let mut at = 3;
    while at < 6 {
        at = following.next()["at"].as_u64().expect("a number");
    }
    // Half a line is no reason to end.
    let whole = line(7);
    let (half, rest) = whole.split_at(40);
    place.write("h/changes/0007.ndjson", half);
    place.write("h/changes/0007.ndjson", format!("{half}{rest}"));
    assert_eq!(following.next()["at"], 7);
    drop(following);
    assert_eq!(record(&place, "h", "s")["commits"], 0);
    no_difference(&place, "h", "s");
    intact(&place, "s");
    let ran = place.run(&["record", "h", "--store", "s", "--every", "1s"]);
    ran.exits(2).warns(&["--follow"]);
}

const STREAM_RULES: &str = "rules:
  - {id: unpaid, table: orders, where: \"status = 'paid'\", has: {table: line, match: {order_id: id}}}
  - {id: no-note, table: orders, not_null: [note]}
  - {id: jumps, table: orders, transitions: {column: status, allowed: {new: [paid], paid: [sent]}}}
  - {id: kept, table: line, append_only: true}
";

#[test]
fn every_form_of_a_history_comes_back() {
    for seed in FIRST_SEED..FIRST_SEED + 6 {
        let world = World::new(seed);
        for form in [Form::Native].into_iter().chain(FORMS) {
            let what = format!("seed {seed}, {form:?}");
            let place = written(&world, form);
            record(&place, "d", "s");
            intact(&place, "s");
            let [made, kept] = ["d", "s"].map(|source| {
                let path = place.path(source).display().to_string();
                shown(&source::open(&[path]).expect("it can be read").history)
            });
            let differs = made.iter().zip(&kept).find(|(a, b)| a != b);
            assert!(made == kept, "{what}: {differs:#?}");
            if seed > FIRST_SEED + 1 {
                continue;
            }
            place.write("rules/r.yaml", STREAM_RULES);
            for at in ["#0", "#3", "latest"] {
                same(
                    &place,
                    ("d", "s"),
                    "check",
                    &["--at", at, "--sample", "all"],
                );
            }
            same(&place, ("d", "s"), "bisect", &[]);
            let ran = place.run(&["diff", "d", "s", "--format", "json"]);
            assert_eq!(ran.exits(0).json()["summary"]["differ"], 0, "{what}");
        }
    }
}
