//! Which writes are compared: the write at each onset, and for each other row its latest write of the same kind.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{Onset, Sample, Subject};
use crate::change::{Cell, Commit, Op};
use crate::schema::DataType;
use crate::state::{TableVersions, Write};

/// A kind is taken only if it offers so many good writes.
const GOOD_MIN: usize = 20;

/// A column whose bad writes set no more than so many values says what kind of step they were.
const STEP_VALUES_MAX: usize = 3;

/// How many kinds there are, from narrow to wide.
const KINDS: usize = 4;

/// What a write did, as narrow as it is told apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Step {
    op: Op,
    changed: Vec<usize>,
    /// What it set the columns to that are told apart by their values.
    values: Vec<(usize, Cell)>,
}

/// The kinds of the bad writes.
struct Kinds {
    /// Columns whose values belong to the kind.
    told_apart: Vec<usize>,
    steps: HashSet<Step>,
    columns: HashSet<(Op, Vec<usize>)>,
    ops: HashSet<Op>,
}

impl Subject<'_> {
    pub(super) fn versions(&self) -> &TableVersions {
        &self.history.tables[self.table]
    }

    fn key_of(&self, version: u32) -> Vec<Cell> {
        let versions = self.versions();
        self.key
            .iter()
            .map(|&column| versions.cell(column, version))
            .collect()
    }
}

/// The columns that a write changed; none for inserts and deletes.
pub(super) fn changed(versions: &TableVersions, sample: &Sample) -> Vec<usize> {
    match (sample.op, sample.before, sample.after) {
        (Some(Op::Update), Some(before), Some(after)) => (0..versions.table.columns.len())
            .filter(|&column| !versions.same_value(column, before, after))
            .collect(),
        _ => Vec::new(),
    }
}

fn sample(write: &Write) -> Sample {
    Sample {
        commit: write.commit,
        op: Some(write.op),
        before: write.before,
        after: write.after,
    }
}

fn bare(commit: Commit) -> Sample {
    Sample {
        commit,
        op: None,
        before: None,
        after: None,
    }
}

/// Whether what stands as a commit's changes is what it wrote, not the differences of a gap.
fn is_one_write(subject: &Subject<'_>, commit: Commit) -> bool {
    subject.history.gap_ended_by(commit).is_none()
}

/// The write at each onset: the commit's last on a row of the key; where the commit did not write such a row (it removed a child),
/// the row as it stood.
pub(super) fn bad_samples(subject: &Subject<'_>, onsets: &[Onset]) -> Vec<Sample> {
    let mut wanted: HashMap<(Commit, Vec<Cell>), Option<Sample>> = onsets
        .iter()
        .filter(|onset| onset.commit > 0 && onset.commit <= subject.position)
        .filter(|onset| is_one_write(subject, onset.commit))
        .map(|onset| ((onset.commit, onset.key.clone()), None))
        .collect();
    if subject.key.is_empty() {
        let commits: BTreeSet<Commit> = wanted.keys().map(|(commit, _)| *commit).collect();
        return commits.into_iter().map(bare).collect();
    }
    let commits: HashSet<Commit> = wanted.keys().map(|(commit, _)| *commit).collect();
    for write in subject.versions().writes(subject.position) {
        if !commits.contains(&write.commit) {
            continue;
        }
        for version in [write.before, write.after].into_iter().flatten() {
            let key = subject.key_of(version);
            if let Some(found) = wanted.get_mut(&(write.commit, key)) {
                *found = Some(sample(&write));
            }
        }
    }
    stood(subject, &mut wanted);
    let found = wanted.into_iter();
    found
        .map(|((commit, _), found)| found.unwrap_or(bare(commit)))
        .collect()
}

/// Fills in rows that their commit did not write.
fn stood(subject: &Subject<'_>, wanted: &mut HashMap<(Commit, Vec<Cell>), Option<Sample>>) {
    let mut open: HashMap<Vec<Cell>, Vec<Commit>> = HashMap::new();
    for ((commit, key), found) in wanted.iter() {
        if found.is_none() {
            open.entry(key.to_vec()).or_default().push(*commit);
        }
    }
    if open.is_empty() {
        return;
    }
    let versions = subject.versions();
    let count = u32::try_from(versions.version_count()).unwrap_or(u32::MAX);
    for version in 0..count {
        let key = subject.key_of(version);
        for &commit in open.get(&key).into_iter().flatten() {
            if versions.is_visible(version, commit)
                && let Some(found) = wanted.get_mut(&(commit, key.clone()))
            {
                let after = Some(version);
                *found = Some(Sample {
                    after,
                    ..bare(commit)
                });
            }
        }
    }
}

impl Kinds {
    fn of(versions: &TableVersions, bad: &[Sample]) -> Self {
        let mut values: HashMap<usize, HashSet<Cell>> = HashMap::new();
        for one in bad {
            for column in changed(versions, one) {
                let set = values.entry(column).or_default();
                if let (Some(after), true) = (one.after, set.len() <= STEP_VALUES_MAX) {
                    set.insert(versions.cell(column, after));
                }
            }
        }
        let says_step = |column: usize| {
            matches!(
                versions.table.columns[column].data_type,
                DataType::Bool
                    | DataType::Enum { .. }
                    | DataType::Text
                    | DataType::Varchar(_)
                    | DataType::Char(_)
            )
        };
        let mut told_apart: Vec<usize> = values
            .into_iter()
            .filter(|(column, set)| says_step(*column) && set.len() <= STEP_VALUES_MAX)
            .map(|(column, _)| column)
            .collect();
        told_apart.sort_unstable();
        let mut kinds = Kinds {
            told_apart,
            steps: HashSet::new(),
            columns: HashSet::new(),
            ops: HashSet::new(),
        };
        for one in bad {
            if let Some(step) = kinds.step(versions, one) {
                kinds.ops.insert(step.op);
                kinds.columns.insert((step.op, step.changed.clone()));
                kinds.steps.insert(step);
            }
        }
        kinds
    }

    fn step(&self, versions: &TableVersions, sample: &Sample) -> Option<Step> {
        let op = sample.op?;
        let changed = changed(versions, sample);
        let values = match sample.after {
            Some(after) => self
                .told_apart
                .iter()
                .filter(|column| changed.contains(column))
                .map(|&column| (column, versions.cell(column, after)))
                .collect(),
            None => Vec::new(),
        };
        Some(Step {
            op,
            changed,
            values,
        })
    }

    /// The narrowest kind that a write belongs to.
    fn narrowest(&self, versions: &TableVersions, sample: &Sample) -> usize {
        let Some(step) = self.step(versions, sample) else {
            return KINDS - 1;
        };
        if self.steps.contains(&step) {
            0
        } else if self.columns.contains(&(step.op, step.changed)) {
            1
        } else if self.ops.contains(&step.op) {
            2
        } else {
            3
        }
    }
}

/// For each row that never was bad: its latest write of the narrowest kind that offers enough of them.
pub(super) fn good_samples(
    subject: &Subject<'_>,
    onsets: &[Onset],
    bad: &[Sample],
    judged: Option<&HashSet<Vec<Cell>>>,
) -> Vec<Sample> {
    let versions = subject.versions();
    if subject.key.is_empty() {
        let wrong: HashSet<Commit> = bad.iter().map(|one| one.commit).collect();
        let right = versions.commits().filter(|commit| !wrong.contains(commit));
        let right = right.filter(|&commit| is_one_write(subject, commit));
        return right
            .take_while(|commit| *commit <= subject.position)
            .map(bare)
            .collect();
    }
    let wrong: HashSet<&[Cell]> = onsets.iter().map(|onset| onset.key.as_slice()).collect();
    let kinds = Kinds::of(versions, bad);
    let mut latest: HashMap<Vec<Cell>, [Option<Sample>; KINDS]> = HashMap::new();
    for write in versions.writes(subject.position) {
        let Some(version) = write.after.or(write.before) else {
            continue;
        };
        let key = subject.key_of(version);
        let left_out = wrong.contains(key.as_slice())
            || judged.is_some_and(|judged| !judged.contains(&key))
            || key.contains(&Cell::Unknown)
            || !is_one_write(subject, write.commit);
        if left_out {
            continue;
        }
        let one = sample(&write);
        let narrowest = kinds.narrowest(versions, &one);
        let row = latest.entry(key).or_default();
        row[narrowest..]
            .iter_mut()
            .for_each(|kind| *kind = Some(one));
    }
    let offered = |kind: usize| latest.values().filter(|row| row[kind].is_some()).count();
    let enough = bad.len().max(GOOD_MIN);
    let kind = (0..KINDS)
        .find(|&kind| offered(kind) >= enough)
        .unwrap_or(KINDS - 1);
    latest.values().filter_map(|row| row[kind]).collect()
}
