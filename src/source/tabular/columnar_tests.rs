use crate::schema::columnar::cell_from_array;
use std::fs;
use std::sync::Arc;

use datafusion::arrow::array::*;
use datafusion::arrow::datatypes::{
    DataType as ArrowType, Field, Int32Type, Schema as ArrowSchema, i256,
};
use datafusion::arrow::ipc::CompressionType;
use datafusion::arrow::ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
use datafusion::parquet::arrow::ArrowWriter;

use super::tests::{Random, read, table};
use super::*;
use crate::schema::DataType;
use crate::schema::value::{parse_type, to_text};

/// A column with a NULL in the second row, its declared type and what the first row reads as.
type Sample = (&'static str, ArrayRef, &'static str, &'static str);

fn column(
    name: &'static str,
    array: impl Array + 'static,
    declared: &'static str,
    text: &'static str,
) -> Sample {
    (name, Arc::new(array), declared, text)
}

fn numbers() -> Vec<Sample> {
    vec![
        column(
            "bool",
            BooleanArray::from(vec![Some(true), None]),
            "boolean",
            "t",
        ),
        column(
            "i8",
            Int8Array::from(vec![Some(-8), None]),
            "smallint",
            "-8",
        ),
        column(
            "i16",
            Int16Array::from(vec![Some(-16), None]),
            "smallint",
            "-16",
        ),
        column(
            "i32",
            Int32Array::from(vec![Some(-32), None]),
            "integer",
            "-32",
        ),
        column(
            "i64",
            Int64Array::from(vec![Some(i64::MIN), None]),
            "bigint",
            "-9223372036854775808",
        ),
        column(
            "u8",
            UInt8Array::from(vec![Some(255), None]),
            "smallint",
            "255",
        ),
        column(
            "u16",
            UInt16Array::from(vec![Some(65_535), None]),
            "integer",
            "65535",
        ),
        column(
            "u32",
            UInt32Array::from(vec![Some(u32::MAX), None]),
            "bigint",
            "4294967295",
        ),
        column(
            "u64",
            UInt64Array::from(vec![Some(u64::MAX), None]),
            "numeric(20,0)",
            "18446744073709551615",
        ),
        column(
            "f32",
            Float32Array::from(vec![Some(0.1), None]),
            "real",
            "0.1",
        ),
        column(
            "f64",
            Float64Array::from(vec![Some(f64::NAN), None]),
            "double precision",
            "NaN",
        ),
        column(
            "d128",
            Decimal128Array::from(vec![Some(-12_345), None])
                .with_precision_and_scale(12, 2)
                .expect("fits"),
            "numeric(12,2)",
            "-123.45",
        ),
        column(
            "d256",
            Decimal256Array::from(vec![Some(i256::from_i128(5)), None])
                .with_precision_and_scale(50, 3)
                .expect("fits"),
            "numeric(50,3)",
            "0.005",
        ),
        column(
            "d256_wide",
            Decimal256Array::from(vec![
                i256::from_string("123456789012345678901234567890123456789012345"),
                None,
            ])
            .with_precision_and_scale(60, 5)
            .expect("fits"),
            "numeric(60,5)",
            "1234567890123456789012345678901234567890.12345",
        ),
    ]
}

fn times() -> Vec<Sample> {
    vec![
        column(
            "date32",
            Date32Array::from(vec![Some(1), None]),
            "date",
            "1970-01-02",
        ),
        column(
            "t32",
            Time32MillisecondArray::from(vec![Some(1_500), None]),
            "time without time zone",
            "00:00:01.5",
        ),
        column(
            "t64",
            Time64NanosecondArray::from(vec![Some(1_500), None]),
            "time without time zone",
            "00:00:00.000002",
        ),
        column(
            "ts_s",
            TimestampSecondArray::from(vec![Some(-1), None]),
            "timestamp without time zone",
            "1969-12-31 23:59:59",
        ),
        column(
            "ts_ms",
            TimestampMillisecondArray::from(vec![Some(1), None]),
            "timestamp without time zone",
            "1970-01-01 00:00:00.001",
        ),
        column(
            "ts_us",
            TimestampMicrosecondArray::from(vec![Some(1), None]).with_timezone("Europe/Berlin"),
            "timestamp with time zone",
            "1970-01-01 00:00:00.000001+00",
        ),
        column(
            "ts_ns",
            TimestampNanosecondArray::from(vec![Some(-1_500), None]).with_timezone("UTC"),
            "timestamp with time zone",
            "1969-12-31 23:59:59.999999+00",
        ),
    ]
}

fn texts_and_nested() -> Vec<Sample> {
    let words = vec![Some("a"), None];
    let list =
        ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), None]), None]);
    let dictionary: DictionaryArray<Int32Type> = words.clone().into_iter().collect();
    let uuid = FixedSizeBinaryArray::try_from_sparse_iter_with_size(
        [Some([0xab_u8; 16]), None].into_iter(),
        16,
    )
    .expect("16 bytes");
    let structs = StructArray::from(vec![(
        Arc::new(Field::new("x", ArrowType::Int32, true)),
        Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef,
    )]);
    vec![
        column("utf8", StringArray::from(words.clone()), "text", "a"),
        column("large", LargeStringArray::from(words.clone()), "text", "a"),
        column("view", StringViewArray::from(words), "text", "a"),
        column("dict", dictionary, "text", "a"),
        column(
            "bin",
            BinaryArray::from(vec![Some(&b"\0\xff"[..]), None]),
            "bytea",
            "\\x00ff",
        ),
        column(
            "binv",
            BinaryViewArray::from(vec![Some(&b"\0\xff"[..]), None]),
            "bytea",
            "\\x00ff",
        ),
        column("uuid", uuid, "uuid", "abababab-abab-abab-abab-abababababab"),
        column("list", list, "integer[]", "{1,NULL}"),
        column("struct", structs, "jsonb", "{\"x\":1}"),
        column("nothing", NullArray::new(2), "text", "-"),
    ]
}

/// A column of every Arrow type.
fn arrow_columns() -> Vec<Sample> {
    [numbers(), times(), texts_and_nested()].concat()
}

fn arrow_batch() -> RecordBatch {
    let columns = arrow_columns()
        .into_iter()
        .map(|(name, array, _, _)| (name, array, true));
    RecordBatch::try_from_iter_with_nullable(columns).expect("equal lengths")
}

/// The files that one batch makes, by name.
fn columnar_files(batch: &RecordBatch) -> Vec<(&'static str, Vec<u8>)> {
    let schema = batch.schema();
    let mut parquet = ArrowWriter::try_new(Vec::new(), schema.clone(), None).expect("a writer");
    parquet.write(batch).expect("memory");
    let parquet = parquet.into_inner().expect("memory");
    let mut stream = StreamWriter::try_new(Vec::new(), &schema).expect("a writer");
    stream.write(batch).expect("memory");
    let stream = stream.into_inner().expect("memory");
    let mut files = vec![("t.parquet", parquet.clone()), ("t.ipc", stream)];
    files.push((
        "t.parquet.zst",
        zstd::encode_all(parquet.as_slice(), 1).expect("memory"),
    ));
    for (name, compression) in [
        ("t.arrow", None),
        ("lz4.arrow", Some(CompressionType::LZ4_FRAME)),
        ("zstd.feather", Some(CompressionType::ZSTD)),
    ] {
        let options = IpcWriteOptions::default()
            .try_with_compression(compression)
            .expect("enabled");
        let mut file =
            FileWriter::try_new_with_options(Vec::new(), &schema, options).expect("a writer");
        file.write(batch).expect("memory");
        files.push((name, file.into_inner().expect("memory")));
    }
    files
}

#[test]
fn every_arrow_type_is_read_from_every_columnar_format() {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, bytes) in columnar_files(&arrow_batch()) {
        let path = dir.path().join(name);
        fs::write(&path, bytes).expect("a file");
        let (table, warnings) = read_schema(&path).expect(name);
        assert!(warnings.is_empty());
        let (rows, _) = read(&path, &table).expect(name);
        let found: Vec<&str> = rows[0]
            .strip_prefix("1: ")
            .expect("the first row")
            .split('|')
            .collect();
        for (at, (column, _, data_type, text)) in arrow_columns().into_iter().enumerate() {
            let declared = &table.columns[at].data_type;
            assert_eq!(
                (declared.to_string().as_str(), found[at]),
                (data_type, text),
                "{name} {column}"
            );
        }
        assert_eq!(
            rows[1].matches('-').count(),
            table.columns.len() - 1,
            "all but the struct are NULL: {}",
            rows[1]
        );
    }
}

#[test]
fn arrow_values_are_fitted_where_nothing_is_lost() {
    let cases: Vec<(&str, ArrayRef, Result<&str, &str>)> = vec![
        ("bigint", Arc::new(Float64Array::from(vec![3.0])), Ok("3")),
        (
            "bigint",
            Arc::new(Float64Array::from(vec![3.5])),
            Err("not a whole number"),
        ),
        (
            "smallint",
            Arc::new(Int64Array::from(vec![40_000])),
            Err("out of range"),
        ),
        (
            "numeric(10,2)",
            Arc::new(Float64Array::from(vec![0.1])),
            Ok("0.10"),
        ),
        (
            "numeric(4,2)",
            Arc::new(Int32Array::from(vec![100])),
            Err("more digits before the point than declared"),
        ),
        (
            "numeric",
            Arc::new(Float64Array::from(vec![f64::NAN])),
            Ok("NaN"),
        ),
        ("text", Arc::new(Int32Array::from(vec![7])), Ok("7")),
        (
            "text",
            Arc::new(Date32Array::from(vec![0])),
            Ok("1970-01-01"),
        ),
        (
            "date",
            Arc::new(TimestampSecondArray::from(vec![86_400])),
            Ok("1970-01-02"),
        ),
        (
            "date",
            Arc::new(TimestampSecondArray::from(vec![86_401])),
            Err("an Arrow date or time"),
        ),
        (
            "date",
            Arc::new(StringArray::from(vec!["2026-03-12"])),
            Ok("2026-03-12"),
        ),
        (
            "timestamptz",
            Arc::new(Date32Array::from(vec![1])),
            Ok("1970-01-02 00:00:00+00"),
        ),
        (
            "timestamp",
            Arc::new(TimestampSecondArray::from(vec![i64::MAX])),
            Err("out of range"),
        ),
        (
            "timestamp",
            Arc::new(Int64Array::from(vec![0])),
            Err("an Arrow number"),
        ),
        (
            "uuid",
            Arc::new(BinaryArray::from(vec![&b"short"[..]])),
            Err("not 16 bytes"),
        ),
        (
            "text",
            Arc::new(BinaryArray::from(vec![&b"\xff"[..]])),
            Err("bytes that are not UTF-8"),
        ),
        (
            "jsonb",
            Arc::new(StringArray::from(vec!["{\"a\": 1}"])),
            Ok("{\"a\":1}"),
        ),
        (
            "boolean",
            Arc::new(Int32Array::from(vec![1])),
            Err("an Arrow number"),
        ),
    ];
    for (name, array, expected) in cases {
        let data_type = parse_type(name).expect(name);
        let read = cell_from_array(&data_type, &array, 0);
        let shown = read
            .as_ref()
            .map(|cell| to_text(&data_type, cell).unwrap_or_default());
        match (shown, expected) {
            (Ok(text), Ok(expected)) => assert_eq!(text, expected, "{name} {array:?}"),
            (Err(error), Err(expected)) => assert_eq!(error.reason, expected, "{name} {array:?}"),
            (found, expected) => panic!("{name} {array:?}: {found:?} is not {expected:?}"),
        }
    }
    let array = Int32Array::from(vec![1]);
    assert!(cell_from_array(&DataType::Int32, &array, 1).is_err());
}

#[test]
fn columnar_columns_are_matched_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let batch = RecordBatch::try_from_iter([
        ("b", Arc::new(StringArray::from(vec!["x"])) as ArrayRef),
        ("a", Arc::new(Int64Array::from(vec![1])) as ArrayRef),
    ]);
    let (name, bytes) = columnar_files(&batch.expect("equal lengths")).swap_remove(0);
    let path = dir.path().join(name);
    fs::write(&path, bytes).expect("a file");
    let rows = read(&path, &table("create table t (a int, b text, c text)"));
    assert_eq!(
        rows,
        Ok((
            vec!["1: 1|x|-".into()],
            vec!["column `c` is missing and read as NULL".into()]
        ))
    );
    let wrong = read(&path, &table("create table t (a int, c text)"));
    assert_eq!(wrong, Err(vec!["table `t` has no column `b`".into()]));
    let wrong = read(&path, &table("create table t (a int, b int)"));
    assert_eq!(
        wrong,
        Err(vec![
            "row 1: the value of column `b` is not a valid integer: not a whole number".into()
        ])
    );
}

#[test]
fn damaged_columnar_files_are_one_message() {
    let dir = tempfile::tempdir().expect("a directory");
    let batch = RecordBatch::try_from_iter([
        (
            "a",
            Arc::new(Int64Array::from_iter_values(0..500)) as ArrayRef,
        ),
        (
            "b",
            Arc::new(StringArray::from_iter_values(
                (0..500).map(|n| n.to_string()),
            )) as ArrayRef,
        ),
    ]);
    let table = table("create table t (a bigint, b text)");
    let mut random = Random(0x5eed_0003);
    println!("seed {:#x}", random.0);
    for (name, bytes) in columnar_files(&batch.expect("equal lengths")) {
        let path = dir.path().join(name);
        for cut in [0, 3, 8, bytes.len() / 2, bytes.len() - 1] {
            fs::write(&path, &bytes[..cut]).expect("a file");
            let _ = read(&path, &table)
                .map_err(|errors| assert_eq!(errors.len(), 1, "{name} cut at {cut}: {errors:?}"));
        }
        for _ in 0..150 {
            let mut damaged = bytes.clone();
            for _ in 0..=random.below(3) {
                let at = random.below(damaged.len());
                damaged[at] = u8::try_from(random.below(256)).unwrap_or(0);
            }
            fs::write(&path, &damaged).expect("a file");
            if let Err(errors) = read(&path, &table) {
                assert!(!errors.is_empty(), "{name}");
            }
        }
    }
}

#[test]
fn too_many_columns_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let header: Vec<String> = (0..10_001).map(|n| format!("c{n}")).collect();
    let schema = ArrowSchema::new(
        header
            .iter()
            .map(|name| Field::new(name, ArrowType::Int8, true))
            .collect::<Vec<_>>(),
    );
    let (_, bytes) = columnar_files(&RecordBatch::new_empty(Arc::new(schema))).swap_remove(1);
    fs::write(dir.path().join("t.ipc"), bytes).expect("a file");
    assert!(read_schema(&dir.path().join("t.ipc")).is_err());
}
