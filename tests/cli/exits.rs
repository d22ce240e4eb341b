//! Exit codes 0, 1, 2, 3 and 4 (CONTRACT section 1).

use crate::place::Place;

/// A table with a NULL in row 2.
fn table(rules: &str) -> Place {
    Place::new()
        .with(
            "d/schema.sql",
            "create table t (id bigint primary key, a text, b text);",
        )
        .with("d/snapshot/t.csv", "id,a,b\n1,x,x\n2,,y\n")
        .with("d/rules/t.yaml", format!("table: t\nrules:\n{rules}"))
}

const HELD: &str = "  - {id: held, not_null: [b]}\n";
const VIOLATED: &str = "  - {id: bad, not_null: [a]}\n";
const UNKNOWN: &str = "  - {id: unjudged, append_only: true}\n";

fn bad_with(severity: &str) -> String {
    format!("  - {{id: bad, severity: {severity}, not_null: [a]}}\n")
}

#[test]
fn held_is_0() {
    table(HELD).run(&["check", "d"]).exits(0).says(&["1 rule"]);
}

#[test]
fn violated_is_1() {
    table(&[HELD, VIOLATED].concat())
        .run(&["check", "d"])
        .exits(1)
        .says(&["bad", "1 violated"]);
}

#[test]
fn fail_on_moves_the_line() {
    let severities = ["info", "warn", "error", "critical"];
    for (have, severity) in severities.iter().enumerate() {
        let place = table(&bad_with(severity));
        place.run(&["check", "d"]).exits(i32::from(have >= 2));
        for (line, fail_on) in severities.iter().enumerate() {
            let ran = place
                .run(&["check", "d", "--fail-on", fail_on])
                .exits(i32::from(have >= line));
            ran.says(&["1 violated"]);
        }
    }
}

#[test]
fn unknown_is_4() {
    let ran = table(&[HELD, UNKNOWN].concat()).check(&["d"]).exits(4);
    let rule = ran.rule("unjudged");
    assert_eq!(rule["verdict"], "unknown");
    assert!(
        rule["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("changes")),
        "{rule:#}"
    );
    assert!(
        rule["violations"].is_null() && rule["judged"].is_null() && rule["new"].is_null(),
        "{rule:#}"
    );
    assert_eq!(
        ran.json()["summary"],
        serde_json::json!({"held": 1, "violated": 0, "unknown": 1})
    );
}

#[test]
fn violated_beats_unknown() {
    table(&[UNKNOWN, VIOLATED].concat())
        .run(&["check", "d"])
        .exits(1);
}

#[test]
fn a_violation_below_the_line_leaves_unknown_alone() {
    table(&format!("{UNKNOWN}{}", bad_with("warn")))
        .run(&["check", "d"])
        .exits(4);
}

#[test]
fn wrong_arguments_are_2() {
    let place = table(VIOLATED);
    let wrong: [(&[&str], &str); 17] = [
        (&["check", "d", "--sampel", "3"], "--sample"),
        (&["check"], "SOURCE"),
        (&["chekc", "d"], "check"),
        (&["check", "d", "--fail-on", "fatal"], "critical"),
        (&["check", "d", "--format", "xml"], "junit"),
        (&["check", "d", "--sample", "some"], "all"),
        (&["check", "d", "--now", "soon"], "RFC 3339"),
        (&["check", "d", "--rule-timeout", "0s"], "judges nothing"),
        (&["check", "d", "--memory-limit", "much"], "512MiB"),
        (&["check", "d", "--update-baseline"], "--baseline"),
        (&["check", "d", "--rule", "bda"], "did you mean `bad`?"),
        (&["check", "nowhere"], "there is no `nowhere`"),
        (&["check", "d", "--rules", "nowhere.yaml"], "nowhere.yaml"),
        (
            &["check", "d", "--baseline", "nowhere.json"],
            "nowhere.json",
        ),
        (&["check", "d", "d/schema.sql"], "directory among files"),
        (&["check", "d/schema.sql"], "no data file"),
        (&["check", "postgres://localhost/shop?sslmod=x"], "sslmode"),
    ];
    for (arguments, text) in wrong {
        place.run(arguments).refused(&[text]);
    }
}

#[test]
fn no_argument_at_all_shows_help_and_is_2() {
    Place::new().run(&[]).refused(&["Usage: firstbad", "check"]);
}

#[test]
fn help_and_version_are_0() {
    Place::new()
        .run(&["--help"])
        .exits(0)
        .says(&["check", "rules"]);
    Place::new()
        .run(&["check", "--help"])
        .exits(0)
        .says(&["--at", "--fail-on", "--baseline"]);
    Place::new()
        .run(&["--version"])
        .exits(0)
        .says(&["firstbad "]);
}

#[test]
fn commands_that_do_not_exist_yet_are_refused() {
    for command in ["drill", "serve"] {
        table(HELD).run(&[command, "d"]).refused(&[command]);
    }
}

#[test]
fn malformed_files_are_2() {
    let files = [
        (
            "d/rules/t.yaml",
            "rules:\n  - not_null [a]\n",
            "d/rules/t.yaml",
        ),
        ("d/rules/t.yaml", "rules: [", "d/rules/t.yaml"),
        (
            "d/rules/t.yaml",
            "table: t\nrules:\n  - not_null: [c]\n",
            "`c`",
        ),
        (
            "d/rules/t.yaml",
            "table: tt\nrules:\n  - not_null: [a]\n",
            "`tt`",
        ),
        (
            "d/rules/t.yaml",
            "table: t\nrules:\n  - expression: a ==== b\n",
            "d/rules/t.yaml:3",
        ),
        (
            "d/schema.sql",
            "create table t (id bigint primary key,, a text);",
            "d/schema.sql",
        ),
        (
            "d/schema.sql",
            "create table t (id bigint primary key, a text",
            "d/schema.sql",
        ),
        (
            "d/snapshot/t.csv",
            "id,a,b\none,x,y\n",
            "d/snapshot/t.csv:2",
        ),
        ("d/snapshot/t.csv", "id,a,b\n1,x\n", "d/snapshot/t.csv:2"),
        ("d/snapshot/t.csv", "id,a,b\n1,\"x,y\n", "d/snapshot/t.csv"),
        ("d/snapshot/u.csv", "id\n1\n", "d/snapshot/u.csv"),
        (
            "d/changes/1.ndjson",
            "{\"commit\": 1, \"changes\": [\n",
            "d/changes/1.ndjson:1",
        ),
    ];
    for (path, content, text) in files {
        table(VIOLATED)
            .with(path, content)
            .run(&["check", "d"])
            .refused(&[text, "nothing was judged"]);
    }
}

#[test]
fn a_report_that_cannot_be_written_is_3() {
    let ran = table(HELD)
        .run(&["check", "d", "--output", "no/such/directory/report.txt"])
        .exits(3);
    assert_eq!(ran.out, "");
    ran.warns(&["no/such/directory/report.txt"]);
}

#[test]
fn output_goes_to_a_file_when_asked() {
    let place = table(VIOLATED);
    let ran = place
        .run(&["check", "d", "--format", "json", "--output", "report.json"])
        .exits(1);
    assert_eq!(ran.out, "");
    let document: serde_json::Value =
        serde_json::from_str(&place.read("report.json")).expect("JSON");
    assert_eq!(document["schema"], "firstbad/check@1");
}

#[test]
fn a_rule_over_its_limit_is_unknown_and_the_others_are_judged() {
    let rows: String = (1..=400).map(|id| format!("{id},x,y\n")).collect();
    let place = table("")
        .with("d/snapshot/t.csv", format!("id,a,b\n{rows}"))
        .with(
            "d/rules/t.yaml",
            "table: t\nrules:\n  - {id: endless, key: [n], sql: 'select sum(v.id * w.id * x.id * y.id) as n from t v, t w, t x, t y'}\n  \
             - {id: held, not_null: [b]}\n",
        );
    let ran = place.check(&["d", "--rule-timeout", "1s"]).exits(4);
    assert_eq!(ran.rule("endless")["verdict"], "unknown");
    assert_eq!(ran.rule("held")["verdict"], "held");
}

#[test]
fn a_report_comes_to_be_whole_or_not_at_all() {
    let place = table(VIOLATED);
    for command in ["check", "bisect"] {
        place.run(&[command, "d", "-o", "report"]).exits(1);
        assert!(place.read("report").contains("bad"));
        for unwritable in ["nowhere/report", "d", "/dev/full"] {
            let ran = place.run(&[command, "d", "-o", unwritable]).exits(3);
            ran.warns(&[&format!("cannot write {unwritable}: ")]);
        }
    }
    let names = std::fs::read_dir(place.path(".")).expect("a directory");
    assert_eq!(names.count(), 2, "nothing is left over");
}
