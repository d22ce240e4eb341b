//! From rows of a lifted query to the intervals in which each key violates the rule.

use std::collections::{BTreeMap, HashMap};

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::Int64Type;
use serde_json::{Map, Value};

use crate::change::Commit;
use crate::judge::JudgeError;
use crate::judge::collect::{self, Collector, Encoder, Keep, KeyBytes};
use crate::plan::lifting::COMMIT;
use crate::plan::{Compiled, Expand};

/// The most intervals of one rule that are kept.
const SPANS_MAX: usize = 20_000_000;

/// One unbroken interval in which a key violates the rule.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::judge) struct Span {
    /// The key in a form that sorts as its values do.
    pub(in crate::judge) order: KeyBytes,
    /// The key.
    pub(in crate::judge) key: Map<String, Value>,
    /// The first state that is bad; 0 for the one before the first commit.
    pub(in crate::judge) onset: Commit,
    /// The first state that is good again.
    pub(in crate::judge) healed: Option<Commit>,
}

/// Rows of a lifted query's output.
pub(super) struct Rows<'a> {
    pub(super) batch: &'a RecordBatch,
    /// The commit of each row.
    pub(super) commits: &'a [i64],
    commit_at: usize,
}

impl Rows<'_> {
    /// Where an output column of the rule stands in the lifted output.
    pub(super) fn output_at(&self, at: usize) -> usize {
        at + usize::from(at >= self.commit_at)
    }
}

/// Tells for each row from which state to before which one it holds.
type Lasting<'a> =
    dyn FnMut(&Rows<'_>) -> Result<Vec<Option<(Commit, Commit)>>, JudgeError> + Send + 'a;

/// Every key that was bad, with its intervals.
type Keys = HashMap<KeyBytes, (Map<String, Value>, Vec<(Commit, Commit)>)>;

/// Intervals under construction.
pub(super) struct Spans<'a> {
    compiled: &'a Compiled,
    encoder: Encoder,
    found: Keys,
    count: usize,
}

impl<'a> Spans<'a> {
    pub(super) fn new(compiled: &'a Compiled) -> Self {
        Spans {
            compiled,
            encoder: Encoder::default(),
            found: HashMap::new(),
            count: 0,
        }
    }

    /// Takes in rows of the output.
    pub(super) fn add(
        &mut self,
        batch: &RecordBatch,
        lasting: &mut Lasting<'_>,
    ) -> Result<(), JudgeError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let commit_at = batch
            .schema()
            .index_of(COMMIT)
            .expect("a lifted plan returns the commit");
        let commits = batch.column(commit_at).as_primitive::<Int64Type>();
        let rows = Rows {
            batch,
            commits: commits.values(),
            commit_at,
        };
        let spans = lasting(&rows)?;
        let expands = self.compiled.expand != Expand::None;
        let columns = if expands {
            Vec::new()
        } else {
            collect::arrays(batch, &self.compiled.key)?
        };
        let keys = if expands {
            Vec::new()
        } else {
            self.encoder.encode(&columns, batch.num_rows())?
        };
        for (row, span) in spans.into_iter().enumerate() {
            let span = span.expect("a lifted plan returns rows of the pairs that were asked only");
            if expands {
                self.add_expanded(batch, row, span)?;
            } else {
                let key = || collect::object(&self.compiled.key, &columns, row);
                add(
                    &mut self.found,
                    &mut self.count,
                    keys[row].clone(),
                    key,
                    span,
                )?;
            }
        }
        Ok(())
    }

    /// A row that stands for several violations.
    fn add_expanded(
        &mut self,
        batch: &RecordBatch,
        row: usize,
        span: (Commit, Commit),
    ) -> Result<(), JudgeError> {
        let mut collector = Collector::new(self.compiled, Keep::All);
        collector.add(&batch.slice(row, 1))?;
        for (key, violation) in collector.finish().kept {
            let object = || Ok(violation.key.clone());
            add(&mut self.found, &mut self.count, key, object, span)?;
        }
        Ok(())
    }

    /// The intervals, those of one key that touch each other made one; by onset, then key.
    pub(super) fn finish(self) -> Vec<Span> {
        let mut out = Vec::new();
        let sorted: BTreeMap<_, _> = self.found.into_iter().collect();
        for (order, (key, mut spans)) in sorted {
            spans.sort_unstable();
            let mut merged: Vec<(Commit, Commit)> = Vec::new();
            for (start, end) in spans {
                match merged.last_mut() {
                    Some(last) if start <= last.1 => last.1 = last.1.max(end),
                    _ => merged.push((start, end)),
                }
            }
            out.extend(merged.into_iter().map(|(onset, end)| Span {
                order: order.clone(),
                key: key.clone(),
                onset,
                healed: (end != Commit::MAX).then_some(end),
            }));
        }
        out.sort_by(|a, b| (a.onset, &a.order).cmp(&(b.onset, &b.order)));
        out
    }
}

fn add(
    found: &mut Keys,
    count: &mut usize,
    bytes: KeyBytes,
    key: impl FnOnce() -> Result<Map<String, Value>, JudgeError>,
    (start, end): (Commit, Commit),
) -> Result<(), JudgeError> {
    if start >= end {
        return Ok(());
    }
    let spans = match found.entry(bytes) {
        std::collections::hash_map::Entry::Occupied(entry) => &mut entry.into_mut().1,
        std::collections::hash_map::Entry::Vacant(entry) => {
            &mut entry.insert((key()?, Vec::new())).1
        }
    };
    match spans.last_mut() {
        // Pairs come in order, so most intervals only grow.
        Some(last) if last.1 == start => last.1 = end,
        _ => {
            spans.push((start, end));
            *count += 1;
        }
    }
    if *count > SPANS_MAX {
        return Err(JudgeError::Limit(format!(
            "more than {SPANS_MAX} onsets to keep"
        )));
    }
    Ok(())
}
