//! What watching a real server costs, beside Postgres' own tools on copies of the same slot and in the same run.
//!
//! `cargo bench --profile dist --bench watch -- [drain] [latency] [load] [--transactions 200000] [--seconds 20] [--rows 5000000] [--rounds 3] [--tcp]`

#[path = "../../tests/support/postgres.rs"]
mod postgres;

use std::io::Read;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use postgres::{Cluster, Setup};

type Failure = Box<dyn std::error::Error>;

struct Sizes {
    transactions: usize,
    seconds: usize,
    rows: usize,
    rounds: usize,
    tcp: bool,
}

fn main() -> Result<(), Failure> {
    let mut parts = Vec::new();
    let mut sizes = Sizes {
        transactions: 200_000,
        seconds: 20,
        rows: 5_000_000,
        rounds: 3,
        tcp: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--transactions" => sizes.transactions = value()?.parse()?,
            "--seconds" => sizes.seconds = value()?.parse()?,
            "--rows" => sizes.rows = value()?.parse()?,
            "--rounds" => sizes.rounds = value()?.parse()?,
            "--tcp" => sizes.tcp = true,
            "--bench" => {}
            part => parts.push(part.to_owned()),
        }
    }
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|have| have == part);
    if wanted("drain") {
        drain(&sizes)?;
    }
    if wanted("latency") {
        latency(&sizes)?;
    }
    if wanted("load") {
        load(&sizes)?;
    }
    Ok(())
}

const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/watch/rules.yaml");

/// The program that was built with this, or the one that `FIRSTBAD_PROGRAM` names.
fn firstbad(place: &Path, arguments: &[&str]) -> Command {
    let own = env!("CARGO_BIN_EXE_firstbad").into();
    let program = std::env::var_os("FIRSTBAD_PROGRAM").unwrap_or(own);
    let mut command = Command::new(program);
    command.args(arguments).current_dir(place);
    command
}

/// Runs a program to its end; the seconds it took.
fn timed(command: &mut Command) -> Result<f64, Failure> {
    Ok(timed_and_said(command)?.0)
}

/// The same, and what it said.
fn timed_and_said(command: &mut Command) -> Result<(f64, String), Failure> {
    let begun = Instant::now();
    let output = command.stdin(Stdio::null()).output()?;
    let took = begun.elapsed().as_secs_f64();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok((took, text(&output.stdout) + &text(&output.stderr))),
        false => Err(text(&output.stderr).into()),
    }
}

/// A server with pgbench's tables.
fn bank() -> Cluster {
    let settings = [
        "max_replication_slots=40",
        "max_wal_senders=40",
        "shared_buffers=512MB",
    ];
    let cluster = Cluster::start_with(&Setup {
        tcp: true,
        settings: &settings,
        ..Setup::default()
    });
    cluster.client("pgbench", &["-i", "-q", "-s", "1", "postgres"]);
    cluster.sql(
        "postgres",
        "alter table pgbench_history replica identity full",
    );
    cluster
}

/// CPU seconds of all server processes that have ended.
fn server_cpu(cluster: &Cluster) -> Result<f64, Failure> {
    let file = cluster.directory().join("data/postmaster.pid");
    let pid = std::fs::read_to_string(file)?;
    let pid = pid.lines().next().unwrap_or_default();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    // Fields 16 and 17 of the whole line: time of children that were waited for, in ticks of a hundredth.
    let ticks: f64 = fields[13].parse::<f64>()? + fields[14].parse::<f64>()?;
    Ok(ticks / 100.0)
}

fn copy_slot(cluster: &Cluster, name: &str) {
    let sql = format!("select pg_copy_logical_replication_slot('firstbad', '{name}')");
    cluster.sql("postgres", &sql);
}

fn drop_slot(cluster: &Cluster, name: &str) -> Result<(), Failure> {
    let begun = Instant::now();
    let active =
        format!("select count(*) from pg_replication_slots where slot_name = '{name}' and active");
    while cluster.sql("postgres", &active).trim() != "0" {
        if begun.elapsed() > Duration::from_secs(10) {
            return Err("the slot stays active".into());
        }
    }
    cluster.sql(
        "postgres",
        &format!("select pg_drop_replication_slot('{name}')"),
    );
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A backlog is drained: recorded and judged by 20 rules, and thrown away by `pg_recvlogical`.
fn drain(sizes: &Sizes) -> Result<(), Failure> {
    let cluster = bank();
    let place = tempfile::tempdir()?;
    let url = url(&cluster, sizes.tcp);
    let watch = [
        "watch",
        &url,
        "--store",
        "store",
        "--rules",
        RULES,
        "--until-now",
    ];
    timed(&mut firstbad(place.path(), &watch))?;
    // What starting costs where nothing is to be drained.
    let starts = (0..3).map(|_| timed(&mut firstbad(place.path(), &watch)));
    let start = median(starts.collect::<Result<_, _>>()?);
    println!("a start where nothing waits takes {start:.2} s, which is not counted below");
    // Four changes a transaction, as pgbench makes them.
    let work = format!(
        "do $$ begin for i in 1..{} loop \
           update pgbench_accounts set abalance = abalance + i % 100 where aid = 1 + (i * 7919) % 100000; \
           update pgbench_tellers set tbalance = tbalance + i % 100 where tid = 1 + i % 10; \
           update pgbench_branches set bbalance = bbalance + i % 100 where bid = 1; \
           insert into pgbench_history (tid, bid, aid, delta, mtime) values (1 + i % 10, 1, 1 + (i * 7919) % 100000, i % 100, now()); \
           commit; \
           if i % 20000 = 0 then perform pg_stat_clear_snapshot(); end if; \
         end loop; end $$;",
        sizes.transactions
    );
    let begun = Instant::now();
    cluster.sql("postgres", &format!("set synchronous_commit = off; {work}"));
    println!(
        "a backlog of {} transactions was written in {:.1} s",
        sizes.transactions,
        begun.elapsed().as_secs_f64()
    );
    cluster.sql("postgres", "checkpoint; select pg_switch_wal()");
    let end = cluster
        .sql("postgres", "select pg_current_wal_lsn()")
        .trim()
        .to_owned();
    let changes = sizes.transactions as f64 * 4.0;
    let mut rates: [Vec<f64>; 4] = Default::default();
    let mut cpu: [Vec<f64>; 4] = Default::default();
    let ways = ["pg_recvlogical", "stream", "bulk", "COPY alone"];
    for round in 0..sizes.rounds {
        for (which, name) in ways.into_iter().enumerate() {
            let slot = format!("copy_{round}_{which}");
            copy_slot(&cluster, &slot);
            let before = server_cpu(&cluster)?;
            let seconds = if which == 0 {
                receive(&cluster, sizes.tcp, &slot, &end)?
            } else if which == 3 {
                copy_out(&cluster, &slot)
            } else {
                let copy = format!("store{round}{which}");
                timed(
                    Command::new("cp")
                        .args(["-a", "store", &copy])
                        .current_dir(place.path()),
                )?;
                let mut arguments = vec![
                    "watch",
                    &url,
                    "--store",
                    &copy,
                    "--rules",
                    RULES,
                    "--until-now",
                    "--slot",
                    &slot,
                ];
                if which == 1 {
                    arguments.push("--no-bulk");
                }
                let (took, said) = timed_and_said(&mut firstbad(place.path(), &arguments))?;
                if (which == 2) != said.contains("in bulk") {
                    return Err(
                        "in bulk only where it was asked for: --transactions is too small".into(),
                    );
                }
                took - start
            };
            drop_slot(&cluster, &slot)?;
            cpu[which].push(server_cpu(&cluster)? - before);
            rates[which].push(changes / seconds);
            println!(
                "  {name}: {:.0} changes/s, server CPU {:.2} s",
                changes / seconds,
                cpu[which][round]
            );
        }
    }
    let [raw, stream, bulk, copy] = rates.map(median);
    let [raw_cpu, stream_cpu, bulk_cpu, _] = cpu.map(median);
    println!(
        "drain, medians of {} rounds: pg_recvlogical {raw:.0} changes/s",
        sizes.rounds
    );
    println!(
        "  stream, recorded and judged by 20 rules: {stream:.0}/s, ratio {:.2} (aim 0.9), server CPU {:.2} of its",
        stream / raw,
        stream_cpu / raw_cpu
    );
    println!(
        "  in bulk, the same: {bulk:.0}/s, ratio {:.2} (aim 1.5), server CPU {:.2} of its",
        bulk / raw,
        bulk_cpu / raw_cpu
    );
    println!(
        "  COPY of all of it at once to /dev/null, of which bulk cannot be faster: {copy:.0}/s, ratio {:.2}",
        copy / raw
    );
    Ok(())
}

/// What the server alone takes to give a backlog in bulk, to a client that throws it away; in seconds.
fn copy_out(cluster: &Cluster, slot: &str) -> f64 {
    let sql = format!(
        "copy (select data from pg_logical_slot_peek_binary_changes('{slot}', null, null, 'proto_version', '1', 'publication_names', 'firstbad', \
         'messages', 'true')) to stdout (format binary)"
    );
    let begun = Instant::now();
    cluster.client(
        "psql",
        &["-X", "-q", "-c", &sql, "-o", "/dev/null", "postgres"],
    );
    begun.elapsed().as_secs_f64()
}

/// Where all of them reach the server: its socket, or by TCP.
fn host(cluster: &Cluster, tcp: bool) -> String {
    match tcp {
        true => "127.0.0.1".into(),
        false => cluster.directory().display().to_string(),
    }
}

fn url(cluster: &Cluster, tcp: bool) -> String {
    let host = host(cluster, tcp).replace('/', "%2F");
    format!("postgres://postgres@{host}:{}/postgres", cluster.port())
}

fn receive(cluster: &Cluster, tcp: bool, slot: &str, end: &str) -> Result<f64, Failure> {
    let begun = Instant::now();
    let host = host(cluster, tcp);
    let arguments = [
        "--host",
        &host,
        "--slot",
        slot,
        "--start",
        "-f",
        "/dev/null",
        "-F",
        "0",
        "--endpos",
        end,
        "-d",
        "postgres",
        "--no-loop",
        "-o",
        "proto_version=1",
        "-o",
        "publication_names=firstbad",
        "-o",
        "messages=true",
    ];
    cluster.client("pg_recvlogical", &arguments);
    Ok(begun.elapsed().as_secs_f64())
}

/// From a commit to the verdict on it, at 1,000 transactions a second.
fn latency(sizes: &Sizes) -> Result<(), Failure> {
    let cluster = bank();
    let place = tempfile::tempdir()?;
    let url = url(&cluster, sizes.tcp);
    let watch = ["watch", &url, "--store", "store", "--rules", RULES];
    timed(&mut firstbad(
        place.path(),
        &[&watch[..], &["--until-now"]].concat(),
    ))?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port()
        .to_string();
    let listen = format!(":{port}");
    let mut watcher: Child = firstbad(place.path(), &[&watch[..], &["--listen", &listen]].concat())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let begun = Instant::now();
    while !get(&port, "/healthz").is_ok_and(|text| text.contains("\"state\":\"streaming\"")) {
        if begun.elapsed() > Duration::from_secs(30) {
            return Err("the watcher does not stream".into());
        }
    }
    let seconds = sizes.seconds.to_string();
    cluster.client(
        "pgbench",
        &[
            "--no-vacuum",
            "--protocol=prepared",
            "-c",
            "4",
            "-R",
            "1000",
            "-T",
            &seconds,
            "postgres",
        ],
    );
    let text = get(&port, "/metrics")?;
    watcher.kill()?;
    watcher.wait()?;
    let bucket = |line: &str| {
        let rest = line.strip_prefix("firstbad_commit_to_verdict_seconds_bucket{le=\"")?;
        let (bound, count) = rest.split_once("\"} ")?;
        Some((bound.to_owned(), count.parse::<f64>().ok()?))
    };
    let buckets: Vec<(String, f64)> = text.lines().filter_map(bucket).collect();
    let all = buckets.last().ok_or("no figures")?.1;
    println!(
        "commit to verdict of {all} commits at 1,000 a second, 20 rules (aims: p50 < 2 ms, p99 < 20 ms):"
    );
    for (bound, count) in buckets {
        println!("  within {bound} s: {:.2} %", 100.0 * count / all);
    }
    Ok(())
}

fn get(port: &str, path: &str) -> Result<String, Failure> {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}"))?;
    std::io::Write::write_all(
        &mut stream,
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// A table becomes the first snapshot of a store, and is thrown away by `COPY … BINARY`.
fn load(sizes: &Sizes) -> Result<(), Failure> {
    let cluster = bank();
    let place = tempfile::tempdir()?;
    cluster.sql(
        "postgres",
        &format!(
            "create database shop; \\c shop\n create table orders (id bigint primary key, customer_id bigint not null, status text not null, \
             total numeric(12,2) not null, placed_at timestamptz not null); \
             insert into orders select i, i % 100000, (array['placed','paid','shipped'])[1 + i % 3], (i % 10000) / 100.0, \
             '2026-01-01'::timestamptz + i * interval '1 second' from generate_series(1, {}) i; vacuum analyze orders; checkpoint;",
            sizes.rows
        ),
    );
    let url = cluster.url("shop");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..sizes.rounds {
        let begun = Instant::now();
        cluster.client(
            "psql",
            &[
                "-X",
                "-q",
                "-d",
                "shop",
                "-c",
                "copy orders to stdout (format binary)",
                "-o",
                "/dev/null",
            ],
        );
        theirs.push(sizes.rows as f64 / begun.elapsed().as_secs_f64());
        let store = format!("load{round}");
        let seconds = timed(&mut firstbad(
            place.path(),
            &["snapshot", &url, "--store", &store],
        ))?;
        ours.push(sizes.rows as f64 / seconds);
        println!(
            "  COPY … BINARY to /dev/null {:.0} rows/s, to a store {:.0} rows/s",
            theirs[round], ours[round]
        );
    }
    let (ours, theirs) = (median(ours), median(theirs));
    println!(
        "Postgres to a store: {ours:.0} rows/s (aim 2,000,000), {:.2} of COPY … BINARY to /dev/null",
        ours / theirs
    );
    Ok(())
}
