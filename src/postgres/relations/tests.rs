use super::*;
use crate::postgres::fixture::{Datum, delete, insert, relation, text, truncate, update};
use crate::postgres::pgoutput::decode;
use crate::schema::ddl;

const OID: u32 = 16_384;
const COLUMNS: [(bool, &str, u32, i32); 4] = [
    (true, "id", 23, -1),
    (false, "total", 1700, 786_438),
    (false, "note", 25, -1),
    (false, "paid", 16, -1),
];

fn schema(sql: &str) -> Schema {
    ddl::parse(sql, std::path::Path::new("schema.sql")).0
}

fn watched(types: &[(u32, i32)]) -> Watched {
    let column = |(type_oid, typmod): &(u32, i32)| WatchedColumn {
        type_oid: *type_oid,
        typmod: *typmod,
        is_sent: true,
        is_read: true,
    };
    Watched {
        table: 0,
        oid: OID,
        columns: types.iter().map(column).collect(),
    }
}

fn orders() -> Relations {
    let schema = schema(
        "create table orders (id integer primary key, total numeric(12,2), note text, paid boolean);",
    );
    let types: Vec<(u32, i32)> = COLUMNS
        .iter()
        .map(|(_, _, oid, typmod)| (*oid, *typmod))
        .collect();
    Relations::new(schema, vec![watched(&types)])
}

fn announce(relations: &mut Relations, bytes: &[u8]) -> Option<SchemaChange> {
    match decode(bytes) {
        Ok(Message::Relation(relation)) => relations.announce(&relation),
        other => panic!("{other:?}"),
    }
}

fn changes(relations: &Relations, bytes: &[u8]) -> Result<Vec<Change>, Unreadable> {
    let mut out = Vec::new();
    relations.changes(&decode(bytes).expect("a message"), &mut out)?;
    Ok(out)
}

fn one(relations: &Relations, bytes: &[u8]) -> Change {
    changes(relations, bytes).expect("changes").remove(0)
}

fn row(id: &str, total: &str, note: Datum) -> [Datum; 4] {
    [text(id), text(total), note, text("t")]
}

fn decimal(text: &str) -> Cell {
    Cell::Decimal(crate::change::Decimal::parse(text).expect("a number"))
}

#[test]
fn rows_become_images() {
    let mut relations = orders();
    assert_eq!(
        announce(&mut relations, &relation(OID, "orders", b'd', &COLUMNS)),
        None
    );
    let inserted = one(&relations, &insert(OID, &row("-7", "1.50", Datum::Null)));
    assert_eq!(inserted.op, Op::Insert);
    assert_eq!((inserted.key, inserted.before), (None, None));
    let expected = vec![
        (0, Cell::Int(-7)),
        (1, decimal("1.50")),
        (2, Cell::Null),
        (3, Cell::Bool(true)),
    ];
    assert_eq!(inserted.after, Some(expected));

    let updated = one(
        &relations,
        &update(OID, None, &row("7", "2", Datum::Unchanged)),
    );
    assert_eq!((updated.key, updated.before), (None, None));
    let named: Vec<usize> = updated
        .after
        .expect("a row")
        .iter()
        .map(|(at, _)| *at)
        .collect();
    assert_eq!(named, [0, 1, 3], "what was left alone is not named");

    // NULL outside of the identity says nothing.
    let old = [text("6"), Datum::Null, Datum::Null, Datum::Null];
    let moved = one(
        &relations,
        &update(OID, Some((b'K', &old)), &row("7", "2", Datum::Null)),
    );
    assert_eq!(
        (moved.key, moved.before),
        (Some(vec![(0, Cell::Int(6))]), None)
    );
    let gone = one(&relations, &delete(OID, b'K', &old));
    assert_eq!(
        (gone.op, gone.key),
        (Op::Delete, Some(vec![(0, Cell::Int(6))]))
    );
    assert_eq!((gone.before, gone.after), (None, None));

    let whole = row("6", "3", Datum::Null);
    let updated = one(
        &relations,
        &update(OID, Some((b'O', &whole)), &row("6", "4", Datum::Unchanged)),
    );
    assert_eq!(updated.key, None);
    assert_eq!(updated.before.map(|image| image.len()), Some(4));
    assert_eq!(updated.after.map(|image| image.len()), Some(3));
}

#[test]
fn tables_that_nobody_watches_are_passed_over() {
    let mut relations = orders();
    announce(&mut relations, &relation(OID, "orders", b'd', &COLUMNS));
    assert_eq!(relations.interest(9), Interest::NotAnnounced);
    assert_eq!(
        announce(&mut relations, &relation(9, "carts", b'f', &[])),
        None
    );
    assert_eq!(relations.interest(9), Interest::NotWatched);
    assert_eq!(relations.interest(OID), Interest::Watched);
    let truncated = changes(&relations, &truncate(&[9, OID, 9], 0)).expect("changes");
    assert_eq!(truncated.len(), 1);
    assert!(
        changes(&relations, &insert(10, &[])).is_err(),
        "not announced"
    );
    // Values of tables that nobody watches are not read.
    let strange = [Datum::Text(vec![0xff])];
    assert_eq!(changes(&relations, &insert(9, &strange)), Ok(Vec::new()));
}

#[test]
fn columns_that_nobody_reads_are_not_decoded() {
    let mut relations = orders();
    let mut table = relations.watched.tables[0].clone();
    table.columns[0].is_read = false;
    table.columns[2].is_read = false;
    relations = Relations::new(relations.schema().clone(), vec![table]);
    announce(&mut relations, &relation(OID, "orders", b'd', &COLUMNS));
    let inserted = one(
        &relations,
        &insert(OID, &row("7", "1", Datum::Text(vec![0xff]))),
    );
    let named: Vec<usize> = inserted
        .after
        .expect("a row")
        .iter()
        .map(|(at, _)| *at)
        .collect();
    assert_eq!(named, [0, 1, 3], "the key is always read");
}

#[test]
fn an_identity_other_than_the_key() {
    let types = [(23, -1), (25, -1)];
    let columns = |key: [bool; 2]| [(key[0], "id", 23, -1), (key[1], "mail", 25, -1)];
    // An index that has the key among its columns names it; the rest is known before.
    let keyed = schema("create table users (id integer primary key, mail text);");
    let mut relations = Relations::new(keyed.clone(), vec![watched(&types)]);
    assert_eq!(
        announce(
            &mut relations,
            &relation(OID, "users", b'i', &columns([true, true]))
        ),
        None
    );
    let gone = one(&relations, &delete(OID, b'K', &[text("1"), text("a")]));
    assert_eq!(gone.key, Some(vec![(0, Cell::Int(1))]));
    assert_eq!(gone.before, Some(vec![(1, Cell::Text("a".into()))]));
    // One that has not: who changes the key would change another row, so nothing is followed.
    let change = announce(
        &mut relations,
        &relation(OID, "users", b'i', &columns([false, true])),
    );
    let change = change.expect("a change");
    assert!(!change.is_followed && change.lost.is_empty(), "{change:?}");
    assert_eq!(relations.interest(OID), Interest::NotWatched);
    assert_eq!(changes(&relations, &truncate(&[OID], 0)), Ok(Vec::new()));
    let again = announce(
        &mut relations,
        &relation(OID, "users", b'd', &columns([true, false])),
    );
    assert!(again.expect("a change").is_followed);
    // Without a primary key the identity alone says which row it was.
    let keyless = schema("create table users (id integer, mail text);");
    let mut relations = Relations::new(keyless, vec![watched(&types)]);
    announce(
        &mut relations,
        &relation(OID, "users", b'i', &columns([false, true])),
    );
    let updated = one(&relations, &update(OID, None, &[text("2"), text("a")]));
    assert_eq!(updated.key, None);
    assert_eq!(updated.before, Some(vec![(1, Cell::Text("a".into()))]));
}

#[test]
fn what_is_different_is_said_once() {
    let mut relations = orders();
    let mut columns = COLUMNS.to_vec();
    columns[1].3 = 917_510;
    columns[2].1 = "remark";
    let changed = relation(OID, "orders", b'd', &columns);
    let before = relations.clone();
    let found = announce(&mut relations, &changed).expect("a change");
    assert_eq!(
        found.what,
        "column total has another type; column remark is new; column note is gone"
    );
    assert_eq!((found.lost, found.is_followed), (vec![1, 2], true));
    assert_eq!(announce(&mut relations, &changed), None, "said once");
    let inserted = one(&relations, &insert(OID, &row("7", "x", Datum::Null)));
    let named: Vec<usize> = inserted
        .after
        .expect("a row")
        .iter()
        .map(|(at, _)| *at)
        .collect();
    assert_eq!(named, [0, 3], "what is not what it was is not read");
    // A clone keeps what it knew.
    assert_eq!(before.interest(OID), Interest::NotAnnounced);
    let again = announce(&mut relations, &relation(OID, "orders", b'd', &COLUMNS));
    assert!(again.expect("a change").what.contains("again"));

    let renamed = announce(&mut relations, &relation(OID, "sales", b'd', &COLUMNS));
    assert_eq!(renamed.expect("a change").what, "it is named sales now");
    let mut relations = orders();
    let anew = announce(&mut relations, &relation(OID + 1, "orders", b'd', &COLUMNS));
    assert!(anew.expect("a change").what.contains("made anew"));
    let without_key = announce(
        &mut relations,
        &relation(OID, "orders", b'd', &COLUMNS[1..]),
    );
    assert!(!without_key.expect("a change").is_followed);
}

#[test]
fn values_that_do_not_fit_are_named_without_the_value() {
    let mut relations = orders();
    announce(&mut relations, &relation(OID, "orders", b'd', &COLUMNS));
    let refused = |row: &[Datum]| {
        let error = changes(&relations, &insert(OID, row)).expect_err("refused");
        error.to_string()
    };
    let said = refused(&row("77777777777", "1", Datum::Null));
    assert_eq!(
        said,
        "table orders, column id: not a valid integer: out of range"
    );
    let said = refused(&row("7", "canary", Datum::Null));
    assert!(
        said.contains("column total") && !said.contains("canary"),
        "{said}"
    );
    let said = refused(&row("7", "1", Datum::Text(vec![b'c', 0xff])));
    assert!(
        said.contains("table orders, column note: not a valid text: not UTF-8"),
        "{said}"
    );
    let said = refused(&row("7", "1", Datum::Binary(vec![1])));
    assert!(said.contains("binary"), "{said}");
    let said = refused(&[text("7")]);
    assert!(said.contains("another number of columns"), "{said}");
}

#[test]
fn the_quick_way_reads_what_the_long_one_reads() {
    let types = [
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Bool,
        DataType::Text,
    ];
    let texts = [
        "0",
        "-0",
        "1",
        "-1",
        "32767",
        "32768",
        "-32768",
        "-32769",
        "2147483647",
        "2147483648",
        "-2147483648",
        "999999999999999999",
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "",
        "-",
        "+1",
        " 1",
        "1 ",
        "1.0",
        "t",
        "f",
        "true",
        "x",
    ];
    for data_type in &types {
        for text in texts {
            if let Some(cell) = quick(data_type, text.as_bytes()) {
                assert_eq!(parse_text(data_type, text), Ok(cell), "{data_type} {text}");
            }
        }
    }
}

#[test]
fn a_column_with_a_value_that_cannot_be_represented_is_given_up() {
    let mut relations = orders();
    let described = relation(OID, "orders", b'd', &COLUMNS);
    announce(&mut relations, &described);
    let strange = insert(OID, &row("7", "1e200000", Datum::Null));
    let Err(Unreadable::Value {
        table_index,
        column_index,
        error,
        ..
    }) = changes(&relations, &strange)
    else {
        panic!("no numeric has so many digits")
    };
    let change = relations.give_up(table_index, column_index, &error);
    assert_eq!(
        (change.table, &*change.lost, change.is_followed),
        (0, &[1][..], true)
    );
    assert!(
        change
            .what
            .starts_with("column total has a value that cannot"),
        "{}",
        change.what
    );
    let named = one(&relations, &strange).after.expect("a row");
    assert_eq!(
        named.iter().map(|(at, _)| *at).collect::<Vec<_>>(),
        [0, 2, 3]
    );
    // It stays so when the table is described again, and that is not told again.
    assert_eq!(announce(&mut relations, &described), None);
    let named = one(&relations, &strange).after.expect("a row");
    assert_eq!(named.len(), 3);
    // Without its key, a table is not followed.
    let change = relations.give_up(0, 0, &error);
    assert!(!change.is_followed && change.lost == [0, 1]);
    assert_eq!(relations.interest(OID), Interest::NotWatched);
}
