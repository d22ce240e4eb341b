//! Files of a source that cannot be read, or whose names cannot: who is wrong, the user's files or the world (CONTRACT section 1).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use crate::place::Place;

const RULES: &str = "table: t\nrules:\n  - {id: bad, key: [id], not_null: [a]}\n";
const SCHEMA: &str = "create table t (id bigint primary key, a text);\n";
const LINE: &str = "{\"commit\": 1, \"changes\": [{\"table\": \"t\", \"op\": \"insert\", \"after\": {\"id\": 1, \"a\": \"x\"}}]}\n";

/// A file of the system that is there, can be opened, and fails when it is read: as a disk does that is broken.
const BROKEN: &str = "/proc/self/mem";

fn history() -> Place {
    Place::new()
        .with("d/schema.sql", SCHEMA)
        .with("d/snapshot/t.csv", "id,a\n")
        .with("d/changes/1.ndjson", LINE)
        .with("r.yaml", RULES)
}

#[test]
fn what_the_system_cannot_read_is_no_mistake_of_the_user() {
    assert!(
        std::path::Path::new(BROKEN).exists(),
        "this test needs the /proc of Linux"
    );
    for (name, packed) in [
        ("snapshot/t.csv", ""),
        ("snapshot/t.tsv", ""),
        ("snapshot/t.ndjson", ""),
        ("snapshot/t.csv", ".gz"),
        ("snapshot/t.csv", ".zst"),
        ("snapshot/t.arrow", ".gz"),
        ("changes/1.ndjson", ""),
        ("changes/1.ndjson", ".gz"),
        ("schema.sql", ""),
    ] {
        let place = history();
        let name = format!("d/{name}{packed}");
        if name.contains("snapshot") {
            std::fs::remove_file(place.path("d/snapshot/t.csv")).expect("the file was there");
        }
        let _ = std::fs::remove_file(place.path(&name));
        symlink(BROKEN, place.path(&name)).expect("a link");
        let ran = place.run(&["check", "d", "--rules", "r.yaml"]).exits(3);
        let ran = ran.warns(&["cannot read ", &name, "Input/output error"]);
        assert_eq!(ran.out, "", "{name}");
    }
    // Where the schema is read from the files themselves, and from dumps.
    for name in ["t.csv", "t.ndjson", "night.sql", "night.sql.gz"] {
        let place = Place::new().with("r.yaml", RULES).with("d/readme.md", "");
        symlink(BROKEN, place.path("d").join(name)).expect("a link");
        let ran = place.run(&["check", "d", "--rules", "r.yaml"]).exits(3);
        ran.warns(&["cannot read ", name]);
    }
}

#[test]
fn what_is_malformed_is_a_mistake_of_the_user() {
    for (name, content) in [
        ("snapshot/t.csv", b"id,a\n1\n" as &[u8]),
        ("snapshot/t.csv.gz", b"\x1f\x8b\x08\x00cut"),
        ("snapshot/t.csv.zst", b"no frame"),
        ("snapshot/t.parquet", b"PAR1PAR1"),
        ("snapshot/t.parquet.gz", b"PAR1PAR1"),
        ("snapshot/t.arrow", b"ARROW1"),
        ("changes/1.ndjson.gz", b"\x1f\x8b\x08\x00cut"),
    ] {
        let place = history();
        let _ = std::fs::remove_file(place.path("d/snapshot/t.csv"));
        let _ = std::fs::remove_file(place.path("d/changes/1.ndjson"));
        place.write(&format!("d/{name}"), content);
        place
            .run(&["check", "d", "--rules", "r.yaml"])
            .refused(&[name]);
    }
}

#[test]
fn names_that_are_not_utf8_are_told_where_the_file_would_be_read() {
    let name = |bytes: &'static [u8]| OsStr::from_bytes(bytes);
    for (directory, bytes, shown) in [
        (
            "d/snapshot",
            b"t\xff\x1b.csv" as &[u8],
            "`t\\xff\\u{1b}.csv` is not UTF-8",
        ),
        ("d/snapshot", b"\xe4.parquet.zst", "`\\xe4.parquet.zst`"),
        ("d/changes", b"2\xff.ndjson.gz", "`2\\xff.ndjson.gz`"),
    ] {
        let place = history();
        std::fs::write(place.path(directory).join(name(bytes)), "id,a\n").expect("a file");
        let ran = place
            .run(&["check", "d", "--rules", "r.yaml"])
            .refused(&[shown]);
        assert!(!ran.err.contains('\u{1b}'), "{}", ran.err);
    }
    // Nights of a series, as directories and as dumps.
    let place = Place::new()
        .with("d/schema.sql", SCHEMA)
        .with("d/snapshots/1/t.csv", "id,a\n")
        .with("r.yaml", RULES);
    std::fs::create_dir(place.path("d/snapshots").join(name(b"2\xff"))).expect("a directory");
    place
        .run(&["check", "d", "--rules", "r.yaml"])
        .refused(&["`2\\xff` is not UTF-8"]);
    let place = Place::new().with("d/1.sql", SCHEMA).with("r.yaml", RULES);
    std::fs::write(place.path("d").join(name(b"2\xff.sql")), SCHEMA).expect("a file");
    place
        .run(&["check", "d", "--rules", "r.yaml"])
        .refused(&["`2\\xff.sql` is not UTF-8"]);
    // Files that would not be read are not looked at.
    let place = history();
    for directory in ["d", "d/snapshot", "d/changes"] {
        let path = place.path(directory).join(name(b"notes\xff.txt"));
        std::fs::write(path, "x").expect("a file");
    }
    place.run(&["check", "d", "--rules", "r.yaml"]).exits(0);
}
