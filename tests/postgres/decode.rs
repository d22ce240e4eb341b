//! What real servers send becomes transactions whose replay is the server's state.

use std::collections::HashSet;

use firstbad::change::{Cell, Change, Op};
use firstbad::postgres::Lsn;
use firstbad::postgres::assemble::{Assembled, Fed, Item};
use firstbad::postgres::pgoutput::{Message, Value, decode};
use firstbad::postgres::relations::SchemaChange;

use crate::catchup::{catching_up, large_transaction, seam};
use crate::postgres::{Cluster, Setup};
use crate::rng::Rng;
use crate::stand::{SETTINGS, Stand, changes, items};
use crate::writes::{SCHEMA, TABLES, statement, transaction};

#[test]
fn the_stream_is_followed() {
    let cluster = Cluster::start_with(&Setup {
        settings: &["max_prepared_transactions=10"],
        ..Setup::default()
    });
    type Check = (&'static str, fn(&Cluster));
    let checks: [Check; 12] = [
        ("operations", operations),
        ("identities", identities),
        ("large values", large_values),
        ("partitions", partitions),
        ("schema changes", schema_changes),
        ("columns that are not sent", unsent_columns),
        ("two phases", two_phases),
        ("messages", messages),
        ("texts", texts),
        ("a large transaction", large_transaction),
        ("catching up", catching_up),
        ("the seam", seam),
    ];
    for (name, check) in checks {
        eprintln!("{name}");
        check(&cluster);
    }
}

#[test]
fn a_random_workload_is_followed() {
    let seed = match std::env::var("FIRSTBAD_SEED") {
        Ok(seed) => seed.parse().expect("FIRSTBAD_SEED is a number"),
        Err(_) => 20_261_121,
    };
    eprintln!("FIRSTBAD_SEED={seed}");
    let mut rng = Rng::new(seed);
    let cluster = Cluster::start();
    let mut begin = SCHEMA.to_owned();
    (0..40).for_each(|_| begin.push_str(&statement(&mut rng)));
    let mut stand = Stand::new(&cluster, "workload", &begin, &TABLES);
    let mut ops = HashSet::new();
    for round in 0..6 {
        let script: String = (0..80).map(|_| transaction(&mut rng)).collect();
        stand.sql(&script);
        for found in stand.follow() {
            ops.extend(changes(&found).iter().map(|change| change.op));
        }
        stand.is_equal(&format!("seed {seed}, round {round}"));
    }
    assert_eq!(ops.len(), 4, "every operation was there: {ops:?}");
}

fn only(mut found: Vec<Assembled>) -> Assembled {
    assert_eq!(found.len(), 1, "one transaction");
    found.remove(0)
}

fn ops(found: &Assembled) -> Vec<(usize, Op)> {
    changes(found).iter().map(|c| (c.table, c.op)).collect()
}

fn schema_change(found: &[Assembled]) -> Vec<SchemaChange> {
    let change = |item| match item {
        Item::SchemaChanged(change) => Some(change),
        _ => None,
    };
    found.iter().flat_map(items).filter_map(change).collect()
}

fn operations(cluster: &Cluster) {
    let sql = "create table a (id integer primary key, n integer); create table b (id integer primary key);
               create table c (a integer, b text, primary key (a, b)); create table other (id integer primary key);
               insert into a select n, n from generate_series(1, 5) n;";
    let mut stand = Stand::new(cluster, "operations", sql, &["a", "b", "c"]);
    stand.sql(
        "begin; insert into a values (6, 6); update a set n = 7 where id = 6; update a set id = 60 where id = 6;
         insert into other values (1); delete from a where id = 1; commit;",
    );
    let found = only(stand.follow());
    assert_eq!(found.skipped, 0, "what is not published is not sent");
    let changes_found = changes(&found);
    let ops_found: Vec<Op> = changes_found.iter().map(|c| c.op).collect();
    assert_eq!(ops_found, [Op::Insert, Op::Update, Op::Update, Op::Delete]);
    assert_eq!(changes_found[1].key, None, "the key is in `after`");
    assert_eq!(changes_found[2].key, Some(vec![(0, Cell::Int(6))]));
    assert_eq!(changes_found[3].key, Some(vec![(0, Cell::Int(1))]));
    let (lsn, end) = (
        found.meta.lsn.clone().expect("an LSN"),
        found.end_lsn.to_string(),
    );
    let ordered = stand.sql(&format!(
        "select '{lsn}'::pg_lsn < '{end}'::pg_lsn and '{end}' <= pg_current_wal_lsn()"
    ));
    assert_eq!(ordered.trim(), "t");
    let skew = stand.sql(&format!(
        "select abs(extract(epoch from now()) * 1000000 - {}) < 600000000",
        found.meta.time.expect("a time")
    ));
    assert_eq!(skew.trim(), "t", "the time is the commit's, since 1970");

    stand.sql("begin; insert into b values (1); insert into c values (1, 'x'); truncate c, a, b; insert into b values (2); commit;");
    let found = only(stand.follow());
    let expected = [
        (1, Op::Insert),
        (2, Op::Insert),
        (2, Op::Truncate),
        (0, Op::Truncate),
        (1, Op::Truncate),
        (1, Op::Insert),
    ];
    assert_eq!(ops(&found), expected);
    stand.is_equal("truncate");

    // What is rolled back to a savepoint is not sent, nor is what is rolled back whole.
    stand.sql(
        "begin; insert into a values (1, 1); savepoint s; insert into a values (2, 2); rollback to s;
         savepoint t; insert into a values (3, 3); release t; commit; begin; insert into a values (4, 4); rollback;",
    );
    assert_eq!(only(stand.follow()).changes, 2);
    // Two rows that change places within a transaction, a key of two columns, and a row that comes back.
    stand.sql(
        "begin; update a set id = -1 where id = 1; update a set id = 1 where id = 3; update a set id = 3 where id = -1;
         insert into c values (1, 'a'), (1, 'b'); update c set b = 'z' where b = 'a'; delete from c where b = 'z';
         insert into c values (1, 'z'); commit;",
    );
    stand.follow();
    stand.is_equal("operations");
}

fn identities(cluster: &Cluster) {
    let sql = "create table by_key (id integer primary key, note text); insert into by_key values (1, 'a');
               create table by_row (id integer, note text); alter table by_row replica identity full;
               insert into by_row values (1, 'a'), (1, 'a'), (2, null);
               create table by_index (id integer, mail text not null, n integer); create unique index mails on by_index (mail);
               alter table by_index replica identity using index mails; insert into by_index values (1, 'a', 1), (2, 'b', 2);
               create table by_both (id integer primary key, mail text not null, n integer);
               create unique index on by_both (mail); alter table by_both replica identity using index by_both_mail_idx;
               create table none (id integer primary key); alter table none replica identity nothing; insert into none values (1);";
    let tables = ["by_both", "by_index", "by_key", "by_row", "none"];
    let mut stand = Stand::new(cluster, "identities", sql, &tables);
    let refused = "do $$ begin update none set id = 2; raise 'not refused'; exception when object_not_in_prerequisite_state then null; end $$;";
    stand.sql(refused);
    stand.sql(
        "update by_row set note = 'b' where ctid = (select min(ctid) from by_row); delete from by_row where id = 2;
         update by_index set n = 5 where mail = 'a'; update by_index set id = 9, mail = 'c' where mail = 'b';
         delete from by_index where mail = 'a'; insert into none values (2);
         alter table by_key replica identity full; update by_key set note = 'b';
         alter table by_key replica identity default; update by_key set id = 3;",
    );
    let found = stand.follow();
    stand.is_equal("identities");
    assert_eq!(
        schema_change(&found),
        [],
        "another identity alone changes nothing"
    );
    let updates: Vec<Change> = found.iter().flat_map(changes).collect();
    let full = updates.iter().find(|c| c.table == 3 && c.op == Op::Update);
    let full = full.expect("an update of by_row");
    assert_eq!(full.before.as_ref().map(Vec::len), Some(2));
    // An index that does not hold the primary key: who changes the key could not be told from another row.
    stand.sql("insert into by_both values (1, 'a', 1); update by_both set id = 2;");
    let told: Vec<_> = stand
        .take()
        .into_iter()
        .filter_map(|fed| match fed {
            Fed::Transaction(found) => Some(*found),
            Fed::Mark(_) => None,
        })
        .collect();
    let change = &schema_change(&told)[0];
    assert!(!change.is_followed && change.table == 0, "{change:?}");
    assert_eq!(told.iter().map(|found| found.changes).sum::<u64>(), 0);
    assert_eq!(told.iter().map(|found| found.skipped).sum::<u64>(), 2);
}

fn large_values(cluster: &Cluster) {
    let large = |letter: &str| {
        format!("(select string_agg(md5('{letter}' || n), '') from generate_series(1, 400) n)")
    };
    let sql = format!(
        "create table by_key (id integer primary key, n integer, large text); create table by_row (id integer primary key, n integer, large text);
         alter table by_row replica identity full; insert into by_key values (1, 1, {0}); insert into by_row values (1, 1, {0});",
        large("a")
    );
    let mut stand = Stand::new(cluster, "large_values", &sql, &["by_key", "by_row"]);
    stand.sql("begin; update by_key set n = 2; update by_row set n = 2; commit;");
    let found = changes(&only(stand.follow()));
    let named = |change: &Change| -> Vec<usize> {
        change.after.iter().flatten().map(|(at, _)| *at).collect()
    };
    assert_eq!(
        (named(&found[0]), named(&found[1])),
        (vec![0, 1], vec![0, 1]),
        "not named"
    );
    assert_eq!(found[0].before, None);
    assert_eq!(
        found[1].before.as_ref().map(Vec::len),
        Some(3),
        "the old row has it"
    );
    stand.is_equal("unchanged");
    stand.sql(&format!(
        "update by_key set large = {0}; update by_row set large = {0}, id = 2; delete from by_row;",
        large("b")
    ));
    stand.follow();
    stand.is_equal("changed");
}

fn partitions(cluster: &Cluster) {
    let sql = "create table p (id integer, day date, n integer, primary key (id, day)) partition by range (day);
               create table p1 partition of p for values from ('2026-01-01') to ('2026-02-01');
               create table p2 (n integer, day date not null, gone text, id integer not null);
               alter table p2 drop column gone; alter table p2 add primary key (id, day);
               alter table p attach partition p2 for values from ('2026-02-01') to ('2026-03-01');
               create table p3 (id integer, day date, n integer, primary key (id, day)); insert into p3 values (100, '2026-03-03', 1);
               insert into p values (1, '2026-01-05', 1);";
    let mut stand = Stand::new(cluster, "partitions", sql, &["p"]);
    stand.sql("insert into p values (2, '2026-02-05', 2); insert into p1 values (3, '2026-01-06', 3); update p set n = 9 where id = 2;");
    let found = stand.follow();
    assert_eq!(
        schema_change(&found),
        [],
        "leaves are read as their root, whatever the order of their columns"
    );
    stand.is_equal("leaves");
    stand.sql("update p set day = '2026-02-07' where id = 3");
    assert_eq!(
        ops(&only(stand.follow())),
        [(0, Op::Delete), (0, Op::Insert)],
        "a row that moves"
    );
    stand.is_equal("a row that moves");
    // What comes with a partition, or goes with one, is in no log: only reading the table again tells of it.
    stand.sql("alter table p attach partition p3 for values from ('2026-03-01') to ('2026-04-01')");
    assert!(stand.follow().is_empty(), "attaching is not seen");
    stand.sql("alter table p detach partition p3");
    assert!(stand.follow().is_empty(), "detaching is not seen");
    stand.is_equal("attached and detached");
    stand.sql("create table p4 partition of p for values from ('2026-05-01') to ('2026-06-01'); insert into p values (8, '2026-05-05', 8);");
    assert_eq!(
        only(stand.follow()).changes,
        1,
        "a new partition is seen at once"
    );
    stand.is_equal("a new partition");
    stand.sql("begin; delete from p4; truncate p4; commit; ");
    assert_eq!(
        ops(&only(stand.follow())),
        [(0, Op::Delete)],
        "truncating a partition is not seen"
    );
    stand.sql("truncate p; insert into p values (7, '2026-01-01', 7);");
    let found = stand.follow();
    assert_eq!(ops(&found[0]), [(0, Op::Truncate)]);
    stand.is_equal("truncate");
}

fn schema_changes(cluster: &Cluster) {
    let sql = "create table t (id integer primary key, a text, b numeric(10,2), c integer); insert into t values (1, 'x', 1, 1);";
    let mut stand = Stand::new(cluster, "schema_changes", sql, &["t"]);
    stand.sql("begin; insert into t values (2, 'y', 2, 2); alter table t add column d integer default 7; insert into t values (3, 'z', 3, 3, 3); commit;");
    let found = only(stand.follow());
    let kinds: Vec<bool> = items(&found)
        .iter()
        .map(|item| matches!(item, Item::SchemaChanged(_)))
        .collect();
    assert_eq!(kinds, [false, true, false], "it is told where it happens");
    let change = &schema_change(&[found])[0];
    assert_eq!(
        (change.what.as_str(), &*change.lost),
        ("column d is new", &[][..])
    );
    stand.sql("analyze t; insert into t values (4, 'z', 4, 4, 4);");
    assert_eq!(schema_change(&stand.follow()), [], "it is told once");
    stand.sql("alter table t drop column d; insert into t values (5, 'z', 5, 5)");
    assert!(schema_change(&stand.follow())[0].what.contains("again"));
    stand.is_equal("a column that came and went");
    let told = |stand: &mut Stand<'_>, sql: &str| {
        stand.sql(sql);
        let found = stand.take().into_iter().filter_map(|fed| match fed {
            Fed::Transaction(found) => Some(*found),
            Fed::Mark(_) => None,
        });
        let found: Vec<Assembled> = found.collect();
        let change = schema_change(&found).pop().expect("a change");
        (change.what, change.lost, change.is_followed)
    };
    let expected = |what: &str, lost: &[usize]| (what.to_owned(), lost.to_vec(), true);
    let found = told(
        &mut stand,
        "alter table t alter column b type numeric(12,4); insert into t values (6, 'z', 6, 6)",
    );
    assert_eq!(found, expected("column b has another type", &[2]));
    let found = told(
        &mut stand,
        "alter table t rename column a to aa; insert into t values (7, 'z', 7, 7)",
    );
    assert_eq!(
        found,
        expected(
            "column aa is new; column b has another type; column a is gone",
            &[1, 2]
        )
    );
    // A column that was dropped and made anew cannot be told from itself: that the table is described again is all there is.
    stand.sql("insert into t values (80, 'z', 8, 8)");
    assert_eq!(
        only_taken(&mut stand).described,
        [0],
        "a new session of the server's"
    );
    stand.sql("insert into t values (81, 'z', 8, 8); alter table t drop column c; alter table t add column c integer; insert into t values (82, 'z', 8, 8)");
    let taken = stand.take();
    let described: Vec<usize> = taken
        .iter()
        .map(|fed| match fed {
            Fed::Transaction(found) => found.described.len(),
            Fed::Mark(_) => 0,
        })
        .filter(|count| *count > 0)
        .collect();
    assert_eq!(described, [1, 1]);
    let found = told(
        &mut stand,
        "alter table t rename to u; insert into u values (9, 'z', 9, 9)",
    );
    assert!(found.0.starts_with("it is named u now"), "{}", found.0);
    let found = told(
        &mut stand,
        "alter table u drop constraint t_pkey; alter table u drop column id; alter table u replica identity full; insert into u values ('z', 9, 9); select 1; ",
    );
    assert!(!found.2, "{}", found.0);
}

/// The one transaction with changes, which the history does not take.
fn only_taken(stand: &mut Stand<'_>) -> Assembled {
    let taken = stand.take().into_iter().filter_map(|fed| match fed {
        Fed::Transaction(found) if found.changes > 0 => Some(*found),
        _ => None,
    });
    only(taken.collect())
}

fn unsent_columns(cluster: &Cluster) {
    let sql = "create table t (id integer primary key, gone text, a integer, twice integer generated always as (a * 2) stored, \"Odd \"\"name\" text);
               alter table t drop column gone; create domain positive as integer check (value > 0);
               create table d (id positive primary key, at timestamptz(3), many positive[]);";
    let mut stand = Stand::new(cluster, "unsent_columns", sql, &["d", "t"]);
    stand.sql("insert into t (id, a, \"Odd \"\"name\") values (1, 21, 'x'); insert into d values (1, '2026-03-12 16:03:51.221+05', '{1,2}');");
    let found = stand.follow();
    assert_eq!(
        schema_change(&found),
        [],
        "dropped and generated columns are expected to be missing"
    );
    let insert = changes(&found[0]).remove(0);
    let named: Vec<usize> = insert.after.iter().flatten().map(|(at, _)| *at).collect();
    assert_eq!(named, [0, 1, 3]);
}

fn two_phases(cluster: &Cluster) {
    let sql = "create table t (id integer primary key);";
    let mut stand = Stand::new(cluster, "two_phases", sql, &["t"]);
    stand.sql("begin; insert into t values (1); prepare transaction 'one'; begin; insert into t values (2); prepare transaction 'two'; insert into t values (3);");
    let found = only(stand.follow());
    assert_eq!(
        changes(&found)[0].after,
        Some(vec![(0, Cell::Int(3))]),
        "what is prepared is not there yet"
    );
    stand.sql("commit prepared 'two'; rollback prepared 'one';");
    let found = only(stand.follow());
    assert_eq!(changes(&found)[0].after, Some(vec![(0, Cell::Int(2))]));
    stand.is_equal("prepared transactions");
}

fn messages(cluster: &Cluster) {
    let sql = "create table t (id integer primary key);";
    let mut stand = Stand::new(cluster, "messages", sql, &["t"]);
    stand.sql(
        "begin; select pg_logical_emit_message(true, 'firstbad', '{\"service\": \"a\", \"n\": 12345678901234567890}');
         insert into t values (1); select pg_logical_emit_message(true, 'firstbad', '{\"service\": \"größer\"}');
         select pg_logical_emit_message(true, 'firstbad', 'none'); select pg_logical_emit_message(true, 'others', '{\"no\": 1}');
         select pg_logical_emit_message(true, 'firstbad-audit', 'inside'); insert into t values (2); commit;
         begin; select pg_logical_emit_message(false, 'firstbad-audit', 'outside'); rollback;",
    );
    let taken = stand.take();
    let Fed::Transaction(found) = &taken[0] else {
        panic!("{:?}", taken[0])
    };
    let context = serde_json::to_value(&found.meta.context).expect("JSON");
    assert_eq!(context["service"], "größer");
    assert_eq!(found.ignored_contexts, 1);
    let inside = items(found);
    assert!(
        matches!(&inside[1], Item::Mark(mark) if mark.content == b"inside"),
        "{inside:?}"
    );
    let outside = taken.iter().find_map(|fed| match fed {
        Fed::Mark(mark) => Some(mark),
        Fed::Transaction(_) => None,
    });
    let outside = outside.expect("a mark, though its transaction was rolled back");
    assert_eq!(
        (outside.prefix.as_str(), &*outside.content),
        ("firstbad-audit", &b"outside"[..])
    );
    assert!(outside.lsn > Lsn(0));
}

/// The text of every value is what the server writes anywhere else, whatever the database's own settings are.
fn texts(cluster: &Cluster) {
    let mut rng = Rng::new(7);
    let stand = Stand::new(cluster, "texts", SCHEMA, &TABLES);
    stand.sql(
        "alter database texts set datestyle = 'German'; alter database texts set intervalstyle = 'sql_standard';
         alter database texts set extra_float_digits = -3; alter database texts set timezone = 'Asia/Kathmandu';
         alter database texts set bytea_output = 'escape';",
    );
    let script: String = (0..150).map(|_| statement(&mut rng)).collect();
    stand.sql(&format!("truncate items; {script} begin; create temp table kept as select * from items; truncate items; insert into items select * from kept order by id; commit;"));
    let mut texts: Vec<String> = Vec::new();
    let mut oid = 0;
    for message in stand.messages() {
        match decode(&message).expect("a message") {
            Message::Begin(_) => texts.clear(),
            Message::Relation(relation) if relation.name == "items" => oid = relation.oid,
            Message::Insert { relation, new } if relation == oid => {
                let shown = |value| match value {
                    Value::Null => "null".to_owned(),
                    Value::Text(bytes) => format!("={}", String::from_utf8_lossy(bytes)),
                    other => panic!("{other:?}"),
                };
                let row: Vec<String> = new.values().map(shown).collect();
                texts.push(row.join("\u{1}"));
            }
            Message::Commit(_) if texts.len() > 10 => break,
            _ => {}
        }
    }
    let table = stand
        .history
        .schema
        .tables
        .iter()
        .find(|table| table.name.name == "items");
    let shown = |column: &firstbad::schema::Column| {
        format!(
            "case when {0} is null then 'null' else '=' || format('%s', {0}) end",
            column.name
        )
    };
    let columns: Vec<String> = table.expect("items").columns.iter().map(shown).collect();
    let rows = stand.sql(&format!(
        "{SETTINGS} select to_json(concat_ws(E'\\x01', {})) from items order by id",
        columns.join(", ")
    ));
    let rows: Vec<String> = rows
        .lines()
        .map(|line| serde_json::from_str(line).expect("a text"))
        .collect();
    assert!(rows.len() > 10);
    assert_eq!(texts, rows);
}
