//! Stores of earlier versions, which every later version reads. `UPDATE_GOLDEN=1` writes the one of this version anew; the numbers below
//! are then those that it prints.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use firstbad::change::Op;
use firstbad::store::disk::{Disk, Local, Memory};
use firstbad::store::{Hash, Store, StoreError, VERSION, Writer};

use crate::fixture::{ALL, format_of, perform, reference, segments_of, verified};
use crate::story::Size;

/// What a golden store holds.
struct Golden {
    directory: &'static str,
    /// The first position, the last one, and those of the snapshots.
    positions: (u32, u32, &'static [u32]),
    /// Inserts, updates, deletes and truncates that are written down.
    changes: [usize; 4],
    /// Fingerprints of the state at the first position, after the first gap, and at the head.
    fingerprints: &'static [(u32, &'static str)],
    /// The head of the chain.
    head: &'static str,
}

const V1: Golden = Golden {
    directory: "v1",
    positions: (0, 0, &[]),
    changes: [0; 4],
    fingerprints: &[],
    head: "",
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
    let (story, plan) = reference(1, size);
    let disk: Arc<dyn Disk> = Arc::new(Local::new(root));
    let whole = story.history();
    perform(&disk, &story, &plan[..6], &mut Default::default()).expect("an empty directory");
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
