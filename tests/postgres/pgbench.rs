//! pgbench at full speed under its rules, watched: no false alarm, and one bad write of another client is one incident, exactly that
//! transaction.
//!
//! `FIRSTBAD_PGBENCH_SECONDS` says how long it runs.

use std::process::Command;

use serde_json::Value;

use crate::postgres::Cluster;
use crate::watcher::Watcher;

const SECONDS: u64 = 10;

/// Somebody books an account by hand that does not exist, and says so.
const PLANTED: &str = "
    begin;
    select pg_current_xact_id();
    select pg_logical_emit_message(true, 'firstbad', '{\"service\": \"psql\", \"user\": \"night shift\"}') is not null;
    insert into pgbench_history (tid, bid, aid, delta, mtime) values (1, 1, 999999, 0, now());
    commit;";

fn pgbench(cluster: &Cluster, seconds: u64) {
    let seconds = seconds.to_string();
    let arguments = [
        "--no-vacuum",
        "--protocol=prepared",
        "-c",
        "4",
        "-T",
        &seconds,
        "postgres",
    ];
    let output = cluster.client("pgbench", &arguments);
    println!("{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn pgbench_raises_no_alarm_and_one_bad_write_raises_one() {
    let seconds = std::env::var("FIRSTBAD_PGBENCH_SECONDS");
    let seconds = seconds.map_or(SECONDS, |seconds| seconds.parse().expect("a number"));
    let cluster = Cluster::start();
    cluster.client("pgbench", &["-i", "-q", "-s", "1", "postgres"]);
    cluster.sql(
        "postgres",
        "alter table pgbench_history replica identity full",
    );
    let place = tempfile::tempdir().expect("a directory");
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/rules/pgbench.yaml");
    let url = cluster.url("postgres");
    let firstbad = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firstbad"));
        command.args(arguments).current_dir(place.path());
        command
    };
    let watch = ["watch", &url, "--store", "store", "--rules", rules];
    // The slot is made before anything is written.
    let made = firstbad(&[&watch[..], &["--until-now"]].concat())
        .output()
        .expect("it runs");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let mut watcher = Watcher::start(place.path(), &watch[1..]);
    pgbench(&cluster, seconds.div_ceil(2));
    watcher.says(&["watching from"]);
    let planted = std::thread::scope(|scope| {
        scope.spawn(|| pgbench(&cluster, seconds.div_ceil(2)));
        let said = cluster.sql("postgres", PLANTED);
        said.lines()
            .next()
            .expect("an xid")
            .trim()
            .parse::<u64>()
            .expect("a number")
    });
    let (code, said) = watcher.stop();
    assert_eq!(code, Some(0), "{said}");
    let rest = firstbad(&[&watch[..], &["--until-now"]].concat())
        .output()
        .expect("it runs");
    assert!(
        rest.status.success(),
        "{}",
        String::from_utf8_lossy(&rest.stderr)
    );
    let listed = firstbad(&[
        "incident", "list", "--all", "--store", "store", "--format", "json",
    ]);
    let listed = { listed }.output().expect("it runs");
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    let incidents = listed["incidents"].as_array().expect("incidents");
    assert_eq!(incidents.len(), 1, "{listed:#}\n{said}");
    let first = &incidents[0]["first_bad"];
    assert_eq!(first["xid"], planted, "{listed:#}");
    assert_eq!(first["context"]["user"], "night shift", "{listed:#}");
    assert_eq!(incidents[0]["certainty"], "exact", "{listed:#}");
    // Nothing else was said: no rule could not be judged, no connection was lost.
    let said: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
    // A machine that is slow may judge rules of large groups from time to time, and says so.
    let fine = [
        "watching from",
        "history-of-unknown-account",
        "-differs-from-history reads too many rows at every commit",
    ];
    let about = |line: &str| fine.iter().any(|fine| line.contains(fine));
    assert!(said.iter().all(|line| about(line)), "{said:#?}");
}
