//! Files that are not what they say.

use std::io::Write;
use std::process::Command;

use crate::{ORDERS, SCHEMA, Source};

const HEAD: &str = "id,status,total,email,placed\n";

fn csv(rows: &[u8]) -> Vec<u8> {
    [HEAD.as_bytes(), rows].concat()
}

fn gz(parts: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    parts.for_each(|part| out.write_all(&part).expect("memory takes everything"));
    out.finish().expect("memory takes everything")
}

fn zst(parts: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut out = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
    parts.for_each(|part| out.write_all(&part).expect("memory takes everything"));
    out.finish().expect("memory takes everything")
}

#[test]
fn malformed_tables_are_located_errors_without_values() {
    let long = b"1,"
        .iter()
        .copied()
        .chain(std::iter::repeat_n(b'x', 100 << 20))
        .collect::<Vec<u8>>();
    let quoted = b"1,\""
        .iter()
        .copied()
        .chain(b"SECRET7\n".iter().copied().cycle().take(64 << 20))
        .collect::<Vec<u8>>();
    let packed = gz(std::iter::once(csv(&b"1,SECRET7,1,x,\n".repeat(1000))));
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("orders.csv", csv(b"1,\0SECRET7,1,x,\n")),
        ("orders.csv", csv(b"1,SECRET7\xff,1,x,\n")),
        ("orders.csv", csv(b"1,\"SECRET7")),
        ("orders.csv", Vec::new()),
        ("orders.csv", csv(&long)),
        ("orders.csv", csv(&quoted)),
        ("orders.csv", csv(b"1,SECRET7\n")),
        ("orders.csv", csv(b"1,a,99999999999999.999,x,\n")),
        ("orders.csv", csv(b"1,a,SECRET7,x,\n")),
        ("orders.csv", csv(b"1,a,Infinity,x,\n")),
        ("orders.csv", csv(b"1,a,1e999999999,x,\n")),
        ("orders.csv", csv(b"1,a,1,x,999999-01-01T00:00:00Z\n")),
        ("orders.csv", csv(b"1,a,1,x,SECRET7\n")),
        ("orders.csv", csv(b"9223372036854775808,a,1,x,\n")),
        (
            "orders.parquet",
            [b"PK\x03\x04".as_slice(), &[0; 1000]].concat(),
        ),
        ("orders.parquet", b"PAR1".to_vec()),
        (
            "orders.parquet",
            [b"PAR1".as_slice(), &[255; 100], b"\xff\xff\xff\x7fPAR1"].concat(),
        ),
        (
            "orders.arrow",
            [b"ARROW1\0\0".as_slice(), &[255; 100]].concat(),
        ),
        ("orders.csv.gz", packed[..packed.len() / 2].to_vec()),
        ("orders.csv.gz", b"junk".to_vec()),
        ("orders.csv.zst", b"junk".to_vec()),
        (
            "orders.ndjson",
            b"{\"id\":1,\"status\":\"SECRET7\",\"id\":2}".to_vec(),
        ),
        (
            "orders.ndjson",
            b"{\"id\":1,\"status\":\"SECRET7\\ud800\"}".to_vec(),
        ),
        (
            "orders.ndjson",
            b"{\"id\":1,\"status\":\"SECRET7\\u0000\"}".to_vec(),
        ),
        (
            "orders.ndjson",
            format!("{{\"id\":1{}}}", "0".repeat(10_000)).into_bytes(),
        ),
        ("orders.ndjson", b"{\"id\":\"SECRET7\"}".to_vec()),
        ("orders.ndjson", b"[{\"id\":1}]".to_vec()),
        ("orders.ndjson", b"{\"id\":1,".to_vec()),
        ("nope.csv", csv(b"")),
    ];
    for (name, content) in cases {
        let source = Source::new();
        source.file(&format!("snapshot/{name}"), &content);
        let what = format!(
            "{name}: {}",
            String::from_utf8_lossy(&content[..content.len().min(80)])
        );
        let ran = source.check(&[]);
        ran.refused(name, &what);
        assert!(!ran.stderr.contains("SECRET7"), "{what}\n{}", ran.stderr);
    }
}

#[test]
fn compressed_bombs_end_early() {
    let chunk = vec![b'x'; 1 << 20];
    let one = |start: &[u8]| {
        std::iter::once(start.to_vec()).chain(std::iter::repeat_n(chunk.clone(), 300))
    };
    let cases = [
        ("snapshot/orders.csv.gz", gz(one(&csv(b"1,")))),
        ("snapshot/orders.csv.zst", zst(one(&csv(b"1,")))),
        (
            "snapshot/orders.ndjson.gz",
            gz(one(b"{\"id\":1,\"status\":\"")),
        ),
        ("snapshot/orders.parquet.zst", zst(one(b"PAR1"))),
        ("snapshot/orders.arrow.zst", zst(one(b"ARROW1\0\0"))),
        (
            "changes/1.ndjson.zst",
            zst(one(b"{\"commit\":1,\"changes\":\"")),
        ),
    ];
    for (name, content) in cases {
        let source = Source::new();
        source
            .file(name, &content)
            .check(&[])
            .refused(name.rsplit('/').next().unwrap_or(name), name);
    }
}

#[test]
fn what_is_no_file_is_said_and_never_waited_for() {
    for (name, wanted) in [
        ("snapshot/orders.csv", "pipe"),
        ("changes/1.ndjson", "pipe"),
        ("schema.sql", "pipe"),
        ("rules/a.yaml", "pipe"),
    ] {
        let source = Source::new();
        source.file("rules/b.yaml", format!("rules:\n{}", crate::HARMLESS));
        let path = source.path(name);
        std::fs::create_dir_all(path.parent().expect("below the root")).expect("a directory");
        let _ = std::fs::remove_file(&path);
        assert!(
            Command::new("mkfifo")
                .arg(&path)
                .status()
                .expect("mkfifo (coreutils) is installed")
                .success()
        );
        if name.starts_with("rules") {
            let _ = std::fs::remove_file(source.path("rules.yaml"));
            std::os::unix::fs::symlink(source.path("rules"), source.path("rules.yaml"))
                .expect("a link");
        }
        source.check(&[]).refused(wanted, name);
        if name == "snapshot/orders.csv" {
            source
                .check_at(&path, &[])
                .refused("orders.csv", "a pipe by name");
        }
    }
    for (target, wanted) in [
        ("/dev/zero", "device"),
        ("orders.csv", "leads nowhere"),
        ("nowhere", "leads nowhere"),
        ("..", "directory"),
    ] {
        let source = Source::new();
        std::os::unix::fs::symlink(target, source.path("snapshot/orders.csv")).expect("a link");
        source.check(&[]).refused(wanted, target);
    }
    let source = Source::new();
    std::fs::create_dir(source.path("snapshot/orders.csv")).expect("a directory");
    source.check(&[]).refused("directory", "a directory");
}

#[test]
fn file_names_cannot_speak_to_the_terminal_or_match_others() {
    for name in [
        "a\nb\u{1b}[2J.csv",
        "or*ders.csv",
        "Orders.csv",
        "orders .csv",
        "orders\u{202e}.csv",
    ] {
        let source = Source::with_orders();
        source.file(&format!("snapshot/{name}"), ORDERS);
        let ran = source.check(&[]);
        ran.refused("has no table", name);
        assert!(!ran.stderr.contains(['\u{1b}', '\u{202e}']), "{name}");
    }
    let source = Source::with_orders();
    source
        .file("snapshot/orders.ndjson", "{\"id\":3}\n")
        .check(&[])
        .refused("two files", "two formats");
}

#[test]
fn large_but_honest_inputs_work() {
    let source = Source::with_orders();
    let tables: String = (0..10_000)
        .map(|n| format!("create table t{n}(id int primary key, a text);\n"))
        .collect();
    assert_eq!(
        source
            .file("schema.sql", format!("{SCHEMA}{tables}"))
            .check(&[])
            .code,
        Some(0)
    );
    let names: Vec<String> = (0..1600).map(|n| format!("c{n}")).collect();
    source.file(
        "schema.sql",
        format!(
            "create table orders(id bigint primary key, {} text);",
            names.join(" text, ")
        ),
    );
    let rows: String = (0..200)
        .map(|id| format!("{id}{}\n", ",x".repeat(1600)))
        .collect();
    source.file(
        "snapshot/orders.csv",
        format!("id,{}\n{rows}", names.join(",")),
    );
    assert_eq!(source.check(&[]).code, Some(0));
    let source = Source::new();
    let deep = format!(
        "{{\"id\":1,\"status\":{}1{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert!(
        [Some(0), Some(2)].contains(&source.file("snapshot/orders.ndjson", deep).check(&[]).code)
    );
    for text in [
        format!("({}1{})", "(".repeat(100_000), ")".repeat(100_000)),
        "1 + ".repeat(100_000) + "1",
    ] {
        let source = Source::with_orders();
        source.file(
            "schema.sql",
            format!("{}create table x(id int default {text});", SCHEMA),
        );
        assert!([Some(0), Some(2)].contains(&source.check(&[]).code));
    }
}

#[test]
fn malformed_histories_are_located_errors_without_values() {
    let deep = format!(
        "{{\"commit\":1,\"context\":{}1{},\"changes\":[]}}",
        "{\"a\":".repeat(100_000),
        "}".repeat(100_000)
    );
    let change = |change: &str| format!("{{\"commit\":1,\"changes\":[{change}]}}");
    let cases = [
        "{\"commit\":0,\"changes\":[]}".into(),
        "{\"commit\":1099511627776,\"changes\":[]}".into(),
        "{\"commit\":2,\"changes\":[]}".into(),
        "{\"commit\":-1,\"changes\":[]}".into(),
        "{\"commit\":1.5,\"changes\":[]}".into(),
        "{\"commit\":1,\"changes\":[]}\n{\"commit\":1,\"changes\":[]}".into(),
        "{\"commit\":1,\"changes\":[]}\n{\"commit\":3,\"changes\":[]}".into(),
        "{\"commit\":1,\"time\":\"999999999-01-01T00:00:00Z\",\"changes\":[]}".into(),
        "{\"commit\":1,\"lsn\":\"FFFFFFFFF/FFFFFFFFF\",\"changes\":[]}".into(),
        "{\"commit\":1,\"xid\":99999999999999999999,\"changes\":[]}".into(),
        "{\"commit\":1,\"context\":[1],\"changes\":[]}".into(),
        deep,
        "[]".into(),
        // By itself a line of `null` is a tombstone of Debezium, which is skipped.
        "{\"commit\":1,\"changes\":[]}\nnull".into(),
        "\u{0}".into(),
        change(
            "{\"table\":\"orders\",\"op\":\"insert\",\"after\":{\"id\":1,\"status\":\"SECRET7\"}}",
        ),
        change(
            "{\"table\":\"orders\",\"op\":\"update\",\"before\":{\"id\":1,\"status\":\"SECRET7\"},\"after\":{\"status\":\"x\"}}",
        ),
        change("{\"table\":\"orders\",\"op\":\"delete\",\"before\":{\"id\":99}}"),
        change("{\"table\":\"orders\",\"op\":\"update\",\"after\":{\"status\":\"SECRET7\"}}"),
        change("{\"table\":\"orders\",\"op\":\"\\u001b[2J\",\"after\":{\"id\":1}}"),
        change("{\"table\":\"\\u001b[2J\\nx\",\"op\":\"insert\",\"after\":{\"id\":1}}"),
        change("{\"table\":\"orders\",\"op\":\"insert\",\"after\":{\"id\":\"SECRET7\"}}"),
        change("{\"table\":\"orders\",\"op\":\"insert\",\"after\":{\"id\":5,\"id\":6}}"),
        change(
            "{\"table\":\"orders\",\"op\":\"insert\",\"after\":{\"id\":5,\"nope\":\"SECRET7\"}}",
        ),
        change("{\"table\":\"nope\",\"op\":\"truncate\"}"),
        change("{}"),
        change("1"),
    ];
    for case in cases {
        let source = Source::with_orders();
        let ran = source.file("changes/1.ndjson", &case).check(&[]);
        ran.refused("1.ndjson:", &case[..case.len().min(120)]);
        assert!(
            !ran.stderr.contains("SECRET7") && !ran.stderr.contains('\u{1b}'),
            "{case}\n{}",
            ran.stderr
        );
    }
}
