//! A process that is killed while it takes batches over: no incident is lost or doubled, and what is to be said is said.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use firstbad::change::Commit;
use firstbad::incident::{
    Batch, Began, Detail, Healed, Incidents, Reading, RuleFacts, Turns, Write,
};
use firstbad::rule::Severity;
use serde_json::{Map, Value};

use crate::fixture::{directory, named, on_two, seed};
use crate::kill::{bytes_below, kill_at};
use crate::rng::Rng;

/// Where the child keeps its incidents.
const DIRECTORY: &str = "FIRSTBAD_TEST_INCIDENTS";
const KILLS: usize = 30;
const COMMITS: Commit = 60;

fn rule(id: &str, within_us: Option<i64>, event: bool) -> RuleFacts {
    RuleFacts {
        id: id.into(),
        description: None,
        table: None,
        severity: Severity::Critical,
        owner: None,
        runbook: None,
        within_us,
        threshold: None,
        event,
        key: vec!["id".into()],
        redact: Vec::new(),
        reads: Vec::new(),
        yaml: None,
        sql: None,
    }
}

fn write(commit: Commit) -> Write {
    Write {
        xid: Some(commit.into()),
        time: Some(i64::from(commit) * 1_000_000),
        ..Write::default()
    }
}

/// What becomes of a rule's keys in one commit: a key is bad in every other of its turns.
fn turns(rule: RuleFacts, at: Commit) -> Turns {
    let key = at % 5;
    let (is_bad, again) = ((at / 5).is_multiple_of(2), (at + 2) % 5);
    let order: Box<[u8]> = Box::new([key as u8]);
    let began = is_bad.then(|| Began {
        order: order.clone(),
        key: Map::from_iter([("id".into(), key.into())]),
        onset: at,
        write: write(at),
    });
    let healed = (!is_bad).then(|| Healed {
        order,
        at,
        write: write(at),
    });
    let detail = |began: &Began| Detail {
        order: began.order.clone(),
        evidence: Map::from_iter([("again".into(), again.into())]),
        impact: Some("0.10".into()),
    };
    Turns {
        late: false,
        rule,
        details: began.iter().map(detail).collect(),
        began: began.into_iter().collect(),
        healed: healed.into_iter().collect(),
        unknown: at.is_multiple_of(13).then(|| "a reason".into()),
        judged: None,
    }
}

/// Goes on from where it was, one commit after the other; every notice is written to `said` before it counts as said.
fn go_on(directory: &Path) {
    let mut incidents = Incidents::open(directory, "a source").expect("it opens");
    incidents.begin(0, Some(0), &[]).expect("it begins");
    let said = directory.join("said");
    let options = OpenOptions::new().create(true).append(true).open(said);
    let mut said = options.expect("it opens");
    let mut say = |incidents: &mut Incidents| {
        for notice in incidents.unprinted(1_000).expect("they are read") {
            let line = format!("{} {}\n", notice.seq, notice.what.as_str());
            said.write_all(line.as_bytes()).expect("it is written");
            incidents.printed(notice.seq).expect("it is written");
        }
    };
    say(&mut incidents);
    let judged = incidents.judged().expect("it is read").expect("it began");
    for at in judged + 1..=COMMITS {
        let batch = Batch {
            from: at - 1,
            until: at,
            now_us: write(at).time,
            rules: vec![
                turns(rule("plain", None, false), at),
                turns(rule("patient", Some(7_000_000), false), at),
                turns(rule("event", None, true), at),
            ],
        };
        incidents.take(&batch).expect("it is taken");
        say(&mut incidents);
    }
}

/// The child: not a test of its own.
#[test]
fn takes_batches_when_it_is_asked() {
    if let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) {
        go_on(&directory);
    }
}

/// All that is known of all incidents, and the numbers and words of what was said.
fn found(directory: &Path) -> (Vec<Value>, BTreeSet<String>) {
    let reading = Reading::open(directory, false).expect("it opens");
    let listed = reading.expect("it is there").list(true, None);
    let listed = listed.expect("it is read");
    let documents = listed.iter().map(|one| Value::Object(one.document()));
    let said = std::fs::read_to_string(directory.join("said")).expect("it is read");
    // A line that was cut off was not said; it was said again in a line of its own, or at its end.
    let lines = said.lines().map(str::to_owned).collect();
    (documents.collect(), lines)
}

#[test]
fn a_watcher_may_be_killed_at_any_moment() {
    let seed = seed(21);
    println!("FIRSTBAD_SEED={seed}");
    let place = directory();
    let undisturbed = place.path().join("undisturbed");
    std::fs::create_dir(&undisturbed).expect("it can be made");
    go_on(&undisturbed);
    let want = found(&undisturbed);
    assert!(want.0.len() > 5 && want.1.len() > 20, "{want:?}");
    let most = {
        let incidents = Incidents::open(&undisturbed, "a source").expect("it opens");
        drop(incidents);
        bytes_below(&undisturbed)
    };
    let killed = AtomicUsize::new(0);
    on_two(KILLS, |number| {
        let mut rng = Rng::new(seed.wrapping_add(number as u64));
        // While it runs, the log of the database is there as well.
        let bytes = 1 + rng.below(most as usize * 32) as u64;
        named(
            &format!("FIRSTBAD_SEED={seed}, kill {number} at {bytes} bytes"),
            || {
                let directory = place.path().join(number.to_string());
                std::fs::create_dir(&directory).expect("it can be made");
                let child = Command::new(std::env::current_exe().expect("it has a path"))
                    .args(["--exact", "incidents::takes_batches_when_it_is_asked"])
                    .env(DIRECTORY, &directory)
                    .stdin(Stdio::null())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .expect("it starts");
                let was_killed = kill_at(child, &directory, bytes);
                killed.fetch_add(usize::from(was_killed), Ordering::Relaxed);
                go_on(&directory);
                assert_eq!(found(&directory), want);
                std::fs::remove_dir_all(&directory).expect("it can be removed");
            },
        );
    });
    let killed = killed.into_inner();
    println!("{killed} of {KILLS} processes killed while they took batches over");
    assert!(killed > KILLS / 4, "only {killed} were killed");
}
