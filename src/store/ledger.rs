//! What the chain adds up to: which files there are, which commits were seen, which were not.

use std::collections::BTreeMap;

use serde::Serialize;

use super::chain::{Act, Chain, Seal, Sealed, Stretch};
use super::format::{SEGMENTS, SNAPSHOTS, manifest_path, segment_directory};
use super::hash::Hash;
use crate::change::Commit;

/// A snapshot that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The commit whose state it is.
    pub at: Commit,
    /// How many rows it has.
    pub rows: u64,
    /// The fingerprint of the state.
    pub fingerprint: Hash,
    /// When it was sealed, in microseconds since the epoch.
    pub sealed: i64,
    /// The time of the commit in microseconds since the epoch, where it has one.
    pub time: Option<i64>,
}

/// A sealed file that is there, and what depends on it.
#[derive(Clone, Debug)]
pub struct Live {
    /// The file.
    pub sealed: Sealed,
    /// The number of the seal that vouches for it.
    pub seal: u64,
}

/// What a store holds, as its chain says.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Sealed files that are there, by path. Objects are not among them: manifests vouch for those.
    pub files: BTreeMap<String, Live>,
    /// Segments by their first commit.
    pub segments: BTreeMap<Commit, Stretch>,
    /// Snapshots by commit.
    pub snapshots: BTreeMap<Commit, Kept>,
    /// The first position that is left.
    pub first: Commit,
    /// The time of the last seal, in microseconds since the epoch.
    pub sealed: Option<i64>,
}

/// A stretch of commits of the coverage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Covered {
    /// The first commit.
    pub from: Commit,
    /// The last one.
    pub to: Commit,
    /// Whether each commit was seen; else only the state after the last.
    pub seen: bool,
    /// LSN of the first transaction that has one.
    pub lsn_from: Option<String>,
    /// LSN of the last transaction that has one.
    pub lsn_to: Option<String>,
}

impl Ledger {
    /// What a chain adds up to.
    pub fn of(chain: &Chain) -> Ledger {
        let mut ledger = Ledger::default();
        chain
            .seals
            .iter()
            .for_each(|(seal, _, _)| ledger.take(seal));
        ledger
    }

    /// Takes over what the next seal says.
    pub(super) fn take(&mut self, seal: &Seal) {
        self.sealed = Some(seal.time);
        for path in &seal.removed {
            self.files.remove(path);
        }
        for file in &seal.files {
            let live = Live {
                sealed: file.clone(),
                seal: seal.seal,
            };
            self.files.insert(file.path.clone(), live);
        }
        self.act(&seal.act, seal.time);
    }

    fn act(&mut self, act: &Act, time: i64) {
        match act {
            Act::Begin => {}
            Act::Changes(stretch) => _ = self.segments.insert(stretch.from, stretch.clone()),
            Act::Merge(stretch) => {
                let within = |from: &Commit| (stretch.from..=stretch.to).contains(from);
                self.segments.retain(|from, _| !within(from));
                self.segments.insert(stretch.from, stretch.clone());
            }
            Act::Snapshot {
                at,
                rows,
                fingerprint,
                time: commit_time,
            } => {
                if self.snapshots.is_empty() {
                    self.first = *at;
                }
                let kept = Kept {
                    at: *at,
                    rows: *rows,
                    fingerprint: *fingerprint,
                    sealed: time,
                    time: *commit_time,
                };
                self.snapshots.insert(*at, kept);
            }
            Act::Retain { first, snapshots } => {
                self.first = *first;
                self.segments.retain(|_, stretch| stretch.to > *first);
                self.snapshots.retain(|at, _| !snapshots.contains(at));
            }
        }
    }

    /// The last position that is known.
    pub fn head(&self) -> Commit {
        let segment = self.segments.last_key_value().map(|(_, last)| last.to);
        let snapshot = self.snapshots.last_key_value().map(|(&at, _)| at);
        segment.max(snapshot).unwrap_or(self.first)
    }

    /// The sealed files of a segment, by their names in its directory.
    pub fn segment_files(&self, stretch: &Stretch) -> impl Iterator<Item = (&str, &Sealed)> {
        let directory = segment_directory(stretch.from, stretch.to) + "/";
        let from = self.files.range(directory.clone()..);
        from.map_while(move |(path, live)| {
            let name = path.strip_prefix(&directory)?;
            Some((name, &live.sealed))
        })
    }

    /// The sealed manifest of a snapshot.
    pub fn manifest(&self, at: Commit) -> Option<&Sealed> {
        Some(&self.files.get(&manifest_path(at))?.sealed)
    }

    /// The coverage: stretches of commits in order, neighbours that were seen as one.
    pub fn coverage(&self) -> Vec<Covered> {
        let mut covered: Vec<Covered> = Vec::new();
        for stretch in self.segments.values() {
            match covered.last_mut() {
                Some(last) if last.seen && !stretch.unseen && last.to + 1 == stretch.from => {
                    last.to = stretch.to;
                    last.lsn_from = last.lsn_from.take().or_else(|| stretch.lsn_from.clone());
                    last.lsn_to = stretch.lsn_to.clone().or_else(|| last.lsn_to.take());
                }
                _ => covered.push(Covered {
                    from: stretch.from,
                    to: stretch.to,
                    seen: !stretch.unseen,
                    lsn_from: stretch.lsn_from.clone(),
                    lsn_to: stretch.lsn_to.clone(),
                }),
            }
        }
        covered
    }

    /// Whether a file that no seal names looks like one that was sealed after the end of the chain.
    pub(super) fn is_later(&self, path: &str) -> bool {
        let mut parts = path.split('/');
        let number = |text: &str| text.parse::<Commit>().ok();
        match (parts.next(), parts.next()) {
            (Some(SEGMENTS), Some(range)) => {
                let from = range.split_once('-').and_then(|(from, _)| number(from));
                from.is_some_and(|from| from > self.head())
            }
            (Some(SNAPSHOTS), Some(name)) => {
                let at = name.strip_suffix(".json").and_then(number);
                at.is_some_and(|at| at >= self.head())
            }
            _ => false,
        }
    }

    /// What a file holds, in words.
    pub fn affects(&self, path: &str) -> String {
        let mut parts = path.split('/');
        let stem = |name: &str| {
            name.strip_suffix(".json")
                .and_then(|n| n.parse::<Commit>().ok())
        };
        match (parts.next(), parts.next(), parts.next()) {
            (Some(SEGMENTS), Some(range), file) => {
                let of = match file.and_then(|file| file.split_once('-')) {
                    Some((_, name)) => {
                        let name = name.strip_suffix(".parquet").unwrap_or(name);
                        format!(" (changes of {name})")
                    }
                    None => String::new(),
                };
                match range.split_once('-').map(|(a, b)| (a.parse(), b.parse())) {
                    Some((Ok(from), Ok(to))) => commits(from, to) + &of,
                    _ => String::new(),
                }
            }
            (Some(SNAPSHOTS), Some(name), None) => match stem(name) {
                Some(at) => format!("the snapshot at #{at}"),
                None => String::new(),
            },
            _ => "the whole store".into(),
        }
    }
}

/// A range of commits in words.
pub(super) fn commits(from: Commit, to: Commit) -> String {
    if from == to {
        format!("commit #{from}")
    } else {
        format!("commits #{from} to #{to}")
    }
}
