//! What the stream says of a row is what the snapshot says of it: for every type, and whatever the settings of the database are.

use std::process::Command;

use firstbad::change::Cell;
use firstbad::schema::TableName;
use firstbad::state::History;

use super::opened;
use super::types::{fill, seeds};
use crate::postgres::Cluster;

const RULES: &str = "
rules:
  - {table: matrix, not_null: [id]}
  - {table: streamed, not_null: [id]}
";

/// Settings that decide how values are written as text.
const ODD: &str = "
    alter database matrix set datestyle = 'German'; alter database matrix set intervalstyle = 'sql_standard';
    alter database matrix set extra_float_digits = -3; alter database matrix set timezone = 'Asia/Kathmandu';
    alter database matrix set bytea_output = 'escape'; alter database matrix set xmlbinary = 'hex';
    alter role postgres set datestyle = 'SQL, DMY';";

/// The rows of a table at the head, by their key.
fn rows(history: &History, table: &str) -> Vec<Vec<Cell>> {
    let at = history.schema.table_index(&TableName::parse(table));
    let versions = &history.tables[at.expect("the table is there")];
    let columns = 0..versions.table.columns.len();
    let row = |row: u32| {
        columns
            .clone()
            .map(|column| versions.cell(column, row))
            .collect()
    };
    let mut rows: Vec<Vec<Cell>> = versions
        .visible(history.head())
        .into_iter()
        .map(row)
        .collect();
    rows.sort_by_key(|row| match row[0] {
        Cell::Int(id) => id,
        _ => unreachable!("the key is a number"),
    });
    rows
}

#[test]
fn the_stream_says_of_every_type_what_the_snapshot_says() {
    for seed in seeds() {
        println!("FIRSTBAD_SEED={seed}");
        let cluster = Cluster::start();
        cluster.sql("postgres", "create database matrix");
        fill(&cluster, "matrix", seed);
        cluster.sql("matrix", ODD);
        cluster.sql(
            "matrix",
            "create table streamed (like matrix including all)",
        );
        let place = tempfile::tempdir().expect("a directory");
        std::fs::write(place.path().join("rules.yaml"), RULES).expect("a file can be written");
        let url = cluster.url("matrix");
        let firstbad = |arguments: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_firstbad"));
            let output = command.args(arguments).current_dir(place.path()).output();
            let output = output.expect("it runs");
            let said = [output.stdout, output.stderr]
                .map(|said| String::from_utf8_lossy(&said).into_owned());
            assert!(
                output.status.success(),
                "{arguments:?}: {}{}",
                said[0],
                said[1]
            );
            said
        };
        let watch = [
            "watch",
            &url,
            "--store",
            "store",
            "--rules",
            "rules.yaml",
            "--until-now",
        ];
        firstbad(&watch);
        // Updates send all columns again, and a moved key names the old one.
        cluster.sql(
            "matrix",
            "insert into streamed select * from matrix; update streamed set id = id + 100000 where id % 3 = 0;
             update streamed set id = id - 100000 where id >= 100000;",
        );
        let [_, notes] = firstbad(&watch);
        assert!(!notes.contains("note"), "{notes}");
        firstbad(&["verify", "store"]);
        firstbad(&["diff", "store", &url, "--exit-code"]);
        let history = opened(&place.path().join("store"));
        let (snapshot, stream) = (rows(&history, "matrix"), rows(&history, "streamed"));
        assert_eq!(snapshot.len(), stream.len());
        for (at, (snapshot, stream)) in snapshot.iter().zip(&stream).enumerate() {
            assert_eq!(snapshot, stream, "row {at}, FIRSTBAD_SEED={seed}");
        }
    }
}
