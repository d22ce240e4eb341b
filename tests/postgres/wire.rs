//! The stream of changes of a real server: what comes, what is said back, and how it ends.

use std::time::{Duration, Instant};

use firstbad::postgres::slot::{
    TableName, add_tables, create_slot, drop_slot, identify, publish, slot_state,
};
use firstbad::postgres::{Event, Lsn, PostgresError, Replication, Session, Stream};

use super::postgres::{Cluster, Setup};
use super::{refused, run, session, target};

const T: TableName<'static> = TableName {
    schema: "public",
    name: "t",
};

/// A server with a table `t` that is published as `p`.
async fn world(settings: &[&str]) -> (Cluster, Session) {
    let cluster = Cluster::start_with(&Setup {
        settings,
        ..Setup::default()
    });
    cluster.sql(
        "postgres",
        "CREATE TABLE t (id bigint PRIMARY KEY, at timestamptz, text text)",
    );
    let session = session(&cluster.url("postgres")).await;
    publish(&session, "p", &[T]).await.expect("it is published");
    (cluster, session)
}

async fn replication(cluster: &Cluster) -> Replication {
    let opened = Replication::open(&target(&cluster.url("postgres")), "firstbad test").await;
    opened.unwrap_or_else(|error| panic!("{error}"))
}

/// A new slot and its stream.
async fn stream(cluster: &Cluster, slot: &str) -> Stream {
    let mut replication = replication(cluster).await;
    let created = create_slot(&mut replication, slot, false).await;
    let created = created.unwrap_or_else(|error| panic!("{error}"));
    start(replication, slot, created.consistent).await
}

async fn start(replication: Replication, slot: &str, from: Lsn) -> Stream {
    let started = replication.start(slot, &["p"], from).await;
    started.unwrap_or_else(|error| panic!("{error}"))
}

/// Waits for the end of a transaction; gives its messages and where it ends.
async fn transaction(stream: &mut Stream) -> (Vec<Vec<u8>>, Lsn) {
    let mut out = Vec::new();
    loop {
        match stream.next().await {
            Ok(Event::Data { bytes, .. }) => {
                out.push(bytes.to_vec());
                if bytes.first() == Some(&b'C') {
                    let end = bytes[10..18].try_into().expect("eight bytes");
                    return (out, Lsn(u64::from_be_bytes(end)));
                }
            }
            Ok(Event::Keepalive { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn tags(messages: &[Vec<u8>]) -> String {
    messages
        .iter()
        .map(|message| char::from(message[0]))
        .collect()
}

/// Loops until the stream ends, confirming all of it.
async fn follow(mut stream: Stream) -> Result<(), PostgresError> {
    loop {
        match stream.next().await? {
            Event::Keepalive { end, .. } => stream.confirm(end),
            Event::Data { .. } => {}
            Event::Ended => return Ok(()),
        }
    }
}

#[test]
fn changes_arrive_and_what_is_confirmed_stays_confirmed() {
    run(async {
        let (cluster, mut session) = world(&[]).await;
        cluster.sql(
            "postgres",
            "ALTER DATABASE postgres SET datestyle = 'German, DMY'",
        );
        snapshot_and_stream_meet(&cluster, &mut session).await;
        confirmations(&cluster, &session).await;
        refusals(&cluster, &session).await;
        losses(&cluster, &session).await;
        cancellation(&cluster, &session).await;
        publications(&cluster, &session).await;
    });
}

async fn snapshot_and_stream_meet(cluster: &Cluster, session: &mut Session) {
    cluster.sql(
        "postgres",
        "INSERT INTO t VALUES (1, '2026-03-12 16:03:51.221Z', 'before')",
    );
    let mut replication = replication(cluster).await;
    let identity = identify(&mut replication).await.expect("it says who it is");
    assert_eq!(
        (identity.timeline, identity.database.as_str()),
        (1, "postgres")
    );
    assert!(identity.system_id.parse::<u64>().is_ok() && identity.position > Lsn(0));
    let created = create_slot(&mut replication, "temporary", true).await;
    let created = created.unwrap_or_else(|error| panic!("{error}"));
    assert!(created.consistent >= identity.position);
    cluster.sql(
        "postgres",
        "BEGIN; SELECT pg_logical_emit_message(true, 'firstbad', '{\"service\": \"checkout\"}');
         INSERT INTO t VALUES (2, '2026-03-12 16:03:51.221Z', 'after'); COMMIT",
    );
    let reader = session.client_mut().build_transaction().read_only(true);
    let reader = reader.isolation_level(tokio_postgres::IsolationLevel::RepeatableRead);
    let reader = reader.start().await.expect("a transaction begins");
    let name = &created.snapshot;
    reader
        .batch_execute(&format!("SET TRANSACTION SNAPSHOT '{name}'"))
        .await
        .expect("the snapshot is there");
    let rows = reader
        .query("SELECT id FROM t", &[])
        .await
        .expect("it answers");
    assert_eq!(
        rows.iter()
            .map(|row| row.get::<_, i64>(0))
            .collect::<Vec<_>>(),
        [1]
    );
    drop(reader);
    let mut stream = start(replication, "temporary", created.consistent).await;
    let (messages, end) = transaction(&mut stream).await;
    assert_eq!(tags(&messages), "BMRIC");
    let insert = String::from_utf8_lossy(&messages[3]).into_owned();
    assert!(
        insert.contains("2026-03-12 16:03:51.221+00"),
        "the session's settings hold: {insert}"
    );
    assert!(!format!("{stream:?}").contains("after"));
    stream.stop(end).await.expect("it stops");
}

async fn confirmations(cluster: &Cluster, session: &Session) {
    let confirmed = async |name: &str| {
        let state = slot_state(session, name).await.expect("it answers");
        state.and_then(|state| state.confirmed_flush)
    };
    let mut first = stream(cluster, "s").await;
    cluster.sql(
        "postgres",
        "INSERT INTO t VALUES (10); INSERT INTO t VALUES (11)",
    );
    let (_, one) = transaction(&mut first).await;
    let (_, two) = transaction(&mut first).await;
    assert!(one < two);
    first.confirm(one);
    first.confirm(Lsn(1));
    assert_eq!(first.confirmed(), one, "it never goes back");
    first.stop(Lsn(0)).await.expect("it stops");
    assert_eq!(confirmed("s").await, Some(one));
    // What was not confirmed comes again.
    let mut second = start(replication(cluster).await, "s", Lsn(0)).await;
    let (messages, again) = transaction(&mut second).await;
    assert_eq!((tags(&messages).as_str(), again), ("BRIC", two));
    second.confirm(two);
    second.flush_status().await.expect("it is told");
    second.stop(two).await.expect("it stops");
    assert_eq!(confirmed("s").await, Some(two));
    // With much still to come, the end is heard too, and nothing of the rest is lost.
    cluster.sql(
        "postgres",
        "INSERT INTO t SELECT n, now(), repeat('x', 1000) FROM generate_series(1000, 30999) n",
    );
    let mut third = start(replication(cluster).await, "s", two).await;
    while !matches!(third.next().await.expect("it comes"), Event::Data { .. }) {}
    third.stop(two).await.expect("it stops");
    assert_eq!(confirmed("s").await, Some(two));
    let mut last = start(replication(cluster).await, "s", two).await;
    let (messages, end) = transaction(&mut last).await;
    assert_eq!(
        messages.iter().filter(|message| message[0] == b'I').count(),
        30_000
    );
    last.stop(end).await.expect("it stops");
    drop_slot(session, "s").await.expect("it is dropped");
    assert_eq!(slot_state(session, "s").await.expect("it answers"), None);
}

async fn refusals(cluster: &Cluster, session: &Session) {
    let used = stream(cluster, "used").await;
    let state = slot_state(session, "used")
        .await
        .expect("it answers")
        .expect("it is there");
    assert!(state.active_pid.is_some() && !state.two_phase);
    assert_eq!(state.plugin.as_deref(), Some("pgoutput"));
    assert_eq!(state.database.as_deref(), Some("postgres"));
    assert_eq!(state.wal_status.as_deref(), Some("reserved"));
    let from = Lsn(0);
    let error = refused(replication(cluster).await.start("used", &["p"], from).await);
    assert!(
        error.sqlstate() == Some("55006") && error.is_transient(),
        "{error}"
    );
    let error = refused(drop_slot(session, "used").await);
    assert!(
        error.sqlstate() == Some("55006") && error.is_transient(),
        "{error}"
    );
    let error = refused(create_slot(&mut replication(cluster).await, "used", false).await);
    assert!(
        error.sqlstate() == Some("42710") && !error.is_transient(),
        "{error}"
    );
    let error = refused(replication(cluster).await.start("none", &["p"], from).await);
    assert!(
        error.sqlstate() == Some("42704") && !error.is_transient(),
        "{error}"
    );
    for (slot, publications) in [
        ("S; DROP", ["p"].as_slice()),
        ("used", &[]),
        ("used", &["a\0b"]),
    ] {
        let error = refused(
            replication(cluster)
                .await
                .start(slot, publications, from)
                .await,
        );
        assert!(matches!(error, PostgresError::Argument { .. }), "{error}");
    }
    used.stop(from).await.expect("it stops");
    // A publication that is missing is found out about when there is something to tell; odd names stay names.
    let odd = "p', \"x\"; --";
    let mut other = replication(cluster)
        .await
        .start("used", &["p", odd], from)
        .await
        .expect("it starts");
    cluster.sql("postgres", "INSERT INTO t VALUES (20)");
    let error = loop {
        match other.next().await {
            Ok(Event::Ended) => panic!("it must fail"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(
        error.sqlstate() == Some("42704") && error.to_string().contains("--"),
        "{error}"
    );
    drop(other);
    release(session, "used").await;
}

/// Ends the connection that streams a slot, waits until it has ended, and drops the slot.
async fn release(session: &Session, slot: &str) {
    let sql = "SELECT pg_terminate_backend(active_pid, 60000) FROM pg_replication_slots \
               WHERE slot_name = $1::text::name AND active_pid IS NOT NULL";
    session
        .client()
        .execute(sql, &[&slot])
        .await
        .expect("it ends");
    let dropped = drop_slot(session, slot).await;
    dropped.unwrap_or_else(|error| panic!("{error}"));
}

async fn losses(cluster: &Cluster, session: &Session) {
    let mut lost = stream(cluster, "lost").await;
    cluster.sql(
        "postgres",
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'lost'",
    );
    let error = loop {
        match lost.next().await {
            Ok(Event::Ended) => panic!("it must fail"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(error.is_transient(), "{error}");
    release(session, "lost").await;

    let mut numb = stream(cluster, "numb")
        .await
        .with_silence(Duration::from_millis(200));
    let row = session
        .client()
        .query_one(
            "SELECT active_pid FROM pg_replication_slots WHERE slot_name = 'numb'",
            &[],
        )
        .await
        .expect("it answers");
    let pid: i32 = row.get(0);
    // It is asked for a sign of life, and gives it.
    while !matches!(
        numb.next().await.expect("it lives"),
        Event::Keepalive { .. }
    ) {}
    signal("STOP", pid);
    let error = loop {
        match numb.next().await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    signal("CONT", pid);
    assert!(
        matches!(error, PostgresError::Timeout { .. }) && error.is_transient(),
        "{error}"
    );
    drop(numb);
    release(session, "numb").await;
}

fn signal(name: &str, pid: i32) {
    let status = std::process::Command::new("kill")
        .args([format!("-{name}"), pid.to_string()])
        .status();
    assert!(status.expect("kill runs").success());
}

/// Waits that are given up lose nothing.
async fn cancellation(cluster: &Cluster, session: &Session) {
    let mut stream = stream(cluster, "cancelled").await;
    let url = cluster.url("postgres");
    let writer = tokio::spawn(async move {
        let session = super::session(&url).await;
        for first in (100_000..105_000).step_by(100) {
            let sql =
                format!("INSERT INTO t SELECT n FROM generate_series({first}, {first} + 99) n");
            session
                .client()
                .batch_execute(&sql)
                .await
                .expect("it is written");
        }
    });
    let (mut rows, mut given_up) = (0, 0u64);
    while rows < 5000 {
        tokio::select! {
            biased;
            event = stream.next() => {
                let mut event = Some(event.expect("it comes"));
                while let Some(Event::Data { bytes, .. }) = event {
                    rows += i32::from(bytes[0] == b'I');
                    event = stream.try_next().expect("it is well-formed");
                }
            }
            () = tokio::task::yield_now() => given_up += 1,
        }
    }
    writer.await.expect("all is written");
    assert_eq!(rows, 5000);
    assert!(given_up > 0, "waits were given up");
    stream.stop(Lsn(0)).await.expect("it stops");
    drop_slot(session, "cancelled")
        .await
        .expect("it is dropped");
}

async fn publications(cluster: &Cluster, session: &Session) {
    cluster.sql(
        "postgres",
        "CREATE SCHEMA \"odd \"\"s\"; CREATE TABLE \"odd \"\"s\".\"T t\" (id int PRIMARY KEY)",
    );
    let odd = TableName {
        schema: "odd \"s",
        name: "T t",
    };
    let tables = || {
        let sql = "SELECT string_agg(schemaname || '.' || tablename, ',' ORDER BY tablename COLLATE \"C\") FROM pg_publication_tables WHERE pubname = 'p'";
        cluster.sql("postgres", sql).trim().to_owned()
    };
    add_tables(session, "p", &[odd]).await.expect("it is added");
    assert_eq!(tables(), "odd \"s.T t,public.t");
    let error = refused(add_tables(session, "p", &[odd]).await);
    assert_eq!(error.sqlstate(), Some("42710"));
    let error = refused(publish(session, "p", &[T]).await);
    assert_eq!(error.sqlstate(), Some("42710"));
}

#[test]
fn a_server_is_answered_and_not_held_up() {
    run(async {
        let (cluster, session) = world(&["wal_sender_timeout=2s"]).await;
        // Nobody asks for more than the server asks: it gives up who does not answer.
        let mut idle = stream(&cluster, "idle").await;
        let mut asked = 0;
        while asked < 3 {
            match idle.next().await.expect("it is answered in time") {
                Event::Keepalive {
                    end,
                    reply_requested,
                    ..
                } => {
                    idle.confirm(end);
                    asked += u32::from(reply_requested);
                }
                other => panic!("{other:?}"),
            }
        }
        let insert = session.client().batch_execute("INSERT INTO t VALUES (1)");
        let (written, (messages, _)) = tokio::join!(insert, transaction(&mut idle));
        written.expect("it is written");
        assert_eq!(tags(&messages), "BRIC");
        session.close().await;
        // A fast shutdown ends when all is confirmed.
        let follower = tokio::spawn(follow(idle));
        let stopping = Instant::now();
        assert!(blocking(&cluster, "fast", 20), "the server stops");
        println!("stopped after {:?}", stopping.elapsed());
        match follower.await.expect("it does not panic") {
            Ok(()) => {}
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
        cluster.run();
        storm(&cluster).await;
    });
}

fn blocking(cluster: &Cluster, mode: &str, seconds: u32) -> bool {
    tokio::task::block_in_place(|| cluster.stop(mode, seconds))
}

/// What is not confirmed holds a shutdown up; the server then asks after each answer, and must not be answered at full speed.
async fn storm(cluster: &Cluster) {
    cluster.sql(
        "postgres",
        "ALTER SYSTEM SET wal_sender_timeout = 0; SELECT pg_reload_conf()",
    );
    let mut stubborn = start(replication(cluster).await, "idle", Lsn(0)).await;
    cluster.sql("postgres", "INSERT INTO t VALUES (2)");
    let (_, end) = transaction(&mut stubborn).await;
    let (done, mut is_done) = tokio::sync::oneshot::channel();
    let counting = tokio::spawn(async move {
        let mut asked = 0;
        loop {
            tokio::select! {
                event = stubborn.next() => {
                    let event = event.expect("the server waits");
                    asked += u32::from(matches!(event, Event::Keepalive { reply_requested: true, .. }));
                }
                _ = &mut is_done => break,
            }
        }
        stubborn.confirm(end);
        (asked, stubborn)
    });
    let waiting = Instant::now();
    assert!(
        !blocking(cluster, "fast", 1),
        "it waits for what is not confirmed"
    );
    done.send(()).expect("it is still counting");
    let tenths = waiting.elapsed().as_millis() / 100;
    let (asked, stubborn) = counting.await.expect("it does not panic");
    // It is answered ten times a second.
    assert!(
        asked >= 1 && u128::from(asked) <= tenths + 10,
        "asked {asked} times in {tenths} tenths of a second"
    );
    // Once it is confirmed, the server ends.
    let follower = tokio::spawn(follow(stubborn));
    assert!(blocking(cluster, "fast", 20), "the server stops");
    let _ = follower.await.expect("it does not panic");
}
