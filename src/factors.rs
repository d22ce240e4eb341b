//! What the bad writes have in common that good writes of the same kind have not.
//!
//! Every write is described by *features*: fields of its context (`context.version = v2.14.0`), what it did (`op = update`), which
//! columns it changed (`changed = status`), what the row holds after it (`status = paid`, `total >= 100.00`), which other tables
//! its transaction wrote (`with = payments`, `without = shipments`), the hour and weekday of its commit (UTC). A feature that is
//! true of a larger share of the bad writes than of the good ones is a [`Factor`], and the larger the difference of the two
//! shares, the higher it stands.
//!
//! **Good writes of the same kind.** Each row that never was bad stands for one good write: its latest that did what the bad
//! writes did. Kinds go from narrow to wide (the same columns set to the same values; the same columns; the same operation; any
//! write), and the narrowest that offers as many good writes as there are bad ones is taken. Rows that no recorded commit wrote
//! (they come from the snapshot) are no writes and are not counted.
//!
//! **The guard against chance.** Features are tested with Fisher's exact test, one-sided (R. A. Fisher, *The Design of Experiments*,
//! 1935): the chance that so many of the bad ones have it if bad and good were drawn blindly. It is tested over commits, not rows: the
//! rows of one commit were not written independently of each other. Because many features are tried, the bound of [`ALPHA`] on being
//! wrong at all is corrected as by Bonferroni, where features that are too rare to pass in any case do not count (R. E. Tarone, *A
//! modified Bonferroni method for discrete data*, Biometrics 46, 1990). One half of the bound is for who wrote and how (context, operation,
//! changed columns, other tables), the other for what was written and when: many different values of a column do not drown a release. Which features are tried, and how many count, does not depend on
//! which writes are bad. A pair `a and b` must pass the same test among the writes that have `a`, and among those that have `b`.
//!
//! What occurs in a single commit (a trace id) and what names a row (key columns) is no factor. Everything here is plain data in and
//! out; it judges nothing.

mod chance;
mod feature;
mod kind;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};

use self::chance::Chance;
use self::feature::{Family, Features};
use crate::change::{Cell, Commit, Op};
use crate::state::History;

/// The chance of naming any factor where there is none.
pub const ALPHA: f64 = 0.01;

/// How many factors are returned at most.
pub const FACTORS_MAX: usize = 5;

/// A factor is true of at least this share of the bad writes.
const BAD_SHARE_MIN: f64 = 0.25;

/// A factor is true of at most this share of the good writes.
const GOOD_SHARE_MAX: f64 = 0.9;

/// How many writes are looked at on each side; of more, evenly spaced ones.
pub const SAMPLES_MAX: usize = 100_000;

/// How many of the best single factors are tried in pairs.
const PAIRED_MAX: usize = 8;

/// How many names of the same set of writes are kept beside the first.
const ALSO_MAX: usize = 3;

/// Something that is true of more of the bad writes than of the good ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Factor {
    /// What it is: `context.version = v2.14.0`, or two of them with `and`. It holds row values: escape it where it is shown.
    pub factor: String,
    /// How many bad writes it is true of.
    pub bad: u64,
    /// How many bad writes there are.
    pub bad_total: u64,
    /// How many good writes it is true of.
    pub good: u64,
    /// How many good writes there are.
    pub good_total: u64,
    /// Other factors that are true of exactly the same writes.
    pub also: Vec<String>,
}

/// Whose writes are compared.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The history.
    pub history: &'a History,
    /// Index of the subject's table in the schema.
    pub table: usize,
    /// Up to which position.
    pub position: Commit,
    /// The columns of the table that make a violation's key, in the order of [`Onset::key`]. Empty when the key is none of the table's
    /// columns (`{commit}`, `{}`): then commits are compared, not rows.
    pub key: &'a [usize],
    /// Columns whose values must not be shown (`redact`): no factor names a value of theirs.
    pub hidden: &'a [usize],
}

/// Where one key began to be bad.
#[derive(Clone, Debug, PartialEq)]
pub struct Onset {
    /// The commit; 0 (already bad in the snapshot) is no write and is passed over.
    pub commit: Commit,
    /// The key's cells, in the order of [`Subject::key`].
    pub key: Vec<Cell>,
}

/// One write to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The commit.
    pub commit: Commit,
    /// What it did to the row; None when it did not write the row itself.
    pub op: Option<Op>,
    /// The row version before it.
    pub before: Option<u32>,
    /// The row version after it, or the one that stood there when the commit did not write the row.
    pub after: Option<u32>,
}

/// What the onsets have in common that good writes of the same kind have not; at most [`FACTORS_MAX`], best first. The same onsets in
/// any order give the same answer. `judged` are the keys of all subjects, bad or not; None stands for every row of the table.
pub fn of_onsets(
    subject: &Subject<'_>,
    onsets: &[Onset],
    judged: Option<&std::collections::HashSet<Vec<Cell>>>,
) -> Vec<Factor> {
    let bad = kind::bad_samples(subject, onsets);
    let good = kind::good_samples(subject, onsets, &bad, judged);
    common(subject, &bad, &good)
}

/// What the bad writes have in common that the good ones have not; at most [`FACTORS_MAX`], best first.
pub fn common(subject: &Subject<'_>, bad: &[Sample], good: &[Sample]) -> Vec<Factor> {
    let (bad, good) = (spaced(bad), spaced(good));
    if bad.is_empty() || good.is_empty() {
        return Vec::new();
    }
    let features = Features::of(subject, &bad, &good);
    let tried = Tried::new(&features, bad.len(), good.len());
    tried.factors()
}

/// Samples in commit order, evenly spaced ones when there are too many.
fn spaced(samples: &[Sample]) -> Vec<Sample> {
    let mut sorted = samples.to_vec();
    sorted.sort_by_key(|sample| (sample.commit, sample.after, sample.before));
    if sorted.len() <= SAMPLES_MAX {
        return sorted;
    }
    let count = sorted.len();
    (0..SAMPLES_MAX)
        .map(|at| sorted[at * count / SAMPLES_MAX])
        .collect()
}

/// Features that are true of the same writes, under the most telling name.
#[derive(Debug)]
struct Candidate {
    /// How telling it is: smaller is more.
    place: usize,
    family: Family,
    name: String,
    also: Vec<String>,
    /// Indexes of the samples, bad ones first; ascending.
    members: Vec<u32>,
    bad: usize,
    good: usize,
    /// Distinct commits among the members.
    bad_commits: usize,
    good_commits: usize,
}

impl Candidate {
    fn new(place: usize, family: Family, name: String, members: Vec<u32>, totals: &Totals) -> Self {
        let bad = members.partition_point(|&at| (at as usize) < totals.bad);
        let commits = |members: &[u32]| {
            let commits = members.iter().map(|&at| totals.commits[at as usize]);
            // Samples are in commit order on each side.
            let mut last = None;
            commits
                .filter(|commit| last.replace(*commit) != Some(*commit))
                .count()
        };
        Candidate {
            place,
            family,
            name,
            also: Vec::new(),
            bad,
            good: members.len() - bad,
            bad_commits: commits(&members[..bad]),
            good_commits: commits(&members[bad..]),
            members,
        }
    }

    fn shares(&self, totals: &Totals) -> (f64, f64) {
        let bad = self.bad as f64 / totals.bad as f64;
        (bad, self.good as f64 / totals.good as f64)
    }

    fn difference(&self, totals: &Totals) -> f64 {
        let (bad, good) = self.shares(totals);
        bad - good
    }

    fn fits(&self, totals: &Totals) -> bool {
        let (bad, good) = self.shares(totals);
        bad >= BAD_SHARE_MIN && good <= GOOD_SHARE_MAX && bad > good
    }
}

/// How many samples there are.
#[derive(Debug)]
struct Totals {
    bad: usize,
    good: usize,
    /// The commit of each sample.
    commits: Vec<Commit>,
    bad_commits: usize,
    good_commits: usize,
}

/// The features that were tried and what chance says about them.
#[derive(Debug)]
struct Tried {
    totals: Totals,
    chance: Chance,
    /// Most telling first.
    candidates: Vec<Candidate>,
    /// What a single test must stay below, by family.
    levels: [f64; 2],
}

impl Tried {
    fn new(features: &Features, bad: usize, good: usize) -> Self {
        let commits = features.commits.clone();
        let distinct = |commits: &[Commit]| commits.iter().collect::<BTreeSet<_>>().len();
        let totals = Totals {
            bad,
            good,
            bad_commits: distinct(&commits[..bad]),
            good_commits: distinct(&commits[bad..]),
            commits,
        };
        let chance = Chance::new(totals.bad_commits, totals.good_commits);
        let mut candidates: Vec<Candidate> = Vec::new();
        let mut known: HashMap<&[u32], usize> = HashMap::new();
        for at in features.most_telling_first() {
            let members = features.members(at);
            if let Some(&same) = known.get(members) {
                let also = &mut candidates[same].also;
                if also.len() < ALSO_MAX {
                    also.push(features.name(at));
                }
                continue;
            }
            let candidate = Candidate::new(
                at,
                features.family(at),
                features.name(at),
                members.to_vec(),
                &totals,
            );
            // One commit is an identifier; all of them are no difference.
            let everywhere = members.len() == totals.commits.len();
            if everywhere || distinct_commits(members, &totals) < 2 {
                continue;
            }
            known.insert(members, candidates.len());
            candidates.push(candidate);
        }
        let level = |family: Family| {
            let counts: Vec<usize> = candidates
                .iter()
                .filter(|one| one.family == family)
                .map(|one| one.bad_commits + one.good_commits)
                .collect();
            chance.level(&counts, ALPHA / 2.0)
        };
        let levels = [level(Family::Writer), level(Family::Written)];
        Tried {
            totals,
            chance,
            candidates,
            levels,
        }
    }

    fn factors(self) -> Vec<Factor> {
        let totals = &self.totals;
        let passes = |one: &&Candidate| {
            let level = match one.family {
                Family::Writer => self.levels[0],
                Family::Written => self.levels[1],
            };
            one.fits(totals) && self.chance.of(one.bad_commits, one.good_commits) <= level
        };
        let mut singles: Vec<&Candidate> = self.candidates.iter().filter(passes).collect();
        // Stable: among equals, the more telling one stays first.
        singles.sort_by(|a, b| by_difference(a, b, totals));
        let pairs = self.pairs(&singles);
        let mut all: Vec<&Candidate> = pairs.iter().chain(singles).collect();
        all.sort_by(|a, b| by_difference(a, b, totals));
        all.truncate(FACTORS_MAX);
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        all.into_iter()
            .map(|one| Factor {
                factor: one.name.clone(),
                bad: count(one.bad),
                bad_total: count(totals.bad),
                good: count(one.good),
                good_total: count(totals.good),
                also: one.also.clone(),
            })
            .collect()
    }

    /// Pairs of factors that say more than each of the two alone, and not by chance.
    fn pairs(&self, singles: &[&Candidate]) -> Vec<Candidate> {
        let totals = &self.totals;
        let firsts = &singles[..singles.len().min(PAIRED_MAX)];
        let tried = firsts.len() * firsts.len().saturating_sub(1);
        let mut pairs: Vec<Candidate> = Vec::new();
        for (at, a) in firsts.iter().enumerate() {
            for b in &firsts[at + 1..] {
                let (one, other) = if a.place < b.place { (a, b) } else { (b, a) };
                let name = format!("{} and {}", one.name, other.name);
                let both = shared(&a.members, &b.members);
                let both = Candidate::new(one.place, one.family, name, both, totals);
                let better = |alone: &Candidate| {
                    both.difference(totals) > alone.difference(totals)
                        && self.within(&both, alone) <= ALPHA / tried as f64
                };
                let new = pairs.iter().all(|pair| pair.members != both.members);
                if new && both.fits(totals) && better(a) && better(b) {
                    pairs.push(both);
                }
            }
        }
        pairs
    }

    /// The chance that a part of some writes has so many of their bad ones.
    fn within(&self, part: &Candidate, whole: &Candidate) -> f64 {
        Chance::new(whole.bad_commits, whole.good_commits).of(part.bad_commits, part.good_commits)
    }
}

fn by_difference(a: &Candidate, b: &Candidate, totals: &Totals) -> Ordering {
    let difference = b.difference(totals).total_cmp(&a.difference(totals));
    difference.then_with(|| a.good.cmp(&b.good))
}

fn distinct_commits(members: &[u32], totals: &Totals) -> usize {
    let commits = members.iter().map(|&at| totals.commits[at as usize]);
    commits.collect::<BTreeSet<_>>().len()
}

/// What two ascending lists have in common.
fn shared(a: &[u32], b: &[u32]) -> Vec<u32> {
    let (mut left, mut right) = (a.iter().peekable(), b.iter().peekable());
    let mut out = Vec::new();
    while let (Some(x), Some(y)) = (left.peek(), right.peek()) {
        match x.cmp(y) {
            Ordering::Less => _ = left.next(),
            Ordering::Greater => _ = right.next(),
            Ordering::Equal => {
                out.push(**x);
                left.next();
                right.next();
            }
        }
    }
    out
}
