//! Slots that are lost, made anew, or hold back too much.

use super::{Guest, ORDERS, RULES};

const MADE: &str = "select pg_create_logical_replication_slot('firstbad', 'pgoutput')";
const DROPPED: &str = "select pg_drop_replication_slot('firstbad')";
/// Ends whoever streams, and takes the slot away before it can be streamed again.
const TAKEN: &str = "do $$ begin
    loop
        perform pg_terminate_backend(active_pid) from pg_replication_slots where active;
        begin
            perform pg_drop_replication_slot('firstbad');
            return;
        exception when object_in_use then null;
        end;
    end loop;
end $$;";

#[test]
fn a_slot_that_was_lost_while_nobody_watched_is_a_gap() {
    let guest = Guest::new(ORDERS, RULES);
    guest.seen();
    guest.sql(DROPPED);
    guest.sql("insert into other values (1, 'bad')");
    let said = guest.seen();
    assert!(said.contains("a gap: the slot is gone"), "{said}");
    let incidents = guest.incidents();
    assert_eq!(incidents.len(), 1);
    assert!(incidents[0]["first_bad"]["xid"].is_null(), "{incidents:?}");
    guest.is_true();
    guest.sql(DROPPED);
    guest.sql("insert into other values (2, 'bad')");
    guest.sql(MADE);
    let said = guest.seen();
    assert!(
        said.contains("moved on by somebody else, or made anew"),
        "{said}"
    );
    guest.is_true();
    guest.sql("delete from other");
    guest.sql("select pg_replication_slot_advance('firstbad', pg_current_wal_lsn())");
    let said = guest.seen();
    assert!(
        said.contains("moved on by somebody else, or made anew"),
        "{said}"
    );
    assert_eq!(guest.verdict("other").0, "held");
    guest.is_true();
}

#[test]
fn a_slot_that_is_taken_away_while_it_is_streamed_is_a_gap() {
    let guest = Guest::new(ORDERS, RULES);
    let mut watcher = guest.start(&[]);
    watcher.says("watching from");
    let active = "select exists (select from pg_replication_slots where active)";
    guest.until(active);
    guest.sql(TAKEN);
    guest.sql("insert into other values (1, 'bad')");
    watcher.says("stands for what was not seen");
    super::until("an incident", || guest.incidents().len() == 1);
    guest.until(active);
    guest.sql("insert into orders values (50, 'odd')");
    super::until("another incident", || guest.incidents().len() == 2);
    // A watch that began anew is stopped like any other.
    watcher.stop();
    guest.seen_all();
    guest.is_true();
    let mut watcher = guest.start(&[]);
    watcher.says("watching from");
    guest.until(active);
    guest.sql(&format!(
        "{TAKEN} insert into other values (2, 'bad'); {MADE}"
    ));
    watcher.says("stands for what was not seen");
    guest.until(active);
    watcher.stop();
    guest.seen_all();
    guest.is_true();
}

#[test]
fn a_slot_that_the_server_gave_up_is_a_gap() {
    let settings = [
        "max_slot_wal_keep_size=16MB",
        "min_wal_size=32MB",
        "max_wal_size=48MB",
    ];
    let guest = Guest::with(&settings, ORDERS, RULES);
    guest.seen();
    for n in 0..6 {
        guest.sql(&format!(
            "insert into other values ({n}, 'good'); select pg_switch_wal();"
        ));
    }
    guest.sql("checkpoint");
    guest.until("select wal_status = 'lost' from pg_replication_slots");
    let said = guest.seen();
    assert!(
        said.contains("removed log that the slot still needed"),
        "{said}"
    );
    guest.is_true();
    guest.sql("insert into other values (100, 'bad')");
    guest.seen_all();
    assert_eq!(guest.incidents().len(), 1);
    guest.is_true();
}

#[test]
fn an_idle_slot_moves_while_other_tables_are_written() {
    let guest = Guest::new(ORDERS, RULES);
    let watcher = guest.start(&[]);
    guest.until("select exists (select from pg_replication_slots where active)");
    guest.sql("insert into elsewhere select i, repeat('x', 100) from generate_series(1, 20000) i");
    let end = guest.sql("select pg_current_wal_lsn()");
    guest.until(&format!(
        "select confirmed_flush_lsn >= '{end}' from pg_replication_slots"
    ));
    watcher.stop();
    guest.seen_all();
    guest.is_true();
}

#[test]
fn a_budget_warns_and_drops_the_slot_where_that_is_asked() {
    let guest = Guest::new(ORDERS, RULES);
    guest.seen();
    guest.sql("insert into other select i, repeat('x', 200) from generate_series(1, 20000) i");
    let mut watcher = guest.start(&["--lag-warn", "1KiB", "--no-bulk"]);
    watcher.says("bytes of log behind");
    watcher.stop();
    guest.seen_all();
    guest.is_true();
    guest.sql("insert into elsewhere select i, repeat('x', 200) from generate_series(1, 20000) i");
    let (code, said) = guest.start(&["--drop-slot-above", "1MiB"]).ended();
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("the slot was dropped"), "{said}");
    assert_eq!(guest.slots(), "0");
    let said = guest.seen();
    assert!(said.contains("a gap: the slot is gone"), "{said}");
    guest.seen_all();
    guest.is_true();
}

/// 180,000 rows in 60 transactions, the bad one in the middle; then as much that is none of ours.
const BACKLOG: &str = "do $$ begin
    for i in 1..60 loop
        insert into other select i * 3000 + n, repeat('x', 200) from generate_series(1, 3000) n;
        if i = 30 then
            insert into other values (1, 'bad');
            insert into elsewhere values (0, pg_current_xact_id()::text);
        end if;
        commit;
    end loop;
end $$;
insert into elsewhere select n, repeat('x', 200) from generate_series(1, 200000) n;";

#[test]
fn a_long_backlog_is_read_in_bulk_with_room_for_another_slot_and_without() {
    for slots in ["max_replication_slots=10", "max_replication_slots=1"] {
        let guest = Guest::with(&[slots], ORDERS, RULES);
        guest.seen();
        guest.sql(BACKLOG);
        let end = guest.sql("select pg_current_wal_flush_lsn()");
        let (code, said) = guest.watch(&[]);
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("catching up in bulk"), "{slots}: {said}");
        assert!(!said.contains("a gap"), "{slots}: {said}");
        let incidents = guest.incidents();
        assert_eq!(incidents.len(), 1, "{slots}: {incidents:?}");
        let planted = guest.sql("select v from elsewhere where id = 0");
        let xid = &incidents[0]["first_bad"]["xid"];
        assert_eq!(xid.to_string(), planted, "{slots}");
        let left = "select string_agg(slot_name || ' ' || (confirmed_flush_lsn >= 'END'), ', ') from pg_replication_slots";
        assert_eq!(
            guest.sql(&left.replace("END", &end)),
            "firstbad true",
            "{slots}"
        );
        guest.is_true();
    }
}
