//! Which keys have to be judged at which commits, and which row versions each of these judgements needs.

use datafusion::arrow::array::ArrayRef;

use super::keys::{Dictionary, Groups};
use crate::change::Commit;
use crate::judge::JudgeError;
use crate::plan::locality::ScanKey;
use crate::state::Lifetimes;

/// How many rows are emitted for one run of the plan, over all its scans.
pub(super) const CHUNK_ROWS: usize = 1 << 20;

/// A key and a commit at which it is judged, in one integer that sorts by key, then commit.
pub(super) type Pair = u64;

pub(super) fn pair(key: u32, commit: Commit) -> Pair {
    u64::from(key) << 32 | u64::from(commit)
}

pub(super) fn key_of(pair: Pair) -> u32 {
    u32::try_from(pair >> 32).expect("the upper half")
}

pub(super) fn commit_of(pair: Pair) -> Commit {
    Commit::try_from(pair & 0xffff_ffff).expect("the lower half")
}

/// The versions that one scan reads, found by their keys.
pub(super) struct Scanned {
    pub(super) columns: Vec<ArrayRef>,
    pub(super) born: Vec<Commit>,
    pub(super) died: Vec<Commit>,
    /// The number of each version's key: of the anchor, or of the value that ties it to its source.
    own: Vec<u32>,
    by_own: Groups,
    source: Option<Source>,
}

/// Where the keys of a dimension come from.
struct Source {
    scan: usize,
    /// For each version of the source: the number of its value.
    values: Vec<u32>,
    by_value: Groups,
}

/// A scan's keys by number, how many numbers there are, and for a dimension its source with the numbers there.
type Numbered = (Vec<u32>, usize, Option<(usize, Vec<u32>)>);

/// All scans of a rule over all their versions.
pub(super) struct Scans {
    pub(super) all: Vec<Scanned>,
    pub(super) anchors: Dictionary,
}

/// Row versions to emit for one scan: the version and the commit at which it is seen.
#[derive(Default)]
pub(super) struct Emitted {
    pub(super) versions: Vec<u32>,
    pub(super) commits: Vec<i64>,
}

impl Scans {
    /// Numbers the keys of all scans. `columns_at(scan, table column)` is the column's place in the scan's batch.
    pub(super) fn new(
        keys: &[ScanKey],
        lifetimes: Vec<Lifetimes>,
        columns_at: &dyn Fn(usize, usize) -> usize,
    ) -> Result<Self, JudgeError> {
        let mut anchors = Dictionary::default();
        let mut numbered: Vec<Numbered> = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            let column = |scan: usize, column: usize| {
                lifetimes[scan]
                    .batch
                    .column(columns_at(scan, column))
                    .clone()
            };
            match key {
                ScanKey::Direct(columns) => {
                    let columns: Vec<ArrayRef> = columns.iter().map(|&c| column(at, c)).collect();
                    let numbers = anchors.number(&columns, lifetimes[at].born.len())?;
                    numbered.push((numbers, 0, None));
                }
                ScanKey::Derived {
                    source,
                    source_column,
                    own_column,
                } => {
                    let mut values = Dictionary::default();
                    let own =
                        values.number(&[column(at, *own_column)], lifetimes[at].born.len())?;
                    let theirs = values.number(
                        &[column(*source, *source_column)],
                        lifetimes[*source].born.len(),
                    )?;
                    numbered.push((own, values.len(), Some((*source, theirs))));
                }
            }
        }
        let anchor_count = anchors.len();
        let mut all = Vec::new();
        for ((own, count, source), lifetimes) in numbered.into_iter().zip(lifetimes) {
            let count = if source.is_some() {
                count
            } else {
                anchor_count
            };
            all.push(Scanned {
                columns: lifetimes.batch.columns().to_vec(),
                born: lifetimes.born,
                died: lifetimes.died,
                by_own: Groups::new(&own, count),
                own,
                source: source.map(|(scan, values)| Source {
                    scan,
                    by_value: Groups::new(&values, count),
                    values,
                }),
            });
        }
        Ok(Scans { all, anchors })
    }

    /// Every anchor with every commit at which one of the rows that decide about it changed, sorted.
    pub(super) fn pairs(&self) -> Vec<Pair> {
        let mut changes: Vec<Vec<Pair>> = self.all.iter().map(Scanned::changes).collect();
        let mut anchors = Vec::new();
        // A dimension passes its changes on to its source, so those that are farthest from the anchor come first.
        let mut order: Vec<usize> = (0..self.all.len()).collect();
        order.sort_by_key(|&at| std::cmp::Reverse(self.depth(at)));
        for at in order {
            let mut own = std::mem::take(&mut changes[at]);
            let Some(source) = &self.all[at].source else {
                anchors.append(&mut own);
                continue;
            };
            own.sort_unstable();
            own.dedup();
            let scan = &self.all[source.scan];
            for change in own {
                let commit = commit_of(change);
                let rows = source.by_value.of(key_of(change)).iter();
                let seen = rows.filter(|&&row| scan.is_visible(row, commit));
                changes[source.scan].extend(seen.map(|&row| pair(scan.own[row as usize], commit)));
            }
        }
        anchors.sort_unstable();
        anchors.dedup();
        anchors
    }

    /// About how many rows of directly reached scans judging all pairs emits.
    pub(super) fn cost(&self, pairs: &[Pair]) -> usize {
        let runs = pairs.chunk_by(|&a, &b| key_of(a) == key_of(b));
        let cost = |run: &[Pair]| {
            let versions = |(_, scan): (usize, &Scanned)| scan.by_own.of(key_of(run[0])).len();
            // A version is seen at about half of its key's commits.
            run.len() * self.direct().map(versions).sum::<usize>() / 2
        };
        runs.map(cost).sum()
    }

    /// How many scans lie between a scan and the anchor.
    fn depth(&self, at: usize) -> usize {
        match &self.all[at].source {
            Some(source) => 1 + self.depth(source.scan),
            None => 0,
        }
    }

    /// The versions that judging some pairs needs, and how many of the pairs were taken: as many as fit into one chunk.
    pub(super) fn emit(&self, pairs: &[Pair]) -> (Vec<Emitted>, usize) {
        let mut out: Vec<Emitted> = self.all.iter().map(|_| Emitted::default()).collect();
        let mut taken = 0;
        let mut total = 0;
        while taken < pairs.len() && total < CHUNK_ROWS {
            let key = key_of(pairs[taken]);
            let rest = &pairs[taken..];
            let run = rest.partition_point(|&pair| key_of(pair) == key);
            // A hot key is judged in several chunks: its commits do not need each other.
            let versions: usize = self
                .direct()
                .map(|(_, scan)| scan.by_own.of(key).len())
                .sum();
            let run = run.min((CHUNK_ROWS / versions.max(1)).max(1));
            for (at, scan) in self.direct() {
                for &version in scan.by_own.of(key) {
                    total += scan.emit(version, &rest[..run], &mut out[at]);
                }
            }
            taken += run;
        }
        let mut order: Vec<usize> = (0..self.all.len()).collect();
        order.sort_by_key(|&at| self.depth(at));
        for at in order {
            let Some(source) = &self.all[at].source else {
                continue;
            };
            let from = &out[source.scan];
            let wanted = from.versions.iter().zip(&from.commits);
            let mut wanted: Vec<Pair> = wanted
                .map(|(&version, &commit)| {
                    let commit = Commit::try_from(commit).expect("it was a commit");
                    pair(source.values[version as usize], commit)
                })
                .collect();
            wanted.sort_unstable();
            wanted.dedup();
            let scan = &self.all[at];
            for run in wanted.chunk_by(|&a, &b| key_of(a) == key_of(b)) {
                for &version in scan.by_own.of(key_of(run[0])) {
                    scan.emit(version, run, &mut out[at]);
                }
            }
        }
        (out, taken)
    }

    fn direct(&self) -> impl Iterator<Item = (usize, &Scanned)> {
        let direct = |(_, scan): &(usize, &Scanned)| scan.source.is_none();
        self.all.iter().enumerate().filter(direct)
    }
}

impl Scanned {
    fn is_visible(&self, version: u32, commit: Commit) -> bool {
        let at = version as usize;
        self.born[at] <= commit && commit < self.died[at]
    }

    /// The births and deaths of all versions.
    fn changes(&self) -> Vec<Pair> {
        let mut out = Vec::with_capacity(self.own.len() * 2);
        for ((&own, &born), &died) in self.own.iter().zip(&self.born).zip(&self.died) {
            out.push(pair(own, born));
            if died != Commit::MAX {
                out.push(pair(own, died));
            }
        }
        out
    }

    /// Emits a version once for each commit of a run at which it is visible.
    fn emit(&self, version: u32, run: &[Pair], out: &mut Emitted) -> usize {
        let (born, died) = (self.born[version as usize], self.died[version as usize]);
        let first = run.partition_point(|&pair| commit_of(pair) < born);
        let seen = run[first..].iter().map(|&pair| commit_of(pair));
        let before = out.versions.len();
        for commit in seen.take_while(|&commit| commit < died) {
            out.versions.push(version);
            out.commits.push(i64::from(commit));
        }
        out.versions.len() - before
    }
}
