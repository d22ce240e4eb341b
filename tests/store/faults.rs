//! Disks that fail at every operation, and machines that lose their power: nothing sealed is lost, nothing unsealed is claimed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use firstbad::store::StoreError;
use firstbad::store::disk::{Disk, Fault, Memory};

use crate::fixture::{
    ALL, BYTES, Claimed, Step, Truth, named, on_two, perform, seed, segments_of, sound, thorough,
};
use crate::rng::Rng;
use crate::story::{Size, Story};

const KINDS: [Fault; 4] = [Fault::Fails, Fault::Short, Fault::Full, Fault::Stops];

/// A run, and what comes of it without a fault.
struct Reference {
    story: Story,
    /// What is on the disk before.
    files: BTreeMap<String, Vec<u8>>,
    before: Claimed,
    plan: Vec<Step>,
    truth: Truth,
    operations: u64,
    done: Claimed,
}

impl Reference {
    /// A store is made and recorded into.
    fn young(seed: u64) -> Reference {
        let plan = vec![
            Step::Record(4, segments_of(2)),
            Step::Snapshot(3),
            Step::Record(6, segments_of(20)),
        ];
        Reference::of(seed, 6, &[], plan)
    }

    /// Small segments become one, a snapshot is made, what is before it goes, and more is recorded.
    fn old(seed: u64) -> Reference {
        let before = [Step::Record(24, segments_of(1))];
        let plan = vec![
            Step::Merge(segments_of(1_000)),
            Step::Snapshot(24),
            Step::Retain(24),
            Step::Record(27, segments_of(20)),
            Step::Snapshot(27),
        ];
        Reference::of(seed, 27, &before, plan)
    }

    fn of(seed: u64, commits: usize, before: &[Step], plan: Vec<Step>) -> Reference {
        let size = Size {
            rows: 3,
            commits,
            changes: 1,
        };
        let story = Story::random(&mut Rng::new(seed), size);
        let truth = Truth::of(story.history());
        let memory = Memory::new();
        let disk: Arc<dyn Disk> = Arc::new(memory.clone());
        let mut done = Claimed::default();
        if !before.is_empty() {
            perform(&disk, &story, before, &mut done).expect("a disk without faults");
        }
        let (files, begun, before) = (memory.files(), memory.operations(), done);
        perform(&disk, &story, &plan, &mut done).expect("a disk without faults");
        let operations = memory.operations() - begun;
        assert_eq!(sound(&disk, &truth, done, &ALL), done);
        Reference {
            story,
            files,
            before,
            plan,
            truth,
            operations,
            done,
        }
    }

    /// Both runs; in the second one segments are merged.
    fn both(seed: u64) -> [Reference; 2] {
        let merges = |run: &Reference| {
            let segments = run
                .files
                .keys()
                .filter(|path| path.ends_with("transactions.parquet"));
            segments.count() >= 8
        };
        let old = (seed..).map(Reference::old).find(merges);
        [
            Reference::young(seed),
            old.expect("nearly all have so many"),
        ]
    }

    /// The disk as it is before the run.
    fn disk(&self) -> (Memory, Claimed) {
        (Memory::holding(self.files.clone()), self.before)
    }

    /// Runs until the disk fails; an error is the disk's own.
    fn run(&self, disk: &Memory, claimed: &mut Claimed) -> bool {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        match perform(&disk, &self.story, &self.plan, claimed) {
            Ok(()) => true,
            Err(StoreError::Io { .. }) => false,
            Err(error) => panic!("{error}: {error:?}"),
        }
    }

    /// What must be true once the disk works again: nothing is lost, and all can be done to the end.
    fn recovers(&self, memory: &Memory, claimed: Claimed) {
        let disk: Arc<dyn Disk> = Arc::new(memory.clone());
        if memory.files().contains_key("chain") {
            // Before any writer cleared up.
            sound(&disk, &self.truth, claimed, &BYTES);
        } else {
            assert_eq!(claimed, Claimed::default());
        }
        let mut finished = claimed;
        assert!(self.run(memory, &mut finished), "the disk works");
        assert_eq!(
            (finished.head, finished.first),
            (self.done.head, self.done.first)
        );
        // The proof takes its time.
        let options = if finished.snapshots.is_multiple_of(2) || thorough() {
            ALL
        } else {
            BYTES
        };
        assert_eq!(
            sound(&disk, &self.truth, finished, &options).head,
            self.done.head
        );
        let left = memory.files();
        assert!(
            !left.keys().any(|path| path.starts_with("unsealed/")),
            "{left:?}"
        );
    }
}

#[test]
fn every_operation_may_fail_in_every_way() {
    let seed = seed(3);
    println!("FIRSTBAD_SEED={seed}");
    for reference in Reference::both(seed) {
        let stopped = AtomicUsize::new(0);
        let operations = reference.operations;
        let kinds = if thorough() { KINDS.len() } else { 2 };
        on_two(operations as usize * kinds, |number| {
            let at = (number / kinds) as u64 + 1;
            // Short and full differ from failing where bytes are written: each operation has one of the three, and the end of power.
            let fault = match (thorough(), number % kinds) {
                (true, kind) => KINDS[kind],
                (false, 0) => Fault::Stops,
                (false, _) => KINDS[(at % 3) as usize],
            };
            named(
                &format!("FIRSTBAD_SEED={seed}, operation {at} {fault:?}"),
                || {
                    let (disk, mut claimed) = reference.disk();
                    disk.fail(at, fault);
                    if !reference.run(&disk, &mut claimed) {
                        stopped.fetch_add(1, Ordering::Relaxed);
                    }
                    disk.repair();
                    reference.recovers(&disk, claimed);
                },
            );
        });
        println!(
            "{} faults at {operations} operations: {} runs ended with an error, all recovered",
            operations * kinds as u64,
            stopped.into_inner()
        );
    }
}

#[test]
fn recovery_may_fail_as_well() {
    let seed = seed(4);
    println!("FIRSTBAD_SEED={seed}");
    for reference in Reference::both(seed) {
        let runs = 120;
        on_two(runs, |number| {
            let mut rng = Rng::new(seed.wrapping_add(number as u64 * 0x1_0001));
            let faults: Vec<(u64, Fault)> = (0..2 + rng.below(2))
                .map(|nth| {
                    let most = if nth == 0 { reference.operations } else { 60 };
                    let at = 1 + rng.below(most as usize) as u64;
                    (at, *rng.pick(&KINDS))
                })
                .collect();
            named(
                &format!("FIRSTBAD_SEED={seed}, run {number}: {faults:?}"),
                || {
                    let (disk, mut claimed) = reference.disk();
                    for (at, fault) in &faults {
                        disk.fail(disk.operations() + at, *fault);
                        reference.run(&disk, &mut claimed);
                        disk.repair();
                    }
                    reference.recovers(&disk, claimed);
                },
            );
        });
        println!("{runs} runs with two or three faults, most in recovery: all recovered");
    }
}

#[test]
fn the_power_may_fail_at_every_operation() {
    let seed = seed(5);
    println!("FIRSTBAD_SEED={seed}");
    for reference in Reference::both(seed) {
        let crashes = AtomicUsize::new(0);
        let times = if thorough() { 10 } else { 1 };
        let runs = times * reference.operations as usize + 60;
        on_two(runs, |number| {
            let mut rng = Rng::new(seed.wrapping_add(number as u64 * 0x1_0001));
            let at = 1 + number as u64 % reference.operations;
            let times = 1 + usize::from(number % 2 == 0);
            named(
                &format!("FIRSTBAD_SEED={seed}, run {number}: operation {at}"),
                || {
                    let (disk, mut claimed) = reference.disk();
                    for nth in 0..times {
                        let at = if nth == 0 {
                            at
                        } else {
                            1 + rng.below(60) as u64
                        };
                        disk.fail(disk.operations() + at, Fault::Stops);
                        reference.run(&disk, &mut claimed);
                        disk.crash(|| rng.next());
                        crashes.fetch_add(1, Ordering::Relaxed);
                    }
                    reference.recovers(&disk, claimed);
                },
            );
        });
        println!("{} crashes: all recovered", crashes.into_inner());
    }
}

/// An operation fails, the program goes on or is started again, and then the power fails.
#[test]
fn the_power_may_fail_after_a_fault() {
    let seed = seed(6);
    println!("FIRSTBAD_SEED={seed}");
    for reference in Reference::both(seed) {
        let runs = 120;
        on_two(runs, |number| {
            let mut rng = Rng::new(seed.wrapping_add(number as u64 * 0x1_0001));
            let first = 1 + rng.below(reference.operations as usize) as u64;
            let fault = *rng.pick(&KINDS[..3]);
            let second = 1 + rng.below(80) as u64;
            named(
                &format!("FIRSTBAD_SEED={seed}, run {number}: {first} {fault:?}, then {second}"),
                || {
                    let (disk, mut claimed) = reference.disk();
                    disk.fail(first, fault);
                    if !reference.run(&disk, &mut claimed) {
                        disk.fail(disk.operations() + second, Fault::Stops);
                        reference.run(&disk, &mut claimed);
                    }
                    disk.crash(|| rng.next());
                    reference.recovers(&disk, claimed);
                },
            );
        });
        println!("{runs} faults followed by a crash: all recovered");
    }
}
