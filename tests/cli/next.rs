//! The commands that a report tells to run next: they repeat what was given, and mean the same in a shell.

use std::process::Command;

use crate::place::{Place, Ran};

const SCHEMA: &str = "create table orders (id bigint primary key, total numeric, at timestamptz);\n\
    create table shipments (order_id bigint primary key);\n";
const CHANGES: &str = r#"{"commit": 1, "time": "2026-03-12T10:00:00Z", "changes": [{"table": "orders", "op": "insert", "after": {"id": 1, "total": "5", "at": "2026-03-12T10:00:00Z"}}]}
{"commit": 2, "time": "2026-03-12T10:01:00Z", "changes": [{"table": "orders", "op": "insert", "after": {"id": 2, "total": null, "at": null}}]}
{"commit": 3, "time": "2026-03-12T10:02:00Z", "changes": [{"table": "orders", "op": "insert", "after": {"id": 3, "total": null, "at": null}}]}
{"commit": 4, "time": "2026-03-12T10:03:00Z", "changes": [{"table": "orders", "op": "insert", "after": {"id": 4, "total": "7", "at": null}}]}
"#;
const RULES: &str = "table: orders\nrules:\n  - {id: no-total, not_null: [total]}\n  \
    - {id: late, has: {table: shipments, match: {order_id: id}}, within: 1h}\n";

/// The commands of a text report.
fn commands(ran: &Ran) -> Vec<String> {
    let lines = ran.out.lines();
    let found = lines.filter_map(|line| line.trim_start().strip_prefix("→ firstbad "));
    found.map(str::to_owned).collect()
}

/// Runs a command as a shell reads it.
fn paste(place: &Place, command: &str) -> Ran {
    let script = format!("{} {command}", env!("CARGO_BIN_EXE_firstbad"));
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(place.path("."))
        .output()
        .expect("bash runs: install it");
    Ran {
        code: output.status.code().expect("the program was not killed"),
        out: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
        err: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
    }
}

fn place(source: &str, rules: &str) -> Place {
    Place::new()
        .with(&format!("{source}/schema.sql"), SCHEMA)
        .with(&format!("{source}/changes/1.ndjson"), CHANGES)
        .with(&format!("{source}/snapshot/orders.csv"), "id,total,at\n")
        .with(rules, RULES)
}

#[test]
fn check_repeats_what_was_given() {
    let source = "it's a \"shop\" $HOME";
    let place = place(source, "my rules/r;1.yaml");
    let given = [
        "check",
        source,
        "--rules",
        "my rules",
        "--at",
        "#3",
        "--now",
        "2026-03-14T09:00:00Z",
        "--redact",
        "at",
        "--rule-timeout",
        "30s",
        "--memory-limit",
        "1GiB",
        "--sample",
        "1",
    ];
    let report = place.run(&given).exits(1);
    let commands = commands(&report);
    let quoted = r#"'it'\''s a "shop" $HOME'"#;
    let same = "--at '#3' --now 2026-03-14T09:00:00Z --redact at --rule-timeout 30s --memory-limit 1073741824";
    for rule in ["no-total", "late"] {
        let check = format!("check {quoted} --rules 'my rules' --rule {rule} {same} --sample all");
        let bisect = format!("bisect {quoted} --rules 'my rules' --rule {rule} {same}");
        let explain = format!("rules explain {rule} --rules 'my rules/r;1.yaml'");
        for want in [check, bisect, explain] {
            assert!(commands.contains(&want), "{want}\nis not in\n{commands:#?}");
        }
    }
    // All of them can be pasted, and speak of the same.
    for command in &commands {
        let ran = paste(&place, command);
        assert!(ran.code < 2, "{command}: {ran:?}");
        if command.starts_with("check") {
            let (_, rule) = command.split_once("--rule ").expect("a rule");
            let rule = rule.split(' ').next().expect("its id");
            let count = if rule == "late" {
                "3 violations"
            } else {
                "2 violations"
            };
            assert!(ran.out.contains(count), "{command}: {}", ran.out);
        }
    }
}

#[test]
fn check_repeats_the_baseline() {
    let place = place("d", "d/rules/r.yaml");
    let accept = [
        "check",
        "d",
        "--at=#2",
        "--rule",
        "no-total",
        "--baseline",
        "b.json",
    ];
    place
        .run(&[&accept[..], &["--update-baseline"]].concat())
        .warns(&["b.json: 1 violation accepted\n"]);
    let report = ["check", "d", "--rule", "no-total", "--baseline", "b.json"];
    // All that is new is listed: there is nothing more to show.
    let all = place.run(&report).exits(1);
    assert!(!all.out.contains("--sample all"), "{}", all.out);
    let few = place
        .run(&[&report[..], &["--sample", "0"]].concat())
        .exits(1);
    let commands = commands(&few);
    assert_eq!(
        commands[0],
        "check d --rule no-total --baseline b.json --sample all"
    );
    let again = paste(&place, &commands[0]).exits(1);
    assert!(again.out.contains("1 new"), "{}", again.out);
}

#[test]
fn bisect_repeats_what_was_given() {
    let place = place("a b", "r.yaml");
    let given = [
        "bisect",
        "a b",
        "--rules",
        "r.yaml",
        "--now",
        "2026-03-14T09:00:00Z",
        "--redact",
        "at",
    ];
    let report = place.run(&given).exits(1);
    let commands = commands(&report);
    for want in [
        "check 'a b' --rules r.yaml --rule no-total --at '#2' --now 2026-03-14T09:00:00Z --redact at",
        "check 'a b' --rules r.yaml --rule late --at '#1' --now 2026-03-14T09:00:00Z --redact at",
        "diff 'a b' '#1' '#2'",
        "sql 'a b' 'select * from changes.orders where commit = 2'",
    ] {
        assert!(
            commands.iter().any(|command| command == want),
            "{want}\nis not in\n{commands:#?}"
        );
    }
    for command in &commands {
        let ran = paste(&place, command);
        assert!(ran.code < 2, "{command}: {ran:?}");
        if command.starts_with("check") {
            assert_eq!(ran.code, 1, "{command}: {ran:?}");
        }
    }
}

#[test]
fn several_files_are_several_words() {
    let place = Place::new()
        .with("t.csv", "id,a\n1,\n2,\n")
        .with("u v.csv", "id\n1\n")
        .with(
            "r.yaml",
            "table: t\nrules:\n  - {id: bad, key: [id], not_null: [a]}\n",
        );
    let report = place
        .run(&[
            "check", "t.csv", "u v.csv", "--rules", "r.yaml", "--sample", "1",
        ])
        .exits(1);
    let commands = commands(&report);
    assert_eq!(
        commands[0],
        "check t.csv 'u v.csv' --rules r.yaml --rule bad --sample all"
    );
    paste(&place, &commands[0]).exits(1);
}

#[test]
fn one_of_a_thing_is_not_called_many() {
    let place = Place::new().with("t.csv", "id,a\n1,\n").with(
        "r.yaml",
        "table: t\nrules:\n  - {id: bad, key: [id], not_null: [a]}\n",
    );
    let source = ["t.csv", "--rules", "r.yaml"];
    for format in [
        "text", "markdown", "junit", "github", "sarif", "json", "jsonl",
    ] {
        let arguments = [&["check", "--format", format], &source[..]].concat();
        let ran = place.run(&arguments).exits(1);
        for wrong in [
            "1 rows",
            "1 violations",
            "1 rules",
            "1 columns",
            "1 more rules",
        ] {
            let place = ran.out.find(wrong).map(|at| (at, &ran.out[..at]));
            let own =
                place.is_some_and(|(_, before)| !before.ends_with(|c: char| c.is_ascii_digit()));
            assert!(!own, "{format} says `{wrong}`:\n{}", ran.out);
        }
    }
    place
        .run(&["check", "t.csv", "--rules", "r.yaml"])
        .says(&["(judged 1 row,"]);
    place
        .run(&[
            "check", "t.csv", "--rules", "r.yaml", "--format", "markdown",
        ])
        .says(&["Judged 1 row of"]);
    place
        .run(&["rules", "list", "--rules", "r.yaml"])
        .exits(0)
        .says(&["\n1 rule\n"]);
    place
        .run(&["rules", "test", "--rules", "r.yaml"])
        .exits(0)
        .says(&["0 cases of 0 rules: 0 passed, 0 failed; 1 rule has no case\n"]);
}

#[test]
fn keys_stay_whole_where_evidence_is_cut() {
    let wide = |c: &str| c.repeat(44);
    let row = format!(
        "{},{},,{},{},{}\n",
        wide("a"),
        wide("b"),
        wide("c"),
        wide("d"),
        wide("e")
    );
    let place = Place::new()
        .with("t.csv", format!("x,y,z,p,q,r\n{row}"))
        .with("r.yaml", "table: t\nrules:\n  - {id: bad, key: [x, y], expression: {sql: z is not null and p <> q and q <> r}}\n");
    let ran = place
        .run_with(
            &["check", "t.csv", "--rules", "r.yaml"],
            &[("COLUMNS", "120")],
        )
        .exits(1);
    assert!(
        ran.out.contains(&wide("a")) && ran.out.contains(&wide("b")),
        "{}",
        ran.out
    );
    assert!(
        ran.out.lines().all(|line| line.chars().count() <= 120),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("more column"), "{}", ran.out);
    // Where the keys alone have no room, they are cut as well.
    let narrow = place
        .run_with(
            &["check", "t.csv", "--rules", "r.yaml"],
            &[("COLUMNS", "60")],
        )
        .exits(1);
    assert!(
        narrow.out.contains("aaaaaaaaaaaaaaaaaaaa…"),
        "{}",
        narrow.out
    );
}
