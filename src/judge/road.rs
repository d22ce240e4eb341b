//! Which road a rule takes when every commit of a history is judged, and why: for `rules explain`.

use std::fmt;
use std::sync::Arc;

use super::lifted::{self, Reached};
use super::{Judge, Prepared, guard};
use crate::plan::Plan;

/// How a rule is judged after every commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Road {
    /// Each row version once: the rule looks at rows one by one.
    Rows,
    /// Only the keys that a commit touches.
    Keys {
        /// The columns of the output that tell keys apart; empty where the figures of whole tables are one key.
        anchor: Vec<String>,
        /// How the rows behind a key are found: a table, its columns, and for a dimension whose columns those equal.
        reached: Vec<String>,
        /// How many aggregates over whole tables are kept as tables.
        summaries: usize,
    },
    /// One of these, and besides when the time changes a verdict.
    InTime {
        /// How rows are judged that change.
        road: Box<Road>,
        /// When they are judged although they do not.
        when: String,
    },
    /// Every net write, by one query over all of them.
    Writes,
    /// The whole state, after every commit that may change the verdict; with the reason.
    Full(String),
    /// Not at all; with the reason.
    Never(String),
}

impl fmt::Display for Road {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Road::Rows => f.write_str("row by row: each version of a row is judged once"),
            Road::Keys {
                anchor,
                reached,
                summaries,
            } => {
                if anchor.is_empty() {
                    f.write_str(
                        "by figures that are kept up to date, at every commit that changes them",
                    )?;
                } else {
                    write!(
                        f,
                        "by ({}): only what a commit touches is judged",
                        anchor.join(", ")
                    )?;
                }
                if !reached.is_empty() {
                    write!(f, "; {}", reached.join("; "))?;
                }
                match summaries {
                    0 => Ok(()),
                    1 => f.write_str("; one aggregate is kept as a table"),
                    more => write!(f, "; {more} aggregates are kept as tables"),
                }
            }
            Road::InTime { road, when } => write!(f, "{road}; {when}"),
            Road::Writes => f.write_str("all net writes by one query"),
            Road::Full(reason) => write!(f, "in full after every commit: {reason}"),
            Road::Never(reason) => f.write_str(reason),
        }
    }
}

impl Judge {
    /// How a rule is judged after every commit of a history with these tables.
    pub fn road(&self, prepared: &Prepared) -> Road {
        let compiled = match &prepared.plan {
            Plan::Refused(reason) => return Road::Never(reason.clone()),
            Plan::Shape { .. } => return Road::Never("a schema has no history".into()),
            Plan::Metric { .. } => {
                return Road::Full("its figure is compared with the figures before it".into());
            }
            Plan::Query(_) if prepared.rule.check.judges_writes() => return Road::Writes,
            Plan::Query(compiled) => compiled.clone(),
        };
        let engine = Arc::new(self.workshop.lifting_engine(
            &self.history,
            self.history.head(),
            None,
        ));
        let road = guard::guarded(&self.limits, async move {
            let (reached, when) = match lifted::reached(&engine, &compiled).await {
                Err(reason) => return Ok(Road::Full(reason)),
                Ok(reached) => reached,
            };
            let road = match reached {
                Reached::Rows => Road::Rows,
                Reached::Keys {
                    anchor,
                    scans,
                    summaries,
                } => Road::Keys {
                    anchor,
                    reached: scans,
                    summaries,
                },
            };
            Ok(match when {
                None => road,
                Some(when) => Road::InTime {
                    road: Box::new(road),
                    when,
                },
            })
        });
        let road = self.runtime().block_on(road);
        road.unwrap_or_else(|error| Road::Full(error.to_string()))
    }
}
