//! Stores of earlier versions, which every later version reads. `UPDATE_GOLDEN=1` writes the one of this version anew; the numbers below
//! are then those that it prints.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use firstbad::change::Op;
use firstbad::store::disk::{Disk, Local, Memory};
use firstbad::store::{Hash, Store, StoreError, VERSION, Writer};

use crate::fixture::{ALL, Claimed, Step, format_of, perform, reference, segments_of, verified};
use crate::rng::Rng;
use crate::story::{Size, Story};

/// What a golden store holds.
struct Golden {
    directory: &'static str,
    /// The first position, the last one, and those of the snapshots.
    positions: (u32, u32, &'static [u32]),
    /// Inserts, updates, deletes and truncates that are written down.
    changes: [usize; 4],
    /// Fingerprints of states.
    fingerprints: &'static [(u32, &'static str)],
    /// The head of the chain.
    head: &'static str,
}

const V1: Golden = Golden {
    directory: "v1",
    positions: (6, 36, &[6, 12, 20, 33]),
    changes: [23, 17, 13, 1],
    fingerprints: &[
        (
            7,
            "075a6a207d0c18478d70fd244254f5a88c7be8327f17f74a74c030d7aa765ff4",
        ),
        (
            12,
            "0b3e53a7a09d61e6522c5324477e28a5636879e07eb4c9531a4e3c7a0036ead1",
        ),
        (
            20,
            "6e6fb4d85aff364afb85886d071868016a1c6cac1955bbc5acd12a2527ee5a95",
        ),
        (
            30,
            "081166f960a09c7dbb593f6aa86c74494f263b80b70170b65219779f9f3f4a24",
        ),
        (
            33,
            "5e3ea12ad49f5b21e8b590655f247e4c5572e7d31db31d99ecfc9e741058add9",
        ),
        (
            36,
            "a53dfc1ca90602a9ddbe24057af76d0985e6d658bf28f6323113145ede6ddfa8",
        ),
    ],
    head: "872237d6c175ed6f346dd7653b574ac921297cae04053ae7c66fa391f99bde0a",
};

fn place(golden: &Golden) -> PathBuf {
    let stores = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/stores");
    stores.join(golden.directory)
}

/// Writes a store in which every kind of seal stands.
fn write(root: &Path) {
    let _ = std::fs::remove_dir_all(root);
    std::fs::create_dir_all(root).expect("it can be made");
    let size = Size {
        rows: 40,
        commits: 36,
        changes: 4,
    };
    let story = Story::random(&mut Rng::new(1), size);
    let disk: Arc<dyn Disk> = Arc::new(Local::new(root));
    let whole = story.history();
    let plan = [
        Step::Record(6, segments_of(1)),
        Step::Snapshot(6),
        Step::Retain(6),
        Step::Record(20, segments_of(1)),
        Step::Snapshot(12),
        Step::Merge(segments_of(1_000)),
        Step::Snapshot(20),
        Step::Record(30, segments_of(20)),
    ];
    perform(&disk, &story, &plan, &mut Claimed::default()).expect("an empty directory");
    // Two commits that nobody saw.
    let mut writer = Writer::open(root, || format_of(&whole, 0)).expect("it is free");
    let head = writer.store().ledger().head();
    let meta = whole.meta(head + 3).cloned().unwrap_or_default();
    writer
        .add(&story.until(head + 3), head + 3, meta)
        .expect("it is taken over");
    let recorded = writer.record(&whole, segments_of(20), &|_| {});
    recorded.expect("it goes on");
    drop(writer);
    // What git does not keep, or what need not be kept.
    std::fs::remove_file(root.join("lock")).expect("it is there");
    std::fs::remove_dir_all(root.join("unsealed")).expect("it is there");
}

fn reads(golden: &Golden) {
    let root = place(golden);
    let disk: Arc<dyn Disk> = Arc::new(Local::new(&root));
    let report = verified(&disk, &ALL).expect("it is read");
    assert_eq!((report.damage, report.notes), (Vec::new(), Vec::new()));
    let store = Store::open(&root).expect("it opens");
    let ledger = store.ledger();
    let snapshots: Vec<u32> = ledger.snapshots.keys().copied().collect();
    assert_eq!(
        (ledger.first, ledger.head(), snapshots.as_slice()),
        golden.positions
    );
    assert_eq!(report.proved as usize, snapshots.len());
    let history = store.history().expect("it is whole");
    let mut changes = [0; 4];
    for (commit, _) in history.commits() {
        for change in history.written_changes(commit) {
            changes[match change.op {
                Op::Insert => 0,
                Op::Update => 1,
                Op::Delete => 2,
                Op::Truncate => 3,
            }] += 1;
        }
    }
    assert_eq!(changes, golden.changes);
    for (at, fingerprint) in golden.fingerprints {
        let found = history
            .state_fingerprint(*at)
            .map(|found| Hash::from(found).to_string());
        assert_eq!(found.as_deref(), Some(*fingerprint), "#{at}");
    }
    assert_eq!(store.chain().head().to_string(), golden.head);
}

#[test]
fn golden_stores_are_read() {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        assert_eq!(
            VERSION, 1,
            "a golden store of the new version goes into a directory of its own"
        );
        write(&place(&V1));
        let store = Store::open(&place(&V1)).expect("it opens");
        let history = store.history().expect("it is whole");
        println!(
            "{:?} head {}",
            store.ledger().snapshots.keys(),
            store.chain().head()
        );
        for (commit, _) in history.commits() {
            println!("({commit}, {:?}),", history.state_fingerprint(commit));
        }
        return;
    }
    reads(&V1);
}

#[test]
fn a_store_of_a_later_version_is_refused() {
    let (story, _) = reference(
        1,
        Size {
            rows: 3,
            commits: 3,
            changes: 1,
        },
    );
    let memory = Memory::new();
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let later = || {
        let mut format = format_of(&story.history(), 0);
        format.version = VERSION + 1;
        format
    };
    let is_newer = |error: &StoreError| {
        assert_eq!(
            error.to_string(),
            "this store has format version 2; this firstbad reads up to version 1"
        );
        matches!(error, StoreError::Newer { found: 2, known: 1 })
    };
    // It is written as it is asked for, and then not read.
    assert!(Writer::on(Arc::clone(&disk), later).is_err_and(|error| is_newer(&error)));
    assert!(Store::on(Arc::clone(&disk)).is_err_and(|error| is_newer(&error)));
    assert!(verified(&disk, &ALL).is_err_and(|error| is_newer(&error)));
    assert!(Writer::on(Arc::clone(&disk), later).is_err_and(|error| is_newer(&error)));
    // A later version may also keep its chain in another way.
    let mut files = memory.files();
    files.insert("chain".into(), b"\x02 something else\n".to_vec());
    let disk: Arc<dyn Disk> = Arc::new(Memory::holding(files));
    assert!(Store::on(Arc::clone(&disk)).is_err_and(|error| is_newer(&error)));
    assert!(verified(&disk, &ALL).is_err_and(|error| is_newer(&error)));
}
