//! Which lives are findings, and the stretches that they make together.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::Range;
use super::grace::{Grace, grace};
use crate::change::Commit;
use crate::judge::{Begun, Life, Lives};
use crate::rule::Rule;
use crate::state::History;
use crate::verdict::At;

/// How sure it is which transaction began the open stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// This transaction.
    Exact,
    /// Something between `last_good` and `first_bad`.
    Bounded,
    /// Nothing else is wrong than what was wrong before.
    PreExisting,
}

impl Certainty {
    /// The word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Certainty::Exact => "exact",
            Certainty::Bounded => "bounded",
            Certainty::PreExisting => "pre_existing",
        }
    }
}

/// A stretch that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Stretch {
    /// The commit that began it.
    pub from: At,
    /// The commit that ended it.
    pub to: At,
    /// How many different keys were bad in it that had not been bad before the range.
    pub keys: u64,
}

/// How the violations of the open stretch came.
#[derive(Clone, Debug, PartialEq)]
pub struct Pace {
    /// How many began in it.
    pub begun: u64,
    /// How many of them have healed.
    pub healed: u64,
    /// The commit of the last that began.
    pub last: At,
    /// The most commits between one and the next; None for less than three.
    pub longest_pause: Option<Commit>,
}

/// One key's violation, from its first bad commit to the one that healed it.
#[derive(Clone, Debug, PartialEq)]
pub struct Onset {
    /// The key.
    pub key: Map<String, Value>,
    /// Its first bad commit; the start of the range (0) where it was bad before.
    pub commit: Commit,
    /// The commit that healed it; None while it is bad.
    pub healed: Option<Commit>,
    /// When it became overdue, in microseconds; only for rules with `within`.
    pub deadline: Option<i64>,
    /// Whether it was bad at the start of the range.
    pub pre_existing: bool,
}

/// A life that counts.
#[derive(Clone, Debug)]
pub(super) struct Finding<'a> {
    life: &'a Life,
    /// Its onset, or the start of the range where it was bad there.
    onset: Commit,
    pre_existing: bool,
    deadline: Option<i64>,
}

impl Finding<'_> {
    /// Whether it broke within the range and was bad after some commit from one to before another.
    pub(super) fn runs(&self, from: Commit, to: Commit) -> bool {
        let ended = self.life.healed.is_some_and(|healed| healed <= from);
        !self.pre_existing && self.onset < to && !ended
    }

    pub(super) fn order(&self) -> &[u8] {
        &self.life.order
    }

    pub(super) fn onset(&self) -> Onset {
        Onset {
            key: self.life.key.clone(),
            commit: self.onset,
            healed: self.life.healed,
            deadline: self.deadline,
            pre_existing: self.pre_existing,
        }
    }
}

/// The lives that count, by onset and key.
pub(super) struct Findings<'a> {
    pub(super) counted: Vec<Finding<'a>>,
    /// Keys that are bad at the end and still have time to heal.
    pub(super) pending: u64,
}

/// Picks the lives that count in a range.
pub(super) fn findings<'a>(
    rule: &Rule,
    lives: &'a Lives,
    history: &History,
    range: &Range,
) -> Result<Findings<'a>, String> {
    let writes = rule.check.judges_writes();
    let within = rule.within_us.filter(|_| !writes);
    let now = range.now_us.or_else(|| history.now_at(range.bad));
    if within.is_some() && now.is_none() {
        return Err(
            "the source has no times up to this position, so `within` has no now: give --now TIME"
                .into(),
        );
    }
    let mut findings = Findings {
        counted: Vec::new(),
        pending: 0,
    };
    let mut written_before = BTreeSet::new();
    for life in &lives.intervals {
        let over = life.healed.is_some_and(|healed| healed <= range.good);
        if over || !range.wants(&life.key) {
            continue;
        }
        let counts = if writes {
            life.onset >= range.since
        } else {
            let end = life.healed.unwrap_or(range.bad + 1);
            Begun::of(history, life.onset, end).is_since(range.since, history)?
        };
        if !counts {
            continue;
        }
        // An event of position 0 there is none; of an earlier range, the key is bad at its start, once.
        let pre_existing = life.onset <= range.good && !(writes && life.onset == 0);
        if writes && pre_existing && !written_before.insert(&life.order) {
            continue;
        }
        let deadline = match within.zip(now) {
            None => None,
            Some(times) => match grace(life, history, times, range.bad)? {
                Grace::Overdue(deadline) => Some(deadline),
                Grace::Healed => continue,
                Grace::Pending => {
                    findings.pending += 1;
                    continue;
                }
            },
        };
        findings.counted.push(Finding {
            life,
            onset: life.onset.max(range.good),
            pre_existing,
            deadline,
        });
    }
    findings
        .counted
        .sort_by(|a, b| (a.onset, &a.life.order).cmp(&(b.onset, &b.life.order)));
    Ok(findings)
}

/// The stretches of a range, and what it ends with.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sweep {
    /// The start of the stretch that is open at the end.
    pub(super) open: Option<Commit>,
    /// Those that are over: the commits that began and ended them.
    pub(super) closed: Vec<(Commit, Commit)>,
    /// Different keys that are bad at the end.
    pub(super) bad: u64,
    /// Different keys that were bad at the start.
    pub(super) pre_existing: u64,
    /// Whether the rule is violated at the end.
    pub(super) violated: bool,
}

/// How many lives of each key are running.
#[derive(Default)]
struct Running<'a>(BTreeMap<&'a [u8], u64>);

impl<'a> Running<'a> {
    fn begin(&mut self, key: &'a [u8]) {
        *self.0.entry(key).or_default() += 1;
    }

    fn end(&mut self, key: &'a [u8]) {
        if let Some(count) = self.0.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(key);
            }
        }
    }

    fn keys(&self) -> u64 {
        self.0.len() as u64
    }
}

/// Goes through the commits at which something changes. `judged` tells the number of subjects from some commits on; `too_many` whether so
/// many bad of so many judged violate the rule.
pub(super) fn sweep(
    findings: &[Finding<'_>],
    judged: Option<&[(Commit, u64)]>,
    range: &Range,
    too_many: &dyn Fn(u64, u64) -> bool,
) -> Sweep {
    let mut begins: BTreeMap<Commit, Vec<&Finding<'_>>> = BTreeMap::new();
    let mut ends: BTreeMap<Commit, Vec<&Finding<'_>>> = BTreeMap::new();
    let mut turns: BTreeSet<Commit> = BTreeSet::from([range.good, range.bad]);
    for finding in findings {
        begins.entry(finding.onset).or_default().push(finding);
        turns.insert(finding.onset);
        if let Some(healed) = finding.life.healed {
            ends.entry(healed).or_default().push(finding);
            turns.insert(healed);
        }
    }
    let counts = judged.unwrap_or(&[]);
    turns.extend(counts.iter().map(|(commit, _)| *commit));
    let (mut all, mut own) = (Running::default(), Running::default());
    let mut sweep = Sweep::default();
    for commit in turns {
        for finding in begins.get(&commit).into_iter().flatten() {
            all.begin(&finding.life.order);
            if !finding.pre_existing {
                own.begin(&finding.life.order);
            }
        }
        for finding in ends.get(&commit).into_iter().flatten() {
            all.end(&finding.life.order);
            if !finding.pre_existing {
                own.end(&finding.life.order);
            }
        }
        if commit < range.good || commit > range.bad {
            continue;
        }
        if commit == range.good {
            sweep.pre_existing = all.keys() - own.keys();
        }
        let known = counts.partition_point(|(from, _)| *from <= commit);
        let subjects = known.checked_sub(1).map_or(0, |at| counts[at].1);
        let violated = too_many(all.keys(), subjects);
        let running = violated && own.keys() > 0;
        match (sweep.open, running) {
            (None, true) => sweep.open = Some(commit),
            (Some(from), false) => {
                sweep.closed.push((from, commit));
                sweep.open = None;
            }
            _ => {}
        }
        sweep.bad = all.keys();
        sweep.violated = violated;
    }
    sweep
}

/// The pace of the stretch that a commit began; None without violations that began in it.
pub(super) fn pace(findings: &[Finding<'_>], history: &History, from: Commit) -> Option<Pace> {
    let begun: Vec<&Finding<'_>> = findings
        .iter()
        .filter(|finding| !finding.pre_existing && finding.onset >= from)
        .collect();
    let last = begun.last()?.onset;
    let pauses = begun.windows(2).map(|two| two[1].onset - two[0].onset);
    Some(Pace {
        begun: begun.len() as u64,
        healed: begun.iter().filter(|f| f.life.healed.is_some()).count() as u64,
        last: super::position(history, last),
        longest_pause: pauses.max().filter(|_| begun.len() > 2),
    })
}
