//! Readers beside a writer: never a wrong answer, never false damage.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use firstbad::change::Commit;
use firstbad::store::disk::{Disk, Local};
use firstbad::store::verify::Verified;
use firstbad::store::{Retention, Store, StoreError, Writer};

use crate::fixture::{ALL, Truth, directory, format_of, seed, segments_of, verified};
use crate::rng::Rng;
use crate::story::{Size, Story};

#[derive(Default)]
struct Counts {
    opened: AtomicUsize,
    read: AtomicUsize,
    verified: AtomicUsize,
    changing: AtomicUsize,
}

/// Whether it has to be tried again: the writer was quicker.
fn is_changing<T>(result: Result<T, StoreError>, counts: &Counts) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(StoreError::Changing) => {
            counts.changing.fetch_add(1, Ordering::Relaxed);
            None
        }
        Err(error) => panic!("a reader beside a writer: {error}"),
    }
}

fn reads(disk: &Arc<dyn Disk>, truth: &Truth, last: &mut Commit, counts: &Counts) {
    let Some(store) = is_changing(Store::on(Arc::clone(disk)), counts) else {
        return;
    };
    counts.opened.fetch_add(1, Ordering::Relaxed);
    let head = store.ledger().head();
    assert!(head >= *last, "the store went back from #{last} to #{head}");
    *last = head;
    if let Some(found) = is_changing(store.history(), counts) {
        assert_eq!(found.head(), head);
        truth.holds(&found);
        counts.read.fetch_add(1, Ordering::Relaxed);
    }
}

fn verifies(disk: &Arc<dyn Disk>, counts: &Counts) {
    if let Some(report) = is_changing(verified(disk, &ALL), counts) {
        assert_eq!(report.damage, []);
        counts.verified.fetch_add(1, Ordering::Relaxed);
        Verified::keep(disk.as_ref(), &report, &ALL);
    }
}

/// Records in small segments, makes snapshots, merges and drops, and opens the store again now and then.
fn writes(disk: &Arc<dyn Disk>, story: &Story, rng: &mut Rng) {
    let open = || loop {
        match Writer::on(Arc::clone(disk), || format_of(&story.history(), 0)) {
            Ok(writer) => return writer,
            // A verification keeps what it found.
            Err(StoreError::Locked(by)) => assert_eq!(by, "firstbad verify"),
            Err(error) => panic!("{error}"),
        }
    };
    let whole = story.history();
    let mut writer = open();
    for head in 1..=story.head() {
        let recorded = writer.record(&story.until(head), segments_of(3), &|_| {});
        recorded.expect("it goes on");
        if rng.chance(25) {
            writer.snapshot(&whole, head).expect("it is made");
        }
        if rng.chance(25) {
            writer.merge(segments_of(200)).expect("they are merged");
        }
        if rng.chance(12) {
            let all = Retention {
                age_us: None,
                bytes: Some(0),
            };
            writer.retain(all, 0).expect("it is dropped");
        }
        if rng.chance(10) {
            drop(writer);
            writer = open();
        }
    }
}

#[test]
fn readers_beside_a_writer_see_the_truth() {
    let seed = seed(9);
    println!("FIRSTBAD_SEED={seed}");
    let mut rng = Rng::new(seed);
    let size = Size {
        rows: 50,
        commits: 60,
        changes: 4,
    };
    let story = Story::random(&mut rng, size);
    let truth = Truth::of(story.history());
    let place = directory();
    let disk: Arc<dyn Disk> = Arc::new(Local::new(place.path()));
    Writer::on(Arc::clone(&disk), || format_of(&truth.history, 0))
        .expect("an empty directory")
        .record(&story.until(0), segments_of(3), &|_| {})
        .expect("the first state");
    let done = AtomicBool::new(false);
    let counts = Counts::default();
    std::thread::scope(|scope| {
        let (done, counts, disk, truth) = (&done, &counts, &disk, &truth);
        for number in 0..3 {
            scope.spawn(move || {
                let mut last = 0;
                while !done.load(Ordering::Relaxed) {
                    match number {
                        0 => verifies(disk, counts),
                        _ => reads(disk, truth, &mut last, counts),
                    }
                }
            });
        }
        // Also where it panics, the readers end.
        struct Ends<'a>(&'a AtomicBool);
        impl Drop for Ends<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _ends = Ends(done);
        writes(disk, &story, &mut rng);
    });
    let report = verified(&disk, &ALL).expect("it is read");
    assert_eq!(report.damage, []);
    let Counts {
        opened,
        read,
        verified,
        changing,
    } = counts;
    println!(
        "beside a writer of {} seals: {} times opened, {} read, {} verified, {} tried again",
        report.seals,
        opened.into_inner(),
        read.into_inner(),
        verified.into_inner(),
        changing.into_inner()
    );
}
