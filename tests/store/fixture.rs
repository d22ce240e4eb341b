//! What the campaigns share: stores that are made by a plan, and what must be true of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use firstbad::change::{Change, Commit, TransactionMeta};
use firstbad::state::{Fingerprint, History};
use firstbad::store::disk::{Disk, Memory};
use firstbad::store::verify::{Options, Report, verify};
use firstbad::store::{Format, Kind, Retention, Sealing, Store, StoreError, Writer};

use crate::rng::Rng;
use crate::story::{Size, Story};

/// The seed of a campaign: that of `FIRSTBAD_SEED`, else always the same.
pub(crate) fn seed(campaign: u64) -> u64 {
    match std::env::var("FIRSTBAD_SEED") {
        Ok(text) => text.parse().expect("FIRSTBAD_SEED is a number"),
        Err(_) => 0xF1B5_7BAD ^ campaign,
    }
}

/// Runs a job for each number on two threads.
pub(crate) fn on_two(jobs: usize, job: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= jobs {
                        return;
                    }
                    job(number);
                }
            });
        }
    });
}

/// Does a job, and says which one it was when it panics.
pub(crate) fn named<T>(what: &str, job: impl FnOnce() -> T) -> T {
    let job = std::panic::AssertUnwindSafe(job);
    std::panic::catch_unwind(job).unwrap_or_else(|panic| {
        eprintln!("this was: {what}");
        std::panic::resume_unwind(panic)
    })
}

/// Whether there is time for everything: `FIRSTBAD_THOROUGH` says so.
pub(crate) fn thorough() -> bool {
    std::env::var_os("FIRSTBAD_THOROUGH").is_some()
}

/// A directory where syncing costs nothing, as far as the machine has one.
pub(crate) fn directory() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    let place = match memory.is_dir() {
        true => memory,
        false => std::env::temp_dir(),
    };
    tempfile::Builder::new()
        .prefix("firstbad-store-")
        .tempdir_in(place)
        .expect("a temporary directory")
}

pub(crate) fn format_of(history: &History, chunk_level: u8) -> Format {
    let kind = Kind::of(history.origin);
    let mut format = Format::new("a story", kind, history.schema.clone(), false);
    format.chunk_level = chunk_level;
    format
}

pub(crate) const ALL: Options = Options {
    since: None,
    head: None,
    prove: true,
};

pub(crate) const BYTES: Options = Options {
    prove: false,
    ..ALL
};

pub(crate) fn verified(disk: &Arc<dyn Disk>, options: &Options) -> Result<Report, StoreError> {
    verify(disk, options, &|_, _, _| {})
}

pub(crate) fn segments_of(changes_max: u64) -> Sealing {
    Sealing {
        changes_max,
        snapshot_every: 0,
        ..Sealing::default()
    }
}

/// One thing that is done to a store.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Records up to a commit.
    Record(Commit, Sealing),
    /// Makes a snapshot at a commit.
    Snapshot(Commit),
    /// Merges small segments.
    Merge(Sealing),
    /// Drops what is before the snapshot at a commit, the last one.
    Retain(Commit),
}

/// What was confirmed to be in a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claimed {
    pub(crate) head: Commit,
    pub(crate) first: Commit,
    pub(crate) snapshots: usize,
}

/// What every position of a story is.
pub(crate) struct Truth {
    pub(crate) history: History,
    states: Vec<Option<Fingerprint>>,
    commits: Vec<(Option<TransactionMeta>, Vec<Change>)>,
}

impl Truth {
    pub(crate) fn of(history: History) -> Truth {
        let positions = 0..=history.head();
        Truth {
            states: positions
                .clone()
                .map(|at| history.state_fingerprint(at))
                .collect(),
            commits: positions
                .map(|at| (history.meta(at).cloned(), history.written_changes(at)))
                .collect(),
            history,
        }
    }

    /// Panics where a history is not this one, from its first position to its head.
    pub(crate) fn holds(&self, found: &History) {
        assert!(
            found.head() <= self.history.head(),
            "a commit that never was"
        );
        for at in found.first..=found.head() {
            let (meta, changes) = &self.commits[at as usize];
            assert_eq!(
                found.state_fingerprint(at),
                self.states[at as usize],
                "#{at}"
            );
            if at > found.first {
                assert_eq!(found.meta(at), meta.as_ref(), "#{at}");
                assert_eq!(found.written_changes(at), *changes, "#{at}");
            }
        }
    }
}

/// Opens a store, which must hold what was claimed, and nothing but the truth; says what it holds.
pub(crate) fn sound(
    disk: &Arc<dyn Disk>,
    truth: &Truth,
    claimed: Claimed,
    options: &Options,
) -> Claimed {
    let report = verified(disk, options).expect("it can be verified");
    assert_eq!(report.damage, []);
    let store = Store::on(Arc::clone(disk)).expect("it opens");
    let held = held(&store);
    assert!(
        held.head >= claimed.head && held.first >= claimed.first,
        "{held:?} {claimed:?}"
    );
    if held.first == claimed.first {
        assert!(held.snapshots >= claimed.snapshots, "{held:?} {claimed:?}");
    }
    if held.snapshots > 0 {
        let found = store.history().expect("it is whole");
        assert_eq!((found.first, found.head()), (held.first, held.head));
        truth.holds(&found);
    }
    held
}

fn held(store: &Store) -> Claimed {
    Claimed {
        head: store.ledger().head(),
        first: store.ledger().first,
        snapshots: store.ledger().snapshots.len(),
    }
}

/// Does what is to be done, as far as it is not done yet; after each step `claimed` says what is in the store by now.
pub(crate) fn perform(
    disk: &Arc<dyn Disk>,
    story: &Story,
    plan: &[Step],
    claimed: &mut Claimed,
) -> Result<(), StoreError> {
    let whole = story.history();
    let mut writer = Writer::on(Arc::clone(disk), || format_of(&whole, 0))?;
    for step in plan {
        match step {
            Step::Record(commit, sealing) => {
                let empty = writer.store().ledger().snapshots.is_empty();
                if !empty && *commit <= writer.store().ledger().head() {
                    continue;
                }
                let head = std::sync::atomic::AtomicU32::new(claimed.head);
                let progress = |at| head.store(at, std::sync::atomic::Ordering::Relaxed);
                let done = writer.record(&story.until(*commit), *sealing, &progress);
                claimed.head = claimed.head.max(head.into_inner());
                done?;
            }
            Step::Snapshot(at) => {
                if *at >= writer.store().ledger().first {
                    writer.snapshot(&whole, *at)?;
                }
            }
            Step::Merge(sealing) => _ = writer.merge(*sealing)?,
            Step::Retain(at) => {
                if writer.store().ledger().head() > *at {
                    continue;
                }
                let retention = Retention {
                    age_us: None,
                    bytes: Some(0),
                };
                writer.retain(retention, 0)?;
            }
        }
        *claimed = held(writer.store());
    }
    Ok(())
}

/// A story and a plan in which everything happens that can happen to a store.
pub(crate) fn reference(seed: u64, size: Size) -> (Story, Vec<Step>) {
    let story = Story::random(&mut Rng::new(seed), size);
    let head = story.head();
    let (early, late) = (head * 2 / 3, head * 5 / 6);
    let plan = vec![
        Step::Record(early, segments_of(1)),
        Step::Snapshot(early),
        Step::Merge(segments_of(1_000)),
        Step::Record(late, segments_of(20)),
        Step::Snapshot(late),
        Step::Retain(late),
        Step::Record(head, segments_of(20)),
    ];
    (story, plan)
}

/// The files of the small store that is damaged in every way.
pub(crate) fn small_store() -> (Truth, BTreeMap<String, Vec<u8>>) {
    let size = Size {
        rows: 20,
        commits: 6,
        changes: 3,
    };
    let story = Story::random(&mut Rng::new(7), size);
    let memory = Memory::new();
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let plan = [
        Step::Record(3, segments_of(100)),
        Step::Record(6, segments_of(100)),
        Step::Snapshot(6),
    ];
    perform(&disk, &story, &plan, &mut Claimed::default()).expect("a disk without faults");
    let truth = Truth::of(story.history());
    let report = verified(&disk, &ALL).expect("a disk without faults");
    firstbad::store::verify::Verified::keep(disk.as_ref(), &report, &ALL);
    let mut files = memory.files();
    files.retain(|path, _| !path.starts_with("unsealed/"));
    (truth, files)
}
