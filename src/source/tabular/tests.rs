use std::fs;
use std::io::Write as _;

use super::*;
use crate::diagnostic::Level;
use crate::schema::ddl;
use crate::schema::value::to_text;

pub(super) fn table(sql: &str) -> Table {
    let (mut schema, diagnostics) = ddl::parse(sql, Path::new("schema.sql"));
    assert!(
        !crate::diagnostic::any_error(&diagnostics),
        "{diagnostics:?}"
    );
    schema.tables.pop().expect("a table")
}

const CORPUS_TABLE: &str =
    "create table t (id bigint not null, name text, amount numeric(10,2), at timestamptz)";

/// Rows as text, `-` for NULL, or the messages.
pub(super) fn read(path: &Path, table: &Table) -> Result<(Vec<String>, Vec<String>), Vec<String>> {
    let mut rows = Vec::new();
    let mut sink = |origin: RowOrigin, cells: Vec<Cell>| {
        let typed = cells.iter().zip(&table.columns);
        let texts = typed
            .map(|(cell, column)| to_text(&column.data_type, cell).unwrap_or_else(|| "-".into()));
        rows.push(format!(
            "{}: {}",
            origin.line,
            texts.collect::<Vec<_>>().join("|")
        ));
        Ok(())
    };
    let read = read_rows(path, table, &mut sink);
    match read {
        Ok(warnings) => Ok((rows, messages(&warnings))),
        Err(Failed::Input(errors)) => Err(messages(&errors)),
        Err(Failed::Io(error)) => Err(vec![format!("the system says: {:?}", error.kind())]),
    }
}

fn messages(diagnostics: &[Diagnostic]) -> Vec<String> {
    let shown = |d: &Diagnostic| match (&d.hint, d.line) {
        (Some(hint), 1..) if hint.starts_with("did you") => {
            format!("{}:{} {} ({hint})", d.line, d.column, d.message)
        }
        (_, 0) => d.message.clone(),
        _ => format!("{}:{} {}", d.line, d.column, d.message),
    };
    diagnostics.iter().map(shown).collect()
}

fn corpus(kind: &str, name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/corpus")
        .join(kind)
        .join(name)
}

#[test]
fn every_malformed_csv_and_ndjson_file_has_its_message() {
    const AMOUNT: &str = "the value of column `amount` is not a valid numeric(10,2): not a number";
    let cases = [
        (
            "csv/unterminated-quote.csv",
            "2:3 a quote that is never closed",
        ),
        (
            "csv/text-after-closing-quote.csv",
            "2:6 text after a closing quote",
        ),
        (
            "csv/quote-inside-field.csv",
            "2:4 a quote inside an unquoted field",
        ),
        (
            "csv/too-few-fields.csv",
            "3:0 1 field where the header has 2",
        ),
        (
            "csv/too-many-fields.csv",
            "3:5 3 fields where the header has 2",
        ),
        ("csv/duplicate-column.csv", "1:9 two columns are named `id`"),
        (
            "csv/unknown-column.csv",
            "1:4 table `t` has no column `nmae` (did you mean `name`?)",
        ),
        ("csv/unnamed-column.csv", "1:1 column 1 has no name"),
        (
            "csv/missing-required-column.csv",
            "1:0 column `id` is missing and may not be NULL",
        ),
        ("csv/empty.csv", "the file has no header"),
        ("csv/nul.csv", "2:4 a NUL character"),
        ("csv/not-utf8.csv", "2:4 bytes that are not UTF-8"),
        ("csv/utf16.csv", "1:1 UTF-16 text; the file must be UTF-8"),
        (
            "csv/lone-carriage-return.csv",
            "1:8 a carriage return without a line feed outside of quotes",
        ),
        (
            "csv/wrong-value.csv",
            "4:8 the value of column `at` is not a valid timestamp with time zone: out of range",
        ),
        ("csv/quoted-empty-number.csv", &format!("2:4 {AMOUNT}")),
        (
            "csv/many-errors.csv",
            "2:1 the value of column `id` is not a valid bigint: not a whole number",
        ),
        ("ndjson/truncated.ndjson", "2:13 malformed JSON"),
        (
            "ndjson/not-an-object.ndjson",
            "2:1 not a JSON object; every line must hold one",
        ),
        (
            "ndjson/array-of-rows.ndjson",
            "1:1 not a JSON object; every line must hold one",
        ),
        (
            "ndjson/unknown-key.ndjson",
            "1:19 table `t` has no column `nmae` (did you mean `name`?)",
        ),
        (
            "ndjson/duplicate-key.ndjson",
            "1:32 key `name` stands twice in one object",
        ),
        (
            "ndjson/duplicate-escaped-key.ndjson",
            "1:37 key `name` stands twice in one object",
        ),
        (
            "ndjson/missing-required-key.ndjson",
            "2:0 column `id` is missing and may not be NULL",
        ),
        ("ndjson/wrong-value.ndjson", &format!("1:34 {AMOUNT}")),
        (
            "ndjson/number-too-wide.ndjson",
            "1:8 the value of column `id` is not a valid bigint: out of range",
        ),
        ("ndjson/trailing-text.ndjson", "1:11 malformed JSON"),
        ("ndjson/trailing-comma.ndjson", "1:10 malformed JSON"),
        ("ndjson/not-utf8.ndjson", "1:20 bytes that are not UTF-8"),
    ];
    let table = table(CORPUS_TABLE);
    for (file, expected) in cases {
        let (kind, name) = file.split_once('/').expect("a folder");
        let errors = read(&corpus(kind, name), &table).expect_err(file);
        assert_eq!(errors.first().map(String::as_str), Some(expected), "{file}");
        assert!(
            errors.len() <= ERRORS_MAX && !errors.iter().any(|error| error.contains("secret")),
            "{file}"
        );
    }
}

#[test]
fn well_formed_files_are_read_whole() {
    let cases: [(&str, &[&str], &[&str]); 7] = [
        (
            "csv/missing-nullable-column.csv",
            &["2: 1|a|-|-"],
            &["1:0 columns `amount`, `at` are missing and read as NULL"],
        ),
        ("csv/header-only.csv", &[], &[]),
        (
            "csv/no-final-newline.csv",
            &["2: 1|a|1.50|2026-03-12 00:00:00+00"],
            &[],
        ),
        (
            "csv/byte-order-mark-and-crlf.csv",
            &["2: 1|a\r\nb|-|-", "5: 2||1.01|2026-03-12 16:03:51+00"],
            &[],
        ),
        (
            "ndjson/missing-nullable-key.ndjson",
            &["1: 1|a|-|-", "3: 2|-|-|-"],
            &["columns `name`, `amount`, `at` are missing and read as NULL"],
        ),
        ("ndjson/empty.ndjson", &[], &[]),
        (
            "ndjson/wide-numbers.ndjson",
            &["1: 9223372036854775807|1.50|12345678.90|-"],
            &["column `at` is missing and read as NULL"],
        ),
    ];
    let table = table(CORPUS_TABLE);
    for (file, rows, warnings) in cases {
        let (kind, name) = file.split_once('/').expect("a folder");
        let found = read(&corpus(kind, name), &table).expect(file);
        assert_eq!(
            (found.0, found.1),
            (
                rows.iter().map(|s| (*s).into()).collect(),
                warnings.iter().map(|s| (*s).into()).collect()
            ),
            "{file}"
        );
    }
}

#[test]
fn the_file_name_says_which_table_it_is() {
    let cases = [
        ("orders.csv", Some(("public.orders", Format::Csv, false))),
        (
            "a/b/orders.csv.gz",
            Some(("public.orders", Format::Csv, true)),
        ),
        (
            "sales.orders.parquet",
            Some(("sales.orders", Format::Parquet, false)),
        ),
        (
            "orders.PARQUET.zst",
            Some(("public.orders", Format::Parquet, true)),
        ),
        ("x.jsonl", Some(("public.x", Format::Ndjson, false))),
        ("x.feather", Some(("public.x", Format::Arrow, false))),
        ("x.tsv", Some(("public.x", Format::Tsv, false))),
        ("README.md", None),
        ("orders.gz", None),
        ("csv", None),
        (".csv", None),
        ("a..csv", None),
    ];
    for (path, expected) in cases {
        let found = table_name_of(Path::new(path))
            .map(|(table, format, compressed)| (table.to_string(), format, compressed));
        assert_eq!(
            found,
            expected.map(|(table, format, compressed)| (table.to_owned(), format, compressed)),
            "{path}"
        );
    }
}

#[test]
fn compressed_files_are_read_as_they_are_and_damage_is_said() {
    let dir = tempfile::tempdir().expect("a directory");
    let text = "id\tname\n1\ta\n";
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(text.as_bytes()).expect("memory");
    let gz = gz.finish().expect("memory");
    let zst = zstd::encode_all(text.as_bytes(), 1).expect("memory");
    let table = table("create table t (id int, name text)");
    for (name, bytes) in [("t.tsv.gz", &gz), ("t.tsv.zst", &zst)] {
        let path = dir.path().join(name);
        fs::write(&path, bytes).expect("a file");
        assert_eq!(read(&path, &table), Ok((vec!["2: 1|a".into()], vec![])));
        fs::write(&path, &bytes[..bytes.len() - 5]).expect("a file");
        let errors = read(&path, &table).expect_err("a cut file");
        assert!(
            errors[0].starts_with("the file cannot be read: "),
            "{errors:?}"
        );
    }
    let errors = read(&dir.path().join("none.csv"), &table).expect_err("no file");
    assert_eq!(errors, ["the system says: NotFound"]);
}

/// A directory can be opened, and reading from it fails in the system: as a disk fails in the middle of a file.
#[test]
fn what_the_system_fails_to_read_is_not_called_malformed() {
    let dir = tempfile::tempdir().expect("a directory");
    let table = table("create table t (id int, name text)");
    let formats = ["csv", "tsv", "ndjson", "parquet", "arrow"];
    for ending in formats {
        for packed in ["", ".gz", ".zst"] {
            let path = dir.path().join(format!("t.{ending}{packed}"));
            fs::create_dir(&path).expect("a directory");
            let errors = read(&path, &table).expect_err("a directory");
            assert_eq!(errors, ["the system says: IsADirectory"], "{path:?}");
            let schema = read_schema(&path);
            assert!(
                matches!(&schema, Err(Failed::Io(_))),
                "{path:?}: {schema:?}"
            );
        }
    }
}

#[test]
fn schemas_are_inferred_as_narrow_as_the_values_allow() {
    let dir = tempfile::tempdir().expect("a directory");
    let csv = "id,price,zip,flag,day,at,tz,uid,note,none,mixed,wide,code,exp\n\
        1,1.50,01234,true,2026-03-12,2026-03-12 10:00:00,2026-03-12T10:00:00Z,a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,x,,1,9223372036854775808,12E5,1.5e-7\n\
        -2,3,99999,False,2026-03-13,2026-03-13,2026-03-12 10:00:00+02,a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12,\"\",,x,1,13E5,2.0\n";
    let path = dir.path().join("t.csv");
    fs::write(&path, csv).expect("a file");
    let (table, warnings) = read_schema(&path).expect("a schema");
    let types: Vec<String> = table
        .columns
        .iter()
        .map(|column| format!("{} {}", column.name, column.data_type))
        .collect();
    let expected = "id bigint, price numeric, zip text, flag boolean, day date, at timestamp without time zone, \
        tz timestamp with time zone, uid uuid, note text, none text, mixed text, wide numeric, code text, exp numeric";
    assert_eq!(types.join(", "), expected);
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].level, Level::Warning);
    assert!(
        warnings[0]
            .hint
            .as_ref()
            .is_some_and(|hint| hint.contains("create table t (id bigint, price numeric,"))
    );
    assert_eq!(read(&path, &table).expect("rows").0.len(), 2);

    let ndjson = "{\"id\": 1, \"x\": 1.5, \"doc\": {\"a\": 1}, \"s\": \"12\", \"big\": 1e300}\n\
        {\"id\": null, \"x\": 2, \"doc\": [1], \"s\": \"13\", \"big\": 1.5, \"late\": true}\n";
    let path = dir.path().join("t.ndjson");
    fs::write(&path, ndjson).expect("a file");
    let (table, _) = read_schema(&path).expect("a schema");
    let types: Vec<String> = table
        .columns
        .iter()
        .map(|column| format!("{} {}", column.name, column.data_type))
        .collect();
    assert_eq!(
        types.join(", "),
        "id bigint, x numeric, doc jsonb, s text, big double precision, late boolean"
    );
    assert_eq!(
        read(&path, &table).expect("rows").0[1],
        "2: -|2|[1]|13|1.5|t"
    );
}

#[test]
fn a_value_behind_the_inferred_rows_that_does_not_fit_is_an_error_that_says_what_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("t.csv");
    fs::write(&path, format!("id\n{}x7\n", "1\n".repeat(100_000))).expect("a file");
    let (table, _) = read_schema(&path).expect("a schema");
    let errors = match read_rows(&path, &table, &mut |_, _| Ok(())) {
        Err(Failed::Input(errors)) => errors,
        other => panic!("not a misfit: {other:?}"),
    };
    assert_eq!((errors[0].line, errors[0].column), (100_002, 1));
    assert!(
        errors[0]
            .hint
            .as_ref()
            .is_some_and(|hint| hint.contains("schema.sql"))
    );
}

pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % below.max(1)
    }

    /// Cuts, changes, doubles and drops bytes.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        const SPICE: &[u8] = b"\"\n\r,{}[]:\\\0\xff0e-";
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(5) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at.min(bytes.len()), SPICE[self.below(SPICE.len())]),
                2 if at < bytes.len() => bytes[at] = u8::try_from(self.below(256)).unwrap_or(0),
                3 if at < bytes.len() => drop(bytes.remove(at)),
                _ => bytes.extend_from_within(at.min(bytes.len())..),
            }
        }
    }
}

/// Whatever the bytes are, there are rows or located messages.
#[test]
fn mutated_text_files_never_panic() {
    let dir = tempfile::tempdir().expect("a directory");
    let table = table(CORPUS_TABLE);
    let mut random = Random(0x5eed_0002);
    println!("seed {:#x}", random.0);
    for kind in ["csv", "ndjson"] {
        let files = fs::read_dir(corpus(kind, "")).expect("a corpus");
        let seeds: Vec<Vec<u8>> = files
            .map(|file| fs::read(file.expect("a file").path()).expect("bytes"))
            .collect();
        assert!(seeds.len() > 10);
        let path = dir.path().join(format!("t.{kind}"));
        for _ in 0..1_500 {
            let mut bytes = seeds[random.below(seeds.len())].clone();
            random.mutate(&mut bytes);
            fs::write(&path, &bytes).expect("a file");
            if let Err(errors) = read(&path, &table) {
                assert!(!errors.is_empty());
            }
            let _ = read_schema(&path);
        }
    }
}

#[test]
fn records_and_lines_are_bounded() {
    let dir = tempfile::tempdir().expect("a directory");
    let table = table("create table t (a text)");
    let path = dir.path().join("t.csv");
    fs::write(&path, format!("a\n\"{}", "x\n".repeat(9 << 20))).expect("a file");
    let errors = read(&path, &table).expect_err("too long");
    assert_eq!(
        errors,
        ["2:1 a record of more than 16 MiB (is a quote never closed?)"]
    );
    let header: Vec<String> = (0..10_001).map(|n| format!("c{n}")).collect();
    fs::write(&path, header.join(",")).expect("a file");
    assert!(read(&path, &table).expect_err("too wide")[0].ends_with("more than 10,000 columns"));
}

#[test]
fn the_sink_may_stop_the_reading() {
    let table = table(CORPUS_TABLE);
    let path = corpus("csv", "byte-order-mark-and-crlf.csv");
    let mut rows = 0;
    let stopped = read_rows(&path, &table, &mut |origin, _| {
        rows += 1;
        Err(Diagnostic::at("x", origin.line, 0, "no more"))
    });
    assert!(matches!(stopped, Err(Failed::Input(errors)) if errors.len() == 1));
    assert_eq!(rows, 1);
}
