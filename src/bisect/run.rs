//! Any command as the judge: states written to files, and a binary search over positions.
//!
//! The command is run by `sh -c` with `FIRSTBAD_STATE` (a directory with `<table>.csv` and `<table>.parquet` of the state),
//! `FIRSTBAD_COMMIT`, and `FIRSTBAD_LSN`, `FIRSTBAD_XID`, `FIRSTBAD_TIME` and `FIRSTBAD_SNAPSHOT` where they are known. Its exit code says good (0), cannot
//! tell (125) or bad (1 to 127). Everything else is an error and never bad.

mod export;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::{Candidates, Certainty, Found, first_bad, position};
use crate::change::Commit;
use crate::schema::value;
use crate::state::{History, Origin};
use crate::verdict::Verdict;

/// Why a command could not be used as a judge.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A state could not be written.
    #[error("the state at #{position} cannot be written below {}", directory.display())]
    Write {
        /// The position.
        position: Commit,
        /// Where.
        directory: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The shell could not be started.
    #[error("`sh` cannot be started")]
    Start(#[source] std::io::Error),
    /// The command was killed.
    #[error("at #{position} the command was ended by signal {signal}")]
    Killed {
        /// The position.
        position: Commit,
        /// The signal.
        signal: i32,
    },
    /// An exit code that means nothing.
    #[error("at #{position} the command exited with {code}: only 0 to 127 are answers")]
    Code {
        /// The position.
        position: Commit,
        /// The code.
        code: i32,
    },
    /// The very first run says that there is no such command.
    #[error(
        "the command exited with {0} on the good state: it was not found or cannot be executed"
    )]
    NotFound(i32),
}

/// What the command says of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Exit code 0.
    Good,
    /// Any other up to 127.
    Bad,
    /// Exit code 125.
    CannotTell,
}

impl Answer {
    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Answer::Good => "good",
            Answer::Bad => "bad",
            Answer::CannotTell => "cannot tell",
        }
    }

    /// What an exit code means; None where it means nothing.
    fn of(code: i32) -> Option<Answer> {
        match code {
            0 => Some(Answer::Good),
            125 => Some(Answer::CannotTell),
            1..=127 => Some(Answer::Bad),
            _ => None,
        }
    }
}

/// A command that judges the states of a history.
pub struct Judge<'a> {
    history: &'a History,
    command: &'a str,
    /// Columns with cells that are not known in some state; the files have NULL there.
    not_known: BTreeSet<String>,
}

impl<'a> Judge<'a> {
    /// A judge by this shell command.
    pub fn new(history: &'a History, command: &'a str) -> Self {
        Judge {
            history,
            command,
            not_known: BTreeSet::new(),
        }
    }

    /// Columns (`table.column`) that were not known in some row of a state that was judged.
    pub fn not_known(&self) -> &BTreeSet<String> {
        &self.not_known
    }

    /// Runs the command on the state at one position; its exit code.
    ///
    /// # Errors
    /// When the state cannot be written, or the command does not end by itself.
    pub fn exit_code(&mut self, at: Commit) -> Result<i32, RunError> {
        let state = export::State::write(self.history, at).map_err(|(directory, source)| {
            RunError::Write {
                position: at,
                directory,
                source,
            }
        })?;
        let meta = position(self.history, at).meta;
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(self.command)
            .env("FIRSTBAD_STATE", state.path())
            .env("FIRSTBAD_COMMIT", at.to_string())
            .stdin(Stdio::null())
            // Stdout is for the report.
            .stdout(Stdio::from(std::io::stderr()));
        let not_known: Vec<&str> = state.not_known().iter().map(String::as_str).collect();
        let known = [
            ("FIRSTBAD_LSN", meta.lsn),
            ("FIRSTBAD_XID", meta.xid.map(|xid| xid.to_string())),
            ("FIRSTBAD_TIME", meta.time.map(value::format_timestamp)),
            ("FIRSTBAD_SNAPSHOT", meta.snapshot),
            (
                "FIRSTBAD_NOT_KNOWN",
                (!not_known.is_empty()).then(|| not_known.join(",")),
            ),
        ];
        for (name, value) in known {
            match value {
                Some(value) => command.env(name, value.replace('\0', "")),
                None => command.env_remove(name),
            };
        }
        self.not_known.extend(state.not_known().iter().cloned());
        let status = command.status().map_err(RunError::Start)?;
        status.code().ok_or_else(|| RunError::Killed {
            position: at,
            signal: signal(status),
        })
    }

    /// Judges the state at one position.
    ///
    /// # Errors
    /// When the state cannot be written, or the command gives no answer.
    pub fn judge(&mut self, at: Commit) -> Result<Answer, RunError> {
        let code = self.exit_code(at)?;
        Answer::of(code).ok_or(RunError::Code { position: at, code })
    }

    /// The same for the state that should be good: there, what a shell says of a command that it cannot find is no answer.
    fn judge_good(&mut self, at: Commit) -> Result<Answer, RunError> {
        match self.exit_code(at)? {
            code @ (126 | 127) => Err(RunError::NotFound(code)),
            code => Answer::of(code).ok_or(RunError::Code { position: at, code }),
        }
    }

    /// Finds the first bad position between a good and a bad one. `told` hears every answer.
    ///
    /// # Errors
    /// As soon as the command gives no answer.
    pub fn bisect(
        &mut self,
        good: Commit,
        bad: Commit,
        told: &dyn Fn(Commit, Answer),
    ) -> Result<Found, RunError> {
        let good = good.max(self.history.first);
        let mut found = Found::of_command();
        let first = self.judge_good(good)?;
        told(good, first);
        found.judged_states = 1;
        match first {
            Answer::Good => {}
            Answer::Bad => {
                found.verdict = Verdict::Violated;
                found.certainty = Some(Certainty::PreExisting);
                return Ok(found);
            }
            Answer::CannotTell => {
                found.reason = Some(format!("the command cannot tell about #{good}"));
                return Ok(found);
            }
        }
        let last = if bad == good { first } else { self.judge(bad)? };
        if bad != good {
            told(bad, last);
            found.judged_states = 2;
        }
        match last {
            Answer::Bad => {}
            Answer::Good => {
                found.verdict = Verdict::Held;
                return Ok(found);
            }
            Answer::CannotTell => {
                found.reason = Some(format!("the command cannot tell about #{bad}"));
                return Ok(found);
            }
        }
        let known = Known::of(self.history);
        let (low, high) = (known.number(good), known.number(bad));
        let end = search(low, high, |number| {
            let at = known.position(number);
            let answer = self.judge(at)?;
            found.judged_states += 1;
            told(at, answer);
            Ok(answer)
        })?;
        let states = u64::from(high - low) + 1;
        found.sampled = Some(states - found.judged_states).filter(|count| *count > 0);
        self.name(&mut found, known.position(end.0), known.position(end.1));
        Ok(found)
    }

    /// Writes down between which positions the first bad write lies.
    fn name(&self, found: &mut Found, good: Commit, bad: Commit) {
        found.verdict = Verdict::Violated;
        found.first_bad = Some(first_bad(self.history, bad));
        found.last_good = Some(position(self.history, good));
        found.gap = self.history.gap_ended_by(bad);
        let exact = bad - good == 1 && found.gap.is_none();
        found.certainty = Some(match self.history.origin {
            Origin::DatedSnapshots => Certainty::Bounded,
            _ if exact => Certainty::Exact,
            _ => Certainty::Bounded,
        });
        found.candidates = (!exact).then(|| Candidates {
            from: good + 1,
            to: bad,
        });
    }
}

/// The positions whose states are known, by their number among them: those inside gaps are no place to look.
struct Known<'a> {
    history: &'a History,
    commits: Vec<Commit>,
}

impl<'a> Known<'a> {
    fn of(history: &'a History) -> Self {
        let commits = history.commits().map(|(commit, _)| commit).collect();
        Known { history, commits }
    }

    fn number(&self, position: Commit) -> u32 {
        u32::try_from(self.history.commits_until(position)).expect("fewer than 2^32 commits")
    }

    fn position(&self, number: u32) -> Commit {
        match number.checked_sub(1) {
            Some(at) => self.commits[at as usize],
            None => self.history.first,
        }
    }
}

/// Halves the positions between a good and a bad one until they are neighbours, or until nothing between them can be told. Positions of
/// which nothing can be told are gone around in growing steps.
pub(super) fn search<E>(
    mut good: Commit,
    mut bad: Commit,
    mut judge: impl FnMut(Commit) -> Result<Answer, E>,
) -> Result<(Commit, Commit), E> {
    let mut skipped: BTreeSet<Commit> = BTreeSet::new();
    let mut in_a_row = 0u32;
    while let Some(at) = next(good, bad, &skipped, in_a_row) {
        in_a_row = match judge(at)? {
            Answer::Good => {
                good = at;
                0
            }
            Answer::Bad => {
                bad = at;
                0
            }
            Answer::CannotTell => {
                skipped.insert(at);
                in_a_row + 1
            }
        };
    }
    Ok((good, bad))
}

/// The position to judge next: near the middle, the further from it the more in a row could not be told.
fn next(good: Commit, bad: Commit, skipped: &BTreeSet<Commit>, in_a_row: u32) -> Option<Commit> {
    let (first, last) = (good + 1, bad - 1);
    if first > last {
        return None;
    }
    let middle = first + (last - first) / 2;
    let away = match in_a_row {
        0 => 0,
        more => 1u32.checked_shl((more - 1) / 2).unwrap_or(u32::MAX),
    };
    let wanted = if in_a_row.is_multiple_of(2) {
        middle.saturating_sub(away).max(first)
    } else {
        middle.saturating_add(away).min(last)
    };
    let below = (first..=wanted).rev().find(|at| !skipped.contains(at));
    let above = (wanted..=last).find(|at| !skipped.contains(at));
    [below, above]
        .into_iter()
        .flatten()
        .min_by_key(|at| at.abs_diff(wanted))
}

#[cfg(unix)]
fn signal(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.signal().unwrap_or(0)
}

#[cfg(not(unix))]
fn signal(_: std::process::ExitStatus) -> i32 {
    0
}
