//! Stores as sources (docs/store.md): what was recorded is judged, asked and compared as the history itself is.

use serde_json::{Value, json};

use crate::place::{Place, Ran};
use crate::sql;

const SCHEMA: &str = "create table t (id bigint primary key, a text, n numeric(10,2));
create table log (a text, b integer);";
pub(crate) const RULES: &str = "table: t
rules:
  - {id: empty-a, not_null: [a]}
  - {id: rewritten, immutable: [n]}
  - {id: too-many, row_count: {max: 2}}
";
/// The changes of commits 1 to 8: key changes, a table without a key, a truncate, two violations.
const CHANGES: [&str; 8] = [
    r#"{"table":"t","op":"insert","after":{"id":3,"a":"z","n":"1.50"}}"#,
    r#"{"table":"t","op":"update","key":{"id":1},"before":{"a":"x"},"after":{"a":"xx"}}"#,
    r#"{"table":"log","op":"insert","after":{"a":"n","b":3}}"#,
    r#"{"table":"t","op":"update","key":{"id":2},"after":{"a":null}}"#,
    r#"{"table":"t","op":"update","key":{"id":3},"after":{"id":30}}"#,
    r#"{"table":"log","op":"truncate"},{"table":"log","op":"insert","after":{"a":"m","b":null}}"#,
    r#"{"table":"t","op":"update","key":{"id":1},"after":{"n":"11"}}"#,
    r#"{"table":"t","op":"delete","key":{"id":30}}"#,
];

/// A commit's line, one a minute.
pub(crate) fn line(commit: usize) -> String {
    let changes = CHANGES[commit - 1];
    format!(
        r#"{{"commit":{commit},"lsn":"0/{lsn:X}","xid":{xid},"time":"2026-03-12T16:{commit:02}:00Z","context":{{"version":"v{version}"}},"changes":[{changes}]}}"#,
        lsn = 0x1000 + 16 * commit,
        xid = 100 + commit,
        version = commit / 4,
    ) + "\n"
}

/// Adds the change files of commits to the history in a directory, one a commit.
pub(crate) fn grow(place: &Place, directory: &str, commits: std::ops::RangeInclusive<usize>) {
    for commit in commits {
        let path = format!("{directory}/changes/{commit:04}.ndjson");
        place.write(&path, line(commit));
    }
}

/// The beginning of the history, without changes.
pub(crate) fn begin(place: &Place, directory: &str) {
    place.write(&format!("{directory}/schema.sql"), SCHEMA);
    place.write(
        &format!("{directory}/snapshot/t.csv"),
        "id,a,n\n1,x,10\n2,y,20\n",
    );
    place.write(&format!("{directory}/snapshot/log.csv"), "a,b\nq,1\nq,1\n");
}

/// A history of eight commits in `h`, and rules in `rules`.
pub(crate) fn place() -> Place {
    let place = Place::new().with("rules/t.yaml", RULES);
    begin(&place, "h");
    grow(&place, "h", 1..=8);
    place
}

/// The JSON document of a command, without the names of sources.
fn nameless(place: &Place, arguments: &[&str]) -> (i32, Value) {
    let ran = place.run(arguments);
    let mut document = ran.json();
    let object = document.as_object_mut().expect("an object");
    object.remove("source");
    (ran.code, document)
}

/// Asserts that a command says the same of two sources.
#[track_caller]
pub(crate) fn same(place: &Place, (a, b): (&str, &str), command: &str, arguments: &[&str]) {
    let run = |source: &str| {
        let all = [&[command, source], arguments, &["--format", "json"]].concat();
        nameless(place, &all)
    };
    assert_eq!(run(a), run(b), "{command} {arguments:?}");
}

/// Asserts that two sources hold the same state, row by row.
#[track_caller]
pub(crate) fn no_difference(place: &Place, a: &str, b: &str) {
    let ran = place.run(&["diff", a, b, "--exit-code"]).exits(0);
    ran.says(&["fingerprint of both: "]);
}

#[track_caller]
pub(crate) fn record(place: &Place, source: &str, store: &str) -> Value {
    let ran = place.run(&["record", source, "--store", store, "--format", "json"]);
    let document = ran.exits(0).json();
    assert_eq!(document["schema"], "firstbad/record@1");
    document
}

#[track_caller]
pub(crate) fn status(place: &Place, store: &str) -> Value {
    let ran = place.run(&["status", store, "--format", "json"]).exits(0);
    ran.json()
}

/// Asserts that everything in a store is right, and proved.
#[track_caller]
pub(crate) fn intact(place: &Place, store: &str) -> Value {
    let ran = place.run(&["verify", store, "--format", "json"]).exits(0);
    let found = ran.json();
    assert_eq!(
        (&found["intact"], &found["proved"], &found["damage"]),
        (&json!(true), &json!(true), &json!([])),
    );
    found
}

#[test]
fn a_store_says_what_its_history_says() {
    let place = place();
    let recorded = record(&place, "h", "s");
    assert_eq!(
        [&recorded["at"], &recorded["commits"], &recorded["changes"]],
        [&json!(8), &json!(8), &json!(9)]
    );
    let both = ("h", "s");
    let positions = [
        "latest",
        "#0",
        "#3",
        "#8",
        "0/1040",
        "0/1045",
        "2026-03-12T16:05:30Z",
        "-90s",
    ];
    for at in positions {
        let at = format!("--at={at}");
        same(&place, both, "check", &[&at]);
        same(&place, both, "sql", &["select * from t order by id", &at]);
        same(&place, both, "bisect", &[&at]);
    }
    same(&place, both, "check", &["--sample", "all"]);
    same(&place, both, "bisect", &["--since", "#5"]);
    let queries = [
        "select * from firstbad.transactions order by commit",
        "select * from changes.t order by commit, ordinal",
        "select * from changes.log order by commit, ordinal, before_a, after_a",
        "select e.id, e.a, t.a from \"#3\".t e join t on t.id = e.id order by e.id",
    ];
    for query in queries {
        same(&place, both, "sql", &[query]);
    }
    no_difference(&place, "h", "s");
    let between = |source: &str| -> Value {
        let ran = place.run(&["diff", source, "#2", "#7", "--format", "json"]);
        ran.exits(0).json()["tables"].clone()
    };
    assert_eq!(between("h"), between("s"));
    intact(&place, "s");
}

#[test]
fn values_of_every_type_come_back() {
    for (what, place) in [("whole", sql::history()), ("partial", sql::partial())] {
        record(&place, "d", "s");
        let tables = ["orders", "stock", "log", "sales.invoices", "later"];
        for table in tables {
            for at in ["#0", "#1", "#2", "#3"] {
                let at = format!("--at={at}");
                // What is not known fails, in both in the same way.
                let query = format!("select * from {table} order by 1, 2");
                let run = |source: &str| {
                    let ran = place.run(&["sql", source, &query, &at, "--format", "json"]);
                    let name = format!("\"source\": \"{source}\"");
                    (ran.code, ran.out.replace(&name, ""), ran.err)
                };
                assert_eq!(run("d"), run("s"), "{what}: {table} {at}");
            }
        }
        let diff = |source: &str| {
            let ran = place.run(&["diff", source, "#0", "#3", "--format", "json"]);
            ran.exits(0).json()["tables"].clone()
        };
        assert_eq!(diff("d"), diff("s"), "{what}");
        let run = place.run(&["diff", "d", "s", "--format", "json"]).exits(0);
        assert_eq!(run.json()["summary"]["differ"], 0, "{what}");
        intact(&place, "s");
    }
}

#[test]
fn what_is_there_is_not_recorded_again() {
    let place = place();
    let first = record(&place, "h", "s");
    let again = record(&place, "h", "s");
    assert_eq!(
        [&again["commits"], &again["segments"], &again["snapshots"]],
        [&json!(0); 3]
    );
    assert_eq!(
        (&again["head"], &again["seals"]),
        (&first["head"], &first["seals"])
    );
    let ran = place.run(&["record", "h", "--store", "s"]).exits(0);
    ran.says(&["nothing new: s ends at #8, as h does\n", "  head "]);
}

#[test]
fn a_history_that_grew_is_recorded_from_where_the_store_ends() {
    let place = Place::new().with("rules/t.yaml", RULES);
    begin(&place, "h");
    record(&place, "h", "s");
    place
        .run(&["record", "h", "--store", "s"])
        .exits(0)
        .says(&["nothing new: s ends at #0"]);
    for (commits, segments) in [(1..=3, 1), (4..=4, 2), (5..=8, 3)] {
        let added = commits.clone().count();
        grow(&place, "h", commits);
        let recorded = record(&place, "h", "s");
        assert_eq!(recorded["commits"], added);
        assert_eq!(status(&place, "s")["segments"]["count"], segments);
        no_difference(&place, "h", "s");
    }
    same(&place, ("h", "s"), "bisect", &[]);
    let covered = status(&place, "s")["covered"].clone();
    assert_eq!(
        covered,
        json!([{"from": 1, "to": 8, "seen": true, "lsn_from": "0/1010", "lsn_to": "0/1080"}])
    );
    intact(&place, "s");
}

fn snapshot(place: &Place, arguments: &[&str]) -> Ran {
    place.run(&[&["snapshot", "h", "--store", "s"], arguments].concat())
}

#[test]
fn a_snapshot_is_made_at_any_position_once() {
    let place = place();
    record(&place, "h", "s");
    for (at, commit) in [
        ("#2", 2),
        ("0/1040", 4),
        ("2026-03-12T16:05:30Z", 5),
        ("-1m", 7),
        ("latest", 8),
    ] {
        let at = format!("--at={at}");
        let made = snapshot(&place, &[&at, "--format", "json"]).exits(0).json();
        assert_eq!(made["schema"], "firstbad/snapshot@1");
        assert_eq!(
            [&made["at"], &made["snapshots"]],
            [&json!(commit), &json!(1)]
        );
        snapshot(&place, &[&at])
            .exits(0)
            .says(&[&format!("nothing new: s has a snapshot of #{commit}\n")]);
    }
    assert_eq!(
        status(&place, "s")["snapshots"]["at"],
        json!([0, 2, 4, 5, 7, 8])
    );
    assert_eq!(intact(&place, "s")["snapshots"], 6);
    same(&place, ("h", "s"), "bisect", &[]);
    snapshot(&place, &["--at", "#9"]).refused(&["there is no commit #9"]);
}

#[test]
fn a_store_may_begin_with_any_position() {
    let place = place();
    let ran = snapshot(&place, &["--at", "#3"]).exits(0);
    ran.says(&["snapshot #3 of h in s: 6 rows\n"]);
    let ran = place.run(&["record", "h", "--store", "s"]).exits(0);
    ran.says(&[
        "recorded h in s: #4 to #8\n",
        "5 commits, 6 changes in 1 segment of ",
    ]);
    no_difference(&place, "h", "s");
    for at in ["#3", "#5", "#8"] {
        same(
            &place,
            ("h", "s"),
            "check",
            &["--rules", "rules", "--at", at, "--rule", "empty-a"],
        );
    }
    place
        .run(&["check", "s", "--at", "#2"])
        .refused(&["`#2` lies before the first state that is known: the history begins at #3"]);
    place
        .run(&["snapshot", "h", "--store", "s", "--at", "#2"])
        .refused(&["the store begins at #3 already"]);
    let bisected = place.run(&["bisect", "s", "--rule", "empty-a", "--format", "json"]);
    let rule = bisected.exits(1).rule("empty-a");
    assert_eq!(rule["first_bad"]["commit"], 4);
    assert_eq!(rule["certainty"], "exact");
    intact(&place, "s");
}

#[test]
fn a_store_is_recorded_in_another() {
    let place = place();
    record(&place, "h", "s");
    snapshot(&place, &["--at", "#4"]).exits(0);
    record(&place, "s", "copy");
    no_difference(&place, "s", "copy");
    same(&place, ("h", "copy"), "bisect", &[]);
    intact(&place, "copy");
}

#[test]
fn stores_are_found_by_default() {
    let place = place();
    let ran = place.run(&["record", "h"]).exits(0);
    ran.says(&["recorded h in .firstbad: #0 to #8\n"]);
    place
        .run(&["verify"])
        .exits(0)
        .says(&["✓ .firstbad is intact"]);
    place
        .run(&["status"])
        .exits(0)
        .says(&[".firstbad\n  source "]);
    place.write("firstbad.yaml", "source: h\nstore: kept\n");
    place
        .run(&["status"])
        .refused(&["there is no store in `kept`"]);
    place
        .run(&["record"])
        .exits(0)
        .says(&["recorded h in kept: #0 to #8"]);
    place
        .run(&["snapshot", "--at", "#2"])
        .exits(0)
        .says(&["snapshot #2 of h in kept"]);
    place.run(&["verify"]).exits(0).says(&["kept is intact"]);
    for (arguments, shown) in [
        (&["status", ".firstbad"][..], ".firstbad\n"),
        (&["status", "--store", ".firstbad"], ".firstbad\n"),
        (&["verify", ".firstbad"], ".firstbad is intact"),
        (&["verify", "--store", ".firstbad"], ".firstbad is intact"),
    ] {
        place.run(arguments).exits(0).says(&[shown]);
    }
    place.run(&["verify", "kept", "--store", "kept"]).exits(2);
    let ran = place.run(&["check", "kept", "--rules", "rules"]).exits(1);
    ran.says(&["→ firstbad bisect kept --rules rules"]);
}

#[test]
fn status_says_what_is_known_and_what_is_not() {
    let place = place();
    record(&place, "h", "s");
    let before = status(&place, "s");
    assert_eq!(before["schema"], "firstbad/status@1");
    assert_eq!(
        [
            &before["source"],
            &before["first"],
            &before["at"],
            &before["verified"]
        ],
        [&json!("h"), &json!(0), &json!(8), &Value::Null]
    );
    assert_eq!(before["last_commit"], "2026-03-12T16:08:00Z");
    let found = intact(&place, "s");
    assert_eq!(found["head"], before["head"]);
    let after = status(&place, "s");
    assert_eq!(after["verified"]["seals_since"], 0);
    assert_eq!(after["verified"]["damage"], 0);
    snapshot(&place, &[]).exits(0);
    assert_eq!(status(&place, "s")["verified"]["seals_since"], 1);
    let ran = place
        .run_with(&["status", "s"], &[("COLUMNS", "60")])
        .exits(0);
    ran.says(&[
        "  positions   #0 to #8\n",
        "  covered     #1 to #8, every commit, lsn 0/1010 to 0/1080\n",
        ": intact; 1 seal since\n",
        "\n  performant  not known: nothing is watched\n",
    ]);
    let questions = after["questions"].as_object().expect("questions");
    assert_eq!(
        questions.keys().collect::<Vec<_>>(),
        ["stable", "performant", "secure", "backed_up"]
    );
    let text = place.run_with(&["status", "s"], &[("COLUMNS", "60")]).out;
    let long = text
        .lines()
        .find(|line| line.chars().count() > 60 && !line.contains(" head "));
    assert_eq!(long, None);
}

/// All keys of a document, of the objects inside of it as well.
fn keys(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                out.push(key.clone());
                keys(value, out);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| keys(value, out)),
        _ => {}
    }
}

#[test]
fn the_page_names_every_key() {
    let place = place();
    place.write(
        "firstbad.yaml",
        "store: s\nretention: {size: 1}\nsnapshots: {every_changes: 4}\n",
    );
    begin(&place, "young");
    grow(&place, "young", 1..=2);
    let mut documents = vec![record(&place, "young", "s")];
    documents.push(
        snapshot(&place, &["--at=#5", "--format=json"])
            .exits(0)
            .json(),
    );
    documents.push(record(&place, "h", "s"));
    documents.push(intact(&place, "s"));
    documents.push(status(&place, "s"));
    place.write("s/stray", "x");
    let damaged = place.run(&["verify", "--format", "json"]).exits(1);
    documents.push(damaged.json());
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/store.md");
    let page = std::fs::read_to_string(page).expect("the page can be read");
    for document in &documents {
        let mut found = Vec::new();
        keys(document, &mut found);
        assert!(found.len() > 10, "{document}");
        for key in found.iter().filter(|key| *key != "schema") {
            let named = [format!("`{key}`"), format!("\"{key}\"")];
            assert!(
                named.iter().any(|named| page.contains(named)),
                "docs/store.md: {key}"
            );
        }
    }
}
