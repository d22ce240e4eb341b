//! Random tables of all types; what is written down comes back as it was.

use datafusion::arrow::array::{Int64Array, StringArray};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use datafusion::arrow::array::Decimal128Array;

use super::*;
use crate::change::Decimal;
use crate::change::{Change, Op};
use crate::schema::value;
use crate::schema::value::parse_type;
use crate::schema::{Column as TableColumn, TableName};

/// Small numbers from a seed (splitmix64).
pub(in crate::state) struct Rng(pub(in crate::state) u64);

impl Rng {
    pub(in crate::state) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(in crate::state) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    pub(in crate::state) fn shuffle<T>(&mut self, of: &mut [T]) {
        for at in (1..of.len()).rev() {
            of.swap(at, self.below(at + 1));
        }
    }
}

/// Runs a property with many seeds; `STATE_SEED` is the first one, to see a failure again.
pub(in crate::state) fn seeds(count: u64) -> impl Iterator<Item = Rng> {
    let first: u64 = std::env::var("STATE_SEED").map_or(0, |seed| seed.parse().expect("a number"));
    (first..first + count).map(|seed| {
        println!("STATE_SEED={seed}");
        Rng(seed)
    })
}

pub(in crate::state) const TYPES: [&str; 32] = [
    "boolean",
    "smallint",
    "integer",
    "bigint",
    "real",
    "double precision",
    "numeric",
    "numeric(12,2)",
    "text",
    "varchar(9)",
    "char(4)",
    "bytea",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "uuid",
    "json",
    "jsonb",
    "inet",
    "boolean[]",
    "integer[]",
    "real[]",
    "double precision[]",
    "numeric[]",
    "text[]",
    "bytea[]",
    "date[]",
    "time[]",
    "timestamptz[]",
    "uuid[]",
    "jsonb[]",
];

pub(in crate::state) fn table(types: &[&str], key: &[usize]) -> Table {
    let column = |(at, name): (usize, &&str)| TableColumn {
        name: ["b", "_unknown", "a", "ä", "B", "c", "_"][at].to_owned(),
        data_type: parse_type(name).expect("a type"),
        nullable: true,
    };
    Table {
        name: TableName::parse("t"),
        columns: types.iter().enumerate().map(column).collect(),
        primary_key: key.to_vec(),
        foreign_keys: Vec::new(),
    }
}

/// A table with one to six columns, and no key or one of up to three columns.
pub(in crate::state) fn any_table(rng: &mut Rng) -> Table {
    let count = 1 + rng.below(6);
    let types: Vec<&str> = (0..count).map(|_| rng.one(&TYPES)).collect();
    let mut key: Vec<usize> = (0..count).collect();
    rng.shuffle(&mut key);
    key.truncate(rng.below(4));
    table(&types, &key)
}

pub(in crate::state) fn any_cell(rng: &mut Rng, data_type: &DataType) -> Cell {
    match rng.below(12) {
        0 => Cell::Null,
        1 => Cell::Unknown,
        _ => any_value(rng, data_type),
    }
}

/// Numbers that are no decimals, or none beside others.
const WIDE: [&str; 10] = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e131071",
    "-1e-16383",
    "99999999999999999999999999999999999999",
    "0.00000000000000000000000000000000000001",
    "-0.99999999999999999999999999999999999999999990",
    "-1.5",
    "123456789012345678901234567890123456789.50",
];

fn any_value(rng: &mut Rng, data_type: &DataType) -> Cell {
    let wide = rng.below(3) == 0;
    let any = rng.next() as i64;
    let small = any % 3;
    match data_type {
        DataType::Bool => Cell::Bool(any % 2 == 0),
        DataType::Int16 if wide => Cell::Int(i64::from(any as i16)),
        DataType::Int32 if wide => Cell::Int(i64::from(any as i32)),
        DataType::Int64 if wide => Cell::Int([any, i64::MIN, i64::MAX][rng.below(3)]),
        DataType::Int16 | DataType::Int32 | DataType::Int64 => Cell::Int(small),
        DataType::Float32 => Cell::Float(f64::from(any_float(rng) as f32)),
        DataType::Float64 => Cell::Float(any_float(rng)),
        DataType::Numeric {
            precision_scale: None,
        } if rng.below(12) == 0 => {
            let number = value::parse_number(rng.one(&WIDE));
            Cell::from(number.expect("a number"))
        }
        DataType::Numeric { precision_scale } => {
            let digits = if wide { any } else { small };
            let scale = precision_scale.map_or(rng.below(7) as u8, |_| 2);
            Cell::Decimal(Decimal {
                unscaled: i128::from(digits) * if wide { 31 } else { 5 },
                scale,
            })
        }
        DataType::Bytea => {
            let bytes: [&[u8]; 7] = [b"", b"\0", b"\0\0", b"\0\xff", b"a", b"a\0b", b"\xff"];
            Cell::Bytes(rng.one(&bytes).to_vec())
        }
        DataType::Date if wide => {
            Cell::Date([any as i32 % 900_000, i32::MIN, i32::MAX][rng.below(3)])
        }
        DataType::Date => Cell::Date(small as i32),
        DataType::Time => Cell::Time(any.rem_euclid(86_400_000_001)),
        DataType::Timestamp | DataType::TimestampTz if wide => {
            Cell::Timestamp([any, i64::MIN, i64::MAX][rng.below(3)])
        }
        DataType::Timestamp | DataType::TimestampTz => Cell::Timestamp(small),
        DataType::Uuid => {
            Cell::Text(format!("{:08x}-0000-4000-8000-{any:012x}", small + 5)[..36].to_owned())
        }
        DataType::Json | DataType::Jsonb => {
            let documents = [
                "{\"a\":1}",
                "{\"a\":1.0}",
                "[]",
                "null",
                "{\"b\":2,\"a\":10e-1}",
                "{\"a\":1,\"b\":2}",
                "1",
                "\"1\"",
            ];
            Cell::Text(rng.one(&documents).to_owned())
        }
        DataType::Array(element) => any_list(rng, element, 0),
        _ => {
            let texts = [
                "", "a", "ab", "b", "ä", "NULL", "null", "a b", "\u{1}", "{", "\"", "\\", ",",
                "#1", "a\u{0}",
            ];
            // Without the last one: Postgres has no NUL in texts. It costs nothing to keep it in order all the same.
            Cell::Text(rng.one(&texts).to_owned())
        }
    }
}

fn any_float(rng: &mut Rng) -> f64 {
    let some = [
        0.0,
        -0.0,
        1.5,
        -1.5,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        1e-30,
    ];
    match rng.below(2) {
        0 => some[rng.below(some.len())],
        _ => f64::from_bits(rng.next()),
    }
}

/// Empty, with NULLs, of several dimensions, ragged.
fn any_list(rng: &mut Rng, element: &DataType, depth: usize) -> Cell {
    let count = rng.below(4);
    let items = (0..count).map(|_| match rng.below(8) {
        0 => Cell::Null,
        1 if depth < 3 => any_list(rng, element, depth + 1),
        _ => any_value(rng, element),
    });
    Cell::List(items.collect())
}

pub(in crate::state) fn any_rows(rng: &mut Rng, table: &Table, count: usize) -> Vec<Vec<Cell>> {
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for _ in 0..count {
        let row = match rows.len() {
            have if have > 0 && rng.below(6) == 0 => rows[rng.below(have)].clone(),
            _ => {
                let cells = table
                    .columns
                    .iter()
                    .map(|column| any_cell(rng, &column.data_type));
                cells.collect()
            }
        };
        rows.push(row);
    }
    rows
}

pub(in crate::state) fn loaded(table: &Table, rows: &[Vec<Cell>]) -> TableVersions {
    let mut versions = TableVersions::new(table.clone(), false);
    rows.iter().for_each(|row| versions.load(row));
    versions
}

/// Every cell to the last digit.
fn shown(versions: &TableVersions) -> Vec<String> {
    let row = |row: u32| {
        let cells = (0..versions.table.columns.len()).map(|at| versions.cell(at, row));
        format!("{:?}", cells.collect::<Vec<_>>())
    };
    (0..versions.version_count() as u32).map(row).collect()
}

fn again(table: &Table, stored: &StoredRows) -> TableVersions {
    let mut versions = TableVersions::new(table.clone(), false);
    versions.load_stored(stored);
    versions
}

#[test]
fn what_is_written_down_comes_back_to_the_last_digit() {
    for mut rng in seeds(300) {
        let table = any_table(&mut rng);
        let count = rng.below(40);
        let rows = any_rows(&mut rng, &table, count);
        let versions = loaded(&table, &rows);
        let stored = versions.stored_at(0);
        let batch = stored.to_batch(&table);
        let read = StoredRows::from_batch(&table, &batch).expect("it was just written");
        assert_eq!(read.to_batch(&table), batch);
        let back = again(&table, &read);
        assert_eq!(shown(&back), shown(&versions));
        assert_eq!(back.row_count(), versions.row_count());
        for (row, cells) in rows.iter().enumerate() {
            for (at, cell) in cells.iter().enumerate() {
                assert_eq!(read.cell(&table, at, row), *cell);
            }
            assert_eq!(back.find(cells).count(), versions.find(cells).count());
        }
        let known = rows.iter().flatten().all(|cell| *cell != Cell::Unknown);
        assert_eq!(
            batch.num_columns(),
            table.columns.len() + usize::from(!known)
        );
    }
}

#[test]
fn parquet_gives_back_the_same_batch() {
    for mut rng in seeds(20) {
        let table = any_table(&mut rng);
        let versions = loaded(&table, &any_rows(&mut rng, &table, 30));
        let batch = versions.stored_at(0).to_batch(&table);
        let file = tempfile::tempfile().expect("a temporary file");
        let copy = file.try_clone().expect("a second handle");
        let mut writer = ArrowWriter::try_new(copy, batch.schema(), None).expect("a writer");
        writer.write(&batch).expect("the batch is written");
        writer.close().expect("the file is whole");
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("a Parquet file");
        let mut batches = reader.build().expect("a reader");
        let read = batches.next().expect("a batch").expect("it can be read");
        let read = StoredRows::from_batch(&table, &read).expect("it was just written");
        assert_eq!(shown(&again(&table, &read)), shown(&versions));
    }
}

#[test]
fn parts_are_taken_and_put_together() {
    for mut rng in seeds(100) {
        let table = any_table(&mut rng);
        let rows = any_rows(&mut rng, &table, 30);
        // Loaded apart, so that the scales of decimals differ.
        let cut = rng.below(31);
        let (a, b) = rows.split_at(cut);
        let parts = [a, b].map(|rows| loaded(&table, rows).stored_at(0));
        let whole = StoredRows::concat(&[&parts[0], &parts[1]]);
        let mut order: Vec<u32> = (0..30).collect();
        rng.shuffle(&mut order);
        order.truncate(20);
        let taken = whole.take(&order);
        assert_eq!(
            (whole.len(), taken.len(), whole.is_empty()),
            (30, 20, false)
        );
        let sliced = whole.slice(cut, 30 - cut);
        for (at, _) in table.columns.iter().enumerate() {
            for (row, &from) in order.iter().enumerate() {
                assert_eq!(taken.cell(&table, at, row), rows[from as usize][at]);
            }
            for (row, cells) in rows[cut..30].iter().enumerate() {
                assert_eq!(sliced.cell(&table, at, row), cells[at]);
            }
        }
        let direct = shown(&again(&table, &loaded(&table, &rows).stored_at(0)));
        assert_eq!(shown(&again(&table, &whole)), direct);
    }
}

#[test]
fn numbers_without_a_common_scale_are_kept_as_they_are() {
    let table = table(&["text", "numeric", "integer"], &[2]);
    let row = |id: i64, n: &str| {
        let n = Cell::Decimal(Decimal::parse(n).expect("a number"));
        vec![Cell::Text(format!("row {id}")), n, Cell::Int(id)]
    };
    let wide = loaded(&table, &[row(1, "1"), row(2, &"9".repeat(38))]).stored_at(0);
    let fine = loaded(&table, &[row(3, "0.001")]).stored_at(0);
    let both = StoredRows::concat(&[&wide, &fine]);
    assert_eq!(
        both.to_batch(&table).column(1).data_type(),
        &ArrowType::Utf8
    );
    let mut versions = again(&table, &fine);
    versions.load_stored(&wide);
    versions.load(&row(4, "4"));
    let rows = [
        row(3, "0.001"),
        row(1, "1"),
        row(2, &"9".repeat(38)),
        row(4, "4"),
    ];
    for (at, row) in rows.iter().enumerate() {
        let cells: Vec<Cell> = (0..3)
            .map(|column| versions.cell(column, at as u32))
            .collect();
        assert_eq!(&cells, row);
        assert!(versions.holds_key(row));
    }
    // Few digits take half of the room, and one value too many takes all of it.
    let precision = |rows: &StoredRows| match rows.to_batch(&table).column(1).data_type() {
        ArrowType::Decimal128(precision, scale) => (*precision, *scale),
        other => panic!("{other} is no decimal"),
    };
    assert_eq!((precision(&fine), precision(&wide)), ((18, 3), (38, 0)));
}

#[test]
fn foreign_batches_are_refused() {
    let table = table(
        &["integer", "smallint", "numeric", "integer[]", "time"],
        &[],
    );
    let rows = any_rows(&mut Rng(5), &table, 9);
    let batch = loaded(&table, &rows).stored_at(0).to_batch(&table);
    assert_eq!(StoredRows::unknown_name(&table), "__unknown");
    assert_eq!(batch.num_columns(), 6);
    let read = |columns: Vec<(&str, ArrayRef)>| {
        let batch = RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(n, a)| (n, a, true)),
        );
        StoredRows::from_batch(&table, &batch.expect("columns of one length")).map(|_| ())
    };
    let good = || -> Vec<(&str, ArrayRef)> {
        let names = ["b", "_unknown", "a", "ä", "B", "__unknown"];
        names
            .into_iter()
            .zip(batch.columns().iter().cloned())
            .collect()
    };
    assert_eq!(read(good()), Ok(()));
    for gone in 0..5 {
        let mut columns = good();
        columns.remove(gone);
        assert_eq!(read(columns), Err(Malformed::Columns));
        let mut columns = good();
        columns[gone].0 = "other";
        assert_eq!(read(columns), Err(Malformed::Columns));
        let mut columns = good();
        columns.swap(gone, gone + 1);
        assert_eq!(read(columns), Err(Malformed::Columns));
        let mut columns = good();
        columns[gone].1 = Arc::new(datafusion::arrow::array::NullArray::new(9));
        assert!(matches!(read(columns), Err(Malformed::Type { .. })));
    }
    let with = |at: usize, array: ArrayRef| {
        let mut columns = good();
        columns.truncate(5);
        columns[at].1 = array;
        read(columns)
    };
    let ints = |value: i64| Arc::new(Int64Array::from(vec![value; 9]));
    let texts = |text: &str| Arc::new(StringArray::from(vec![text; 9]));
    let wrong = |at: usize| Err(Malformed::Value(table.columns[at].name.clone()));
    assert_eq!(with(0, ints(1 << 31)), wrong(0));
    assert_eq!(with(1, ints(1 << 15)), wrong(1));
    assert_eq!(with(1, ints(-1)), Ok(()));
    for text in [
        "",
        "{",
        "}",
        "{1",
        "{1,}",
        "{a}",
        "{1}x",
        "[1:1]={1}",
        "{\"1",
        "{{1},",
        "{1.5}",
        &"{".repeat(99_999),
    ] {
        assert_eq!(with(3, texts(text)), wrong(3), "{text}");
    }
    assert_eq!(with(3, texts("{{1,NULL},{\"2\"}}")), Ok(()));
    let huge = Decimal128Array::from(vec![i128::MAX; 9]);
    assert_eq!(with(2, Arc::new(huge)), wrong(2));
    let late = datafusion::arrow::array::Time64MicrosecondArray::from(vec![TIME_MAX + 1; 9]);
    assert_eq!(with(4, Arc::new(late)), wrong(4));
    let marked = |bits: &[u8]| {
        let mut columns = good();
        columns[5].1 = Arc::new(BinaryArray::from(vec![bits; 9]));
        read(columns)
    };
    // None at all, of columns that are not there, of cells that hold a value, too many and too few.
    for bits in [&[0][..], &[1 << 5], &[0b11111], &[1, 0], &[]] {
        assert_eq!(marked(bits), Err(Malformed::Unknown), "{bits:?}");
    }
}

#[test]
fn rows_are_found_by_their_cells_whatever_way_they_came() {
    let table = table(&["jsonb", "bytea", "integer[]", "text"], &[]);
    let row = |document: &str| {
        let list = Cell::List(vec![Cell::Int(1), Cell::Null]);
        let bytes = Cell::Bytes(vec![0, 7]);
        vec![
            Cell::Text(document.into()),
            bytes,
            list,
            Cell::Text("a".into()),
        ]
    };
    let direct = loaded(&table, &[row("{\"a\":1,\"b\":10}")]);
    for versions in [again(&table, &direct.stored_at(0)), direct] {
        for (document, count) in [
            ("{\"a\":1,\"b\":10}", 1),
            ("{\"b\": 1e1, \"a\": 1.0}", 1),
            ("{\"a\":1,\"b\":11}", 0),
        ] {
            assert_eq!(versions.find(&row(document)).count(), count, "{document}");
        }
    }
}

#[test]
fn changes_find_rows_that_came_all_at_once() {
    for mut rng in seeds(100) {
        let table = table(
            &["integer", "text"],
            if rng.below(3) > 0 { &[0] } else { &[] },
        );
        let row = |rng: &mut Rng, ids| {
            let text = ["a", "b"][rng.below(2)];
            vec![Cell::Int(rng.below(ids) as i64), Cell::Text(text.into())]
        };
        let rows: Vec<Vec<Cell>> = (0..rng.below(30)).map(|_| row(&mut rng, 60)).collect();
        let mut single = loaded(&table, &rows);
        let mut at_once = TableVersions::new(table.clone(), false);
        let (a, b) = rows.split_at(rng.below(rows.len() + 1));
        for part in [a, b] {
            let stored = loaded(&table, part).stored_at(0);
            at_once.load_stored(&stored);
        }
        let image = |cells: Vec<Cell>| Some(cells.into_iter().enumerate().collect());
        for commit in 1..20 {
            let found = |versions: &TableVersions, cells: &[Cell]| {
                (
                    versions.find(cells).collect::<Vec<_>>(),
                    versions.holds_key(cells),
                )
            };
            let (old, new) = (row(&mut rng, 60), row(&mut rng, 60));
            assert_eq!(found(&at_once, &old), found(&single, &old));
            let op = [Op::Insert, Op::Update, Op::Delete, Op::Truncate][rng.below(31) / 10];
            let change = Change {
                table: 0,
                op,
                key: None,
                before: image(old).filter(|_| matches!(op, Op::Update | Op::Delete)),
                after: image(new).filter(|_| matches!(op, Op::Insert | Op::Update)),
            };
            let results = [&mut single, &mut at_once].map(|one| one.apply(commit, 1, &change));
            assert_eq!(results[0], results[1]);
            assert_eq!(shown(&at_once), shown(&single));
            assert_eq!(at_once.visible(commit), single.visible(commit));
            assert_eq!(at_once.row_count(), single.row_count());
        }
    }
}

#[test]
fn pieces_are_all_rows_in_parts() {
    let table = table(&["text", "bytea"], &[]);
    let long = vec![Cell::Text("x".repeat(PIECE_BYTES)), Cell::Null];
    let short = vec![Cell::Null, Cell::Bytes(vec![1; 9])];
    let mut rows = vec![short; PIECE_ROWS + 7];
    rows[PIECE_ROWS + 4] = long;
    let versions = loaded(&table, &rows);
    let all = versions.visible(0);
    let pieces: Vec<&[u32]> = versions.pieces(&all).collect();
    let sizes: Vec<usize> = pieces.iter().map(|piece| piece.len()).collect();
    assert_eq!(sizes, [PIECE_ROWS, 5, 2]);
    assert_eq!(pieces.concat(), all);
}
