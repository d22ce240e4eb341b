//! Cases are text files in `testdata/timeline`: `== name`, the lines of a history, `----`, and what is read or said.
//! `UPDATE_CASES=1` writes what is really read.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::*;
use crate::change::{Change, Image};
use crate::schema::{Table, ddl, value};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/timeline")
}

fn schema() -> Schema {
    let path = directory().join("schema.sql");
    let text = std::fs::read_to_string(&path).expect("schema.sql can be read");
    let (schema, found) = ddl::parse(&text, &path);
    assert!(!crate::diagnostic::any_error(&found), "{found:?}");
    schema
}

fn cell_text(table: &Table, (column, cell): &(usize, Cell)) -> String {
    let column = &table.columns[*column];
    let shown = match cell {
        Cell::Unknown => "?".to_owned(),
        Cell::Null => "NULL".to_owned(),
        cell => value::to_text(&column.data_type, cell).expect("a value has a text"),
    };
    format!("{}={shown}", column.name)
}

fn image_text(table: &Table, name: &str, image: Option<&Image>) -> String {
    image.map_or(String::new(), |image| {
        let cells: Vec<String> = image.iter().map(|cell| cell_text(table, cell)).collect();
        format!(" {name}({})", cells.join(" "))
    })
}

fn change_text(schema: &Schema, change: &Change) -> String {
    let table = &schema.tables[change.table];
    format!(
        "{} {}{}{}{}",
        change.op.as_str(),
        table.name.short(),
        image_text(table, "key", change.key.as_ref()),
        image_text(table, "before", change.before.as_ref()),
        image_text(table, "after", change.after.as_ref())
    )
}

fn entry_text(schema: &Schema, places: &Places, entry: &Entry) -> String {
    let place = |at: usize| {
        let (file, line) = places.of(at);
        format!("{}:{line}", file.display())
    };
    let mut out = String::new();
    match entry {
        Entry::Row { table, cells } => {
            let table = &schema.tables[*table];
            let cells: Vec<String> = cells
                .iter()
                .cloned()
                .enumerate()
                .map(|cell| cell_text(table, &cell))
                .collect();
            let _ = writeln!(
                out,
                "{} row {} {}",
                place(0),
                table.name.short(),
                cells.join(" ")
            );
        }
        Entry::Transaction(transaction) => {
            let meta = &transaction.meta;
            let _ = write!(out, "#{}", transaction.commit);
            let _ = meta.xid.map(|xid| write!(out, " xid {xid}"));
            let _ = meta.lsn.as_ref().map(|lsn| write!(out, " lsn {lsn}"));
            let time = meta.time.map(value::format_timestamp);
            let _ = time.map(|time| write!(out, " time {time}"));
            let context = meta.context.clone().map(serde_json::Value::Object);
            let _ = context.map(|context| write!(out, " context {context}"));
            out.push('\n');
            for (at, change) in transaction.changes.iter().enumerate() {
                let _ = writeln!(out, "  {} {}", place(at), change_text(schema, change));
            }
        }
    }
    out
}

fn said(diagnostic: &Diagnostic, level: &str) -> String {
    let hint = diagnostic.hint.as_ref();
    let hint = hint.map_or(String::new(), |hint| format!("\n  help: {hint}"));
    format!(
        "{level} {}: {}{hint}\n",
        diagnostic.location(),
        diagnostic.message
    )
}

/// What the files of a history give: entries, then warnings, then the error.
fn read(schema: &Schema, files: &[(String, Vec<u8>)]) -> String {
    let mut out = String::new();
    let mut warnings = Vec::new();
    let mut timeline = Timeline::new(schema);
    let mut sink = |places: &Places, entry: Entry| {
        out.push_str(&entry_text(schema, places, &entry));
        Ok(())
    };
    let mut result = Ok(());
    for (name, content) in files {
        result = result.and_then(|()| {
            timeline.read(
                content.as_slice(),
                Path::new(name),
                &mut warnings,
                &mut sink,
            )
        });
    }
    let result = result.and_then(|()| timeline.finish(&mut sink));
    for warning in &warnings {
        out.push_str(&said(warning, "warning"));
    }
    if let Err(error) = result {
        out.push_str(&said(&error, "error"));
    }
    out
}

/// The files of a case: one, or several that begin with a line `@ name`.
fn files(input: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for line in input.lines() {
        if let Some(name) = line.strip_prefix("@ ") {
            files.push((name.to_owned(), Vec::new()));
            continue;
        }
        if files.is_empty() {
            files.push(("a.ndjson".to_owned(), Vec::new()));
        }
        let (_, content) = files.last_mut().expect("there is a file");
        content.extend(line.as_bytes());
        content.push(b'\n');
    }
    files
}

/// Cases of all files: file, name and input of each, and the text of the file with real output.
fn cases() -> Vec<(PathBuf, String, String)> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory())
        .expect("testdata/timeline can be read")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "case")
        })
        .collect();
    paths.sort();
    let mut out = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a case file can be read");
        for case in text.split("== ").skip(1) {
            let (name, rest) = case.split_once('\n').expect("a case has a name");
            let (input, _) = rest.split_once("----\n").expect("a case has output");
            out.push((path.clone(), name.to_owned(), input.to_owned()));
        }
    }
    out
}

#[test]
fn histories_are_read_as_the_cases_say() {
    let schema = schema();
    let mut shown: std::collections::BTreeMap<PathBuf, String> = std::collections::BTreeMap::new();
    for (path, name, input) in cases() {
        let output = read(&schema, &files(&input));
        let text = shown.entry(path).or_default();
        let _ = writeln!(text, "== {name}\n{input}----\n{output}");
    }
    assert!(shown.len() >= 4, "case files are there");
    for (path, text) in shown {
        if std::env::var_os("UPDATE_CASES").is_some() {
            std::fs::write(&path, &text).expect("a case file can be written");
        }
        let have = std::fs::read_to_string(&path).expect("a case file can be read");
        let differs = have.lines().zip(text.lines()).position(|(a, b)| a != b);
        assert!(
            have == text,
            "{} differs from line {:?} on; UPDATE_CASES=1 rewrites it\n{text}",
            path.display(),
            differs.map(|line| line + 1)
        );
    }
}

/// Numbers that are the same on every machine (SplitMix64).
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % bound.max(1) as u64).expect("a small number")
    }
}

/// Spoils a text in one place.
fn spoil(rng: &mut Rng, text: &mut Vec<u8>) {
    const PIECES: &[&str] = &[
        "null",
        "{}",
        "[]",
        "\"\"",
        "0",
        "-1",
        "1e999",
        "18446744073709551616",
        "true",
        "\\u0000",
        "\\ud800",
        "\"",
        "}",
        "]",
        ",",
        ":",
        "\n",
        "\u{feff}",
        "99999999999999999999999999999999999999999999999999",
    ];
    let at = rng.below(text.len() + 1);
    match rng.below(5) {
        0 => text.truncate(at),
        1 if at < text.len() => text[at] = u8::try_from(rng.below(256)).expect("a byte"),
        2 => {
            let end = (at + rng.below(20)).min(text.len());
            text.drain(at..end);
        }
        3 => {
            let piece = PIECES[rng.below(PIECES.len())].bytes();
            let end = (at + rng.below(8)).min(text.len());
            text.splice(at..end, piece);
        }
        _ => {
            let end = (at + rng.below(200)).min(text.len());
            let again: Vec<u8> = text[at..end].to_vec();
            text.splice(at..at, again);
        }
    }
}

#[test]
fn spoiled_histories_never_panic() {
    let schema = schema();
    let cases = cases();
    let seed = std::env::var("FIRSTBAD_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let rounds = seed.map_or(3000, |_| 1);
    for round in 0..rounds {
        let seed = seed.unwrap_or(round);
        let mut rng = Rng(seed);
        let (_, _, input) = &cases[rng.below(cases.len())];
        let mut files = files(input);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for (_, content) in &mut files {
                for _ in 0..=rng.below(3) {
                    spoil(&mut rng, content);
                }
            }
            read(&schema, &files)
        }));
        assert!(outcome.is_ok(), "FIRSTBAD_SEED={seed} panics");
    }
}

#[test]
fn deep_nesting_costs_nothing() {
    let schema = schema();
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    for line in [
        format!(r#"{{"change": {}}}"#, deep(200_000)),
        format!(
            r#"{{"change": [{{"kind": "insert", "table": "t", "columnnames": ["tags"], "columnvalues": [{}]}}]}}"#,
            deep(200_000)
        ),
        format!(r#"{{"action": "B", "xid": {}}}"#, deep(200_000)),
        format!(
            r#"{{"schema": {}, "payload": {{"op": "c", "source": {{}}}}}}"#,
            deep(200_000)
        ),
        format!(
            r#"{{"op": "c", "source": {{"table": "t", "txId": 1}}, "after": {{"id": 1, "tags": {}}}}}"#,
            deep(200_000)
        ),
    ] {
        let said = read(&schema, &[("a.ndjson".to_owned(), line.into_bytes())]);
        assert!(said.contains("error a.ndjson:1"), "{said}");
    }
}
