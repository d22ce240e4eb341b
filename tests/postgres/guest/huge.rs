//! A transaction that is larger than the watcher may be.
//!
//! `FIRSTBAD_THOROUGH` makes it a gigabyte.

use super::{Guest, until};

/// The most memory that the watcher may have had, in MB.
const MOST_MB: u64 = 256;

#[test]
fn a_huge_transaction_is_recorded_and_judged_in_little_memory() {
    let rows = match std::env::var_os("FIRSTBAD_THOROUGH") {
        Some(_) => 1_000_000,
        None => 200_000,
    };
    let sql = "
        create table orders (id bigint primary key, status text not null, payload text);
        insert into orders values (0, 'paid', 'first');";
    let rules = "
rules:
  - {id: status, table: orders, accepted_values: {column: status, values: [paid, open]}}
";
    let guest = Guest::new(sql, rules);
    let mut watcher = guest.start(&[]);
    watcher.says("watching from");
    guest.sql(&format!(
        "begin; insert into orders select i, case when i = {rows} - 7 then 'odd' else 'paid' end, repeat(md5(i::text), 32)
           from generate_series(1, {rows}) i;
         update orders set status = 'open' where id = 5; delete from orders where id = 6;
         update orders set id = -9 where id = 9; commit;"
    ));
    until("an incident", || guest.incidents().len() == 1);
    let incidents = guest.incidents();
    assert_eq!(incidents[0]["first_bad"]["commit"], 1);
    let status = std::fs::read_to_string(format!("/proc/{}/status", watcher.pid()));
    let status = status.expect("the system tells of processes");
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let most = most.and_then(|line| line.split_whitespace().next());
    let most: u64 = most.and_then(|kb| kb.parse().ok()).expect("a number of KB");
    println!("{rows} rows of 1 KB: {} MB", most >> 10);
    assert!(most >> 10 < MOST_MB, "{} MB", most >> 10);
    guest.sql("insert into orders values (-1, 'paid', 'last')");
    watcher.stop();
    guest.seen_all();
    guest.is_true();
}
