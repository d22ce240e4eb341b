//! A process that is killed while it records, and who may write.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use firstbad::store::disk::{Disk, Local};
use firstbad::store::{Store, StoreError, Writer};

use crate::fixture::{
    ALL, BYTES, Claimed, Step, Truth, directory, format_of, named, on_two, perform, reference,
    seed, segments_of, sound,
};
use crate::rng::Rng;
use crate::story::{Size, Story};

/// Where the child records to.
const DIRECTORY: &str = "FIRSTBAD_TEST_KILL";
/// How often a process is killed: one that does everything, and the program itself.
const KILLS: usize = 100;
const STORY: u64 = 12;

fn story() -> (Story, Vec<Step>) {
    let size = Size {
        rows: 30,
        commits: 60,
        changes: 6,
    };
    reference(STORY, size)
}

/// The child: not a test of its own.
#[test]
fn records_when_it_is_asked() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else {
        return;
    };
    let (story, plan) = story();
    let disk: Arc<dyn Disk> = Arc::new(Local::new(&directory));
    if std::env::var_os("FIRSTBAD_TEST_HOLD").is_some() {
        let writer = Writer::on(disk, || format_of(&story.history(), 0)).expect("it is free");
        println!("held");
        // Until this process is killed.
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).expect("a pipe");
        drop(writer);
        return;
    }
    perform(&disk, &story, &plan, &mut Claimed::default()).expect("nothing is in the way");
}

fn child(directory: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("it has a path"));
    command
        .args(["--exact", "kill::records_when_it_is_asked", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The bytes of all files below a directory, as far as it stands still.
pub(crate) fn bytes_below(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    let bytes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

/// Kills a child as soon as so many bytes are there; says whether it was killed.
pub(crate) fn kill_at(mut child: Child, directory: &Path, bytes: u64) -> bool {
    loop {
        if let Some(status) = child.try_wait().expect("it is ours") {
            assert!(
                status.success(),
                "the child failed: {:?}",
                child.wait_with_output()
            );
            return false;
        }
        if bytes_below(directory) >= bytes {
            child.kill().expect("it is ours");
            child.wait().expect("it is ours");
            return true;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_recording_may_be_killed_at_any_moment() {
    let seed = seed(8);
    println!("FIRSTBAD_SEED={seed}");
    let (story, plan) = story();
    let truth = Truth::of(story.history());
    let place = directory();
    let undisturbed = place.path().join("undisturbed");
    std::fs::create_dir(&undisturbed).expect("it can be made");
    let disk: Arc<dyn Disk> = Arc::new(Local::new(&undisturbed));
    let mut done = Claimed::default();
    perform(&disk, &story, &plan, &mut done).expect("nothing is in the way");
    let most = bytes_below(&undisturbed);
    let killed = AtomicUsize::new(0);
    let begun = AtomicUsize::new(0);
    on_two(KILLS, |number| {
        let mut rng = Rng::new(seed.wrapping_add(number as u64));
        let bytes = 1 + rng.below(most as usize) as u64;
        named(
            &format!("FIRSTBAD_SEED={seed}, kill {number} at {bytes} bytes"),
            || {
                let directory = place.path().join(number.to_string());
                std::fs::create_dir(&directory).expect("it can be made");
                let child = child(&directory).spawn().expect("it starts");
                let was_killed = kill_at(child, &directory, bytes);
                killed.fetch_add(usize::from(was_killed), Ordering::Relaxed);
                let disk: Arc<dyn Disk> = Arc::new(Local::new(&directory));
                if directory.join("chain").is_file() {
                    sound(&disk, &truth, Claimed::default(), &BYTES);
                    begun.fetch_add(1, Ordering::Relaxed);
                }
                let mut claimed = Claimed::default();
                perform(&disk, &story, &plan, &mut claimed).expect("it goes on");
                let held = sound(
                    &disk,
                    &truth,
                    claimed,
                    if number % 8 == 0 { &ALL } else { &BYTES },
                );
                assert_eq!((held.head, held.first), (done.head, done.first));
                std::fs::remove_dir_all(&directory).expect("it can be removed");
            },
        );
    });
    println!(
        "{} of {KILLS} processes killed while they recorded, {} stores were begun: all open, all go on",
        killed.into_inner(),
        begun.into_inner()
    );
}

/// A history directory: rows of one table, and commits that change them.
fn lay_out_history(directory: &Path, rng: &mut Rng) {
    let mut snapshot = String::from("id,owner,n\n");
    for id in 0..150 {
        snapshot += &format!("{id},owner {},{}\n", rng.below(9), rng.below(1000));
    }
    let mut changes = String::new();
    let mut next = 150;
    for commit in 1..=150 {
        let mut parts = Vec::new();
        for _ in 0..1 + rng.below(3) {
            let n = rng.below(1000);
            if rng.chance(30) {
                parts.push(format!(
                    r#"{{"table":"account","op":"insert","after":{{"id":{next},"owner":null,"n":{n}}}}}"#
                ));
                next += 1;
            } else {
                let id = rng.below(next);
                parts.push(format!(
                    r#"{{"table":"account","op":"update","key":{{"id":{id}}},"after":{{"n":{n}}}}}"#
                ));
            }
        }
        changes += &format!(
            "{{\"commit\":{commit},\"changes\":[{}]}}\n",
            parts.join(",")
        );
    }
    for (path, text) in [
        (
            "schema.sql",
            "CREATE TABLE account (id bigint PRIMARY KEY, owner text, n integer);\n",
        ),
        ("snapshot/account.csv", &snapshot),
        ("changes/1.ndjson", &changes),
    ] {
        let path = directory.join(path);
        std::fs::create_dir_all(path.parent().expect("below another")).expect("it can be made");
        std::fs::write(path, text).expect("it can be written");
    }
}

#[test]
fn firstbad_record_may_be_killed_at_any_moment() {
    let seed = seed(10);
    println!("FIRSTBAD_SEED={seed}");
    let place = directory();
    let source = place.path().join("history");
    lay_out_history(&source, &mut Rng::new(seed));
    let settings = "segments: {max_changes: 6}\nsnapshots: {every_changes: 50}\n";
    std::fs::write(place.path().join("firstbad.yaml"), settings).expect("it can be written");
    let record = |store: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firstbad"));
        command
            .current_dir(place.path())
            .args(["record", "history", "--store"])
            .arg(store)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts")
    };
    let open = || firstbad::source::open_held(&[source.display().to_string()]);
    let truth = Truth::of(open().expect("it opens").history);
    let undisturbed = place.path().join("undisturbed");
    assert!(!kill_at(record(&undisturbed), &undisturbed, u64::MAX));
    let most = bytes_below(&undisturbed);
    let whole = Store::open(&undisturbed).expect("it opens");
    let killed = AtomicUsize::new(0);
    on_two(KILLS, |number| {
        let mut rng = Rng::new(seed.wrapping_add(number as u64));
        let bytes = 1 + rng.below(most as usize) as u64;
        let what = format!("FIRSTBAD_SEED={seed}, kill {number} at {bytes} bytes");
        named(&what, || {
            let store = place.path().join(number.to_string());
            let was_killed = kill_at(record(&store), &store, bytes);
            killed.fetch_add(usize::from(was_killed), Ordering::Relaxed);
            let disk: Arc<dyn Disk> = Arc::new(Local::new(&store));
            let mut claimed = Claimed::default();
            if store.join("chain").is_file() {
                claimed = sound(&disk, &truth, claimed, &ALL);
            }
            let history = open().expect("it opens").history;
            let format = || format_of(&history, 2);
            let mut writer = Writer::open(&store, format).expect("the lock is free");
            let recorded = writer.record(&history, segments_of(6), &|_| {});
            recorded.expect("it goes on");
            drop(writer);
            assert_eq!(
                sound(&disk, &truth, claimed, &BYTES).head,
                whole.ledger().head()
            );
            std::fs::remove_dir_all(&store).expect("it can be removed");
        });
    });
    println!(
        "{} of {KILLS} runs of `firstbad record` killed: all stores open, all go on",
        killed.into_inner()
    );
}

#[test]
fn one_writes_at_a_time_and_is_named() {
    let place = directory();
    let (story, _) = story();
    let format = || format_of(&story.history(), 0);
    let mut child = child(place.path())
        .env("FIRSTBAD_TEST_HOLD", "1")
        .spawn()
        .expect("it starts");
    let mut said = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    while !line.contains("held") {
        line.clear();
        let read = std::io::BufRead::read_line(&mut said, &mut line).expect("a pipe");
        assert!(read > 0, "the child ended");
    }
    let owner = format!("process {} ", child.id());
    match Writer::open(place.path(), format) {
        Err(StoreError::Locked(by)) => assert!(by.starts_with(&owner), "{by}"),
        other => panic!("{other:?}"),
    }
    let disk: Arc<dyn Disk> = Arc::new(Local::new(place.path()));
    let report = crate::fixture::verified(&disk, &ALL).expect("it is read");
    assert_eq!(report.damage, []);
    assert!(
        report.notes.iter().any(|note| note.contains(&owner)),
        "{:?}",
        report.notes
    );
    // Reading needs no lock.
    Store::open(place.path()).expect("it opens");
    child.kill().expect("it is ours");
    child.wait().expect("it is ours");
    let writer = Writer::open(place.path(), format).expect("the lock is free");
    match Writer::open(place.path(), format) {
        Err(StoreError::Locked(by)) => {
            assert!(by.starts_with(&format!("process {} ", std::process::id())))
        }
        other => panic!("{other:?}"),
    }
    drop(writer);
    Writer::open(place.path(), format).expect("the lock is free");
}

/// Who asks for the holder of a lock does not keep a writer away.
#[test]
fn asking_who_writes_keeps_nobody_away() {
    let place = directory();
    let (story, _) = story();
    let format = || format_of(&story.history(), 0);
    drop(Writer::open(place.path(), format).expect("it is free"));
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let disk = Local::new(place.path());
            while !stop.load(Ordering::Relaxed) {
                disk.holder().expect("it is readable");
            }
        });
        for _ in 0..200 {
            drop(Writer::open(place.path(), format).expect("it is free"));
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// What a recording leaves in a directory when it is done: no empty directories but a few, nothing unsealed.
#[test]
fn nothing_is_left_behind() {
    let place = directory();
    let size = Size {
        rows: 30,
        commits: 40,
        changes: 6,
    };
    let story = Story::random(&mut Rng::new(5), size);
    let disk: Arc<dyn Disk> = Arc::new(Local::new(place.path()));
    let plan = [
        Step::Record(30, segments_of(1)),
        Step::Merge(segments_of(1_000)),
        Step::Snapshot(30),
        Step::Retain(30),
        Step::Record(40, segments_of(1)),
    ];
    perform(&disk, &story, &plan, &mut Claimed::default()).expect("nothing is in the way");
    let names = |path: &str| -> Vec<String> {
        let entries = disk.list(path).expect("it is readable");
        entries.into_iter().map(|entry| entry.name).collect()
    };
    let store = Store::on(Arc::clone(&disk)).expect("it opens");
    assert_eq!(names("segments").len(), store.ledger().segments.len());
    assert_eq!(names("unsealed/segments"), [""; 0]);
    assert_eq!(names("snapshots").len(), store.ledger().snapshots.len());
}
