//! Backlogs that are fetched in bulk, and transactions that are larger than the memory for them.

use firstbad::change::{Cell, TransactionMeta};
use firstbad::postgres::assemble::{AssembleError, Assembled, Assembler, Body, Fed, Item, Limits};
use firstbad::postgres::catchup::Catchup;
use firstbad::postgres::{Event, Lsn, Replication};

use crate::postgres::Cluster;
use crate::rng::Rng;
use crate::stand::{NAME, Stand, items};
use crate::writes::{SCHEMA, TABLES, transaction};
use crate::{run, session, target};

/// How much memory this process has, in bytes.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process has a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().split(' ').next());
    kilobytes
        .expect("a number")
        .parse::<u64>()
        .expect("a number")
        << 10
}

pub(crate) fn large_transaction(cluster: &Cluster) {
    const ROWS: i64 = 300_000;
    const MEMORY_MAX: u64 = 64 << 20;
    let stand = Stand::new(
        cluster,
        "large_transaction",
        "create table t (id integer primary key, filler text, n bigint);",
        &["t"],
    );
    let filler = "x".repeat(300);
    stand.sql(&format!(
        "insert into t select n, '{filler}', n * 3 from generate_series(1, {ROWS}) n;"
    ));
    let limits = Limits {
        held_bytes: 1 << 20,
        directory: stand.directory.path().to_path_buf(),
    };
    let mut assembler = Assembler::new(stand.assembler.relations().clone(), limits);
    let before = memory();
    let mut most = before;
    let found = run(async {
        let client = session(&stand.url()).await;
        let catchup = Catchup::new(&client, &stand.slot(), NAME).expect("a name");
        let mut batch = catchup.next_batch(1_000).await.expect("a batch");
        let mut found = None;
        while let Some(message) = batch.next().await.expect("a message") {
            if batch.messages() % 10_000 == 0 {
                most = most.max(memory());
            }
            if let Some(Fed::Transaction(fed)) = assembler.feed(&message).expect("fed") {
                found = Some(fed);
            }
        }
        found.expect("a transaction")
    });
    let Body::Spilled(spill) = &found.body else {
        panic!("it is too large for memory")
    };
    assert!(spill.bytes() > 90 << 20, "{}", spill.bytes());
    assert_eq!(
        std::fs::read_dir(stand.directory.path())
            .expect("a directory")
            .count(),
        0
    );
    for _ in 0..2 {
        let (mut count, mut sum) = (0, 0);
        let all = spill.for_each(|item| {
            if let Item::Change(change) = item
                && let Some(after) = change.after
                && let (_, Cell::Int(n)) = &after[2]
            {
                count += 1;
                sum += n;
                if count % 10_000 == 0 {
                    most = most.max(memory());
                }
            }
            Ok::<(), AssembleError>(())
        });
        all.expect("the file can be read");
        assert_eq!((count, sum), (ROWS, 3 * ROWS * (ROWS + 1) / 2));
    }
    assert!(
        most - before < MEMORY_MAX,
        "{} MiB more than before",
        (most - before) >> 20
    );
}

/// What is fetched in pieces, with the slot moved after each, is what one look gives: nothing is lost or doubled at the seams.
pub(crate) fn catching_up(cluster: &Cluster) {
    let mut rng = Rng::new(11);
    let stand = Stand::new(cluster, "catching_up", SCHEMA, &TABLES);
    let script: String = (0..300).map(|_| transaction(&mut rng)).collect();
    stand.sql(&format!(
        "select pg_copy_logical_replication_slot('{0}', '{0}_whole'); {script}",
        stand.slot()
    ));
    stand.sql(
        "set synchronous_commit = on; select pg_logical_emit_message(true, 'written', '') is null;",
    );
    let drain = |slot: String, messages: u32| {
        let mut assembler = Assembler::new(
            stand.assembler.relations().clone(),
            Limits::new(stand.directory.path()),
        );
        let stand = &stand;
        run(async move {
            let client = session(&stand.url()).await;
            let catchup = Catchup::new(&client, &slot, NAME).expect("a name");
            let mut out = Vec::new();
            let mut batches = 0;
            assert!(catchup.backlog().await.expect("a backlog").bytes > 0);
            loop {
                let mut batch = catchup.next_batch(messages).await.expect("a batch");
                let mut end = Lsn(0);
                while let Some(message) = batch.next().await.expect("a message") {
                    if let Some(Fed::Transaction(found)) = assembler.feed(&message).expect("fed") {
                        end = found.end_lsn;
                        out.push((found.meta.clone(), found.end_lsn, items(&found)));
                    }
                }
                batches += 1;
                let got = batch.messages();
                drop(batch);
                let reached = catchup.advance(end).await.expect("the slot moves");
                assert!(reached >= end);
                if got < u64::from(messages) {
                    break;
                }
            }
            assert!(catchup.backlog().await.expect("a backlog").is_near());
            (out, batches)
        })
    };
    // Ahead of what is durable, from a copy of the slot; and of the slot itself, where there is no room for a copy.
    let ahead = |slot: String, has_room: bool| {
        let stand = &stand;
        run(async move {
            let client = session(&stand.url()).await;
            let catchup = Catchup::new(&client, &slot, NAME).expect("a name");
            let before = catchup.backlog().await.expect("a backlog");
            let mut out = Vec::new();
            let mut ahead = catchup.ahead(50..=50).await;
            let mut pieces = 0;
            assert_eq!(ahead.is_ahead(), has_room);
            loop {
                let mut assembler = Assembler::new(
                    stand.assembler.relations().clone(),
                    Limits::new(stand.directory.path()),
                );
                let mut batch = ahead.next_batch().await.expect("a piece");
                while let Some(message) = batch.next().await.expect("a message") {
                    if let Some(Fed::Transaction(found)) = assembler.feed(&message).expect("fed") {
                        out.push((found.meta.clone(), found.end_lsn, items(&found)));
                    }
                }
                pieces += 1;
                let is_last = ahead.was_last(batch.messages()).is_some();
                let end = out.last().expect("a transaction").1;
                drop(batch);
                match has_room {
                    true => {
                        let now = catchup.backlog().await.expect("a backlog");
                        assert_eq!(now.confirmed, before.confirmed, "nothing is durable yet");
                    }
                    false => _ = catchup.advance(end).await.expect("the slot moves"),
                }
                if is_last {
                    break;
                }
            }
            assert!(ahead.backlog().await.expect("a backlog").is_near());
            ahead.end().await.expect("the copy goes");
            assert!(pieces > 5, "{pieces}");
            out
        })
    };
    let slots = |sql: &str| stand.sql(&sql.replace("SLOT", &stand.slot()));
    slots("select pg_copy_logical_replication_slot('SLOT', 'SLOT_full')");
    let read_ahead = ahead(stand.slot(), true);
    // So many that no other one has room.
    let free = "(select current_setting('max_replication_slots')::int - count(*) from pg_replication_slots)";
    slots(&format!(
        "select pg_create_physical_replication_slot('SLOT_taken_' || n) from generate_series(1, {free}) n"
    ));
    let read_alone = ahead(format!("{}_full", stand.slot()), false);
    slots(
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name like 'SLOT_taken_%'",
    );
    let (whole, once) = drain(format!("{}_whole", stand.slot()), 1_000_000);
    let (pieces, many) = drain(stand.slot(), 50);
    assert!(once == 1 && many > 5, "{once} {many}");
    assert!(whole.len() > 100, "{}", whole.len());
    let changed = |all: &[(TransactionMeta, Lsn, Vec<Item>)]| -> Vec<_> {
        let some = all.iter().filter(|(_, _, items)| !items.is_empty());
        some.map(|(meta, end, items)| format!("{meta:?} {end} {items:?}"))
            .collect()
    };
    assert_eq!(changed(&whole), changed(&pieces));
    assert_eq!(changed(&whole), changed(&read_ahead));
    assert_eq!(changed(&whole), changed(&read_alone));
    run(async {
        let client = session(&stand.url()).await;
        assert!(Catchup::new(&client, "no'slot", NAME).is_err());
        let missing = Catchup::new(&client, "missing", NAME).expect("a name");
        let said = missing.backlog().await.expect_err("no slot").to_string();
        assert!(
            said.contains("no logical replication slot `missing`"),
            "{said}"
        );
        // The server answers that a copy begins before it looks for the slot.
        let mut batch = missing.next_batch(1).await.expect("a batch");
        let said = batch.next().await.expect_err("no slot").to_string();
        assert!(said.contains("SQLSTATE 42704"), "{said}");
    });
}

/// A part is fetched in bulk, the rest is streamed from where that ended: together they are what one look gives.
pub(crate) fn seam(cluster: &Cluster) {
    let mut rng = Rng::new(13);
    let stand = Stand::new(cluster, "seam", SCHEMA, &TABLES);
    let script: String = (0..120).map(|_| transaction(&mut rng)).collect();
    let slot = stand.slot();
    stand.sql(&format!(
        "select pg_copy_logical_replication_slot('{slot}', '{slot}_whole'); {script}"
    ));
    stand.sql("set synchronous_commit = on; select pg_logical_emit_message(true, 'firstbad-heartbeat', 'end') is null;");
    let shown =
        |found: &Assembled| format!("{:?} {} {:?}", found.meta, found.end_lsn, items(found));
    let assembler = || {
        let relations = stand.assembler.relations().clone();
        Assembler::new(relations, Limits::new(stand.directory.path()))
    };
    let fetch = async |slot: &str, messages| {
        let session = session(&stand.url()).await;
        let catchup = Catchup::new(&session, slot, NAME).expect("a name");
        let mut batch = catchup.next_batch(messages).await.expect("a batch");
        let mut assembler = assembler();
        let mut out = Vec::new();
        let mut end = Lsn(0);
        while let Some(message) = batch.next().await.expect("a message") {
            if let Some(Fed::Transaction(found)) = assembler.feed(&message).expect("fed") {
                end = found.end_lsn;
                out.push(shown(&found));
            }
        }
        catchup.advance(end).await.expect("the slot moves");
        (out, end)
    };
    let (whole, last) = run(fetch(&format!("{slot}_whole"), 1_000_000));
    let (mut parts, end) = run(fetch(&slot, 200));
    assert!(parts.len() > 10 && parts.len() < whole.len() && end < last);
    run(async {
        let replication = Replication::open(&target(&stand.url()), "firstbad test").await;
        let replication = replication.expect("a connection");
        let mut stream = replication
            .start(&slot, &[NAME], end)
            .await
            .expect("a stream");
        let mut assembler = assembler();
        let mut reached = end;
        while reached < last {
            let event = stream.next().await.expect("an event");
            let Event::Data { bytes, .. } = event else {
                continue;
            };
            if let Some(Fed::Transaction(found)) = assembler.feed(&bytes).expect("fed") {
                reached = found.end_lsn;
                stream.confirm(reached);
                parts.push(shown(&found));
            }
        }
        stream.stop(reached).await.expect("the stream ends");
    });
    assert_eq!(
        parts, whole,
        "nothing is lost, doubled or read in another way"
    );
}
