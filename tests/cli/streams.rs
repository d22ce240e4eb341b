//! One history in every form in which it can be written down: firstbad's own, wal2json in both versions, Debezium with and without
//! its envelope. All of them are the same history.
//!
//! `FIRSTBAD_SEED` replays one random history (a failure prints it).

use std::collections::BTreeMap;

use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use firstbad::source;
use firstbad::state::{History, Relation};
use serde_json::{Value, json};

use crate::place::Place;
use crate::stream_forms::{FORMS, Form, SCHEMA, Step, World, Write, attributes};

const CASES: u64 = 120;
pub(crate) const FIRST_SEED: u64 = 20_260_312;

/// The history of a seed in one form, in a directory of its own.
pub(crate) fn written(world: &World, form: Form) -> Place {
    let place = Place::new().with("d/schema.sql", SCHEMA);
    if form.has_snapshot_rows(world) {
        place.write(
            "d/changes/0001.ndjson",
            world.snapshot_events(form).join("\n"),
        );
    } else {
        for (table, csv) in world.snapshot_files() {
            place.write(&format!("d/snapshot/{table}.csv"), csv);
        }
    }
    // Transactions may be cut between files where they have a line a change.
    let lines = world.lines(form);
    let cut = lines.len() * world.cut_percent / 100;
    place.write("d/changes/0002.ndjson", lines[..cut].join("\n"));
    place.write("d/changes/0003.ndjson", lines[cut..].join("\n"));
    place
}

pub(crate) fn opened(place: &Place, what: &str) -> History {
    let path = place.path("d").display().to_string();
    match source::open(&[path]) {
        Ok(opened) => opened.history,
        Err(source::SourceError::Input(found)) => {
            panic!("{what}: {}", firstbad::diagnostic::render(&found, false))
        }
        Err(error) => panic!("{what}: {error}"),
    }
}

/// What is known of each commit, and all rows of all tables after it.
pub(crate) fn shown(history: &History) -> Vec<String> {
    let mut out = Vec::new();
    for position in 0..=history.head() {
        let meta = history.meta(position);
        out.push(attributes(
            position,
            meta.and_then(|meta| meta.xid),
            meta.and_then(|meta| meta.time),
            meta.and_then(|meta| meta.context.clone()),
        ));
        out.extend(rows_of(history, position));
    }
    out
}

/// All rows of all tables at a position, and how much of them is not known.
pub(crate) fn rows_of(history: &History, position: u32) -> Vec<String> {
    let mut out = Vec::new();
    let options = FormatOptions::default().with_null("∅");
    for (index, table) in history.schema.tables.iter().enumerate() {
        let rows = history.rows(index, &Relation::State, position);
        let formatter = |column| ArrayFormatter::try_new(column, &options).expect("a known type");
        let columns: Vec<ArrayFormatter<'_>> = rows
            .batch
            .columns()
            .iter()
            .map(|column| formatter(column.as_ref()))
            .collect();
        let line = |row: usize| {
            let cells: Vec<String> = columns
                .iter()
                .map(|column| column.value(row).to_string())
                .collect();
            format!("  {} {}", table.name, cells.join("|"))
        };
        let mut lines: Vec<String> = (0..rows.batch.num_rows()).map(line).collect();
        lines.sort();
        out.extend(lines);
        out.push(format!("  not known: {:?}", rows.unknown));
    }
    out
}

#[test]
fn random_histories_are_the_same_in_every_form() {
    let only = std::env::var("FIRSTBAD_SEED")
        .ok()
        .map(|text| text.parse::<u64>().expect("FIRSTBAD_SEED is a number"));
    let seeds = only.map_or(FIRST_SEED..FIRST_SEED + CASES, |seed| seed..seed + 1);
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in seeds {
        let world = World::new(seed);
        for step in world
            .transactions
            .iter()
            .flat_map(|transaction| &transaction.writes)
        {
            *seen.entry(kind(step)).or_default() += 1;
        }
        let native = shown(&opened(
            &written(&world, Form::Native),
            &format!("FIRSTBAD_SEED={seed}"),
        ));
        assert_eq!(
            native,
            made(&world),
            "FIRSTBAD_SEED={seed}: firstbad's own form is not what was done"
        );
        for form in FORMS {
            let what = format!("FIRSTBAD_SEED={seed} {form:?}");
            let other = shown(&opened(&written(&world, form), &what));
            let differs = native.iter().zip(&other).find(|(a, b)| a != b);
            assert!(other == native, "{what} differs: {differs:#?}");
        }
    }
    if only.is_none() {
        for kind in [
            "insert",
            "update",
            "moved key",
            "delete",
            "truncate",
            "unlogged",
        ] {
            assert!(
                seen.get(kind).is_some_and(|count| *count > 20),
                "{kind}: {seen:?}"
            );
        }
    }
}

fn kind(step: &Write) -> &'static str {
    match &step.step {
        Step::Insert(_) => "insert",
        Step::Update { moved: true, .. } => "moved key",
        Step::Update { unlogged: true, .. } => "unlogged",
        Step::Update { .. } => "update",
        Step::Delete(_) => "delete",
        Step::Truncate => "truncate",
    }
}

/// The states that were made, by a road of their own: rows loaded as they are.
fn made(world: &World) -> Vec<String> {
    let mut out = Vec::new();
    for (position, state) in world.states.iter().enumerate() {
        let (mut history, meta) = (world.empty_history(), world.attributes(position));
        for (table, rows) in state.iter().enumerate() {
            for row in rows {
                history.load(table, row);
            }
        }
        out.push(meta);
        out.extend(rows_of(&history, 0));
    }
    out
}

#[test]
fn check_says_the_same_of_every_form() {
    let rules = "rules:
  - {id: unpaid, table: orders, where: \"status = 'paid'\", has: {table: line, match: {order_id: id}}}
  - {id: negative, table: orders, range: {column: total, min: 0}}
  - {id: no-note, table: orders, not_null: [note]}
  - {id: jumps, table: orders, transitions: {column: status, allowed: {new: [paid], paid: [sent]}}}
  - {id: kept, table: line, append_only: true}
";
    let world = World::new(FIRST_SEED + 7);
    let last = world.transactions.len();
    for position in [0, 1, last / 2, last] {
        let at = format!("#{position}");
        let mut native: Option<Value> = None;
        for form in [Form::Native].into_iter().chain(FORMS) {
            let place = written(&world, form).with("d/rules/r.yaml", rules);
            let ran = place.check(&["d", "--at", &at, "--sample", "all"]);
            assert!(ran.code <= 1, "{form:?}: {}", ran.err);
            let mut document = ran.json();
            // The forms record different points of the log.
            document["at"]["lsn"] = json!(null);
            match &native {
                None => native = Some(document),
                Some(native) => assert_eq!(document, *native, "{form:?} at {at}"),
            }
        }
    }
}

#[test]
fn forms_may_be_compressed_and_may_not_be_mixed() {
    let world = World::new(FIRST_SEED);
    let place = written(&world, Form::Wal2Json2);
    let rules = "rules:\n  - {id: r, table: orders, not_null: [id]}\n";
    place.write("d/rules/r.yaml", rules);
    let plain = place.check(&["d"]).exits(0).json();
    for name in ["d/changes/0002.ndjson", "d/changes/0003.ndjson"] {
        let text = place.read(name);
        let packed = zstd::encode_all(text.as_bytes(), 1).expect("memory takes everything");
        place.write(&format!("{name}.zst"), packed);
        std::fs::remove_file(place.path(name)).expect("the file is there");
    }
    assert_eq!(place.check(&["d"]).exits(0).json(), plain);
    place.write(
        "d/changes/0004.ndjson",
        "{\"commit\": 9, \"changes\": []}\n",
    );
    place.run(&["check", "d"]).refused(&[
        "d/changes/0004.ndjson:1",
        "firstbad's own form",
        "wal2json, format version 2",
    ]);
}

#[test]
fn a_stream_needs_a_schema() {
    let place = Place::new()
        .with("d/changes/1.ndjson", "{\"change\": []}\n")
        .with(
            "d/rules/r.yaml",
            "rules:\n  - {id: r, table: t, not_null: [id]}\n",
        );
    place.run(&["check", "d"]).refused(&["schema.sql"]);
}

#[test]
fn rows_of_a_snapshot_come_once() {
    let event =
        r#"{"op": "r", "after": {"id": 1}, "source": {"schema": "public", "table": "orders"}}"#;
    let place = Place::new()
        .with("d/schema.sql", SCHEMA)
        .with(
            "d/rules/r.yaml",
            "rules:\n  - {id: r, table: orders, not_null: [id]}\n",
        )
        .with("d/changes/1.ndjson", format!("{event}\n{event}\n"));
    place.run(&["check", "d"]).refused(&[
        "d/changes/1.ndjson:2",
        "table orders",
        "was there before",
    ]);
    place.write("d/changes/1.ndjson", format!("{event}\n"));
    assert_eq!(place.check(&["d"]).exits(0).rule("r")["judged"], 1);
    place.write("d/snapshot/line.csv", "order_id,n,qty,price\n");
    place
        .run(&["check", "d"])
        .refused(&["d/changes/1.ndjson:1", "snapshot/"]);
}

#[test]
fn a_contradiction_has_the_line_of_its_change() {
    let event = |id: u32, lsn: u32| {
        format!(
            "{{\"op\": \"c\", \"after\": {{\"id\": {id}}}, \"source\": {{\"schema\": \"public\", \"table\": \"orders\", \"txId\": 1, \"lsn\": {lsn}}}}}"
        )
    };
    let place = Place::new()
        .with("d/schema.sql", SCHEMA)
        .with(
            "d/rules/r.yaml",
            "rules:\n  - {id: r, table: orders, not_null: [id]}\n",
        )
        .with("d/changes/1.ndjson", [event(1, 1), event(2, 2)].join("\n"))
        .with("d/changes/2.ndjson", event(1, 3));
    place.run(&["check", "d"]).refused(&[
        "d/changes/2.ndjson:1",
        "commit 1, change 3",
        r#"{"id":1}"#,
        "already exists",
    ]);
}
