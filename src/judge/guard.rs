//! Limits around a query: time, memory, panics.

mod queue;

use std::future::Future;
use std::time::{Duration, Instant};

use futures::StreamExt;

use super::{JudgeError, Limits};
pub(super) use queue::{Job, guarded_all};

/// How often a running query is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long to wait for a query that was given up; one that does not yield is left to itself.
const ENDING_MAX: Duration = Duration::from_secs(2);

/// Runs a query's future as a task of its own: gives it up when it takes too long or the process too much memory, and turns a
/// panic of the engine into an error.
pub(super) async fn guarded<T: Send + 'static>(
    limits: &Limits,
    work: impl Future<Output = Result<T, JudgeError>> + Send + 'static,
) -> Result<T, JudgeError> {
    let start = Instant::now();
    let mut task = tokio::spawn(work);
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            done = &mut task => {
                return match done {
                    Ok(answer) => answer,
                    Err(_) => Err(panicked()),
                };
            }
            _ = look.tick() => {
                if let Err(error) = limits.look(start.elapsed()) {
                    end(&mut task).await;
                    return Err(error);
                }
            }
        }
    }
}

/// Runs work that hands on its results one by one, within the same limits. The time that `each` takes with them is the reader's, not
/// the query's: a pager may be looked at for as long as one likes.
pub(super) async fn streamed<T: Send + 'static, E: From<JudgeError>, W>(
    limits: &Limits,
    work: impl FnOnce(Sender<T>) -> W,
    mut each: impl FnMut(T) -> Result<(), E>,
) -> Result<(), E>
where
    W: Future<Output = Result<(), JudgeError>> + Send + 'static,
{
    let start = Instant::now();
    let mut reading = Duration::ZERO;
    let (sender, mut results) = futures::channel::mpsc::channel(0);
    let mut task = tokio::spawn(work(Sender(sender)));
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            next = results.next() => {
                let Some(next) = next else { break };
                let begun = Instant::now();
                if let Err(error) = each(next) {
                    end(&mut task).await;
                    return Err(error);
                }
                reading += begun.elapsed();
            }
            _ = look.tick() => {
                if let Err(error) = limits.look(start.elapsed().saturating_sub(reading)) {
                    end(&mut task).await;
                    return Err(error.into());
                }
            }
        }
    }
    match task.await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(panicked().into()),
    }
}

/// Where [`streamed`] work leaves its results.
pub(super) struct Sender<T>(futures::channel::mpsc::Sender<T>);

impl<T> Sender<T> {
    /// Hands on a result when the reader is ready for it; false when the reader has gone.
    pub(super) async fn send(&mut self, result: T) -> bool {
        let ready = std::future::poll_fn(|context| self.0.poll_ready(context)).await;
        ready.is_ok() && self.0.start_send(result).is_ok()
    }
}

impl Limits {
    /// Fails when so much time, or the memory that the process now has, is beyond the limits.
    fn look(&self, spent: Duration) -> Result<(), JudgeError> {
        if spent >= self.rule_timeout {
            let seconds = self.rule_timeout.as_secs_f64();
            return Err(JudgeError::Limit(format!(
                "it took longer than {seconds} s (--rule-timeout)"
            )));
        }
        if resident_bytes().is_some_and(|bytes| bytes > self.memory_bytes_max) {
            return Err(JudgeError::Memory(self.memory_bytes_max >> 20));
        }
        Ok(())
    }
}

fn panicked() -> JudgeError {
    JudgeError::Engine("the engine gave up (a panic inside it)".into())
}

/// Gives a task up and waits a while for it to let go of its memory, so that the next rule does not pay for it.
async fn end<T>(task: &mut tokio::task::JoinHandle<T>) {
    task.abort();
    let _ = tokio::time::timeout(ENDING_MAX, task).await;
}

/// Memory that the process holds; None where the system does not tell.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

/// An engine's message without what may be a row value: everything between the first and the last quote (a value may hold quotes
/// and line breaks itself), and every number.
pub(super) fn without_values(message: &str) -> String {
    const QUOTES: [char; 3] = ['\'', '"', '`'];
    let (start, end) = match (message.find(QUOTES), message.rfind(QUOTES)) {
        (Some(first), Some(last)) if first < last => (message.get(..=first), message.get(last..)),
        (Some(first), _) => (message.get(..first), None),
        _ => (Some(message), None),
    };
    let (start, end) = (start.unwrap_or_default(), end.unwrap_or_default());
    let joined = if end.is_empty() {
        start.to_owned()
    } else {
        format!("{start}…{end}")
    };
    let first = joined.lines().next().unwrap_or_default();
    let words = first.split(' ').map(|word| {
        // `Int64` is a type, `-12` and `2026-01-01,` are values.
        let is_value = word
            .trim_start_matches(['-', '+', '(', '['])
            .starts_with(|c: char| c.is_ascii_digit());
        match (is_value, word.find('(')) {
            (true, _) => "…".to_owned(),
            (false, Some(open)) if word[open..].contains(|c: char| c.is_ascii_digit()) => {
                format!("{}(…)", &word[..open])
            }
            _ => word.to_owned(),
        }
    });
    words
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(300)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_lose_what_they_quote() {
        let message = "Cast error: Cannot cast string 'secret' to value of Int64 type\nbacktrace";
        assert_eq!(
            without_values(message),
            "Cast error: Cannot cast string '…' to value of Int64 type"
        );
        let message = "Cannot cast string 'it's\na 'secret' here' to Int64";
        assert_eq!(without_values(message), "Cannot cast string '…' to Int64");
        assert_eq!(
            without_values("Overflow happened on: 41 * -42"),
            "Overflow happened on: … * …"
        );
        assert_eq!(
            without_values("overflow on abs(-42) in GCD(-42, 0)"),
            "overflow on abs(…) in GCD(…) …"
        );
        assert_eq!(without_values("never closed 'secret"), "never closed ");
    }
}
