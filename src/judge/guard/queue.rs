//! Many short queries, each within limits of its own, in few tasks: to start a task for each would cost more than most of them do.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;

use super::{LOOK_EVERY, end, panicked};
use crate::judge::{JudgeError, Limits};

/// Work and its limits.
pub(in crate::judge) struct Job<T> {
    pub(in crate::judge) limits: Limits,
    pub(in crate::judge) work: BoxFuture<'static, Result<T, JudgeError>>,
}

/// What waits, and what became of the rest, in the order of the jobs.
struct Queue<T> {
    waiting: Mutex<VecDeque<(usize, Job<T>)>>,
    done: Mutex<Vec<Option<Result<T, JudgeError>>>>,
}

/// What a task is at.
#[derive(Default)]
struct At {
    job: Option<(usize, Instant, Limits)>,
    /// Nobody waits for it any more: what it may still find is not taken.
    is_given_up: bool,
}

/// Runs jobs, as many at a time as there are lanes: what becomes of each, in their order. One that takes too long or too much memory,
/// or panics, is given up by itself.
pub(in crate::judge) async fn guarded_all<T: Send + 'static>(
    jobs: Vec<Job<T>>,
    lanes: usize,
) -> Vec<Result<T, JudgeError>> {
    let lanes = lanes.min(jobs.len());
    let queue = Arc::new(Queue {
        done: Mutex::new(jobs.iter().map(|_| None).collect()),
        waiting: Mutex::new(jobs.into_iter().enumerate().collect()),
    });
    futures::future::join_all((0..lanes).map(|_| lane(&queue))).await;
    let mut done = lock(&queue.done);
    let done = done.iter_mut().map(Option::take);
    done.map(|result| result.unwrap_or_else(|| Err(panicked())))
        .collect()
}

/// Why a job cannot be begun. Most jobs are done before anybody looks at them, so this is asked before; where all was well a moment ago it
/// is not asked again.
fn too_much(limits: &Limits) -> Option<JudgeError> {
    static WELL: Mutex<Option<Instant>> = Mutex::new(None);
    let mut well = lock(&WELL);
    if well.is_some_and(|at| at.elapsed() < LOOK_EVERY) && limits.rule_timeout > Duration::ZERO {
        return None;
    }
    let error = limits.look(Duration::ZERO).err();
    *well = error.is_none().then(Instant::now);
    error
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder panics")
}

/// Works the queue off, with a new task where one was given up.
async fn lane<T: Send + 'static>(queue: &Arc<Queue<T>>) {
    while !lock(&queue.waiting).is_empty() {
        let at = Arc::new(Mutex::new(At::default()));
        let mut task = tokio::spawn(work_off(Arc::clone(queue), Arc::clone(&at)));
        let mut look =
            tokio::time::interval_at(tokio::time::Instant::now() + LOOK_EVERY, LOOK_EVERY);
        loop {
            tokio::select! {
                done = &mut task => {
                    if done.is_err() && let Some((job, ..)) = lock(&at).job.take() {
                        lock(&queue.done)[job] = Some(Err(panicked()));
                    }
                    break;
                }
                _ = look.tick() => {
                    if give_up(queue, &mut lock(&at)) {
                        end(&mut task).await;
                        break;
                    }
                }
            }
        }
    }
}

/// Gives up what a task is at, where that is beyond its limits.
fn give_up<T>(queue: &Queue<T>, at: &mut At) -> bool {
    let Some((job, since, limits)) = &at.job else {
        return false;
    };
    let Err(error) = limits.look(since.elapsed()) else {
        return false;
    };
    lock(&queue.done)[*job] = Some(Err(error));
    at.is_given_up = true;
    true
}

async fn work_off<T: Send + 'static>(queue: Arc<Queue<T>>, at: Arc<Mutex<At>>) {
    loop {
        let Some((job, Job { limits, work })) = lock(&queue.waiting).pop_front() else {
            return;
        };
        let refused = too_much(&limits);
        lock(&at).job = Some((job, Instant::now(), limits));
        let result = match refused {
            Some(error) => Err(error),
            None => work.await,
        };
        let mut at = lock(&at);
        if at.is_given_up {
            return;
        }
        at.job = None;
        lock(&queue.done)[job] = Some(result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one of many jobs does.
    async fn act(number: usize) -> Result<usize, JudgeError> {
        match number {
            // A panic without a message on stderr.
            2 => std::panic::resume_unwind(Box::new("as an engine may")),
            4 => std::future::pending().await,
            6 => Err(JudgeError::Engine("it failed".into())),
            number => {
                tokio::task::yield_now().await;
                Ok(number)
            }
        }
    }

    #[test]
    fn what_fails_hangs_or_panics_does_so_alone() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .expect("threads can be started");
        for lanes in [1, 3] {
            let job = |number: usize| Job {
                limits: Limits {
                    rule_timeout: Duration::from_secs(1),
                    ..Limits::default()
                },
                work: Box::pin(act(number)),
            };
            let done = runtime.block_on(guarded_all((0..9).map(job).collect(), lanes));
            let words = done.iter().map(|result| match result {
                Ok(number) => number.to_string(),
                Err(error) => error.to_string(),
            });
            let expected = [
                "0",
                "1",
                "the engine gave up (a panic inside it)",
                "3",
                "it took longer than 1 s (--rule-timeout)",
                "5",
                "it failed",
                "7",
                "8",
            ];
            let words: Vec<String> = words.collect();
            for (word, expected) in words.iter().zip(expected) {
                assert!(word.ends_with(expected), "{word} is not {expected}");
            }
        }
    }
}
