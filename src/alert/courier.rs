//! Who carries messages: a thread a sink, which takes what waits in the outbox and marks what arrived.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender as Channel, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::SendError;
use super::http::Limits;
use super::message::Message;
use super::sender::Sender;
use crate::config::Sink;
use crate::escape::terminal;
use crate::incident::IncidentError;
use crate::incident::outbox::{Outbox, Waiting};
use crate::postgres::Backoff;

/// Who holds this file tells of the store's incidents; the system gives it back when the process ends, however it ends.
const LOCK: &str = "firstbad.alerts.lock";

/// So long the lock is waited for by who tells what waits and ends: who held it may be about to end, and a program that is just being
/// started holds everything that its parent had open for an instant.
const LOCK_WAIT: Duration = Duration::from_millis(250);

/// The time, in microseconds since the epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;
/// Is told, in words, what people should know of the sinks.
pub type Tell = Arc<dyn Fn(&str) + Send + Sync>;

/// How messages are carried.
#[derive(Clone)]
pub struct Options {
    /// The time.
    pub clock: Clock,
    /// How long it is waited after the first failure; then twice as long, and so on.
    pub first: Duration,
    /// The longest of those waits.
    pub longest: Duration,
    /// How often a message is tried that its sink refuses.
    pub tries: u64,
    /// How often it is looked whether there is something to tell.
    pub look: Duration,
    /// How long requests may take.
    pub limits: Limits,
    /// How long a command may take.
    pub command: Duration,
    /// How long it is tried, at the end, to tell what waits.
    pub last: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            clock: Arc::new(|| chrono::Utc::now().timestamp_micros()),
            first: Duration::from_secs(1),
            longest: Duration::from_secs(15 * 60),
            tries: 5,
            look: Duration::from_millis(500),
            limits: Limits::default(),
            command: Duration::from_secs(30),
            last: Duration::from_secs(5),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").finish_non_exhaustive()
    }
}

/// What all threads have in common.
struct Shared {
    directory: PathBuf,
    options: Options,
    tell: Tell,
    /// Whether there was nothing to tell of when it began: then everything is told.
    is_new: bool,
    lock: Mutex<Option<File>>,
    stop: Mutex<bool>,
    stopped: Condvar,
}

/// What is held; who panicked with it left it whole.
fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn new(directory: &Path, options: Options, tell: Tell) -> Result<Shared, IncidentError> {
        Ok(Shared {
            is_new: Outbox::open(directory)?.is_none(),
            directory: directory.to_owned(),
            options,
            tell,
            lock: Mutex::new(None),
            stop: Mutex::new(false),
            stopped: Condvar::new(),
        })
    }

    fn now(&self) -> i64 {
        (self.options.clock)()
    }

    fn is_stopped(&self) -> bool {
        *hold(&self.stop)
    }

    /// Waits, or until it is to stop.
    fn wait(&self, time: Duration) {
        let stop = hold(&self.stop);
        let waited = self.stopped.wait_timeout_while(stop, time, |stop| !*stop);
        drop(waited.map_err(PoisonError::into_inner));
    }

    /// Whether this process is the one that tells of the store's incidents.
    fn is_ours(&self) -> bool {
        let mut lock = hold(&self.lock);
        if lock.is_none() {
            let mut open = OpenOptions::new();
            let open = open.write(true).create(true).truncate(false);
            let file = open.open(self.directory.join(LOCK)).ok();
            *lock = file.filter(|file| file.try_lock().is_ok());
        }
        lock.is_some()
    }
}

/// Carries messages until it is stopped.
pub struct Courier {
    shared: Arc<Shared>,
    ended: Receiver<()>,
    threads: usize,
}

impl fmt::Debug for Courier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Courier").finish_non_exhaustive()
    }
}

impl Courier {
    /// Begins to tell sinks of the incidents of a store, which need not be there yet. Sinks that are new to a store with incidents are told of
    /// those that are open, and of what happens from now on.
    ///
    /// # Errors
    /// When the database of incidents cannot be opened.
    pub fn start(
        directory: &Path,
        sinks: &[Sink],
        options: Options,
        tell: Tell,
    ) -> Result<Courier, IncidentError> {
        let shared = Arc::new(Shared::new(directory, options, tell)?);
        let (done, ended) = channel();
        let mut threads = 0;
        for sink in sinks {
            let mut worker = Worker::new(sink, &shared);
            // Before anything else happens: what does is not to be missed.
            if !shared.is_new {
                worker.begin()?;
            }
            let done: Channel<()> = done.clone();
            let thread = std::thread::Builder::new().name(format!("alert {}", sink.name));
            let started = thread.spawn(move || {
                worker.run();
                // Whoever waits for the end may want the lock.
                drop(worker);
                let _ = done.send(());
            });
            match started {
                Ok(_) => threads += 1,
                Err(_) => (shared.tell)(&format!("{}: no thread can be started", sink.name)),
            }
        }
        Ok(Courier {
            shared,
            ended,
            threads,
        })
    }

    /// Tells what waits still, as far as it takes no longer than [`Options::last`], and ends. What was not told is told next time.
    pub fn stop(self) {
        *hold(&self.shared.stop) = true;
        self.shared.stopped.notify_all();
        let deadline = Instant::now() + self.shared.options.last;
        for _ in 0..self.threads {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.ended.recv_timeout(left).is_err() {
                return;
            }
        }
    }
}

/// What came of telling a sink what waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Messages that arrived.
    pub sent: u64,
    /// Why the one after them did not.
    pub error: Option<SendError>,
    /// Whether another process does it.
    pub is_others: bool,
}

/// Tells a sink once what waits for it: until nothing does, or one message does not arrive. With `failed` what was given up as well. None where
/// nothing was watched yet.
///
/// # Errors
/// When the database of incidents cannot be read or written.
pub fn send_waiting(
    directory: &Path,
    sinks: &[Sink],
    failed: bool,
    options: &Options,
    tell: Tell,
) -> Result<Option<Vec<Round>>, IncidentError> {
    let shared = Arc::new(Shared::new(directory, options.clone(), tell)?);
    if shared.is_new {
        return Ok(None);
    }
    let begun = Instant::now();
    while !shared.is_ours() && begun.elapsed() < LOCK_WAIT {
        shared.wait(Duration::from_millis(5));
    }
    let mut rounds = Vec::new();
    for sink in sinks {
        let mut worker = Worker::new(sink, &shared);
        let mut round = Round::default();
        worker.begin()?;
        if failed
            && shared.is_ours()
            && let Some(outbox) = &mut worker.outbox
        {
            outbox.revive(&sink.name)?;
        }
        loop {
            match worker.step(true)? {
                Step::Sent => round.sent += 1,
                Step::Failed(error) => {
                    round.error = Some(error);
                    break;
                }
                Step::GaveUp(error) => round.error = Some(error),
                Step::Others => {
                    round.is_others = true;
                    break;
                }
                Step::Nothing => break,
            }
        }
        rounds.push(round);
    }
    Ok(Some(rounds))
}

/// What a step came to.
enum Step {
    Sent,
    Failed(SendError),
    GaveUp(SendError),
    Others,
    Nothing,
}

/// Tells one sink.
struct Worker {
    sink: Sink,
    shared: Arc<Shared>,
    outbox: Option<Outbox>,
    sender: Option<Sender>,
    /// Whether people know that the database cannot be read.
    is_known_broken: bool,
}

impl Worker {
    fn new(sink: &Sink, shared: &Arc<Shared>) -> Worker {
        Worker {
            sink: sink.clone(),
            shared: Arc::clone(shared),
            outbox: None,
            sender: None,
            is_known_broken: false,
        }
    }

    fn tell(&self, text: &str) {
        (self.shared.tell)(&format!("{}: {}", self.sink.name, terminal(text)));
    }

    /// Tells what waits until it is to stop, and then what waits still.
    fn run(&mut self) {
        while !self.shared.is_stopped() {
            if !self.goes_on(false) {
                self.shared.wait(self.shared.options.look);
            }
        }
        let deadline = Instant::now() + self.shared.options.last;
        while Instant::now() < deadline && self.goes_on(true) {}
    }

    /// One step; whether there may be more to do at once.
    fn goes_on(&mut self, at_last: bool) -> bool {
        match self.step(at_last) {
            Ok(step) => {
                self.is_known_broken = false;
                matches!(step, Step::Sent | Step::GaveUp(_))
            }
            Err(error) => {
                // Opened anew next time: another process may have put it right.
                self.outbox = None;
                if !self.is_known_broken && !error.is_busy() {
                    self.is_known_broken = true;
                    self.tell(&format!("nobody is told: {error}"));
                }
                false
            }
        }
    }

    /// Opens the outbox, and takes part in it.
    fn begin(&mut self) -> Result<(), IncidentError> {
        if self.outbox.is_none()
            && let Some(mut outbox) = Outbox::open(&self.shared.directory)?
        {
            outbox.join(&self.sink, self.shared.is_new, self.shared.now())?;
            self.outbox = Some(outbox);
        }
        Ok(())
    }

    /// Tells the next message; `at_once` also where a failure asks for patience.
    fn step(&mut self, at_once: bool) -> Result<Step, IncidentError> {
        self.begin()?;
        let Some(mut outbox) = self.outbox.take() else {
            return Ok(Step::Nothing);
        };
        if !self.shared.is_ours() {
            self.outbox = Some(outbox);
            return Ok(Step::Others);
        }
        let step = self.step_with(&mut outbox, at_once)?;
        self.outbox = Some(outbox);
        Ok(step)
    }

    fn step_with(&mut self, outbox: &mut Outbox, at_once: bool) -> Result<Step, IncidentError> {
        let (name, now) = (self.sink.name.clone(), self.shared.now());
        while outbox.collect(&self.sink, now)? {}
        let (failures, retry) = outbox.patience(&name)?;
        let longest = micros(self.shared.options.longest.max(Limits::RETRY_MAX));
        // A clock that was set back is not waited for.
        let is_patient = retry.is_some_and(|at| at > now && at - now <= longest);
        if is_patient && !at_once {
            return Ok(Step::Nothing);
        }
        let quiet = self.sink.quiet_until(now).is_some();
        let Some(waiting) = outbox.next(&name, now, quiet)? else {
            return Ok(Step::Nothing);
        };
        let message = Message::new(outbox.name(), waiting, now);
        match self.send(&message) {
            Ok(memory) => {
                outbox.sent(
                    &name,
                    &message.waiting,
                    memory.as_deref(),
                    self.shared.now(),
                )?;
                if failures > 0 {
                    self.tell("is told again");
                }
                Ok(Step::Sent)
            }
            Err(error) => self.failed(outbox, &message.waiting, failures, error),
        }
    }

    fn send(&mut self, message: &Message) -> Result<Option<String>, SendError> {
        let options = &self.shared.options;
        let sender = match self.sender.take() {
            Some(sender) => sender,
            None => Sender::new(&self.sink, options.limits, options.command)?,
        };
        let sent = sender.send(message);
        self.sender = Some(sender);
        sent
    }

    fn failed(
        &self,
        outbox: &mut Outbox,
        waiting: &Waiting,
        failures: u64,
        error: SendError,
    ) -> Result<Step, IncidentError> {
        let options = &self.shared.options;
        let text = error.to_string();
        if error.is_lasting() && waiting.attempts + 1 >= options.tries {
            outbox.failed(&self.sink.name, waiting, &text, None)?;
            self.tell(&format!(
                "{} {} was given up after {} tries: {text} (`firstbad alert list`)",
                waiting.subject,
                waiting.what,
                waiting.attempts + 1
            ));
            return Ok(Step::GaveUp(error));
        }
        let tried = u32::try_from(failures).unwrap_or(u32::MAX);
        let wait = Backoff::new(options.first, options.longest)
            .after(tried)
            .wait();
        let wait = error.retry_after().map_or(wait, |asked| asked.max(wait));
        let retry = self.shared.now().saturating_add(micros(wait));
        outbox.failed(&self.sink.name, waiting, &text, Some(retry))?;
        if failures == 0 {
            self.tell(&format!("is not told for now: {text}; it is tried again"));
        }
        Ok(Step::Failed(error))
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
