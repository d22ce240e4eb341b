//! Two routes to a snapshot: from all rows at once, and from an earlier snapshot and the changes since. They are the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use firstbad::change::Commit;
use firstbad::state::History;
use firstbad::store::disk::{Disk, Memory};
use firstbad::store::{Hash, Manifest, Sealing, Store, Writer};

use crate::fixture::{ALL, Truth, format_of, named, on_two, seed, verified};
use crate::rng::Rng;
use crate::story::{Size, Story};

fn store_of(history: &History, level: u8) -> (Arc<dyn Disk>, Writer) {
    let disk: Arc<dyn Disk> = Arc::new(Memory::new());
    let writer = Writer::on(Arc::clone(&disk), || format_of(history, level));
    (disk, writer.expect("a disk without faults"))
}

/// What a snapshot says of its rows, however they are written down.
fn prints(manifest: &Manifest) -> Vec<Vec<(u64, u8, Hash)>> {
    let tables = manifest.tables.iter();
    tables
        .map(|table| {
            table
                .chunks
                .iter()
                .map(|c| (c.rows, c.height, c.print))
                .collect()
        })
        .collect()
}

/// The snapshot at a position, made from all rows at once.
fn at_once(history: &History, at: Commit, level: u8) -> Manifest {
    let (_, mut writer) = store_of(history, level);
    writer.snapshot(history, at).expect("a disk without faults");
    writer.store().manifest(at).expect("it is whole")
}

/// A random history in a store: snapshots at random positions, each from the one before, segments of random sizes. Says how many
/// snapshots were compared, and how many of their chunks were taken over.
fn compare(seed: u64) -> (usize, usize) {
    let mut rng = Rng::new(seed);
    let size = Size {
        rows: *rng.pick(&[0, 5, 60, 300, 900]),
        commits: 1 + rng.below(16),
        changes: *rng.pick(&[1, 5, 20, 60]),
    };
    let level = rng.below(3) as u8;
    let story = Story::random(&mut rng, size);
    let truth = Truth::of(story.history());
    let (disk, mut writer) = store_of(&truth.history, level);
    let mut head = 0;
    while head < story.head() {
        head = (head + 1 + rng.below(5) as u32).min(story.head());
        let sealing = Sealing {
            changes_max: 1 + rng.below(80) as u64,
            snapshot_every: *rng.pick(&[0, 0, 10, 50]),
            ..Sealing::default()
        };
        let recorded = writer.record(&story.until(head), sealing, &|_| {});
        recorded.expect("the history goes on");
        if rng.chance(40) {
            let at = rng.below(head as usize + 1) as u32;
            writer
                .snapshot(&truth.history, at)
                .expect("a disk without faults");
        }
        if rng.chance(20) {
            writer.merge(sealing).expect("a disk without faults");
        }
    }
    drop(writer);
    let store = Store::on(Arc::clone(&disk)).expect("it opens");
    let all = store.history().expect("it is whole");
    assert_eq!(all.head(), story.head());
    truth.holds(&all);
    let mut taken_over = 0;
    let mut before: Option<Manifest> = None;
    for &at in store.ledger().snapshots.keys() {
        let derived = store.manifest(at).expect("it is whole");
        let whole = at_once(&truth.history, at, level);
        assert_eq!(derived.fingerprint, whole.fingerprint, "#{at}");
        assert_eq!(prints(&derived), prints(&whole), "#{at}");
        for table in &derived.tables {
            let from = |number: usize| &table.chunks[number].from;
            assert!(table.chunks.is_empty() || from(0).0.is_empty(), "#{at}");
            assert!(
                (1..table.chunks.len()).all(|number| from(number - 1) < from(number)),
                "#{at}"
            );
        }
        truth.holds(&store.history_of(at..=story.head()).expect("it is whole"));
        if let Some(before) = before {
            let known: Vec<Hash> = before.chunks().map(|(_, chunk)| chunk.object).collect();
            let same = derived
                .chunks()
                .filter(|(_, chunk)| known.contains(&chunk.object));
            taken_over += same.count();
        }
        before = Some(derived);
    }
    let report = verified(&disk, &ALL).expect("it is read");
    assert_eq!(report.damage, []);
    assert_eq!(report.proved, store.ledger().snapshots.len() as u64);
    (store.ledger().snapshots.len(), taken_over)
}

#[test]
fn snapshots_made_in_two_ways_are_the_same() {
    let seed = seed(7);
    let runs = 80;
    let counts = std::sync::Mutex::new((0, 0));
    on_two(runs, |number| {
        let seed = seed.wrapping_add(number as u64);
        let (snapshots, chunks) = named(&format!("FIRSTBAD_SEED={seed}"), || compare(seed));
        let mut counts = counts.lock().expect("no holder panics");
        counts.0 += snapshots;
        counts.1 += chunks;
    });
    let (snapshots, chunks) = counts.into_inner().expect("no holder panics");
    println!(
        "{runs} histories, {snapshots} snapshots made in two ways: the same; {chunks} chunks were taken over"
    );
    assert!(chunks > 0, "none was made from the one before");
}

/// Commits that nobody saw: the state after them is taken over, and everything goes on from there.
fn leap(seed: u64) -> usize {
    let mut rng = Rng::new(seed);
    let size = Size {
        rows: *rng.pick(&[5, 60, 200]),
        commits: 12 + rng.below(12),
        changes: *rng.pick(&[2, 10]),
    };
    let story = Story::random(&mut rng, size);
    let truth = Truth::of(story.history());
    let (disk, mut writer) = store_of(&truth.history, rng.below(3) as u8);
    let mut head = 0;
    let mut seen: Vec<Commit> = vec![0];
    writer
        .record(&story.until(0), Sealing::default(), &|_| {})
        .expect("the first state");
    while head < story.head() {
        let next = (head + 1 + rng.below(4) as u32).min(story.head());
        let history = story.until(next);
        if rng.chance(40) {
            let meta = history.meta(next).cloned().unwrap_or_default();
            assert_eq!(
                writer.add(&history, next, meta).expect("it is taken over"),
                next
            );
            seen.push(next);
        } else {
            // A source that was away knows more than the store wants.
            writer
                .record(&history, Sealing::default(), &|_| {})
                .expect("it goes on");
            seen.extend(head + 1..=next);
        }
        head = next;
        if rng.chance(30) {
            drop(writer);
            writer =
                Writer::on(Arc::clone(&disk), || unreachable!("it is there")).expect("it opens");
        }
    }
    drop(writer);
    let store = Store::on(Arc::clone(&disk)).expect("it opens");
    let snapshots = store.ledger().snapshots.keys().copied();
    for first in snapshots.clone() {
        let found = store.history_of(first..=story.head()).expect("it is whole");
        assert_eq!(found.head(), story.head());
        for &at in seen.iter().filter(|at| **at >= first) {
            let fingerprint = found.state_fingerprint(at);
            assert_eq!(fingerprint, truth.history.state_fingerprint(at), "#{at}");
        }
    }
    let report = verified(&disk, &ALL).expect("it is read");
    assert_eq!(report.damage, []);
    assert_eq!(report.proved as usize, snapshots.count());
    (1..=story.head()).filter(|at| !seen.contains(at)).count()
}

#[test]
fn commits_that_nobody_saw_change_no_state_after_them() {
    let seed = seed(11);
    let runs = 40;
    let unseen = AtomicUsize::new(0);
    on_two(runs, |number| {
        let seed = seed.wrapping_add(number as u64);
        let count = named(&format!("FIRSTBAD_SEED={seed}"), || leap(seed));
        unseen.fetch_add(count, Ordering::Relaxed);
    });
    println!(
        "{runs} histories with {} commits that nobody saw: the states after them are right",
        unseen.into_inner()
    );
}
