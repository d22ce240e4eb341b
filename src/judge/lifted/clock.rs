//! Lifted judgement of rules that ask for the time: the commits at which they must be judged beside those that changed their rows.

use std::ops::RangeInclusive;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType as ArrowType, Int64Type};
use datafusion::logical_expr::LogicalPlan;

use super::flips::{Question, Search, Stretch, Times, Verdict, every_time};
use super::pairs::{self, Pair, Scans};
use super::plan::Lifted;
use super::source::Source;
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
    let first = || (*range.start() == 0).then(|| history.began(0)).flatten();
    let mut now = history.now_at(*range.start()).or_else(first);
    let mut times = Vec::new();
    for commit in range.clone() {
        now = history.meta(commit).and_then(|meta| meta.time).or(now);
        // Times that nanoseconds cannot hold are no times to the engine.
        let time = now.filter(|now| now.checked_mul(1000).is_some());
        times.push(time.ok_or_else(|| JudgeError::Unknown("some commit has no time".into()))?);
    }
    Ok(Times::new(*range.start(), times.into()))
}

/// A lifted plan that asks for the time, ready to be fed.
pub(super) struct Feed<'a> {
    pub(super) engine: &'a Engine,
    pub(super) lifted: &'a Lifted,
    pub(super) ticking: &'a Ticking,
    pub(super) tuning: &'a Tuning,
}

/// Takes in a batch of the plan's output.
type Each<'a> = dyn FnMut(RecordBatch) -> Result<(), JudgeError> + Send + 'a;

impl Feed<'_> {
    /// The pairs at which a rule's keys are to be judged in a range of commits: those that rows changed, and those that the time
    /// changed. Keys below `known` were met before the range.
    ///
    /// # Errors
    /// [`JudgeError::Unknown`] where only full judgement can tell: a state has no time, or there would be too many pairs.
    pub(super) async fn pairs_in_time(
        &self,
        scans: &mut Scans,
        locality: &Locality,
        mut changed: Vec<Pair>,
        range: &RangeInclusive<Commit>,
        known: usize,
    ) -> Result<Vec<Pair>, JudgeError> {
        let history = &self.engine.view().history;
        let times = times(history, range)?;
        self.ticking
            .clock
            .set(*range.start(), Arc::clone(times.all()));
        if self.ticking.is_still() {
            return Ok(changed);
        }
        let known = u32::try_from(known).expect("fewer than 2^32 keys");
        changed.extend((0..known).map(|key| pairs::pair(key, *range.start())));
        changed.sort_unstable();
        changed.dedup();
        let stretches = changed.iter().enumerate().map(|(at, &pair)| {
            let subject = pairs::key_of(pair);
            let next = changed.get(at + 1).copied();
            let next = next.filter(|&next| pairs::key_of(next) == subject);
            Stretch {
                subject,
                first: pairs::commit_of(pair),
                last: next.map_or(*range.end(), |next| pairs::commit_of(next) - 1),
            }
        });
        let flips = if self.ticking.course.is_ok() {
            let mut search = Search::new(&times, stretches);
            loop {
                let questions = search.questions().map_err(JudgeError::Unknown)?;
                if questions.is_empty() {
                    break search.finish();
                }
                let verdicts = self.judge_keys(scans, locality, &questions, range).await?;
                search.answer(&questions, &verdicts);
            }
        } else {
            every_time(&times, stretches, EVERY_MAX).ok_or_else(|| self.too_many())?
        };
        changed.extend(
            flips
                .into_iter()
                .map(|(key, commit)| pairs::pair(key, commit)),
        );
        changed.sort_unstable();
        if scans.cost(history, &changed).0 > ROWS_MAX {
            return Err(self.too_many());
        }
        Ok(changed)
    }

    fn too_many(&self) -> JudgeError {
        let why = self.ticking.course.as_ref().err();
        let why = why.unwrap_or(&"its verdicts change too often");
        JudgeError::Unknown(format!("it asks for the time, and {why}"))
    }

    async fn judge_keys(
        &self,
        scans: &mut Scans,
        locality: &Locality,
        questions: &[Question],
        range: &RangeInclusive<Commit>,
    ) -> Result<Vec<Verdict>, JudgeError> {
        let history = &self.engine.view().history;
        let asked = questions.iter();
        let asked: Vec<Pair> = asked
            .map(|&(key, commit)| pairs::pair(key, commit))
            .collect();
        let mut verdicts = vec![Verdict::default(); asked.len()];
        let mut rest: &[Pair] = &asked;
        while !rest.is_empty() {
            let (emitted, taken) =
                scans.emit(history, rest, *range.start(), self.tuning.chunk_rows);
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
    ) -> Result<Vec<Question>, JudgeError> {
        let history = &self.engine.view().history;
        let times = times(history, range)?;
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
        if self.ticking.course.is_err() {
            let found = every_time(&times, stretches, EVERY_MAX);
            judged.extend(found.ok_or_else(|| self.too_many())?);
        } else if !self.ticking.is_still() {
            let mut search = Search::new(&times, stretches);
            loop {
                let questions = search.questions().map_err(JudgeError::Unknown)?;
                if questions.is_empty() {
                    break;
                }
                let mut verdicts = vec![Verdict::default(); questions.len()];
                let each = &mut |batch: RecordBatch| {
                    let output = Output::new(&batch, self.ticking.moving())?;
                    for (row, &at) in output.commits.iter().enumerate() {
                        let at = usize::try_from(at).expect("it is a question's number");
                        output.add(row, &mut verdicts[at]);
                    }
                    Ok(())
                };
                self.judge_versions(source, &questions, range, each).await?;
                search.answer(&questions, &verdicts);
            }
            judged.extend(search.finish());
        }
        judged.sort_unstable();
        Ok(judged)
    }

    /// Judges row versions at commits; what stands for the commit in the output is the number of the question.
    pub(super) async fn judge_versions(
        &self,
        source: &Source,
        questions: &[Question],
        range: &RangeInclusive<Commit>,
        each: &mut Each<'_>,
    ) -> Result<(), JudgeError> {
        let history = &self.engine.view().history;
        let times = times(history, range)?;
        let asked = questions.iter().map(|&(_, commit)| times.at(commit));
        self.ticking.clock.set(0, asked.collect());
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
        super::run(self.engine, &self.lifted.physical, reset, each).await
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
