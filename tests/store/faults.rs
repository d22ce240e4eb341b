//! Disks that fail at every operation, and machines that lose their power: nothing sealed is lost, nothing unsealed is claimed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use firstbad::change::Commit;
use firstbad::store::disk::{Disk, Fault, Memory};
use firstbad::store::{Act, Store, StoreError};

use crate::fixture::{
    ALL, BYTES, Claimed, Step, Truth, named, on_two, perform, reference, seed, sound,
};
use crate::rng::Rng;
use crate::story::{Size, Story};

const KINDS: [Fault; 4] = [Fault::Fails, Fault::Short, Fault::Full, Fault::Stops];

/// A run in which everything happens, and what comes of it without a fault.
struct Reference {
    story: Story,
    plan: Vec<Step>,
    truth: Truth,
    operations: u64,
    done: Claimed,
    acts: Vec<Act>,
}

impl Reference {
    /// The first of the runs that begin with a seed in which segments are merged.
    fn new(seed: u64) -> Reference {
        let merges = |run: &Reference| run.acts.iter().any(|act| matches!(act, Act::Merge(_)));
        let mut runs = (seed..).map(Reference::of);
        runs.find(merges).expect("nearly all are")
    }

    fn of(seed: u64) -> Reference {
        let size = Size {
            rows: 3,
            commits: 24,
            changes: 1,
        };
        let (story, plan) = reference(seed, size);
        let truth = Truth::of(story.history());
        let memory = Memory::new();
        let disk: Arc<dyn Disk> = Arc::new(memory.clone());
        let mut done = Claimed::default();
        perform(&disk, &story, &plan, &mut done).expect("a disk without faults");
        let operations = memory.operations();
        let store = Store::on(Arc::clone(&disk)).expect("it opens");
        let seals = store.chain().seals.iter();
        let acts = seals.map(|(seal, ..)| seal.act.clone()).collect();
        assert_eq!(sound(&disk, &truth, done, &ALL), done);
        Reference {
            story,
            plan,
            truth,
            operations,
            done,
            acts,
        }
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
        assert_eq!(sound(&disk, &self.truth, finished, &ALL).head, self.head());
        let left = memory.files();
        assert!(
            !left.keys().any(|path| path.starts_with("unsealed/")),
            "{left:?}"
        );
    }

    fn head(&self) -> Commit {
        self.done.head
    }
}

#[test]
fn every_operation_may_fail_in_every_way() {
    let seed = seed(3);
    println!("FIRSTBAD_SEED={seed}");
    let reference = Reference::new(seed);
    let stopped = AtomicUsize::new(0);
    let operations = reference.operations;
    on_two(operations as usize * 3, |number| {
        let at = (number / 3) as u64 + 1;
        let write = KINDS[1 + (at % 2) as usize];
        let fault = [Fault::Fails, Fault::Stops, write][number % 3];
        named(
            &format!("FIRSTBAD_SEED={seed}, operation {at} {fault:?}"),
            || {
                let disk = Memory::new();
                disk.fail(at, fault);
                let mut claimed = Claimed::default();
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
        operations * 3,
        stopped.into_inner()
    );
}

#[test]
fn recovery_may_fail_as_well() {
    let seed = seed(4);
    println!("FIRSTBAD_SEED={seed}");
    let reference = Reference::new(seed);
    let runs = 250;
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
                let disk = Memory::new();
                let mut claimed = Claimed::default();
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

#[test]
fn the_power_may_fail_at_every_operation() {
    let seed = seed(5);
    println!("FIRSTBAD_SEED={seed}");
    let reference = Reference::new(seed);
    let crashes = AtomicUsize::new(0);
    let runs = 2 * reference.operations as usize;
    on_two(runs, |number| {
        let mut rng = Rng::new(seed.wrapping_add(number as u64 * 0x1_0001));
        let at = (number / 2) as u64 + 1;
        let times = if number % 3 == 0 { 2 } else { 1 };
        named(
            &format!("FIRSTBAD_SEED={seed}, run {number}: operation {at}"),
            || {
                let disk = Memory::new();
                let mut claimed = Claimed::default();
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

/// An operation fails, the program goes on or is started again, and then the power fails.
#[test]
fn the_power_may_fail_after_a_fault() {
    let seed = seed(6);
    println!("FIRSTBAD_SEED={seed}");
    let reference = Reference::new(seed);
    let runs = 250;
    on_two(runs, |number| {
        let mut rng = Rng::new(seed.wrapping_add(number as u64 * 0x1_0001));
        let first = 1 + rng.below(reference.operations as usize) as u64;
        let fault = *rng.pick(&KINDS[..3]);
        let second = 1 + rng.below(80) as u64;
        named(
            &format!("FIRSTBAD_SEED={seed}, run {number}: {first} {fault:?}, then {second}"),
            || {
                let disk = Memory::new();
                let mut claimed = Claimed::default();
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
