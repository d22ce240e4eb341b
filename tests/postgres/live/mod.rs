//! Live databases as sources: what is read of them is what they hold, and no more than is needed.

mod guest;
mod numbers;
mod schema;
mod stream;
mod types;
mod verdicts;

use firstbad::change::Cell;
use firstbad::postgres::{Moment, Target, Wanted};
use firstbad::schema::value::to_text;
use firstbad::state::History;

use crate::postgres::Cluster;

/// All of a database.
pub(crate) fn read(url: &str) -> (History, Vec<String>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be made");
    let target = Target::parse(url).unwrap_or_else(|error| panic!("{error}"));
    let read = runtime.block_on(async {
        let moment = Moment::open(&target, "firstbad test").await?;
        moment.read(&Wanted::All, &|_| {}).await
    });
    let (history, found) = read.unwrap_or_else(|error| panic!("{error}: {:?}", error.hint()));
    let found = found.into_iter().map(|one| one.message).collect();
    (history, found)
}

/// All of a database from a dump of it, by the reader of dumps.
pub(crate) fn dumped(cluster: &Cluster, database: &str, arguments: &[&str]) -> History {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("all.sql");
    std::fs::write(&path, cluster.dump(database, arguments)).expect("a file can be written");
    opened(&path)
}

/// A source of files.
pub(crate) fn opened(path: &std::path::Path) -> History {
    let opened = firstbad::source::open_held(&[path.display().to_string()]);
    opened
        .unwrap_or_else(|error| match error {
            firstbad::source::SourceError::Input(found) => {
                panic!("{}", firstbad::diagnostic::render(&found, false))
            }
            error => panic!("{error}"),
        })
        .history
}

/// The rows of a table as texts, sorted.
pub(crate) fn rows(history: &History, table: &str) -> Vec<Vec<String>> {
    let at = history
        .schema
        .tables
        .iter()
        .position(|one| one.name.short() == table);
    let at = at.unwrap_or_else(|| panic!("there is a table {table}"));
    let versions = &history.tables[at];
    let columns = &history.schema.tables[at].columns;
    let text = |row: u32, column: usize| match versions.cell(column, row) {
        Cell::Null => "NULL".to_owned(),
        Cell::Unknown => "?".to_owned(),
        cell => format!(
            "'{}'",
            to_text(&columns[column].data_type, &cell).unwrap_or_default()
        ),
    };
    let mut rows: Vec<Vec<String>> = versions
        .visible(history.head())
        .into_iter()
        .map(|row| (0..columns.len()).map(|column| text(row, column)).collect())
        .collect();
    rows.sort();
    rows
}

/// Asserts that two histories hold the same, table by table.
#[track_caller]
pub(crate) fn same(a: &History, b: &History) {
    for table in &a.schema.tables {
        let name = table.name.short();
        let (left, right) = (rows(a, &name), rows(b, &name));
        for (one, other) in left.iter().zip(&right) {
            for (at, (x, y)) in one.iter().zip(other).enumerate() {
                assert_eq!(x, y, "{name}.{}", table.columns[at].name);
            }
        }
        assert_eq!(left.len(), right.len(), "rows of {name}");
    }
    let fingerprint = |history: &History| history.state_fingerprint(history.head());
    assert_eq!(fingerprint(a), fingerprint(b));
}
