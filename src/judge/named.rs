//! Names in answers of the engine: commits in its columns, positions in its errors.

use super::JudgeError;
use crate::change::Commit;
use crate::plan::Compiled;
use crate::rule::{Check, Rule};

/// The output column of a check of writes that holds the commit.
pub(super) fn commit_column<'a>(
    rule: &Rule,
    compiled: &'a Compiled,
) -> Result<&'a str, JudgeError> {
    let of_commits = matches!(
        rule.check,
        Check::BalancedTransaction { .. } | Check::MassChange { .. }
    );
    let columns = if of_commits {
        &compiled.key
    } else {
        &compiled.evidence
    };
    columns
        .first()
        .map(String::as_str)
        .ok_or_else(|| JudgeError::Engine("the query returns no commit".into()))
}

/// What went wrong at a position, with its name.
pub(super) fn at(position: Commit, error: JudgeError) -> JudgeError {
    match error {
        JudgeError::Unknown(reason) => JudgeError::Unknown(format!("at #{position}: {reason}")),
        JudgeError::Limit(reason) => JudgeError::Limit(format!("at #{position}: {reason}")),
        JudgeError::Engine(reason) => JudgeError::Engine(format!("at #{position}: {reason}")),
        JudgeError::Memory(limit) => JudgeError::Memory(limit),
    }
}
