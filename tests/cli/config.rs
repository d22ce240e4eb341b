//! `firstbad.yaml`: what stands in it and what goes before it, its mistakes, and that the values of variables stay unseen.

use serde_json::json;

use crate::place::{Place, Ran};

const RULES: &str = "table: t\nrules:\n  - {id: bad, not_null: [a]}\n";
const SCHEMA: &str = "create table t (id bigint primary key, a text);";
const CHANGE: &str = "{\"commit\": 1, \"time\": \"2026-03-12T16:00:00Z\", \"changes\": [{\"table\": \"t\", \"op\": \"update\", \"key\": {\"id\": 1}, \"after\": {\"a\": null}}]}\n";
/// The value of every variable that nobody may see.
const SECRET: &str = "s3cr3t-hunter2";

/// A history in which row 1 loses its `a` with the first commit, in a directory of any name.
fn history(place: Place, directory: &str) -> Place {
    place
        .with(&format!("{directory}/schema.sql"), SCHEMA)
        .with(&format!("{directory}/snapshot/t.csv"), "id,a\n1,x\n2,y\n")
        .with(&format!("{directory}/changes/1.ndjson"), CHANGE)
        .with(&format!("{directory}/rules/t.yaml"), RULES)
}

/// A directory with a history `d` and a file.
fn place(config: &str) -> Place {
    history(Place::new(), "d").with("firstbad.yaml", config)
}

#[test]
fn the_source_may_be_left_out() {
    let place = place("source: d\n");
    let ran = place.run(&["check"]).exits(1);
    ran.says(&["d, ", "1 violated", "→ firstbad bisect --rule bad\n"]);
    let ran = place.check(&[]).exits(1);
    assert_eq!(ran.json()["source"], "d");
    assert_eq!(ran.keys("bad"), json!([{"id": 1}]));
    place.run(&["bisect"]).exits(1).says(&[
        "first bad write #1",
        "→ firstbad check --rule bad --at '#1'\n",
        "→ firstbad diff '#0' '#1'\n",
        "→ firstbad sql 'select * from changes.t where commit = 1'\n",
    ]);
    let query = ["sql", "select id, a from t order by id", "--format", "csv"];
    assert_eq!(place.run(&query).exits(0).out, "id,a\n1,\n2,y\n");
    let query = ["sql", "--format", "csv", "select count(*) as n from t"];
    assert_eq!(place.run(&query).exits(0).out, "n\n2\n");
    place.run(&["diff", "#0", "#1"]).exits(0).says(&["x → "]);
    place.run(&["diff", "--", "-10m", "latest"]).exits(0);
    place
        .run(&["bisect", "--run", "! grep -q '^1,$' $FIRSTBAD_STATE/t.csv"])
        .exits(1)
        .says(&["#1"]);
}

#[test]
fn what_is_given_goes_before_the_file() {
    let place = place("source: nowhere\nrules: none\n");
    let rules = ["--rules", "d/rules"];
    place.run(&[&["check", "d"], &rules[..]].concat()).exits(1);
    place.run(&[&["bisect", "d"], &rules[..]].concat()).exits(1);
    let query = ["sql", "d", "select 1 as one", "--format", "csv"];
    assert_eq!(place.run(&query).exits(0).out, "one\n1\n");
    place.run(&["diff", "d", "#0", "#1"]).exits(0);
    // Both are there: two sources, whatever the file says.
    place.run(&["diff", "d", "d"]).exits(0);
    place
        .run(&["diff", "d", "#1"])
        .refused(&["there is no source `#1`"]);
}

#[test]
fn rules_are_taken_from_the_flag_the_file_the_source_and_here() {
    let rule = |id: &str| format!("table: t\nrules:\n  - {{id: {id}, not_null: [a]}}\n");
    let place = place("source: d\nrules: [kept/one.yaml, kept/two.yaml]\n")
        .with("kept/one.yaml", rule("one"))
        .with("kept/two.yaml", rule("two"))
        .with("flag/flag.yaml", rule("flag"))
        .with("rules/here.yaml", rule("here"));
    let ids = |ran: &Ran| -> Vec<String> {
        let rules = ran.json()["rules"].as_array().expect("rules").clone();
        let id = |rule: &serde_json::Value| rule["id"].as_str().unwrap_or_default().to_owned();
        rules.iter().map(id).collect()
    };
    assert_eq!(ids(&place.check(&[]).exits(1)), ["one", "two"]);
    assert_eq!(ids(&place.check(&["--rules", "flag"]).exits(1)), ["flag"]);
    let list = ["rules", "list", "--format", "json"];
    assert_eq!(ids(&place.run(&list).exits(0)), ["one", "two"]);
    place
        .run(&["rules", "lint"])
        .exits(0)
        .says(&["2 rules are well formed\n"]);
    place
        .run(&["rules", "explain", "two"])
        .exits(0)
        .says(&["two"]);
    place.write("firstbad.yaml", "source: d\n");
    assert_eq!(ids(&place.check(&[]).exits(1)), ["bad"]);
    assert_eq!(ids(&place.run(&list).exits(0)), ["bad"]);
    std::fs::remove_dir_all(place.path("d/rules")).expect("a directory can be removed");
    assert_eq!(ids(&place.check(&[]).exits(1)), ["here"]);
    // The schema of the source is what names are checked against.
    let wrong = "table: t\nrules:\n  - {id: wrong, not_null: [b]}\n";
    place.write("rules/here.yaml", wrong);
    place
        .run(&["rules", "lint"])
        .refused(&["rules/here.yaml:3:", "column `b`"]);
}

#[test]
fn limits_are_taken_from_the_flag_and_the_file() {
    let endless =
        "with recursive r as (select 1 as n union all select n + 1 from r) select count(*) from r";
    let sorted = "select id from t order by a, id";
    let place = place("source: d\nlimits: {rule_timeout: 200ms}\n");
    let ran = place.run(&["sql", endless]).exits(4);
    ran.warns(&["it took longer than 0.2 s"]);
    let ran = place.run(&["sql", endless, "--rule-timeout", "300ms"]);
    ran.exits(4).warns(&["it took longer than 0.3 s"]);
    place.write("firstbad.yaml", "source: d\nlimits: {memory: 1}\n");
    place.run(&["sql", sorted]).exits(4).warns(&["memory"]);
    let flags = ["--memory-limit", "1GiB", "--rule-timeout", "50s"];
    place.run(&[&["sql", sorted], &flags[..]].concat()).exits(0);
    // What differs from the file is repeated in commands to run next.
    let ran = place.run(&[&["check"], &flags[..]].concat()).exits(1);
    ran.says(&["firstbad bisect --rule bad --rule-timeout 50s --memory-limit 1073741824\n"]);
    let same = "source: d\nlimits: {rule_timeout: 50s, memory: 1GiB}\n";
    place.write("firstbad.yaml", same);
    let ran = place.run(&["check", "--rule-timeout", "50s"]).exits(1);
    ran.says(&["firstbad bisect --rule bad\n"]);
}

#[test]
fn another_file_is_named_with_config() {
    let place = history(Place::new(), "conf/d")
        .with("conf/prod.yaml", "source: d\nlimits: {memory: 1GiB}\n")
        .with("firstbad.yaml", "broken: true\n");
    for arguments in [
        ["check", "--config", "conf/prod.yaml"],
        ["--config", "conf/prod.yaml", "check"],
    ] {
        place.run(&arguments).exits(1).says(&[
            "conf/d",
            "→ firstbad bisect --config conf/prod.yaml --rule bad\n",
        ]);
    }
    place
        .run(&["check", "--config", "none.yaml"])
        .refused(&["there is no file `none.yaml`"]);
    place
        .run(&["check", "--config", "conf"])
        .refused(&["this is no regular file", "--> conf"]);
    // Directories above are not searched.
    std::fs::remove_file(place.path("firstbad.yaml")).expect("a file can be removed");
    place.write("firstbad.yml", "source: conf/d\n");
    place
        .run(&["check"])
        .refused(&["firstbad.yml is not read", "no source was named"]);
}

#[test]
fn without_a_source_both_ways_are_named() {
    let place = history(Place::new(), "d");
    let commands: [&[&str]; 3] = [&["check"], &["bisect"], &["sql", "select 1"]];
    for arguments in commands {
        place.run(arguments).refused(&[
            "error: no source was named",
            "name SOURCE on the command line, or write `source: PATH` into firstbad.yaml",
        ]);
    }
    place.write("firstbad.yaml", "store: kept\n");
    for arguments in commands {
        place.run(arguments).refused(&["no source was named"]);
    }
    place.run(&["sql"]).exits(2).warns(&["<QUERY>"]);
    place
        .run(&["sql", "d"])
        .refused(&["`d` is a source: the query is missing"]);
    place.run(&["diff", "#0", "#1"]).exits(2);
    place.run(&["diff", "d"]).exits(2);
}

#[test]
fn a_source_that_is_not_there_is_shown_in_the_file() {
    let place = place("# ours\nsource: [d, gone]\n");
    for arguments in [
        &["check"][..],
        &["bisect"],
        &["sql", "select 1"],
        &["diff", "#0", "#1"],
    ] {
        place.run(arguments).refused(&[
            "there is no `gone`",
            "firstbad.yaml:2:13",
            "2 | source: [d, gone]",
            "relative to the directory of this file",
        ]);
    }
    place.write("firstbad.yaml", "source: firstbad.yaml\n");
    place
        .run(&["check"])
        .refused(&["`firstbad.yaml` is no data file", "firstbad.yaml:1:9"]);
    place.write("firstbad.yaml", "source: d\nrules: gone\n");
    place
        .run(&["check"])
        .refused(&["there is no `gone`", "firstbad.yaml:2:8"]);
}

#[test]
fn a_broken_file_stops_every_command_that_would_read_it() {
    let place = place("sorce: d\nretention: {age: soon}\n");
    let commands: [&[&str]; 8] = [
        &["check", "d"],
        &["bisect", "d"],
        &["sql", "d", "select 1"],
        &["diff", "d", "#0", "#1"],
        &["rules", "lint", "--rules", "d/rules"],
        &["rules", "list", "--rules", "d/rules"],
        &["rules", "test", "--rules", "d/rules"],
        &["rules", "explain", "--rules", "d/rules"],
    ];
    for arguments in commands {
        place.run(arguments).refused(&[
            "there is no key `sorce`",
            "firstbad.yaml:1:1",
            "did you mean `source`?",
            "a duration is expected here, found `soon`",
            "firstbad.yaml:2:18",
            "2 errors",
        ]);
    }
    place.run(&["--help"]).exits(0);
}

#[test]
fn variables_of_the_environment_are_replaced() {
    let place = place("source: ${ROOT:-d}\nlimits: {memory: \"${MEMORY:-1GiB}\"}\n");
    place.run(&["check"]).exits(1);
    place
        .run_with(&["check"], &[("ROOT", "elsewhere")])
        .refused(&["there is no `${ROOT}`", "firstbad.yaml:1:9"]);
    place.write("firstbad.yaml", "source: x/${FIRSTBAD_TEST_UNSET}\n");
    place.run(&["check"]).refused(&[
        "the environment has no variable `FIRSTBAD_TEST_UNSET`",
        "firstbad.yaml:1:11",
        "write `${FIRSTBAD_TEST_UNSET:-default}`",
    ]);
}

#[test]
fn bombs_are_refused() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let uses = vec![format!("*a{}", level - 1); 10].join(", ");
        laughs.push_str(&format!("a{level}: &a{level} [{uses}]\n"));
    }
    for (bomb, says) in [
        (laughs, "more than 100000 values"),
        (format!("source: {}", "[".repeat(30_000)), "firstbad.yaml"),
        ("x".repeat(70_000), "at most 64 KiB"),
        ("source: \u{0}\n".to_owned(), "control character"),
    ] {
        place(&bomb).run(&["check"]).refused(&[says]);
    }
    let place = history(Place::new(), "d").with("firstbad.yaml", [0xff, 0xfe, b'a']);
    place.run(&["check"]).refused(&["not UTF-8"]);
}

/// Runs that go wrong in every way that may name a path, a text or a number of the file: none shows the value of a variable.
#[test]
fn a_secret_is_shown_by_no_run() {
    let configs = [
        "source: ${SECRET}\n",
        "source: ${SECRET}.csv\n",
        "source: [d, '${SECRET}/t.csv']\n",
        "source: postgres://u:${SECRET}@localhost/db\n",
        "source: d\nrules: ${SECRET}\n",
        "source: d\nrules: data/${SECRET}/rules\n",
        "source: data/${SECRET}\n",
        "source: data/${SECRET}/t.csv\nrules: d/rules\n",
        "source: data/${SECRET}\nrules: data/${SECRET}/wrong.yaml\n",
        "source: broken/${SECRET}\nrules: d/rules\n",
        "source: d\nretention: {age: '${SECRET}'}\n",
        "source: d\nretention: {size: '1${SECRET}'}\n",
        "source: d\nlimits: {memory: '${SECRET}', rule_timeout: '5${SECRET}'}\n",
        "source: d\nsegments: {max_changes: '${SECRET}'}\nsauce: '${SECRET}'\n",
        "source: '${SECRET}${NONE}'\nstore: ${SECRET}x\n",
    ];
    let root = history(Place::new(), "d").with("broken/none", "");
    let root = history(root, &format!("data/{SECRET}"))
        .with(&format!("data/{SECRET}/t.csv"), "id,a\n1,x\n1,\n")
        .with(
            &format!("data/{SECRET}/wrong.yaml"),
            "table: t\nrules:\n  - {id: bad, not_null: [nope]}\n  - {nothing: 1}\n",
        )
        .with(&format!("broken/{SECRET}/schema.sql"), "create tabel t;")
        .with(&format!("broken/{SECRET}/snapshot/t.csv"), "id,a\n1\n")
        .with(
            &format!("broken/{SECRET}/changes/1.ndjson"),
            "{\"commit\": \n",
        );
    let commands: [&[&str]; 9] = [
        &["check"],
        &["check", "-vv"],
        &["check", "--format", "sarif"],
        &["bisect"],
        &["sql", "select nope from t"],
        &["diff", "#0", "#7"],
        &["rules", "lint"],
        &["rules", "test"],
        &["rules", "explain", "-v"],
    ];
    for config in configs {
        root.write("firstbad.yaml", config);
        for arguments in commands {
            let ran = root.run_with(arguments, &[("SECRET", SECRET)]);
            let all = format!("{}{}", ran.out, ran.err);
            assert!(!all.contains(SECRET), "{config}{arguments:?}\n{all}");
            assert!(
                !all.is_empty() && !all.contains("panicked"),
                "{config}{arguments:?}\n{all}"
            );
        }
    }
}
