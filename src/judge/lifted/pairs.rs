//! Which keys have to be judged at which commits, and which row versions each of these judgements needs.

use std::ops::RangeInclusive;

use super::keys::{Chains, Dictionary};
use super::source::{Source, Turn};
use crate::change::Commit;
use crate::judge::JudgeError;
use crate::judge::engine::Engine;
use crate::plan::locality::ScanKey;
use crate::state::History;

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

/// All scans of a rule, with the keys of their rows.
pub(super) struct Scans {
    all: Vec<Scan>,
    pub(super) anchors: Dictionary,
}

/// One scan: its versions, found by their keys.
struct Scan {
    source: Source,
    /// The columns of the relation that are its key.
    key: Vec<usize>,
    /// By key: the anchor, or the value that ties it to its source.
    own: Chains,
    /// How many versions came so far.
    met: usize,
    tie: Option<Tie>,
}

/// What ties a dimension to the scan whose rows say which of its own are needed.
struct Tie {
    scan: usize,
    /// The column of that scan.
    column: usize,
    values: Dictionary,
    /// Versions of that scan, by their value.
    by_value: Chains,
}

/// Row versions to emit for one scan: the version and the commit at which it is seen.
#[derive(Default)]
pub(super) struct Emitted {
    pub(super) versions: Vec<u32>,
    pub(super) commits: Vec<i64>,
}

impl Scans {
    pub(super) fn new(keys: &[ScanKey], sources: Vec<Source>) -> Self {
        let scan = |(key, source): (&ScanKey, Source)| {
            let (key, tie) = match key {
                ScanKey::Direct(columns) => (columns.clone(), None),
                ScanKey::Derived {
                    source,
                    source_column,
                    own_column,
                } => {
                    let tie = Tie {
                        scan: *source,
                        column: *source_column,
                        values: Dictionary::default(),
                        by_value: Chains::default(),
                    };
                    (vec![*own_column], Some(tie))
                }
            };
            Scan {
                source,
                key,
                own: Chains::default(),
                met: 0,
                tie,
            }
        };
        Scans {
            all: keys.iter().zip(sources).map(scan).collect(),
            anchors: Dictionary::default(),
        }
    }

    /// The source of a scan.
    pub(super) fn source(&self, scan: usize) -> &Source {
        &self.all[scan].source
    }

    /// Goes on to the end of a range of commits: every anchor with every commit of the range at which one of the rows that decide about
    /// it changed, sorted. With `old_images` false the rows that end are left out.
    pub(super) async fn advance(
        &mut self,
        engine: &Engine,
        range: &RangeInclusive<Commit>,
        old_images: bool,
    ) -> Result<Vec<Pair>, JudgeError> {
        let mut turns = Vec::new();
        for scan in &mut self.all {
            turns.push(scan.source.advance(engine, range).await?);
        }
        let history = &engine.view().history;
        self.number(history, &turns)?;
        let changes = self.all.iter().zip(&turns).map(|(scan, turn)| {
            let (born, died) = scan.source.noticed(history, turn);
            let born = born.iter().map(|&version| {
                let (born, _) = scan.source.lifetime(history, version);
                pair(scan.own.number_of(version), born)
            });
            let died = died.iter().filter(|_| old_images);
            let died = died.map(|&(commit, version)| pair(scan.own.number_of(version), commit));
            born.chain(died).collect()
        });
        let changes: Vec<Vec<Pair>> = changes.collect();
        Ok(self.anchors_of(history, changes, *range.start()))
    }

    /// Gives numbers to the keys of new versions.
    fn number(&mut self, history: &History, turns: &[Turn]) -> Result<(), JudgeError> {
        for at in 0..self.all.len() {
            let born = &turns[at].born;
            let columns = self.all[at]
                .source
                .gather(history, &self.all[at].key, born)?;
            let theirs = match &self.all[at].tie {
                None => None,
                Some(tie) => {
                    let source = &self.all[tie.scan].source;
                    Some(source.gather(history, &[tie.column], &turns[tie.scan].born)?)
                }
            };
            let scan = &mut self.all[at];
            let numbers = match &mut scan.tie {
                None => self.anchors.number(&columns, born.len())?,
                Some(tie) => {
                    let others = &turns[tie.scan].born;
                    let theirs = theirs.expect("asked for above");
                    let numbers = tie.values.number(&theirs, others.len())?;
                    for (&version, number) in others.iter().zip(numbers) {
                        tie.by_value.add(version, number);
                    }
                    tie.values.number(&columns, born.len())?
                }
            };
            scan.met += born.len();
            for (&version, number) in born.iter().zip(numbers) {
                scan.own.add(version, number);
            }
        }
        Ok(())
    }

    /// From changes of rows, scan by scan, to the anchors that they decide about.
    fn anchors_of(
        &mut self,
        history: &History,
        mut changes: Vec<Vec<Pair>>,
        first: Commit,
    ) -> Vec<Pair> {
        let mut anchors = Vec::new();
        // A dimension passes its changes on to its source, so those that are farthest from the anchor come first.
        for at in self.by_depth().into_iter().rev() {
            let mut own = std::mem::take(&mut changes[at]);
            let Some(mut tie) = self.all[at].tie.take() else {
                anchors.append(&mut own);
                continue;
            };
            own.sort_unstable();
            own.dedup();
            let scan = &self.all[tie.scan];
            let lifetime = |version: u32| scan.source.lifetime(history, version);
            for run in own.chunk_by(|&a, &b| key_of(a) == key_of(b)) {
                tie.by_value
                    .forget(key_of(run[0]), |version| lifetime(version).1 <= first);
                for version in tie.by_value.of(key_of(run[0])) {
                    let (born, died) = lifetime(version);
                    let start = run.partition_point(|&change| commit_of(change) < born);
                    let seen = run[start..].iter().map(|&change| commit_of(change));
                    let seen = seen.take_while(|&commit| commit < died);
                    let number = scan.own.number_of(version);
                    changes[tie.scan].extend(seen.map(|commit| pair(number, commit)));
                }
            }
            self.all[at].tie = Some(tie);
        }
        anchors.sort_unstable();
        anchors.dedup();
        anchors
    }

    /// How many rows of directly reached scans judging all pairs emits.
    pub(super) fn cost(&self, history: &History, pairs: &[Pair]) -> usize {
        let mut rows = 0;
        for run in pairs.chunk_by(|&a, &b| key_of(a) == key_of(b)) {
            for scan in self.all.iter().filter(|scan| scan.tie.is_none()) {
                for version in scan.own.of(key_of(run[0])) {
                    let (born, died) = scan.source.lifetime(history, version);
                    let before = |commit| run.partition_point(|&pair| commit_of(pair) < commit);
                    rows += before(died) - before(born);
                }
            }
        }
        rows
    }

    /// How many versions directly reached scans have had so far.
    pub(super) fn met(&self) -> usize {
        let direct = self.all.iter().filter(|scan| scan.tie.is_none());
        direct.map(|scan| scan.met).sum()
    }

    /// Scans by how many others lie between them and the anchor.
    fn by_depth(&self) -> Vec<usize> {
        let depth = |mut at: usize| {
            let mut depth = 0;
            while let Some(tie) = &self.all[at].tie {
                (at, depth) = (tie.scan, depth + 1);
            }
            depth
        };
        let mut order: Vec<usize> = (0..self.all.len()).collect();
        order.sort_by_key(|&at| depth(at));
        order
    }

    /// The versions that judging some pairs needs, and how many of the pairs were taken: as many as fit into one chunk. What died
    /// before `first` is dropped on the way.
    pub(super) fn emit(
        &mut self,
        history: &History,
        pairs: &[Pair],
        first: Commit,
        chunk_rows: usize,
    ) -> (Vec<Emitted>, usize) {
        let mut out: Vec<Emitted> = self.all.iter().map(|_| Emitted::default()).collect();
        let (mut taken, mut total) = (0, 0);
        while taken < pairs.len() && total < chunk_rows {
            let key = key_of(pairs[taken]);
            let mut sweeps = Vec::new();
            for (at, scan) in self.all.iter_mut().enumerate() {
                if scan.tie.is_none() {
                    sweeps.push((at, scan.sweep(history, key, first)));
                }
            }
            // A hot key may be judged in several chunks: its commits do not need each other.
            while let Some(&pair) = pairs.get(taken)
                && key_of(pair) == key
                && total < chunk_rows
            {
                for (at, sweep) in &mut sweeps {
                    total += sweep.emit(commit_of(pair), &mut out[*at]);
                }
                taken += 1;
            }
        }
        for at in self.by_depth() {
            let Some(tie) = &self.all[at].tie else {
                continue;
            };
            let from = &out[tie.scan];
            let wanted = from.versions.iter().zip(&from.commits);
            let mut wanted: Vec<Pair> = wanted
                .map(|(&version, &commit)| {
                    let commit = Commit::try_from(commit).expect("it was a commit");
                    pair(tie.by_value.number_of(version), commit)
                })
                .collect();
            wanted.sort_unstable();
            wanted.dedup();
            for run in wanted.chunk_by(|&a, &b| key_of(a) == key_of(b)) {
                let mut sweep = self.all[at].sweep(history, key_of(run[0]), first);
                for &wanted in run {
                    sweep.emit(commit_of(wanted), &mut out[at]);
                }
            }
        }
        (out, taken)
    }
}

impl Scan {
    /// A walk over the versions of a key, without those that died before `first`: they are dropped for good.
    fn sweep(&mut self, history: &History, key: u32, first: Commit) -> Sweep {
        let lifetime = |version: u32| self.source.lifetime(history, version);
        self.own.forget(key, |version| lifetime(version).1 <= first);
        let versions = self.own.of(key).map(|version| (lifetime(version), version));
        let mut versions: Vec<_> = versions.map(|((born, died), v)| (born, v, died)).collect();
        versions.sort_unstable();
        Sweep {
            versions,
            next: 0,
            visible: Vec::new(),
        }
    }
}

/// The versions of a key, looked at commit by commit.
struct Sweep {
    /// Birth, number and death of each, by birth.
    versions: Vec<(Commit, u32, Commit)>,
    next: usize,
    /// Those that are visible: number and death.
    visible: Vec<(u32, Commit)>,
}

impl Sweep {
    /// Emits every version that is visible at a commit, which comes after those asked for before.
    fn emit(&mut self, commit: Commit, out: &mut Emitted) -> usize {
        while let Some(&(born, version, died)) = self.versions.get(self.next)
            && born <= commit
        {
            self.visible.push((version, died));
            self.next += 1;
        }
        self.visible.retain(|&(_, died)| commit < died);
        out.versions
            .extend(self.visible.iter().map(|&(version, _)| version));
        out.commits.resize(out.versions.len(), i64::from(commit));
        self.visible.len()
    }
}
