//! Servers that stop, are others, stand by; and their clocks.

use super::{Guest, ORDERS, RULES};

#[test]
fn a_server_stops_at_once_and_the_watcher_comes_back() {
    let guest = Guest::new(ORDERS, RULES);
    let mut watcher = guest.start(&[]);
    watcher.says("watching from");
    guest.until("select exists (select from pg_replication_slots where active)");
    guest.sql("insert into elsewhere select i, 'x' from generate_series(1, 1000) i; insert into other values (1, 'good')");
    assert!(
        guest.cluster.stop("fast", 10),
        "the server is held up: {}",
        watcher.said()
    );
    watcher.says("the connection was lost");
    guest.cluster.run();
    guest.sql("insert into other values (2, 'bad')");
    super::until("an incident", || guest.incidents().len() == 1);
    let said = watcher.stop();
    assert!(!said.contains("a gap"), "{said}");
    guest.seen_all();
    guest.is_true();
}

#[test]
fn another_server_is_refused() {
    let guest = Guest::new(ORDERS, RULES);
    guest.seen();
    let other = Guest::new(ORDERS, RULES);
    let store = guest.place.path("store").display().to_string();
    let (code, said) = other.watch(&["--store", &store]);
    assert!(code == 2 || code == 3, "{said}");
    assert!(said.contains("another"), "{said}");
    assert_eq!(other.slots(), "0");
    guest.sql("insert into other values (1, 'bad')");
    guest.seen_all();
    guest.is_true();
}

#[test]
fn a_standby_is_told_of_and_another_timeline_is_a_gap() {
    let guest = Guest::new(ORDERS, RULES);
    guest.seen();
    guest.sql("insert into other values (1, 'good')");
    guest.seen_all();
    assert!(guest.cluster.stop("fast", 20), "the server stops");
    let signal = guest.cluster.directory().join("data/standby.signal");
    std::fs::write(signal, "").expect("the server's directory can be written");
    guest.cluster.run();
    let version: u32 = guest
        .sql("show server_version_num")
        .parse()
        .expect("a number");
    if version < 160_000 {
        let (code, said) = guest.watch(&[]);
        assert_eq!(code, 3, "{said}");
        assert!(said.contains("the server is a standby"), "{said}");
    }
    assert_eq!(guest.sql("select pg_promote()"), "t");
    guest.sql("insert into other values (2, 'bad')");
    let said = guest.seen();
    assert!(said.contains("another timeline"), "{said}");
    guest.is_true();
    guest.sql("delete from other where id = 2");
    guest.seen_all();
    assert_eq!(guest.verdict("other").0, "held");
    guest.is_true();
}

#[test]
fn a_deadline_passes_on_an_idle_server() {
    let rules = "
rules:
  - {id: note, table: orders, not_null: [note], within: 3s}
";
    let guest = Guest::new(ORDERS, rules);
    let mut watcher = guest.start(&[]);
    watcher.says("watching from");
    guest.sql("insert into orders values (20, 'paid', null)");
    guest.sql("update orders set note = 'in time' where id = 20");
    guest.sql("insert into orders values (21, 'paid', null)");
    let begun = std::time::Instant::now();
    super::until("an incident", || guest.incidents().len() == 1);
    let took = begun.elapsed().as_secs();
    assert!((2..15).contains(&took), "after {took} s");
    let said = watcher.stop();
    assert!(said.contains("21") && !said.contains("id 20"), "{said}");
    guest.is_true();
}
