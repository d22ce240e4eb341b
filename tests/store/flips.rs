//! Every byte of every file of a small store, flipped: found, located, and never another answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use firstbad::store::disk::{Disk, Memory};
use firstbad::store::{Damage, Store, StoreError};

use crate::fixture::{BYTES, Truth, on_two, seed, small_store, thorough, verified};
use crate::rng::Rng;

type Files = BTreeMap<String, Vec<u8>>;

fn names(damage: &Damage, path: &str, at: u64) -> bool {
    damage.file == path && damage.from <= at && at < damage.to
}

/// What was read instead of damage.
#[derive(Default)]
struct Read {
    damaged: AtomicUsize,
    unread: AtomicUsize,
    opened: AtomicUsize,
}

/// Reads all that a store holds: from its first snapshot on, and each snapshot for itself.
fn read(disk: &Arc<dyn Disk>, truth: &Truth) -> Result<(), StoreError> {
    let store = Store::on(Arc::clone(disk))?;
    let snapshots = store.ledger().snapshots.keys();
    let head = store.ledger().head();
    let snapshots = snapshots.map(|&at| at..=at);
    for range in snapshots.rev().chain([store.ledger().first..=head]) {
        let at = *range.end();
        let found = store.history_of(range)?;
        assert_eq!(
            found.state_fingerprint(at),
            truth.history.state_fingerprint(at)
        );
    }
    Ok(())
}

/// One wrong bit.
#[derive(Clone, Copy)]
struct Flip<'a> {
    path: &'a str,
    at: usize,
    bit: u8,
    /// Whether all is read afterwards, and not only opened and verified.
    is_read: bool,
}

fn check(files: &Files, truth: &Truth, flip: Flip<'_>, seen: &Read) {
    let Flip { path, at, bit, .. } = flip;
    let what = format!("{path}: byte {at}, bit {bit}");
    let mut files = files.clone();
    files.get_mut(path).expect("a file")[at] ^= 1 << bit;
    let disk: Arc<dyn Disk> = Arc::new(Memory::holding(files));
    let at = at as u64;
    let report = verified(&disk, &BYTES).unwrap_or_else(|error| panic!("{what}: {error}"));
    let located = report.damage.iter().any(|damage| names(damage, path, at));
    assert!(located, "{what}: {:?}", report.damage);
    let others = report.damage.iter().filter(|damage| damage.file != path);
    assert_eq!(others.count(), 0, "{what}: {:?}", report.damage);
    let answer = match flip.is_read {
        true => read(&disk, truth),
        false => Store::on(disk).map(|_| ()),
    };
    match answer {
        Ok(()) if !flip.is_read => _ = seen.opened.fetch_add(1, Ordering::Relaxed),
        Ok(()) => {
            // Only what a reader does not need.
            assert_eq!(path, "verified", "{what} was read");
            seen.unread.fetch_add(1, Ordering::Relaxed);
        }
        Err(StoreError::Damaged(damage)) => {
            assert!(names(&damage, path, at), "{what}: {damage}");
            let is_hash = damage.problem == "the bytes are not those that were sealed";
            assert!(is_hash || path == "chain", "{what}: {damage}");
            seen.damaged.fetch_add(1, Ordering::Relaxed);
        }
        Err(error) => panic!("{what}: {error}"),
    }
}

/// A random bit of every byte, and more of those that everything depends on. Of a file with one hash each eighth byte is read as well,
/// unless `FIRSTBAD_THOROUGH` asks for all of them and all bits.
fn flips<'a>(files: &'a Files, rng: &mut Rng) -> Vec<Flip<'a>> {
    let all = thorough();
    let mut flips = Vec::new();
    for (path, bytes) in files {
        let is_root = path == "FORMAT" || path == "chain" || path.starts_with("snapshots/");
        for at in 0..bytes.len() {
            let one = (rng.next() % 8) as u8;
            let more = is_root && (all || at % 16 == 0);
            let bits = (0..8).filter(|&bit| bit == one || more);
            flips.extend(bits.map(|bit| Flip {
                path,
                at,
                bit,
                is_read: all || path == "verified" || rng.chance(8),
            }));
        }
    }
    flips
}

#[test]
fn every_flipped_byte_is_found_and_located() {
    let seed = seed(1);
    println!("FIRSTBAD_SEED={seed}");
    let (truth, files) = small_store();
    let flips = flips(&files, &mut Rng::new(seed));
    let seen = Read::default();
    on_two(flips.len(), |number| {
        check(&files, &truth, flips[number], &seen)
    });
    let bytes: usize = files.values().map(Vec::len).sum();
    println!(
        "{} flips in {} files of {bytes} bytes: all found and located by verify; {} readers refused, {} did not need the byte, {} only opened the store",
        flips.len(),
        files.len(),
        seen.damaged.into_inner(),
        seen.unread.into_inner(),
        seen.opened.into_inner(),
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
