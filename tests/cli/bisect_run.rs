//! `firstbad bisect --run`: any command as the judge.

use serde_json::{Value, json};

use crate::place::{Place, Ran};

/// A history of ten transactions; the balance is the number of the commit.
fn history() -> Place {
    let line = |commit: u32| {
        let change = json!({"table": "accounts", "op": "update", "key": {"id": 1}, "after": {"balance": commit}});
        let time = format!("2026-03-12T10:{commit:02}:00Z");
        let lsn = format!("0/{commit:X}");
        json!({"commit": commit, "lsn": lsn, "time": time, "changes": [change]}).to_string() + "\n"
    };
    Place::new()
        .with(
            "d/schema.sql",
            "create table accounts (id bigint primary key, balance bigint, note text);",
        )
        .with(
            "d/snapshot/accounts.csv",
            "id,balance,note\n1,0,\"\"\n2,0,\n",
        )
        .with("d/changes/1.ndjson", (1..=10).map(line).collect::<String>())
}

fn bisect(place: &Place, command: &str, arguments: &[&str]) -> Ran {
    place.run(
        &[
            &["bisect", "d", "--format", "json", "--run", command],
            arguments,
        ]
        .concat(),
    )
}

#[test]
fn the_first_bad_position_is_found_by_halving() {
    let place = history();
    let ran = bisect(&place, "test $FIRSTBAD_COMMIT -lt 7", &[]).exits(1);
    let found = ran.rule("run");
    assert_eq!(
        (&found["first_bad"]["commit"], &found["last_good"]),
        (&json!(7), &json!({"commit": 6}))
    );
    assert_eq!(found["certainty"], "exact");
    assert_eq!(found["first_bad"]["changes"][0]["after"]["balance"], 7);
    let judged = found["judged_states"].as_u64().expect("a number");
    assert!(judged <= 6, "{judged} runs");
    assert_eq!(ran.json()["command"], "test $FIRSTBAD_COMMIT -lt 7");
    let text = place
        .run(&["bisect", "d", "--run", "test $FIRSTBAD_COMMIT -lt 7"])
        .exits(1);
    text.says(&[
        "run: first bad write #7",
        "passed over: what began and healed between them was not seen",
    ]);
}

#[test]
fn the_command_is_given_the_state() {
    let place = history();
    // From the files: the balance is above four. And everything is where it is said to be.
    let script = "set -e\ncd \"$FIRSTBAD_STATE\"\ntest -s accounts.parquet || kill -9 $$\n\
         test \"$(head -1 accounts.csv)\" = id,balance,note || kill -9 $$\n\
         test \"$(tail -1 accounts.csv)\" = 2,0, || kill -9 $$\n\
         echo \"$PWD $FIRSTBAD_COMMIT $FIRSTBAD_LSN $FIRSTBAD_TIME\" >> \"$SEEN\"\n\
         balance=$(sed -n 's/^1,\\([0-9]*\\),\"\"$/\\1/p' accounts.csv)\n\
         test \"$balance\" = \"$FIRSTBAD_COMMIT\" || kill -9 $$\ntest \"$balance\" -le 4\n";
    place.write("judge.sh", script);
    let seen = place.path("seen").to_string_lossy().into_owned();
    let ran = place
        .run_with(
            &["bisect", "d", "--format", "json", "--run", "sh judge.sh"],
            &[("SEEN", seen.as_str())],
        )
        .exits(1);
    assert_eq!(ran.rule("run")["first_bad"]["commit"], 5);
    let seen = place.read("seen");
    assert!(seen.contains(" 10 0/A 2026-03-12T10:10:00Z\n"), "{seen}");
    assert!(
        seen.contains(" 0  \n"),
        "position 0 has no attributes: {seen}"
    );
    for line in seen.lines() {
        let directory = line.split(' ').next().expect("a directory");
        assert!(
            !std::path::Path::new(directory).exists(),
            "{directory} is still there"
        );
    }
    // What the command writes does not stand in the report.
    let loud = bisect(&place, "echo hello; test $FIRSTBAD_COMMIT -lt 7", &[]).exits(1);
    assert_eq!(loud.json()["schema"], "firstbad/bisect@1");
    assert!(loud.err.contains("hello"));
}

#[test]
fn what_cannot_be_told_is_skipped_and_several_candidates_are_named() {
    let place = history();
    let skip = "case $FIRSTBAD_COMMIT in 5|6) exit 125;; esac; test $FIRSTBAD_COMMIT -lt 9";
    let found = bisect(&place, skip, &[]).exits(1).rule("run");
    assert_eq!(
        (&found["first_bad"]["commit"], &found["certainty"]),
        (&json!(9), &json!("exact"))
    );
    let hidden = "case $FIRSTBAD_COMMIT in 5|6|7) exit 125;; esac; test $FIRSTBAD_COMMIT -lt 6";
    let found = bisect(&place, hidden, &[]).exits(1).rule("run");
    assert_eq!(found["candidates"], json!({"from": 5, "to": 8}));
    assert_eq!(
        (&found["first_bad"]["commit"], &found["last_good"]["commit"]),
        (&json!(8), &json!(4))
    );
    assert_eq!(found["certainty"], "bounded");
    place
        .run(&["bisect", "d", "--run", hidden])
        .exits(1)
        .says(&["it is one of #5 to #8"]);
}

#[test]
fn an_error_is_never_bad() {
    let place = history();
    let fails = |command: &str, texts: &[&str]| {
        let ran = bisect(&place, command, &[]).exits(3).warns(texts);
        assert_eq!(ran.out, "");
    };
    fails(
        "test $FIRSTBAD_COMMIT -ne 10 || kill -9 $$",
        &["at #10", "signal 9"],
    );
    fails(
        "test $FIRSTBAD_COMMIT -ne 10 || exit 128",
        &["at #10", "exited with 128"],
    );
    fails(
        "no-such-command-anywhere",
        &["not found or cannot be executed"],
    );
}

#[test]
fn both_ends_are_verified() {
    let place = history();
    let verdict = |command: &str, arguments: &[&str], code: i32| {
        let found = bisect(&place, command, arguments).exits(code).rule("run");
        (
            found["verdict"].clone(),
            found["certainty"].clone(),
            found["reason"].clone(),
        )
    };
    assert_eq!(
        verdict("exit 1", &[], 1),
        (json!("violated"), json!("pre_existing"), Value::Null)
    );
    assert_eq!(
        verdict("exit 0", &[], 0),
        (json!("held"), Value::Null, Value::Null)
    );
    let reason = |at: u32| json!(format!("the command cannot tell about #{at}"));
    assert_eq!(
        verdict("exit 125", &[], 4),
        (json!("unknown"), Value::Null, reason(0))
    );
    let last = "test $FIRSTBAD_COMMIT -lt 8 || exit 125";
    assert_eq!(
        verdict(last, &["--good", "#3", "--bad", "#8"], 4),
        (json!("unknown"), Value::Null, reason(8))
    );
    // 126 and 127 are answers, once the command has called the good state good.
    let found = bisect(&place, "test $FIRSTBAD_COMMIT -lt 4 || exit 127", &[]).exits(1);
    assert_eq!(found.rule("run")["first_bad"]["commit"], 4);
}

#[test]
fn one_state_is_no_history() {
    let place = Place::new().with("d/accounts.csv", "id\n1\n");
    place
        .run(&["bisect", "d", "--run", "true"])
        .refused(&["one state and no history"]);
}
