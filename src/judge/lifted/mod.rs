//! Lifted judgement: the life of every key in few queries, instead of a judgement of every state.
//!
//! A rule whose plan is local (see [`crate::plan::locality`]) is judged for each key at each commit at which a row that decides
//! about the key changed; between two such commits nothing can change. All these judgements are one query: scans emit every
//! row version once for each `(key, commit)` at which it is seen, and the lifted plan keeps the commits apart. Rules over single
//! rows are simpler still: a version is judged once, and what is found holds as long as the version lives.
//!
//! [`Standing`] goes through a history batch by batch. What it costs follows the batch, never the tables: it keeps its keys and the
//! rows behind them in indexes, and reads the rows from the history itself.

mod asleep;
mod cached;
mod clock;
#[cfg(test)]
mod clock_tests;
mod direct;
mod flips;
mod keys;
mod pairs;
mod plan;
mod slot;
mod source;
mod spans;
mod standing;
mod summary;

use super::JudgeError;
use super::engine::Engine;
use crate::change::Commit;
use crate::plan::Compiled;
use plan::Lifted;
pub(super) use spans::Span;
pub(super) use standing::{Standing, Stood};

/// How much lifted judgement takes on at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// How many rows are emitted for one run of the plan, over the scans that the key reaches.
    pub chunk_rows: usize,
    /// How many rows may be emitted beside those that [`Tuning::hot_factor`] allows, over all batches.
    pub hot_rows: usize,
    /// How many rows may be emitted for each version that is new.
    pub hot_factor: usize,
    /// How many times there were as many versions before rows beside those are too many as well. Then aggregates over groups are kept as
    /// tables: making them costs no more than was spent without them.
    pub hot_share: usize,
    /// Over how many rows at most, in all scans, joins and groups are evaluated at once, without the engine's streams.
    pub few_rows: usize,
    /// What is done wrong on purpose.
    #[doc(hidden)]
    pub mistake: Option<Mistake>,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning {
            chunk_rows: 1 << 20,
            hot_rows: 1 << 18,
            hot_factor: 16,
            hot_share: 1,
            few_rows: 1 << 12,
            mistake: None,
        }
    }
}

/// A mistake that a comparison with full judgement has to notice.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// A cached plan runs again with what it kept from the run before.
    NoReset,
    /// Rows of different commits meet in joins.
    NoCommitPair,
    /// A change touches the keys of its new row only.
    NoOldImage,
    /// The time changes no verdict.
    NoClock,
}

/// Which aggregates are kept as tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Summaries {
    /// Those over whole tables, without which a rule could not be judged by keys.
    OfWholeTables,
    /// Those over groups as well: for groups so large that reading their rows at every commit costs too much.
    OfGroups,
}

/// The lives of a query's keys, batch by batch, and how many states were judged; None where it can only be judged in full.
pub(super) async fn judge(
    engine: &Engine,
    compiled: &Compiled,
    batches: &[Commit],
    tuning: &Tuning,
) -> Result<Option<(Vec<Span>, u64)>, JudgeError> {
    'again: for keep in [Summaries::OfWholeTables, Summaries::OfGroups] {
        let Ok(mut standing) = Standing::plan(engine, compiled, keep, tuning).await else {
            return Ok(None);
        };
        for &until in batches {
            match standing.advance(engine, compiled, until).await {
                Ok(Stood::Judged) => {}
                Ok(Stood::TooHot) => continue 'again,
                // Some state needs what is not known: which one, full judgement finds out.
                Err(JudgeError::Unknown(_)) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        return Ok(Some((standing.spans(), standing.states())));
    }
    Ok(None)
}

/// How the rows that a rule needs are found.
pub(super) enum Reached {
    /// One by one.
    Rows,
    /// By keys.
    Keys {
        /// The columns of the output that tell keys apart.
        anchor: Vec<String>,
        /// How each scan is reached, in words.
        scans: Vec<String>,
        /// How many aggregates are kept as tables from the start.
        summaries: usize,
    },
}

/// How a rule is lifted, and for one that asks for the time when it is judged beside, in words.
///
/// # Errors
/// Why it can only be judged in full, in words for its author.
pub(super) async fn reached(
    engine: &Engine,
    compiled: &Compiled,
) -> Result<(Reached, Option<String>), String> {
    let keep = Summaries::OfWholeTables;
    let (lifted, _) = Lifted::plan(engine, compiled, keep, &Tuning::default()).await?;
    let when = lifted.ticking.as_ref().and_then(|ticking| ticking.words());
    Ok((lifted.reached, when))
}
