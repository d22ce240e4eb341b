//! One rule's judgement as it goes through a history, batch by batch.

use std::ops::RangeInclusive;

use datafusion::arrow::array::{ArrayRef, RecordBatch};

use super::asleep::Asleep;
use super::clock::Feed;
use super::pairs::{self, Pair, Scans};
use super::plan::{How, Lifted};
use super::source::Source;
use super::spans::{Holds, Rows, Span, Spans};
use super::{Mistake, Summaries, Tuning};
use crate::change::Commit;
use crate::judge::JudgeError;
use crate::judge::engine::Engine;
use crate::plan::Compiled;
use crate::plan::locality::Locality;

/// A rule that was judged at every commit so far.
pub(in crate::judge) struct Standing {
    lifted: Lifted,
    keep: Summaries,
    tuning: Tuning,
    fed: Fed,
    spans: Spans,
    /// The first commit that was not judged yet.
    next: Commit,
    states: States,
    /// How many rows were emitted that summaries would have spared.
    too_many: usize,
    /// What the time cannot change for a while.
    asleep: Asleep,
}

/// Where the rows come from.
pub(super) enum Fed {
    Rows(Source),
    Keys(Scans, Locality),
}

/// How a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::judge) enum Stood {
    /// Every commit of it was judged.
    Judged,
    /// Nothing was: some groups are so large that their aggregates must be kept as tables.
    TooHot,
}

impl Standing {
    /// Plans a rule; nothing is judged yet.
    ///
    /// # Errors
    /// Why it can only be judged in full, in words for the author of the rule.
    pub(in crate::judge) async fn plan(
        engine: &Engine,
        compiled: &Compiled,
        keep: Summaries,
        tuning: &Tuning,
    ) -> Result<Self, String> {
        let (lifted, mut sources) = Lifted::plan(engine, compiled, keep, tuning).await?;
        let fed = match &lifted.how {
            How::Rows => Fed::Rows(sources.pop().expect("row by row means one table")),
            How::Keys(locality) => {
                Fed::Keys(Scans::new(&locality.scans, sources), locality.clone())
            }
        };
        Ok(Standing {
            lifted,
            keep,
            tuning: tuning.clone(),
            fed,
            spans: Spans::default(),
            next: 0,
            states: States::default(),
            too_many: 0,
            asleep: Asleep::default(),
        })
    }

    /// Judges the commits up to a position, those before it that were not judged yet.
    pub(in crate::judge) async fn advance(
        &mut self,
        engine: &Engine,
        compiled: &Compiled,
        until: Commit,
    ) -> Result<Stood, JudgeError> {
        let range = self.next..=until;
        if range.is_empty() {
            return Ok(Stood::Judged);
        }
        let stood = match self.fed {
            Fed::Rows(_) if self.lifted.ticking.is_some() => {
                self.rows_in_time(engine, compiled, &range).await?
            }
            Fed::Rows(_) => self.rows(engine, compiled, &range).await?,
            Fed::Keys(..) => self.keys(engine, compiled, &range).await?,
        };
        self.next = until.saturating_add(1);
        Ok(stood)
    }

    /// Every interval so far in which a key violates the rule, by onset, then key.
    pub(in crate::judge) fn spans(&self) -> Vec<Span> {
        self.spans.finish()
    }

    /// From now on, what is new is taken with [`Self::take`]; states are not counted any more. `writes` is the column with the commit of
    /// an illegal write, for checks of writes.
    pub(in crate::judge) fn watch(&mut self, writes: Option<String>) {
        self.spans.watch(writes);
        self.states.0 = None;
    }

    /// The intervals that changed since the last time: see [`Spans::take`].
    pub(in crate::judge) fn take(&mut self) -> Vec<Span> {
        self.spans.take()
    }

    /// How many different states were judged.
    pub(in crate::judge) fn states(&self) -> u64 {
        self.states.count()
    }

    async fn rows(
        &mut self,
        engine: &Engine,
        compiled: &Compiled,
        range: &RangeInclusive<Commit>,
    ) -> Result<Stood, JudgeError> {
        let Fed::Rows(source) = &mut self.fed else {
            unreachable!("called for rules that are judged row by row")
        };
        let turn = source.advance(engine, range).await?;
        let history = &engine.view().history;
        let reset = self.tuning.mistake != Some(Mistake::NoReset);
        for &(commit, version) in &*turn.died {
            self.states.add(commit);
            if self.tuning.mistake != Some(Mistake::NoOldImage) {
                self.spans.end(version, commit);
            }
        }
        for versions in turn.born.chunks(self.tuning.chunk_rows.max(1)) {
            let lifetime = |version: u32| source.lifetime(history, version);
            versions
                .iter()
                .for_each(|&version| self.states.add(lifetime(version).0));
            // The plan keeps rows apart by the commit; here it says which version a row is.
            let marks = versions.iter().map(|&version| i64::from(version));
            self.lifted.slots[0].fill(source.rows(history, versions)?, marks.collect())?;
            let holds = |mark: i64| -> Option<Holds> {
                let version = u32::try_from(mark).ok()?;
                let (born, died) = lifetime(version);
                Some((version, born, end_within(died, range)))
            };
            let spans = &mut self.spans;
            let physical = &self.lifted.physical;
            physical
                .run(engine, reset, &mut |batch| {
                    spans.add(compiled, &batch, &mut |rows| {
                        Ok(rows.commits.iter().map(|&mark| holds(mark)).collect())
                    })
                })
                .await?;
        }
        source.forget();
        Ok(Stood::Judged)
    }

    /// Goes on to the end of a range: the keys and commits at which they are to be judged. None where that would cost too much.
    async fn pairs(
        &mut self,
        engine: &Engine,
        range: &RangeInclusive<Commit>,
    ) -> Result<Option<Vec<Pair>>, JudgeError> {
        let mut in_time = None;
        if let Some(ticking) = &self.lifted.ticking {
            let feed = Feed {
                engine,
                lifted: &self.lifted,
                ticking,
                tuning: &self.tuning,
            };
            let times = feed.times(range)?;
            let (asleep, fed) = (&mut self.asleep, &mut self.fed);
            let awake = feed.awake(asleep, fed, range, &times).await?;
            in_time = Some((feed, times, awake));
        }
        let Fed::Keys(scans, locality) = &mut self.fed else {
            unreachable!("called for rules that are judged by keys")
        };
        let tuning = &self.tuning;
        let old_images = tuning.mistake != Some(Mistake::NoOldImage);
        let before = scans.met();
        let pairs = scans.advance(engine, range, old_images).await?;
        if self.keep == Summaries::OfWholeTables {
            let new = scans.met() - before;
            let rows = scans.cost(&engine.view().history, &pairs);
            self.too_many += rows.saturating_sub(tuning.hot_factor.saturating_mul(new));
            if self.too_many > tuning.hot_rows.max(tuning.hot_share * scans.met()) {
                return Ok(None);
            }
        }
        let Some((feed, times, awake)) = in_time else {
            return Ok(Some(pairs));
        };
        let pairs = feed
            .pairs_in_time(scans, locality, pairs, range, &times, &awake)
            .await?;
        if !feed.ticking.is_still() {
            let keys = pairs.chunk_by(|&a, &b| pairs::key_of(a) == pairs::key_of(b));
            let keys = keys.map(|run| pairs::key_of(run[0]));
            self.asleep.forget(|_| false);
            self.asleep
                .judged(keys, times.bounds().1, times.at(*range.end()));
        }
        Ok(Some(pairs))
    }

    async fn keys(
        &mut self,
        engine: &Engine,
        compiled: &Compiled,
        range: &RangeInclusive<Commit>,
    ) -> Result<Stood, JudgeError> {
        let Some(pairs) = self.pairs(engine, range).await? else {
            return Ok(Stood::TooHot);
        };
        let Fed::Keys(scans, locality) = &mut self.fed else {
            unreachable!("called for rules that are judged by keys")
        };
        let tuning = &self.tuning;
        let reset = tuning.mistake != Some(Mistake::NoReset);
        let history = &engine.view().history;
        for &pair in &pairs {
            self.states.add(pairs::commit_of(pair));
        }
        for run in pairs.chunk_by(|&a, &b| pairs::key_of(a) == pairs::key_of(b)) {
            self.spans
                .end(pairs::key_of(run[0]), pairs::commit_of(run[0]));
        }
        let mut rest: &[Pair] = &pairs;
        while !rest.is_empty() {
            let (emitted, taken) = scans.emit(history, rest, *range.start(), tuning.chunk_rows);
            for (at, rows) in emitted.into_iter().enumerate() {
                let columns = scans.source(at).rows(history, &rows.versions)?;
                self.lifted.slots[at].fill(columns, rows.commits)?;
            }
            let anchors = &mut scans.anchors;
            let spans = &mut self.spans;
            let physical = &self.lifted.physical;
            physical
                .run(engine, reset, &mut |batch: RecordBatch| {
                    spans.add(compiled, &batch, &mut |rows: &Rows<'_>| {
                        let anchor = locality.anchor.iter();
                        let anchor =
                            anchor.map(|&at| rows.batch.column(rows.output_at(at)).clone());
                        let anchor: Vec<ArrayRef> = anchor.collect();
                        let numbers = anchors.find(&anchor, rows.batch.num_rows())?;
                        let found = numbers.iter().zip(rows.commits);
                        Ok(found
                            .map(|(number, &commit)| holds(&pairs, (*number)?, commit))
                            .collect())
                    })
                })
                .await?;
            rest = &rest[taken..];
        }
        Ok(Stood::Judged)
    }
}

impl Standing {
    /// The same as [`Self::rows`] for a rule that asks for the time: a version is judged when it is born and when the time changes what
    /// it is.
    async fn rows_in_time(
        &mut self,
        engine: &Engine,
        compiled: &Compiled,
        range: &RangeInclusive<Commit>,
    ) -> Result<Stood, JudgeError> {
        let Some(ticking) = &self.lifted.ticking else {
            unreachable!("called for rules that ask for the time")
        };
        let feed = Feed {
            engine,
            lifted: &self.lifted,
            ticking,
            tuning: &self.tuning,
        };
        let times = feed.times(range)?;
        let (asleep, fed) = (&mut self.asleep, &mut self.fed);
        let mut versions = feed.awake(asleep, fed, range, &times).await?;
        let Fed::Rows(source) = fed else {
            unreachable!("called for rules that are judged row by row")
        };
        let turn = source.advance(engine, range).await?;
        let history = &engine.view().history;
        let is_gone = |version: u32| source.lifetime(history, version).1 <= *range.start();
        // What the time may change is judged anew where the range begins.
        for &version in &versions {
            self.spans.end(version, *range.start());
        }
        for &(commit, version) in &*turn.died {
            self.states.add(commit);
            self.spans.end(version, commit);
        }
        versions.retain(|&version| !is_gone(version));
        versions.extend(&*turn.born);
        for part in feed.parts(source, &versions, range)? {
            let judged = feed.versions_in_time(source, part, range, &times).await?;
            for &(_, commit) in &judged {
                self.states.add(commit);
            }
            let holds = |at: i64| -> Option<Holds> {
                let at = usize::try_from(at).ok()?;
                let &(version, from) = judged.get(at)?;
                let next = judged.get(at + 1).filter(|(other, _)| *other == version);
                let died = source.lifetime(history, version).1;
                let end = end_within(died, range);
                Some((version, from, next.map_or(end, |&(_, next)| next)))
            };
            let spans = &mut self.spans;
            let asked = times.of(&judged);
            feed.judge_versions(source, &judged, &asked, &mut |batch| {
                spans.add(compiled, &batch, &mut |rows| {
                    Ok(rows.commits.iter().map(|&at| holds(at)).collect())
                })
            })
            .await?;
        }
        if !ticking.is_still() {
            self.asleep.forget(is_gone);
            self.asleep
                .judged(versions, times.bounds().1, times.at(*range.end()));
        }
        Ok(Stood::Judged)
    }
}

/// A death as far as a range knows of it.
fn end_within(died: Commit, range: &RangeInclusive<Commit>) -> Commit {
    if died <= *range.end() {
        died
    } else {
        Commit::MAX
    }
}

/// How long what was found about a key at a commit holds: until the key is judged again. None for a pair that was not asked.
fn holds(pairs: &[Pair], key: u32, commit: i64) -> Option<Holds> {
    let commit = Commit::try_from(commit).ok()?;
    let at = pairs.binary_search(&pairs::pair(key, commit)).ok()?;
    let next = pairs
        .get(at + 1)
        .filter(|&&next| pairs::key_of(next) == key);
    let end = next.map_or(Commit::MAX, |&next| pairs::commit_of(next));
    Some((key, commit, end))
}

/// A set of commits; None where nobody asks for it.
struct States(Option<Vec<u64>>);

impl Default for States {
    fn default() -> Self {
        States(Some(Vec::new()))
    }
}

impl States {
    fn add(&mut self, commit: Commit) {
        let Some(words) = &mut self.0 else {
            return;
        };
        let at = commit as usize / 64;
        if words.len() <= at {
            words.resize(at + 1, 0);
        }
        words[at] |= 1 << (commit % 64);
    }

    fn count(&self) -> u64 {
        let words = self.0.iter().flatten();
        words.map(|word| u64::from(word.count_ones())).sum()
    }
}
