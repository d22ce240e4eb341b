use super::*;
use crate::change::{Cell, Op};
use crate::postgres::fixture::{
    Datum, Random, begin, commit, corpus, insert, message, relation, text, truncate,
};
use crate::postgres::relations::{Watched, WatchedColumn};
use crate::schema::ddl;

const OID: u32 = 16_384;
const COLUMNS: [(bool, &str, u32, i32); 2] = [(true, "id", 23, -1), (false, "note", 25, -1)];

fn relations() -> Relations {
    let sql = "create table orders (id integer primary key, note text);";
    let schema = ddl::parse(sql, std::path::Path::new("schema.sql"));
    let column = |(_, _, type_oid, typmod)| WatchedColumn {
        type_oid,
        typmod,
        is_sent: true,
        is_read: true,
    };
    let watched = Watched {
        table: 0,
        oid: OID,
        columns: COLUMNS.map(column).to_vec(),
    };
    Relations::new(schema.0, vec![watched])
}

fn assembler(held_bytes: usize) -> (Assembler, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let limits = Limits {
        held_bytes,
        directory: directory.path().to_path_buf(),
    };
    (Assembler::new(relations(), limits), directory)
}

fn order(id: u32, note: &str) -> Vec<u8> {
    insert(OID, &[text(&id.to_string()), text(note)])
}

fn feed(assembler: &mut Assembler, messages: &[Vec<u8>]) -> Vec<Fed> {
    let fed = messages.iter().filter_map(|data| {
        let fed = assembler.feed(data);
        fed.unwrap_or_else(|error| panic!("{error}"))
    });
    fed.collect()
}

fn transaction(fed: Fed) -> Assembled {
    match fed {
        Fed::Transaction(assembled) => *assembled,
        Fed::Mark(mark) => panic!("{mark:?}"),
    }
}

fn items(body: &Body) -> Vec<Item> {
    let mut out = Vec::new();
    let all = body.for_each(|item| {
        out.push(item.clone());
        Ok::<(), AssembleError>(())
    });
    all.expect("the body can be read");
    out
}

fn story() -> Vec<Vec<u8>> {
    let mut more = COLUMNS.to_vec();
    more.push((false, "added", 23, -1));
    let mut out = vec![
        begin(0x100, 5, 9),
        message(true, 1, "firstbad", b"{\"service\":\"a\",\"trace\":1}"),
        relation(OID, "orders", b'd', &COLUMNS),
        relation(77, "other", b'd', &[]),
    ];
    out.extend((0..500).map(|id| order(id, "x")));
    out.push(insert(77, &[]));
    out.push(message(true, 2, "firstbad", b"{\"service\":\"b\"}"));
    out.push(message(true, 3, "firstbad", b"[1]"));
    out.push(message(true, 4, "firstbad-audit", b"low"));
    out.push(relation(OID, "orders", b'd', &more));
    out.push(insert(OID, &[text("900"), text("y"), text("1")]));
    out.push(truncate(&[77, OID], 0));
    out.push(commit(0x100, 0x130));
    out
}

#[test]
fn a_transaction_is_whole_and_in_order() {
    let (mut assembler, _directory) = assembler(1 << 20);
    let mut fed = feed(&mut assembler, &story());
    assert_eq!(fed.len(), 1);
    let found = transaction(fed.remove(0));
    assert_eq!(found.meta.lsn.as_deref(), Some("0/100"));
    assert_eq!(
        (found.meta.xid, found.meta.time),
        (Some(9), Some(946_684_800_000_005))
    );
    let context = serde_json::to_string(&found.meta.context).expect("JSON");
    assert_eq!(context, "{\"service\":\"b\",\"trace\":1}");
    assert_eq!(
        (found.end_lsn, found.changes, found.skipped),
        (Lsn(0x130), 502, 1)
    );
    assert_eq!(found.ignored_contexts, 1);
    assert!(matches!(found.body, Body::Held(_)));
    let items = items(&found.body);
    assert_eq!(items.len(), 504);
    let Item::Change(first) = &items[0] else {
        panic!("{:?}", items[0])
    };
    assert_eq!(
        first.after.as_ref().map(|image| image[0].clone()),
        Some((0, Cell::Int(0)))
    );
    let Item::Mark(mark) = &items[500] else {
        panic!("{:?}", items[500])
    };
    assert_eq!(
        (mark.prefix.as_str(), &*mark.content, mark.lsn),
        ("firstbad-audit", &b"low"[..], Lsn(4))
    );
    let Item::SchemaChanged(change) = &items[501] else {
        panic!("{:?}", items[501])
    };
    assert_eq!(
        (change.table, change.what.as_str()),
        (0, "column added is new")
    );
    assert!(change.lost.is_empty() && change.is_followed);
    assert!(matches!(&items[502], Item::Change(change) if change.op == Op::Insert));
    assert!(matches!(&items[503], Item::Change(change) if change.op == Op::Truncate));
}

#[test]
fn what_is_spilled_reads_as_what_is_held() {
    let (mut held, _directory) = assembler(1 << 20);
    let held = transaction(feed(&mut held, &story()).remove(0));
    for limit in [0, 1, 100, 5_000] {
        let (mut assembler, directory) = assembler(limit);
        let found = transaction(feed(&mut assembler, &story()).remove(0));
        let Body::Spilled(spill) = &found.body else {
            panic!("{limit}: not spilled")
        };
        assert!(spill.bytes() > 5_000);
        assert_eq!(items(&found.body), items(&held.body), "{limit}");
        assert_eq!(items(&found.body), items(&held.body), "{limit}: again");
        assert_eq!(
            (found.meta, found.changes),
            (held.meta.clone(), held.changes)
        );
        let left = std::fs::read_dir(directory.path())
            .expect("a directory")
            .count();
        assert_eq!(left, 0, "the file has no name");
        // What was known at the end of the transaction is known to the next one.
        let next = [
            begin(0x200, 0, 10),
            insert(OID, &[text("1"), text("y"), text("1")]),
            commit(0x200, 0x230),
        ];
        let next = transaction(feed(&mut assembler, &next).remove(0));
        assert_eq!(next.changes, 1);
    }
}

#[test]
fn a_callers_error_ends_the_reading() {
    let (mut assembler, _directory) = assembler(0);
    let found = transaction(feed(&mut assembler, &story()).remove(0));
    let mut count = 0;
    let ended = found.body.for_each(|_| {
        count += 1;
        match count {
            3 => Err(AssembleError::Order("enough")),
            _ => Ok(()),
        }
    });
    assert!(matches!(ended, Err(AssembleError::Order("enough"))));
    assert_eq!(count, 3);
}

#[test]
fn transactions_without_watched_changes_move_the_position() {
    let (mut assembler, _directory) = assembler(1 << 20);
    let empty = [begin(1, 0, 1), commit(1, 2)];
    let found = transaction(feed(&mut assembler, &empty).remove(0));
    assert_eq!(
        (found.changes, found.skipped, found.end_lsn),
        (0, 0, Lsn(2))
    );
    let others = [
        begin(3, 0, 2),
        relation(77, "other", b'd', &[]),
        insert(77, &[]),
        truncate(&[77], 0),
        commit(3, 4),
    ];
    let found = transaction(feed(&mut assembler, &others).remove(0));
    assert_eq!((found.changes, found.skipped), (0, 1));
    assert!(items(&found.body).is_empty());
}

#[test]
fn marks_outside_of_transactions_are_given_at_once() {
    let (mut assembler, _directory) = assembler(1 << 20);
    let fed = feed(
        &mut assembler,
        &[
            message(false, 7, "firstbad-heartbeat", b"1"),
            message(false, 8, "firstbad", b"{\"no\":1}"),
            message(false, 9, "others", b""),
        ],
    );
    assert_eq!(fed.len(), 1);
    assert!(matches!(&fed[0], Fed::Mark(mark) if mark.lsn == Lsn(7)));
}

#[test]
fn too_much_context_is_not_read() {
    let (mut assembler, _directory) = assembler(1 << 20);
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(CONTEXT_BYTES_MAX));
    let messages = [
        begin(1, 0, 1),
        message(true, 1, "firstbad", large.as_bytes()),
        message(true, 1, "firstbad", b"{\"b\":1}"),
        commit(1, 2),
    ];
    let found = transaction(feed(&mut assembler, &messages).remove(0));
    assert_eq!(found.meta.context.map(|context| context.len()), Some(1));
    assert_eq!(found.ignored_contexts, 1);
}

#[test]
fn an_order_that_no_server_sends_is_refused() {
    let wrong: [(&str, Vec<Vec<u8>>); 6] = [
        ("did not begin", vec![commit(1, 2)]),
        ("not the one", vec![begin(1, 0, 1), commit(2, 3)]),
        ("within another", vec![begin(1, 0, 1), begin(2, 0, 2)]),
        ("outside", vec![relation(OID, "orders", b'd', &COLUMNS)]),
        ("outside", vec![order(1, "x")]),
        ("not described", vec![begin(1, 0, 1), order(1, "x")]),
    ];
    for (sign, messages) in wrong {
        let (mut assembler, _directory) = assembler(1 << 20);
        let error = messages.iter().find_map(|data| assembler.feed(data).err());
        let said = error.expect("refused").to_string();
        assert!(said.contains(sign), "{said}");
    }
}

#[test]
fn an_abandoned_transaction_comes_again() {
    let (mut assembler, _directory) = assembler(1 << 20);
    let story = story();
    feed(&mut assembler, &story[..story.len() - 1]);
    assert!(assembler.is_open());
    assembler.abandon();
    assert!(!assembler.is_open());
    let found = transaction(feed(&mut assembler, &story).remove(0));
    assert_eq!(
        items(&found.body).len(),
        504,
        "the change of the table is told again"
    );
}

#[test]
fn no_disk_is_an_error_that_names_the_directory() {
    let (mut assembler, directory) = assembler(10);
    let path = directory.path().display().to_string();
    drop(directory);
    feed(&mut assembler, &[begin(1, 0, 1)]);
    let error = assembler.feed(&relation(OID, "orders", b'd', &COLUMNS));
    let said = error.expect_err("no directory").to_string();
    assert!(said.contains(&path), "{said}");
}

#[test]
fn no_stream_is_too_strange() {
    let mut random = Random::new();
    let mut corpus: Vec<Vec<u8>> = corpus().into_iter().map(|(_, bytes)| bytes).collect();
    corpus.extend(story().into_iter().take(8));
    corpus.push(commit(0x100, 0x130));
    corpus.push(order(3, "größer"));
    corpus.push(vec![b'I', 0, 0, 0, 77, b'N', 0, 1, b't', 0, 0, 0, 1, 0xff]);
    corpus.push(insert(OID, &[Datum::Null]));
    let (mut whole, mut failed) = (0, 0);
    let (mut assembler, _directory) = assembler(300);
    for _ in 0..40_000 {
        let mut bytes = corpus[random.below(corpus.len())].clone();
        if random.below(4) == 0 {
            let at = random.below(bytes.len());
            bytes[at] = random.byte();
        }
        match assembler.feed(&bytes) {
            Ok(Some(Fed::Transaction(found))) => {
                whole += 1;
                let _ = found.body.for_each(|_| Ok::<(), AssembleError>(()));
            }
            Ok(_) => {}
            Err(_) => {
                failed += 1;
                if random.below(3) == 0 {
                    assembler.abandon();
                }
            }
        }
    }
    assert!(whole > 20 && failed > 20, "{whole} {failed}");
}

#[test]
fn a_value_that_cannot_be_represented_stops_nothing() {
    for limit in [0, 1 << 20] {
        let (mut assembler, _directory) = assembler(limit);
        let strange = insert(OID, &[text("x"), text("y")]);
        let messages = |lsn| {
            vec![
                begin(lsn, 0, 1),
                relation(OID, "orders", b'd', &COLUMNS),
                order(1, "x"),
                insert(OID, &[text("2"), Datum::Text(b"a\0b".to_vec())]),
                order(3, "x"),
                commit(lsn, lsn + 1),
            ]
        };
        let found = transaction(feed(&mut assembler, &messages(1)).remove(0));
        let kinds = |body: &Body| -> Vec<usize> {
            let named = |item: &Item| match item {
                Item::Change(change) => change.after.as_ref().map_or(0, Vec::len),
                Item::SchemaChanged(change) => 10 + change.lost.len(),
                Item::Mark(_) => 20,
            };
            items(body).iter().map(named).collect()
        };
        assert_eq!(kinds(&found.body), [2, 11, 1, 1], "{limit}");
        if limit > 0 {
            let found = transaction(feed(&mut assembler, &messages(5)).remove(0));
            assert_eq!(kinds(&found.body), [1, 1, 1], "it is told once");
            let mut messages = messages(9);
            messages.insert(3, strange);
            let found = transaction(feed(&mut assembler, &messages).remove(0));
            assert_eq!(
                kinds(&found.body),
                [1, 12],
                "without a key nothing is followed"
            );
        }
    }
}
