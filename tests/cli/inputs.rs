//! Table files: formats, compression, inferred schemas, NULLs, several files, where rules are looked for (CONTRACT sections 1 and 2).

use std::io::Write;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::ipc::writer::FileWriter;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::parquet::arrow::ArrowWriter;
use serde_json::json;

use crate::place::Place;

const RULES: &str = "table: t\nrules:\n  - {id: bad, key: [id], not_null: [a]}\n";
const CSV: &str = "id,a\n1,x\n2,\n3,y\n";
const NDJSON: &str =
    "{\"id\": 1, \"a\": \"x\"}\n{\"id\": 2, \"a\": null}\n{\"id\": 3, \"a\": \"y\"}\n";

fn batch() -> RecordBatch {
    let fields = vec![
        Field::new("id", DataType::Int64, false),
        Field::new("a", DataType::Utf8, true),
    ];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![1, 2, 3])),
        Arc::new(StringArray::from(vec![Some("x"), None, Some("y")])),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("a batch")
}

fn parquet() -> Vec<u8> {
    let batch = batch();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("a batch can be written");
    writer.close().expect("a file can be closed");
    bytes
}

fn arrow() -> Vec<u8> {
    let batch = batch();
    let mut bytes = Vec::new();
    let mut writer = FileWriter::try_new(&mut bytes, &batch.schema()).expect("a writer");
    writer.write(&batch).expect("a batch can be written");
    writer.finish().expect("a file can be finished");
    drop(writer);
    bytes
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("bytes can be compressed");
    encoder.finish().expect("a stream can be finished")
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("bytes can be compressed")
}

/// Every format and compression of the same table.
fn forms() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("t.csv", CSV.into()),
        ("t.csv.gz", gz(CSV.as_bytes())),
        ("t.csv.zst", zst(CSV.as_bytes())),
        ("t.ndjson", NDJSON.into()),
        ("t.ndjson.gz", gz(NDJSON.as_bytes())),
        ("t.ndjson.zst", zst(NDJSON.as_bytes())),
        ("t.parquet", parquet()),
        ("t.parquet.gz", gz(&parquet())),
        ("t.arrow", arrow()),
        ("t.arrow.zst", zst(&arrow())),
    ]
}

#[test]
fn every_format_is_read_without_a_schema() {
    for (name, bytes) in forms() {
        let place = Place::new()
            .with(&format!("d/{name}"), bytes)
            .with("d/rules/t.yaml", RULES);
        let ran = place.check(&["d"]).exits(1);
        assert_eq!(ran.keys("bad"), json!([{"id": 2}]), "{name}");
        assert_eq!(ran.rule("bad")["judged"], 3, "{name}");
        assert_eq!(
            ran.json()["at"],
            json!({"commit": null, "lsn": null, "xid": null, "time": null}),
            "{name}"
        );
        let text = name.contains("csv") || name.contains("ndjson");
        assert_eq!(ran.err.contains("inferred"), text, "{name}: {}", ran.err);
    }
}

#[test]
fn every_format_is_a_snapshot() {
    for (name, bytes) in forms() {
        let place = Place::new()
            .with(
                "d/schema.sql",
                "create table t (id bigint primary key, a text);",
            )
            .with(&format!("d/snapshot/{name}"), bytes)
            .with("d/rules/t.yaml", RULES);
        let ran = place.check(&["d"]).exits(1);
        assert_eq!(ran.keys("bad"), json!([{"id": 2}]), "{name}");
        assert!(!ran.err.contains("inferred"), "{name}: {}", ran.err);
    }
}

#[test]
fn changes_may_be_compressed() {
    let change = b"{\"commit\": 1, \"changes\": [{\"table\": \"t\", \"op\": \"insert\", \"after\": {\"id\": 9, \"a\": null}}]}\n";
    for (name, bytes) in [
        ("1.ndjson", change.to_vec()),
        ("1.ndjson.gz", gz(change)),
        ("1.ndjson.zst", zst(change)),
    ] {
        let place = Place::new()
            .with(
                "d/schema.sql",
                "create table t (id bigint primary key, a text);",
            )
            .with("d/snapshot/t.csv", CSV)
            .with(&format!("d/changes/{name}"), bytes)
            .with("d/rules/t.yaml", RULES);
        assert_eq!(
            place.check(&["d"]).exits(1).keys("bad"),
            json!([{"id": 2}, {"id": 9}]),
            "{name}"
        );
    }
}

#[test]
fn a_compressed_file_that_is_cut_off_is_refused() {
    let rows: String = (0..2_000)
        .map(|id| format!("{id},{}\n", id * 7919 % 104_729))
        .collect();
    let csv = format!("id,a\n{rows}");
    for (name, bytes) in [
        ("t.csv.gz", gz(csv.as_bytes())),
        ("t.csv.zst", zst(csv.as_bytes())),
    ] {
        let place = Place::new()
            .with(&format!("d/{name}"), &bytes[..bytes.len() - 20])
            .with("d/rules/t.yaml", RULES);
        place.run(&["check", "d"]).refused(&[name]);
    }
}

#[test]
fn damaged_columnar_files_are_refused() {
    for (name, bytes) in [("t.parquet", parquet()), ("t.arrow", arrow())] {
        let place = Place::new()
            .with(&format!("d/{name}"), &bytes[..bytes.len() / 2])
            .with("d/rules/t.yaml", RULES);
        place.run(&["check", "d"]).refused(&[name]);
    }
}

#[test]
fn an_unquoted_empty_field_is_null_and_a_quoted_one_is_not() {
    let place = Place::new()
        .with("d/schema.sql", "create table t (id bigint primary key, a text);")
        .with("d/t.csv", "id,a\n1,\n2,\"\"\n3,NULL\n")
        .with(
            "d/rules/t.yaml",
            "table: t\nrules:\n  - {id: is-null, not_null: [a]}\n  - {id: is-empty, not_empty: [a]}\n  \
             - {id: is-text, rejected_values: {column: a, values: ['NULL']}}\n",
        );
    let ran = place.check(&["d"]).exits(1);
    assert_eq!(ran.keys("is-null"), json!([{"id": 1}]));
    assert_eq!(ran.keys("is-empty"), json!([{"id": 1}, {"id": 2}]));
    assert_eq!(ran.keys("is-text"), json!([{"id": 3}]));
}

#[test]
fn columns_of_csv_stand_in_any_order() {
    let place = Place::new()
        .with(
            "d/schema.sql",
            "create table t (id bigint primary key, a text);",
        )
        .with("d/t.csv", "a,id\n\"x, \"\"y\"\"\nz\",1\n,2\n")
        .with("d/rules/t.yaml", RULES);
    assert_eq!(place.check(&["d"]).exits(1).keys("bad"), json!([{"id": 2}]));
}

#[test]
fn an_unknown_column_is_refused() {
    let place = Place::new()
        .with(
            "d/schema.sql",
            "create table t (id bigint primary key, a text);",
        )
        .with("d/t.csv", "id,a,aa\n1,x,y\n")
        .with("d/rules/t.yaml", RULES);
    place.run(&["check", "d"]).refused(&["d/t.csv:1", "`aa`"]);
}

#[test]
fn a_missing_column_is_null_with_a_warning_unless_it_must_not_be() {
    let place = Place::new()
        .with(
            "d/schema.sql",
            "create table t (id bigint primary key, a text);",
        )
        .with("d/t.csv", "id\n1\n")
        .with("d/rules/t.yaml", RULES);
    let ran = place
        .check(&["d"])
        .exits(1)
        .warns(&["warning", "d/t.csv", "`a`"]);
    assert_eq!(ran.keys("bad"), json!([{"id": 1}]));
    place.write(
        "d/schema.sql",
        "create table t (id bigint primary key, a text not null);",
    );
    place.run(&["check", "d"]).refused(&["d/t.csv", "`a`"]);
}

#[test]
fn a_table_without_a_file_is_empty() {
    let place = Place::new()
        .with("d/schema.sql", "create table t (id bigint primary key, a text); create table u (id bigint primary key);")
        .with("d/snapshot/u.csv", "id\n1\n")
        .with("d/rules/t.yaml", RULES);
    let ran = place.check(&["d"]).exits(0);
    assert_eq!(
        (&ran.rule("bad")["judged"], &ran.rule("bad")["vacuous"]),
        (&json!(0), &json!(true))
    );
}

#[test]
fn several_files_are_one_source() {
    let place = Place::new()
        .with("orders.csv", "id,customer_id\n1,7\n2,8\n")
        .with("elsewhere/customers.ndjson", "{\"id\": 7}\n")
        .with("r.yaml", "table: orders\nrules:\n  - {id: orphan, key: [id], references: {column: customer_id, to: customers.id}}\n");
    let ran = place
        .check(&[
            "orders.csv",
            "elsewhere/customers.ndjson",
            "--rules",
            "r.yaml",
        ])
        .exits(1);
    assert_eq!(ran.keys("orphan"), json!([{"id": 2}]));
    assert_eq!(
        ran.json()["source"],
        "orders.csv elsewhere/customers.ndjson"
    );
}

#[test]
fn two_files_for_one_table_are_refused() {
    let place = Place::new()
        .with("d/t.csv", CSV)
        .with("d/t.ndjson", NDJSON)
        .with("d/rules/t.yaml", RULES);
    place
        .run(&["check", "d"])
        .refused(&["table `t` has two files"]);
}

#[test]
fn dated_snapshots_are_a_history_of_differences() {
    let place = Place::new()
        .with("d/schema.sql", "create table t (id bigint primary key, n integer);")
        .with("d/snapshots/2026-03-11/t.csv", "id,n\n1,1\n2,1\n3,1\n")
        .with("d/snapshots/2026-03-12/t.ndjson", "{\"id\": 1, \"n\": 2}\n{\"id\": 2, \"n\": 1}\n")
        .with("d/snapshots/2026-03-13/t.csv.gz", gz(b"id,n\n1,1\n2,1\n3,1\n"))
        .with(
            "d/rules/t.yaml",
            "table: t\nrules:\n  - {id: rewritten, immutable: [n]}\n  - {id: gone, no_delete: true}\n  - {id: back, no_resurrection: true}\n  \
             - {id: backwards, monotonic: {column: n}}\n",
        );
    let expected = [
        ("2026-03-11", json!([[], [], [], []])),
        ("2026-03-12", json!([[{"id": 1}], [{"id": 3}], [], []])),
        (
            "2026-03-13",
            json!([[{"id": 1}], [{"id": 3}], [{"id": 3}], [{"id": 1}]]),
        ),
    ];
    for (at, expected) in expected {
        let ran = place.check(&["d", "--at", at]);
        let found = ["rewritten", "gone", "back", "backwards"].map(|id| ran.keys(id));
        assert_eq!(json!(found), expected, "at {at}");
        assert_eq!(ran.json()["at"]["snapshot"].as_str().unwrap_or(at), at);
    }
}

#[test]
fn a_snapshot_named_by_a_full_time_has_that_time() {
    let place = Place::new()
        .with(
            "d/schema.sql",
            "create table t (id bigint primary key, at timestamptz);",
        )
        .with(
            "d/snapshots/2026-03-11T02:00:00Z/t.csv",
            "id,at\n1,2026-03-11T01:00:00Z\n",
        )
        .with(
            "d/snapshots/2026-03-12T02:00:00Z/t.csv",
            "id,at\n1,2026-03-11T01:00:00Z\n",
        )
        .with(
            "d/rules/t.yaml",
            "table: t\nrules:\n  - {id: stale, fresh: {column: at, max_age: 2h}}\n",
        );
    let ran = place.check(&["d"]).exits(1);
    assert_eq!(ran.json()["at"]["time"], "2026-03-12T02:00:00Z");
    assert_eq!(
        place
            .check(&["d", "--now", "2026-03-11T03:00:00Z"])
            .exits(0)
            .rule("stale")["verdict"],
        "held"
    );
}

#[test]
fn rules_are_beside_the_source_then_here() {
    let here = "table: t\nrules:\n  - {id: here, key: [id], not_null: [a]}\n";
    let place = Place::new().with("d/t.csv", CSV);
    place.run(&["check", "d"]).refused(&["no rules", "--rules"]);
    place.write("rules/here.yaml", here);
    place.check(&["d"]).exits(1).rule("here");
    place.check(&["d/t.csv"]).exits(1).rule("here");
    place.write("d/rules/beside.yml", RULES);
    let both = |ran: &serde_json::Value| ran["rules"].as_array().map(Vec::len);
    let ran = place.check(&["d"]).exits(1);
    ran.rule("bad");
    assert_eq!(both(&ran.json()), Some(1), "only the nearer rules count");
    let ran = place
        .check(&["d", "--rules", "rules", "--rules", "d/rules/beside.yml"])
        .exits(1);
    assert_eq!(both(&ran.json()), Some(2));
}

#[test]
fn rules_are_chosen_by_id_and_tag() {
    let place = Place::new()
        .with("d/t.csv", CSV)
        .with("d/rules/t.yaml", "table: t\nrules:\n  - {id: one, tags: [nightly], not_null: [a]}\n  - {id: two, tags: [hourly], not_null: [id]}\n");
    let ids = |arguments: &[&str]| -> Vec<String> {
        let document = place.check(arguments).json();
        document["rules"]
            .as_array()
            .expect("rules")
            .iter()
            .map(|rule| rule["id"].as_str().expect("an id").to_owned())
            .collect()
    };
    assert_eq!(ids(&["d", "--rule", "two"]), ["two"]);
    assert_eq!(
        ids(&["d", "--rule", "two", "--rule", "one"]),
        ["one", "two"]
    );
    assert_eq!(ids(&["d", "--tag", "nightly"]), ["one"]);
}

/// Arrays of several dimensions have no list in Arrow: rules that read them are unknown, everything else has them exactly.
#[test]
fn arrays_of_several_dimensions_are_never_null() {
    let rules = "table: t\nrules:\n  - {id: no-grid, not_null: [grid]}\n  - {id: no-name, not_null: [name]}\n  \
        - {id: short, expression: cardinality(grid) > 1}\n  - {id: writes, immutable: [grid]}\n";
    let change = |commit: u32, grid: &str| {
        format!(
            "{{\"commit\": {commit}, \"changes\": [{{\"table\": \"t\", \"op\": \"update\", \"key\": {{\"id\": 1}}, \"after\": {{\"grid\": {grid}}}}}]}}\n"
        )
    };
    let history = change(1, "\"{{1,2},{3,4}}\"")
        + &change(2, "[[5, null], [7, 8]]")
        + &change(3, "\"{9,10}\"");
    let place = Place::new()
        .with(
            "d/schema.sql",
            "create table t (id bigint primary key, name text, grid int[], price numeric(4,2)[]);",
        )
        .with(
            "d/snapshot/t.csv",
            "id,name,grid,price\n1,x,\"{1,2}\",\"{1.50,NULL}\"\n",
        )
        .with("d/changes/1.ndjson", history)
        .with("d/rules/r.yaml", rules);
    for (at, verdict) in [
        ("#0", "held"),
        ("#1", "unknown"),
        ("#2", "unknown"),
        ("#3", "held"),
    ] {
        let ran = place.check(&["d", "--at", at]);
        assert_eq!(ran.rule("no-grid")["verdict"], verdict, "{at}");
        assert_eq!(ran.rule("short")["verdict"], verdict, "{at}");
        assert_eq!(ran.rule("no-name")["verdict"], "held", "{at}");
        if verdict == "unknown" {
            let reason = ran.rule("no-grid")["reason"].to_string();
            assert!(
                reason.contains("`grid` of t is not known in 1 row"),
                "{reason}"
            );
            assert!(reason.contains("dimensions"), "{reason}");
        }
        // What has happened to such an array is not known either.
        let writes = if at == "#0" { "held" } else { "unknown" };
        assert_eq!(ran.rule("writes")["verdict"], writes, "{at}");
    }
    // The values themselves are there, as Postgres writes them.
    place
        .run(&["diff", "d", "#1", "#2"])
        .exits(0)
        .says(&["[[1,2],[3,4]]", "[[5,null],[7,8]]"]);
    let sql = place
        .run(&["sql", "d", "select grid from t", "--at", "#1"])
        .exits(4);
    sql.warns(&["`grid` of t is not known in 1 row"]);
    place
        .run(&["sql", "d", "select name, price from t", "--at", "#1"])
        .exits(0);
    let bisected = place
        .run(&["bisect", "d", "--rule", "no-grid", "--format", "json"])
        .exits(4);
    assert_eq!(bisected.rule("no-grid")["verdict"], "unknown");
}
