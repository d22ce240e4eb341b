//! From rows of a lifted query to the intervals in which each key violates the rule.

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::Int64Type;
use hashbrown::hash_map::Entry;
use hashbrown::{HashMap, HashSet};
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

/// What a row says: which anchor was judged, and from which state to before which one the row holds.
pub(super) type Holds = (u32, Commit, Commit);

/// Tells for each row what it says; None for one that was not asked for.
type Asked<'a> = dyn FnMut(&Rows<'_>) -> Result<Vec<Option<Holds>>, JudgeError> + Send + 'a;

/// A key that was bad.
struct Found {
    key: Map<String, Value>,
    spans: Vec<Holds>,
}

/// What became of keys lately, for whoever takes it from time to time.
#[derive(Default)]
struct Lately {
    /// Keys whose intervals changed.
    touched: HashSet<KeyBytes>,
    /// For checks of writes: the column that holds the commit of an illegal write, and those that were found.
    writes: Option<(String, Vec<Span>)>,
}

/// Intervals under construction.
#[derive(Default)]
pub(super) struct Spans {
    /// Set where what is new is taken from time to time, and what ended is forgotten.
    lately: Option<Lately>,
    encoder: Encoder,
    found: HashMap<KeyBytes, Found>,
    /// For each anchor: the keys whose last interval has no end yet.
    open: HashMap<u32, Vec<KeyBytes>>,
    count: usize,
}

impl Spans {
    /// Takes in rows of the output.
    pub(super) fn add(
        &mut self,
        compiled: &Compiled,
        batch: &RecordBatch,
        asked: &mut Asked<'_>,
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
        let holds = asked(&rows)?;
        let holds = holds.into_iter().enumerate();
        let holds = holds.map(|(row, holds)| {
            let outside = "a lifted plan returns rows of the pairs that were asked only";
            (row, holds.expect(outside))
        });
        if compiled.expand != Expand::None {
            for (row, holds) in holds {
                self.add_expanded(compiled, batch, row, holds)?;
            }
            return Ok(());
        }
        let columns = collect::arrays(batch, &compiled.key)?;
        let mut keys = self.encoder.encode_keys(&columns, batch.num_rows())?;
        let columns = collect::shown(batch, &compiled.key)?;
        if let Some(Lately {
            writes: Some((column, found)),
            ..
        }) = &mut self.lately
        {
            let onsets = collect::arrays(batch, std::slice::from_ref(column))?;
            let onsets = collect::integers(&onsets[0])?;
            for (row, order) in keys.into_iter().enumerate() {
                found.push(Span {
                    order,
                    key: collect::object(&compiled.key, &columns, row)?,
                    onset: Commit::try_from(onsets.value(row)).unwrap_or(Commit::MAX),
                    healed: None,
                });
            }
            return Ok(());
        }
        for (row, holds) in holds {
            let key = || collect::object(&compiled.key, &columns, row);
            self.add_one(std::mem::take(&mut keys[row]), key, holds)?;
        }
        Ok(())
    }

    /// A row that stands for several violations.
    fn add_expanded(
        &mut self,
        compiled: &Compiled,
        batch: &RecordBatch,
        row: usize,
        holds: Holds,
    ) -> Result<(), JudgeError> {
        let mut collector = Collector::new(compiled, Keep::All);
        collector.add(&batch.slice(row, 1))?;
        for (key, violation) in collector.finish().kept {
            self.add_one(key, || Ok(violation.key), holds)?;
        }
        Ok(())
    }

    fn add_one(
        &mut self,
        bytes: KeyBytes,
        key: impl FnOnce() -> Result<Map<String, Value>, JudgeError>,
        (anchor, start, end): Holds,
    ) -> Result<(), JudgeError> {
        if start >= end {
            return Ok(());
        }
        if end == Commit::MAX {
            self.open.entry(anchor).or_default().push(bytes.clone());
        }
        if let Some(lately) = &mut self.lately {
            lately.touched.insert(bytes.clone());
        }
        let spans = match self.found.entry(bytes) {
            Entry::Occupied(entry) => &mut entry.into_mut().spans,
            Entry::Vacant(entry) => {
                let spans = Vec::new();
                &mut entry.insert(Found { key: key()?, spans }).spans
            }
        };
        match spans.last_mut() {
            // Pairs come in order, so most intervals only grow.
            Some(last) if last.0 == anchor && last.2 == start => last.2 = end,
            _ => {
                spans.push((anchor, start, end));
                self.count += 1;
            }
        }
        if self.count > SPANS_MAX {
            return Err(JudgeError::Limit(format!(
                "more than {SPANS_MAX} onsets to keep"
            )));
        }
        Ok(())
    }

    /// Ends what is open about an anchor at a commit: it is judged anew there.
    pub(super) fn end(&mut self, anchor: u32, commit: Commit) {
        for key in self.open.remove(&anchor).unwrap_or_default() {
            let found = self.found.get_mut(&key).expect("an open key was found");
            let open = |span: &&mut Holds| span.0 == anchor && span.2 == Commit::MAX;
            if let Some(span) = found.spans.iter_mut().rev().find(open) {
                span.2 = commit;
            }
            if let Some(lately) = &mut self.lately {
                lately.touched.insert(key);
            }
        }
    }

    /// From now on, what is new is taken with [`Self::take`]. For checks of writes, `writes` is the column with the commit.
    pub(super) fn watch(&mut self, writes: Option<String>) {
        self.lately = Some(Lately {
            writes: writes.map(|column| (column, Vec::new())),
            ..Lately::default()
        });
    }

    /// The intervals of the keys whose intervals changed since the last time, by onset and key; for checks of writes, what was found since.
    /// Intervals that ended are forgotten, so each is given once with its end.
    pub(super) fn take(&mut self) -> Vec<Span> {
        let Some(lately) = &mut self.lately else {
            return Vec::new();
        };
        let mut out = match &mut lately.writes {
            Some((_, found)) => std::mem::take(found),
            None => Vec::new(),
        };
        for order in std::mem::take(&mut lately.touched) {
            let Some(found) = self.found.get_mut(&order) else {
                continue;
            };
            let merged = merged(&found.spans);
            self.count -= found.spans.len();
            found.spans.retain(|span| span.2 == Commit::MAX);
            self.count += found.spans.len();
            for (onset, end) in merged {
                if end == Commit::MAX {
                    // What began it is forgotten, not when it began.
                    let spans = found.spans.iter_mut();
                    spans
                        .filter(|span| span.1 >= onset)
                        .for_each(|span| span.1 = onset);
                }
                out.push(span(&order, found, onset, end));
            }
            if found.spans.is_empty() {
                self.found.remove(&order);
            }
        }
        out.sort_by(|a, b| (a.onset, &a.order).cmp(&(b.onset, &b.order)));
        out
    }

    /// The intervals, those of one key that touch each other made one; by onset, then key.
    pub(super) fn finish(&self) -> Vec<Span> {
        let mut out = Vec::new();
        for (order, found) in &self.found {
            let merged = merged(&found.spans).into_iter();
            out.extend(merged.map(|(onset, end)| span(order, found, onset, end)));
        }
        out.sort_by(|a, b| (a.onset, &a.order).cmp(&(b.onset, &b.order)));
        out
    }
}

/// Intervals of one key, those that touch each other made one; in order.
fn merged(spans: &[Holds]) -> Vec<(Commit, Commit)> {
    let mut spans: Vec<_> = spans.iter().map(|&(_, start, end)| (start, end)).collect();
    spans.sort_unstable();
    let mut merged: Vec<(Commit, Commit)> = Vec::new();
    for (start, end) in spans {
        match merged.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
}

fn span(order: &KeyBytes, found: &Found, onset: Commit, end: Commit) -> Span {
    Span {
        order: order.clone(),
        key: found.key.clone(),
        onset,
        healed: (end != Commit::MAX).then_some(end),
    }
}
