//! Lifted judgement of rules that ask for the time: the commits at which they must be judged beside those that changed their rows.

use std::ops::RangeInclusive;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType as ArrowType, Int64Type};
use datafusion::logical_expr::LogicalPlan;

use super::asleep::{Asleep, HORIZONS};
use super::cached::Each;
use super::flips::{Question, Search, Stretch, Times, Verdict, every_time};
use super::pairs::{self, Pair, Scans};
use super::plan::Lifted;
use super::source::Source;
use super::standing::Fed;
use super::{Mistake, Tuning};
use crate::change::Commit;
use crate::judge::JudgeError;
use crate::judge::engine::Engine;
use crate::plan::clock::Clock;
use crate::plan::lifting::COMMIT;
use crate::plan::locality::Locality;
use crate::plan::trend::{Course, Trend, course};
use crate::plan::{Compiled, Expand};
use crate::state::History;

/// How many judgements are made of a rule whose verdicts may change in any way at any commit.
const EVERY_MAX: usize = 4 << 20;
/// How many rows these judgements may emit.
const ROWS_MAX: usize = 64 << 20;

/// How many commits a range may have, with those that were not seen.
const TIMES_MAX: usize = 32 << 20;

/// What is known of a rule that asks for the time.
#[derive(Debug)]
pub(super) struct Ticking {
    /// The times that its lifted plan reads.
    clock: Arc<Clock>,
    course: Result<Course, &'static str>,
}

impl Ticking {
    /// Looks at a rule's optimised plan, in which the aggregates that are kept are tables already.
    pub(super) fn new(plan: &LogicalPlan, compiled: &Compiled) -> Self {
        let fields = plan.schema().fields();
        let position = |name: &String| fields.iter().position(|field| field.name() == name);
        // The evidence of gaps says how many violations they are.
        let gaps = match compiled.expand {
            Expand::None => &[],
            _ => compiled.evidence.as_slice(),
        };
        let verdict: Option<Vec<usize>> = compiled.key.iter().chain(gaps).map(position).collect();
        let course = match verdict {
            Some(verdict) => course(plan, &verdict),
            None => Err("its output has no such column"),
        };
        let clock = Clock::new();
        Ticking { clock, course }
    }

    /// What the lifted plan asks.
    pub(super) fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    /// True where the verdict does not depend on the time after all.
    pub(super) fn is_still(&self) -> bool {
        matches!(&self.course, Ok(course) if course.rows == Trend::Still && course.moving.is_empty())
    }

    /// When the rule is judged although none of its rows changed, in words; None where the time has no say.
    pub(super) fn words(&self) -> Option<String> {
        match &self.course {
            Ok(_) if self.is_still() => None,
            Ok(_) => {
                Some("the moment at which the time changes a verdict is found by bisection".into())
            }
            Err(why) => Some(format!("judged at every commit, because {why}")),
        }
    }

    fn moving(&self) -> &[usize] {
        self.course
            .as_ref()
            .map_or(&[], |course| course.moving.as_slice())
    }
}

/// The time after every commit of a range, as [`crate::judge::lives`] has it.
fn times(history: &History, range: &RangeInclusive<Commit>) -> Result<Times, JudgeError> {
    let is_first = *range.start() <= history.first;
    let first = || is_first.then(|| history.began(0)).flatten();
    // All positions up to the first state have its time.
    let start = history.first.min(*range.end()).max(*range.start());
    if (range.end() - start) as usize >= TIMES_MAX {
        return Err(JudgeError::Unknown("there are too many commits".into()));
    }
    let mut now = history.now_at(start).or_else(first);
    let mut times = Vec::new();
    for commit in start..=*range.end() {
        now = history.meta(commit).and_then(|meta| meta.time).or(now);
        // Times that nanoseconds cannot hold are no times to the engine.
        let time = now.filter(|now| now.checked_mul(1000).is_some());
        times.push(time.ok_or_else(|| JudgeError::Unknown("some commit has no time".into()))?);
    }
    Ok(Times::new(start, times.into()))
}

/// A lifted plan that asks for the time, ready to be fed.
pub(super) struct Feed<'a> {
    pub(super) engine: &'a Engine,
    pub(super) lifted: &'a Lifted,
    pub(super) ticking: &'a Ticking,
    pub(super) tuning: &'a Tuning,
}

impl Feed<'_> {
    /// The times of a range of commits.
    ///
    /// # Errors
    /// [`JudgeError::Unknown`] where some commit has none.
    pub(super) fn times(&self, range: &RangeInclusive<Commit>) -> Result<Times, JudgeError> {
        times(&self.engine.view().history, range)
    }

    /// The subjects, sorted, whose verdicts the times of a range may change although they were judged before it. What is fed has not
    /// advanced to the range yet.
    pub(super) async fn awake(
        &self,
        asleep: &mut Asleep,
        fed: &mut Fed,
        range: &RangeInclusive<Commit>,
        times: &Times,
    ) -> Result<Vec<u32>, JudgeError> {
        if self.ticking.is_still() || self.tuning.mistake == Some(Mistake::NoClock) {
            return Ok(Vec::new());
        }
        let mut fresh = asleep.take_fresh();
        if self.ticking.course.is_ok()
            && let Some(position) = range.start().checked_sub(1)
            && let Some((latest, since)) = asleep.latest()
            && !fresh.is_empty()
        {
            let mut before = self.verdicts_at(fed, &fresh, position, since).await;
            for ahead in HORIZONS {
                let until = latest.saturating_add(ahead);
                let after = self.verdicts_at(fed, &fresh, position, until).await;
                // A time at which nothing can be computed is no reason to give up: then the subjects stay awake.
                let (Ok(known), Ok(after)) = (&before, &after) else {
                    continue;
                };
                let same: Vec<bool> = known.iter().zip(after).map(|(a, b)| a == b).collect();
                for (&subject, _) in fresh.iter().zip(&same).filter(|(_, same)| **same) {
                    asleep.sleep(subject, until);
                }
                let mut rest = same.iter().map(|same| !same);
                let mut also = same.iter().map(|same| !same);
                fresh.retain(|_| rest.next().unwrap_or(true));
                before = before.map(|mut before| {
                    before.retain(|_| also.next().unwrap_or(true));
                    before
                });
                if fresh.is_empty() {
                    break;
                }
            }
        }
        let (earliest, latest) = times.bounds();
        fresh.extend(asleep.wake(earliest, latest));
        fresh.sort_unstable();
        fresh.dedup();
        Ok(fresh)
    }

    /// The verdicts about subjects as their rows are at a position, at another time.
    async fn verdicts_at(
        &self,
        fed: &mut Fed,
        subjects: &[u32],
        position: Commit,
        time: i64,
    ) -> Result<Vec<Verdict>, JudgeError> {
        let questions: Vec<Question> = subjects.iter().map(|&s| (s, position)).collect();
        match fed {
            Fed::Rows(source) => {
                self.verdicts_of_versions(source, &questions, &vec![time; questions.len()])
                    .await
            }
            Fed::Keys(scans, locality) => {
                self.ticking.clock.set(position, Arc::from([time]));
                self.verdicts_of_keys(scans, locality, &questions, position)
                    .await
            }
        }
    }

    /// The pairs at which a rule's keys are to be judged in a range of commits: those that rows changed, and those that the time
    /// changed; `awake` are the keys that it may change although they were judged before the range.
    ///
    /// # Errors
    /// [`JudgeError::Unknown`] where only full judgement can tell: a state has no time, or there would be too many pairs.
    pub(super) async fn pairs_in_time(
        &self,
        scans: &mut Scans,
        locality: &Locality,
        mut changed: Vec<Pair>,
        range: &RangeInclusive<Commit>,
        times: &Times,
        awake: &[u32],
    ) -> Result<Vec<Pair>, JudgeError> {
        self.ticking
            .clock
            .set(times.first(), Arc::clone(times.all()));
        if self.ticking.is_still() || self.tuning.mistake == Some(Mistake::NoClock) {
            return Ok(changed);
        }
        changed.extend(awake.iter().map(|&key| pairs::pair(key, *range.start())));
        changed.sort_unstable();
        changed.dedup();
        // Before the first state that is known, nothing changes with the time.
        let seen = |commit: Commit| commit.max(self.engine.view().history.first);
        let stretches = changed.iter().enumerate().map(|(at, &pair)| {
            let subject = pairs::key_of(pair);
            let next = changed.get(at + 1).copied();
            let next = next.filter(|&next| pairs::key_of(next) == subject);
            Stretch {
                subject,
                first: seen(pairs::commit_of(pair)),
                last: next.map_or(*range.end(), |next| pairs::commit_of(next) - 1),
            }
        });
        let stretches = stretches.filter(|stretch| stretch.first <= stretch.last);
        let flips = if self.ticking.course.is_ok() {
            let mut search = Search::new(times, stretches);
            loop {
                let questions = search.questions().map_err(JudgeError::Unknown)?;
                if questions.is_empty() {
                    break search.finish();
                }
                let verdicts = self
                    .verdicts_of_keys(scans, locality, &questions, *range.start())
                    .await?;
                search.answer(&questions, &verdicts);
            }
        } else {
            every_time(times, stretches, EVERY_MAX).ok_or_else(|| self.too_many())?
        };
        changed.extend(
            flips
                .into_iter()
                .map(|(key, commit)| pairs::pair(key, commit)),
        );
        changed.sort_unstable();
        let history = &self.engine.view().history;
        if scans.cost(history, &changed) > ROWS_MAX {
            return Err(self.too_many());
        }
        Ok(changed)
    }

    fn too_many(&self) -> JudgeError {
        let why = self.ticking.course.as_ref().err();
        let why = why.unwrap_or(&"its verdicts change too often");
        JudgeError::Unknown(format!("it asks for the time, and {why}"))
    }

    /// The verdicts about keys at commits from `first` on.
    async fn verdicts_of_keys(
        &self,
        scans: &mut Scans,
        locality: &Locality,
        questions: &[Question],
        first: Commit,
    ) -> Result<Vec<Verdict>, JudgeError> {
        let history = &self.engine.view().history;
        let asked = questions.iter();
        let asked: Vec<Pair> = asked
            .map(|&(key, commit)| pairs::pair(key, commit))
            .collect();
        let mut verdicts = vec![Verdict::default(); asked.len()];
        let mut rest: &[Pair] = &asked;
        while !rest.is_empty() {
            let (emitted, taken) = scans.emit(history, rest, first, self.tuning.chunk_rows);
            for (at, rows) in emitted.into_iter().enumerate() {
                let columns = scans.source(at).rows(history, &rows.versions)?;
                self.lifted.slots[at].fill(columns, rows.commits)?;
            }
            let anchors = &mut scans.anchors;
            self.run(&mut |batch| {
                let output = Output::new(&batch, self.ticking.moving())?;
                let anchor = locality.anchor.iter();
                let anchor: Vec<_> = anchor.map(|&at| output.column(at).clone()).collect();
                let keys = anchors.find(&anchor, batch.num_rows())?;
                for (row, key) in keys.into_iter().enumerate() {
                    let commit = Commit::try_from(output.commits[row]).ok();
                    let pair = key
                        .zip(commit)
                        .map(|(key, commit)| pairs::pair(key, commit));
                    let at = pair.and_then(|pair| asked.binary_search(&pair).ok());
                    let at = at.expect("a lifted plan returns rows of the pairs that were asked");
                    output.add(row, &mut verdicts[at]);
                }
                Ok(())
            })
            .await?;
            rest = &rest[taken..];
        }
        Ok(verdicts)
    }

    /// Row versions in parts that are judged one after the other, so that what is kept of each is bounded.
    ///
    /// # Errors
    /// As for [`Self::pairs_in_time`].
    pub(super) fn parts<'v>(
        &self,
        source: &Source,
        versions: &'v [u32],
        range: &RangeInclusive<Commit>,
    ) -> Result<Vec<&'v [u32]>, JudgeError> {
        if self.ticking.course.is_ok() {
            return Ok(vec![versions]);
        }
        let history = &self.engine.view().history;
        let (mut parts, mut start, mut size, mut total) = (Vec::new(), 0, 0, 0usize);
        for (at, &version) in versions.iter().enumerate() {
            let (born, died) = source.lifetime(history, version);
            let first = born.max(*range.start()).max(history.first);
            let last = died.min(*range.end());
            let commits = last.saturating_sub(first) as usize + 1;
            if size + commits > EVERY_MAX {
                parts.push(&versions[start..at]);
                (start, size) = (at, 0);
            }
            size += commits;
            total += commits;
        }
        parts.push(&versions[start..]);
        match total > ROWS_MAX {
            true => Err(self.too_many()),
            false => Ok(parts),
        }
    }

    /// When row versions are to be judged in a range of commits, for a rule that looks at one table's rows one by one: where they begin
    /// to be seen, and where the time changes what they are. By version and commit.
    ///
    /// # Errors
    /// As for [`Self::pairs_in_time`].
    pub(super) async fn versions_in_time(
        &self,
        source: &Source,
        versions: &[u32],
        range: &RangeInclusive<Commit>,
        times: &Times,
    ) -> Result<Vec<Question>, JudgeError> {
        let history = &self.engine.view().history;
        let stretch = |&subject: &u32| {
            let (born, died) = source.lifetime(history, subject);
            let first = born.max(*range.start());
            (first < died).then(|| Stretch {
                subject,
                first,
                last: (died - 1).min(*range.end()),
            })
        };
        let stretches: Vec<Stretch> = versions.iter().filter_map(stretch).collect();
        let mut judged: Vec<Question> = stretches.iter().map(|s| (s.subject, s.first)).collect();
        // Before the first state that is known, nothing changes with the time.
        let stretches = stretches.into_iter().map(|stretch| Stretch {
            first: stretch.first.max(history.first),
            ..stretch
        });
        let stretches = stretches.filter(|stretch| stretch.first <= stretch.last);
        if self.ticking.is_still() || self.tuning.mistake == Some(Mistake::NoClock) {
            // What is found when a version is born holds as long as it lives.
        } else if self.ticking.course.is_err() {
            let found = every_time(times, stretches, EVERY_MAX);
            judged.extend(found.ok_or_else(|| self.too_many())?);
        } else {
            let mut search = Search::new(times, stretches);
            loop {
                let questions = search.questions().map_err(JudgeError::Unknown)?;
                if questions.is_empty() {
                    break;
                }
                let asked = times.of(&questions);
                let verdicts = self
                    .verdicts_of_versions(source, &questions, &asked)
                    .await?;
                search.answer(&questions, &verdicts);
            }
            judged.extend(search.finish());
        }
        judged.sort_unstable();
        Ok(judged)
    }

    async fn verdicts_of_versions(
        &self,
        source: &Source,
        questions: &[Question],
        times: &[i64],
    ) -> Result<Vec<Verdict>, JudgeError> {
        let mut verdicts = vec![Verdict::default(); questions.len()];
        let each = &mut |batch: RecordBatch| {
            let output = Output::new(&batch, self.ticking.moving())?;
            for (row, &at) in output.commits.iter().enumerate() {
                let at = usize::try_from(at).expect("it is a question's number");
                output.add(row, &mut verdicts[at]);
            }
            Ok(())
        };
        self.judge_versions(source, questions, times, each).await?;
        Ok(verdicts)
    }

    /// Judges row versions, each at a time; what stands for the commit in the output is the number of the question.
    pub(super) async fn judge_versions(
        &self,
        source: &Source,
        questions: &[Question],
        times: &[i64],
        each: &mut Each<'_>,
    ) -> Result<(), JudgeError> {
        let history = &self.engine.view().history;
        self.ticking.clock.set(0, Arc::from(times));
        let size = self.tuning.chunk_rows.max(1);
        for (chunk, questions) in questions.chunks(size).enumerate() {
            let versions: Vec<u32> = questions.iter().map(|&(version, _)| version).collect();
            let columns = source.rows(history, &versions)?;
            let numbers = chunk * size..chunk * size + questions.len();
            let numbers = numbers.map(|at| i64::try_from(at).expect("fewer than 2^32"));
            self.lifted.slots[0].fill(columns, numbers.collect())?;
            self.run(each).await?;
        }
        Ok(())
    }

    async fn run(&self, each: &mut Each<'_>) -> Result<(), JudgeError> {
        let reset = self.tuning.mistake != Some(Mistake::NoReset);
        self.lifted.physical.run(self.engine, reset, each).await
    }
}

/// Rows of a lifted query's output, as far as a search looks at them.
struct Output<'a> {
    batch: &'a RecordBatch,
    commit_at: usize,
    commits: Vec<i64>,
    /// What each row adds to the sum of the columns that move.
    sums: Vec<i128>,
}

impl<'a> Output<'a> {
    fn new(batch: &'a RecordBatch, moving: &[usize]) -> Result<Self, JudgeError> {
        let schema = batch.schema();
        let commit_at = schema
            .index_of(COMMIT)
            .expect("a lifted plan returns the commit");
        let commits = batch.column(commit_at).as_primitive::<Int64Type>();
        let mut output = Output {
            batch,
            commit_at,
            commits: commits.values().to_vec(),
            sums: vec![0; batch.num_rows()],
        };
        for &at in moving {
            let column = cast(output.column(at), &ArrowType::Int64).map_err(JudgeError::engine)?;
            let column = column.as_primitive::<Int64Type>();
            for (sum, value) in output.sums.iter_mut().zip(column) {
                *sum += i128::from(value.unwrap_or(0));
            }
        }
        Ok(output)
    }

    /// An output column of the rule.
    fn column(&self, at: usize) -> &'a Arc<dyn Array> {
        self.batch.column(at + usize::from(at >= self.commit_at))
    }

    fn add(&self, row: usize, verdict: &mut Verdict) {
        verdict.rows += 1;
        verdict.sum += self.sums[row];
    }
}
