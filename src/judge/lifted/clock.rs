//! Lifted judgement of rules that ask for the time: the commits at which they must be judged beside those that changed their rows.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{cast, take};
use datafusion::arrow::datatypes::{DataType as ArrowType, Int64Type};
use datafusion::logical_expr::LogicalPlan;

use super::flips::{Question, Search, Stretch, Times, Verdict, every_time};
use super::pairs::{self, CHUNK_ROWS, Pair, Scans};
use super::spans::Spans;
use super::{Lifted, Lives};
use crate::change::Commit;
use crate::judge::JudgeError;
use crate::judge::engine::Engine;
use crate::plan::clock::Clock;
use crate::plan::lifting::COMMIT;
use crate::plan::locality::Locality;
use crate::plan::trend::{Course, Trend, course};
use crate::plan::{Compiled, Expand};
use crate::state::{History, Lifetimes};

/// How many judgements are made of a rule whose verdicts may change in any way at any commit.
const EVERY_MAX: usize = 4 << 20;

/// What is known of a rule that asks for the time.
#[derive(Debug)]
pub(super) struct Ticking {
    /// The times that its lifted plan reads.
    clock: Arc<Clock>,
    course: Result<Course, &'static str>,
}

impl Ticking {
    /// Looks at a rule's optimised plan, in which the aggregates that are kept are tables already.
    pub(super) fn new(plan: &LogicalPlan, compiled: &Compiled, clock: Arc<Clock>) -> Self {
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
        Ticking { clock, course }
    }

    /// Why the rule must be judged at every commit, in words; None where few commits tell of all.
    pub(super) fn reason(&self) -> Option<&'static str> {
        self.course.as_ref().err().copied()
    }

    fn is_still(&self) -> bool {
        matches!(&self.course, Ok(course) if course.rows == Trend::Still && course.moving.is_empty())
    }

    fn moving(&self) -> &[usize] {
        self.course
            .as_ref()
            .map_or(&[], |course| course.moving.as_slice())
    }
}

/// The time after every commit up to a position, as [`crate::judge::lives`] has it; None where some state has none.
pub(super) fn times(history: &History, until: Commit) -> Option<Times> {
    let metas = history.transactions.iter().take(until as usize);
    let mut now = history.began(0)?;
    let mut times = vec![now];
    for meta in metas {
        now = meta.time.unwrap_or(now);
        times.push(now);
    }
    // Times that nanoseconds cannot hold are no times to the engine.
    let fit = times.iter().all(|time| time.checked_mul(1000).is_some());
    fit.then(|| Times::new(times.into()))
}

impl Lifted {
    /// The pairs at which a rule's keys are to be judged: those that rows changed, and those that the time changed. None where these
    /// would be too many.
    pub(super) async fn with_flips(
        &self,
        engine: &Engine,
        ticking: &Ticking,
        times: &Times,
        locality: &Locality,
        scans: &mut Scans,
        changed: Vec<Pair>,
    ) -> Result<Option<Vec<Pair>>, JudgeError> {
        ticking.clock.set(Arc::clone(times.all()));
        if ticking.is_still() {
            return Ok(Some(changed));
        }
        let last = Commit::try_from(times.all().len() - 1).expect("fewer than 2^32 commits");
        let stretches = changed.iter().enumerate().map(|(at, &pair)| {
            let subject = pairs::key_of(pair);
            let next = changed.get(at + 1).copied();
            let next = next.filter(|&next| pairs::key_of(next) == subject);
            Stretch {
                subject,
                first: pairs::commit_of(pair),
                last: next.map_or(last, |next| pairs::commit_of(next) - 1),
            }
        });
        let flips = if ticking.course.is_ok() {
            let mut search = Search::new(times, stretches);
            loop {
                let Ok(questions) = search.questions() else {
                    return Ok(None);
                };
                if questions.is_empty() {
                    break search.finish();
                }
                let verdicts = self
                    .judge_keys(engine, ticking, locality, scans, &questions)
                    .await?;
                search.answer(&questions, &verdicts);
            }
        } else {
            match every_time(times, stretches, EVERY_MAX) {
                Some(found) => found,
                None => return Ok(None),
            }
        };
        let mut all = changed;
        all.extend(
            flips
                .into_iter()
                .map(|(key, commit)| pairs::pair(key, commit)),
        );
        all.sort_unstable();
        Ok(Some(all))
    }

    async fn judge_keys(
        &self,
        engine: &Engine,
        ticking: &Ticking,
        locality: &Locality,
        scans: &mut Scans,
        questions: &[Question],
    ) -> Result<Vec<Verdict>, JudgeError> {
        let asked: Vec<Pair> = questions
            .iter()
            .map(|&(key, commit)| pairs::pair(key, commit))
            .collect();
        let mut verdicts = vec![Verdict::default(); asked.len()];
        let mut rest: &[Pair] = &asked;
        while !rest.is_empty() {
            let (emitted, taken) = scans.emit(rest);
            for (at, rows) in emitted.into_iter().enumerate() {
                let columns = &scans.all[at].columns;
                self.scans[at].fill_versions(columns, rows.versions, rows.commits)?;
            }
            let anchors = &mut scans.anchors;
            self.run(engine, &mut |batch| {
                let output = Output::new(&batch, ticking.moving())?;
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

    /// The lives of a rule that looks at one table's rows one by one: each version is judged when it is born and when the time changes
    /// what it is. None where that would be too often.
    pub(super) async fn rows_in_time(
        &self,
        engine: &Engine,
        compiled: &Compiled,
        ticking: &Ticking,
        times: &Times,
        lifetimes: &Lifetimes,
    ) -> Result<Option<Lives>, JudgeError> {
        let last = Commit::try_from(times.all().len() - 1).expect("fewer than 2^32 commits");
        let lived = (0u32..).zip(lifetimes.born.iter().zip(&lifetimes.died));
        let stretches = lived.filter(|(_, (born, died))| born < died);
        let stretches = stretches.map(|(subject, (&first, &died))| Stretch {
            subject,
            first,
            last: last.min(died - 1),
        });
        let stretches: Vec<Stretch> = stretches.collect();
        let mut judged: Vec<Question> = stretches.iter().map(|s| (s.subject, s.first)).collect();
        if ticking.course.is_err() {
            match every_time(times, stretches, EVERY_MAX) {
                Some(found) => judged.extend(found),
                None => return Ok(None),
            }
        } else if !ticking.is_still() {
            let mut search = Search::new(times, stretches);
            loop {
                let Ok(questions) = search.questions() else {
                    return Ok(None);
                };
                if questions.is_empty() {
                    break;
                }
                let mut verdicts = vec![Verdict::default(); questions.len()];
                self.judge_versions(
                    engine,
                    ticking,
                    times,
                    lifetimes,
                    &questions,
                    &mut |batch| {
                        let output = Output::new(&batch, ticking.moving())?;
                        for (row, &at) in output.commits.iter().enumerate() {
                            let at = usize::try_from(at).expect("it is a question's number");
                            output.add(row, &mut verdicts[at]);
                        }
                        Ok(())
                    },
                )
                .await?;
                search.answer(&questions, &verdicts);
            }
            judged.extend(search.finish());
        }
        judged.sort_unstable();
        let mut spans = Spans::new(compiled);
        let holds = |at: i64| {
            let at = usize::try_from(at).ok()?;
            let &(version, from) = judged.get(at)?;
            let next = judged.get(at + 1).filter(|(other, _)| *other == version);
            let died = lifetimes.died[version as usize];
            Some((from, next.map_or(died, |&(_, next)| next)))
        };
        self.judge_versions(engine, ticking, times, lifetimes, &judged, &mut |batch| {
            spans.add(&batch, &mut |rows| {
                Ok(rows.commits.iter().map(|&at| holds(at)).collect())
            })
        })
        .await?;
        let mut states: Vec<Commit> = judged.iter().map(|&(_, commit)| commit).collect();
        states.sort_unstable();
        states.dedup();
        Ok(Some(Lives {
            spans: spans.finish(),
            states: states.len() as u64,
        }))
    }

    /// Judges row versions at commits; what stands for the commit in the output is the number of the question.
    async fn judge_versions(
        &self,
        engine: &Engine,
        ticking: &Ticking,
        times: &Times,
        lifetimes: &Lifetimes,
        questions: &[Question],
        each: &mut (dyn FnMut(RecordBatch) -> Result<(), JudgeError> + Send),
    ) -> Result<(), JudgeError> {
        ticking.clock.set(
            questions
                .iter()
                .map(|&(_, commit)| times.at(commit))
                .collect(),
        );
        for start in (0..questions.len()).step_by(CHUNK_ROWS) {
            let end = questions.len().min(start + CHUNK_ROWS);
            let versions = questions[start..end].iter().map(|&(version, _)| version);
            let versions = UInt32Array::from_iter_values(versions);
            let columns = lifetimes.batch.columns().iter();
            let columns = columns.map(|column| take(column, &versions, None));
            let columns = columns
                .collect::<Result<_, _>>()
                .map_err(JudgeError::engine)?;
            let numbers = (start..end).map(|at| i64::try_from(at).expect("fewer than 2^32"));
            self.scans[0].fill(columns, numbers.collect());
            self.run(engine, each).await?;
        }
        Ok(())
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
