//! Row values in reports: they may hold anything, the report must stay what it is.

use serde_json::Value;

use crate::{Ran, Source};

const EVIL: [&str; 12] = [
    "\u{1b}[2J\u{1b}]0;title\u{7}",
    "a\nb\r\nc",
    "a|b|c",
    "]]>",
    "::error file=x::boo",
    "<script>alert(1)</script>",
    "%0A::error::x",
    "`x` **y** [z](http://evil)",
    "\u{202e}gnp.exe",
    "&amp;\"'",
    "\u{85}\u{9b}31m",
    "=cmd|' /C calc'!A0",
];

fn ran(format: &str) -> Ran {
    let source = Source::new();
    source.file(
        "schema.sql",
        "create table orders(id text primary key, status text, note text);",
    );
    let rows: Vec<String> = EVIL
        .iter()
        .map(|evil| serde_json::json!({"id": evil, "status": evil}).to_string())
        .collect();
    source.file("snapshot/orders.ndjson", rows.join("\n"));
    source
        .rule("table: orders\nnot_null: [note]\nwhere: status <> 'x'")
        .check(&["--format", format, "--sample", "all"])
}

#[test]
fn structured_formats_stay_well_formed_and_keep_the_values() {
    let json: Value = serde_json::from_str(&ran("json").stdout).expect("JSON");
    let sample = json["rules"][0]["sample"].as_array().expect("a sample");
    let mut found: Vec<&str> = sample
        .iter()
        .filter_map(|one| one["key"]["id"].as_str())
        .collect();
    let mut wanted = EVIL.to_vec();
    found.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(found, wanted);
    for line in ran("jsonl").stdout.lines() {
        serde_json::from_str::<Value>(line).expect("a line of JSON");
    }
    let sarif: Value = serde_json::from_str(&ran("sarif").stdout).expect("SARIF is JSON");
    assert_eq!(sarif["version"], "2.1.0");
    let junit = ran("junit").stdout;
    assert!(
        !junit.contains("<script>") && !junit.contains('\u{1b}'),
        "{junit}"
    );
    let mut reader = quick_xml::Reader::from_str(&junit);
    loop {
        match reader.read_event().expect("well-formed XML") {
            quick_xml::events::Event::Eof => break,
            _ => continue,
        }
    }
}

#[test]
fn formats_for_people_show_no_control_characters_and_obey_no_value() {
    for format in ["text", "markdown", "github"] {
        let ran = ran(format);
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        let hidden = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!ran.stdout.contains(hidden), "{format}: {:?}", ran.stdout);
    }
    for line in ran("github").stdout.lines() {
        assert!(
            !line.starts_with("::error file=x") && !line.starts_with("::error::x"),
            "{line}"
        );
    }
    let markdown = ran("markdown").stdout;
    assert!(
        !markdown.contains("<script>") && !markdown.contains("](http://evil)"),
        "{markdown}"
    );
}
