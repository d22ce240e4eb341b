//! Every byte of every file of a small store, flipped: found, located, and never another answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use firstbad::store::disk::{Disk, Memory};
use firstbad::store::{Damage, Store, StoreError};

use crate::fixture::{BYTES, Truth, seed, small_store, verified};
use crate::rng::Rng;

type Files = BTreeMap<String, Vec<u8>>;

/// Runs a job for each number on two threads.
fn on_two(jobs: usize, job: impl Fn(usize) + Sync) {
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

fn names(damage: &Damage, path: &str, at: u64) -> bool {
    damage.file == path && damage.from <= at && at < damage.to
}

/// What was read instead of damage.
#[derive(Default)]
struct Read {
    damaged: AtomicUsize,
    unread: AtomicUsize,
}

/// Reads all that a store holds: from its first snapshot, and from its last one.
fn read(disk: &Arc<dyn Disk>, truth: &Truth) -> Result<(), StoreError> {
    let store = Store::on(Arc::clone(disk))?;
    let head = store.ledger().head();
    let found = store.history()?;
    assert_eq!(found.head(), truth.history.head());
    let last = store.history_of(head..=head)?;
    for history in [&found, &last] {
        let fingerprint = history.state_fingerprint(head);
        assert_eq!(fingerprint, truth.history.state_fingerprint(head));
    }
    Ok(())
}

/// One bit of a store is wrong.
fn check(files: &Files, truth: &Truth, (path, at, bit): (&str, usize, u8), seen: &Read) {
    let flip = format!("{path}: byte {at}, bit {bit}");
    let mut files = files.clone();
    files.get_mut(path).expect("a file")[at] ^= 1 << bit;
    let disk: Arc<dyn Disk> = Arc::new(Memory::holding(files));
    let at = at as u64;
    let report = verified(&disk, &BYTES).unwrap_or_else(|error| panic!("{flip}: {error}"));
    let located = report.damage.iter().any(|damage| names(damage, path, at));
    assert!(located, "{flip}: {:?}", report.damage);
    let others = report.damage.iter().filter(|damage| damage.file != path);
    assert_eq!(others.count(), 0, "{flip}: {:?}", report.damage);
    match read(&disk, truth) {
        Ok(()) => {
            // Only what a reader does not need.
            assert_eq!(path, "verified", "{flip} was read");
            seen.unread.fetch_add(1, Ordering::Relaxed);
        }
        Err(StoreError::Damaged(damage)) => {
            assert!(names(&damage, path, at), "{flip}: {damage}");
            let is_hash = damage.problem == "the bytes are not those that were sealed";
            assert!(is_hash || path == "chain", "{flip}: {damage}");
            seen.damaged.fetch_add(1, Ordering::Relaxed);
        }
        Err(error) => panic!("{flip}: {error}"),
    }
}

#[test]
fn every_flipped_byte_is_found_and_located() {
    let seed = seed(1);
    println!("FIRSTBAD_SEED={seed}");
    let mut rng = Rng::new(seed);
    let (truth, files) = small_store();
    let mut flips: Vec<(&str, usize, u8)> = Vec::new();
    for (path, bytes) in &files {
        let is_small = path == "FORMAT" || path == "chain" || path.starts_with("snapshots/");
        for at in 0..bytes.len() {
            let bit = (rng.next() % 8) as u8;
            flips.push((path, at, bit));
            // All bits, byte by byte in turn: every byte of these has two of them flipped, every eighth byte all.
            let more =
                (0..8).filter(|&other| other != bit && (at % 8 == 0 || other as usize == at % 8));
            flips.extend(
                more.filter(|_| is_small)
                    .map(|bit| (path.as_str(), at, bit)),
            );
        }
    }
    let seen = Read::default();
    on_two(flips.len(), |number| {
        check(&files, &truth, flips[number], &seen)
    });
    let bytes: usize = files.values().map(Vec::len).sum();
    println!(
        "{} flips in {} files of {bytes} bytes: all found and located; {} readers refused, {} did not need the byte",
        flips.len(),
        files.len(),
        seen.damaged.into_inner(),
        seen.unread.into_inner(),
    );
}

/// Bytes that were sealed and are wrong all the same are refused by the reader of Parquet, which cannot be reached otherwise.
#[test]
fn a_file_of_another_table_is_refused_by_its_hash() {
    let (truth, files) = small_store();
    let objects: Vec<&String> = files
        .keys()
        .filter(|path| path.starts_with("objects/"))
        .collect();
    for pair in objects.windows(2) {
        let mut files = files.clone();
        let other = files[pair[1]].clone();
        files.insert(pair[0].clone(), other);
        let disk: Arc<dyn Disk> = Arc::new(Memory::holding(files));
        match read(&disk, &truth) {
            Err(StoreError::Damaged(damage)) => assert_eq!(damage.file, *pair[0]),
            other => panic!("{}: {other:?}", pair[0]),
        }
    }
}
