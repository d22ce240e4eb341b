//! The automatic mode of a watcher: rows of incidents of named rules are set apart as the incidents open and grow, up to a ceiling.
//!
//! It runs on a thread of its own and looks at the incidents beside the watcher, so it never holds up judging. It keeps nothing: an incident
//! is looked at again after a restart, and setting rows apart again changes nothing. What a person has released it leaves alone.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Plan, QuarantineError, Reason, connect, mark_applied, report, server};
use crate::incident::{Incident, Person, Reading, State, What};
use crate::postgres::{Session, Target};
use crate::report::{counted, grouped};

/// How often the incidents are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// The shortest and the longest time before the same incident is tried again.
const AGAIN: Duration = Duration::from_secs(5);
const AGAIN_MAX: Duration = Duration::from_secs(300);

/// What is set apart without being asked for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The store of the watcher.
    pub store: PathBuf,
    /// Where rows are set apart, as the role that may.
    pub target: Target,
    /// The rules.
    pub rules: Vec<String>,
    /// The most rows of an incident.
    pub rows_max: u64,
}

/// The automatic mode while it runs.
#[derive(Debug)]
pub struct Automatic {
    ending: Arc<Ending>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Whether to end, for who waits.
#[derive(Debug, Default)]
struct Ending {
    asked: Mutex<bool>,
    changed: Condvar,
}

impl Ending {
    fn ask(&self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits; whether to end.
    fn wait(&self, most: Duration) -> bool {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .changed
            .wait_timeout_while(asked, most, |asked| !*asked);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Automatic {
    /// Begins. `say` is told what happens, in words for people.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        settings: Settings,
        say: impl Fn(&str) + Send + 'static,
    ) -> Result<Automatic, io::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let ending = Arc::new(Ending::default());
        let asked = Arc::clone(&ending);
        let thread = std::thread::Builder::new()
            .name("quarantine".into())
            .spawn(move || {
                let mut work = Work {
                    settings,
                    say: Box::new(say),
                    known: HashMap::new(),
                    failed: String::new(),
                };
                while !asked.wait(LOOK) {
                    work.look(&runtime, false);
                }
                // What was found last counts as well.
                work.look(&runtime, true);
            })?;
        Ok(Automatic {
            ending,
            thread: Some(thread),
        })
    }
}

impl Drop for Automatic {
    /// Looks once more, and ends.
    fn drop(&mut self) {
        self.ending.ask();
        if let Some(thread) = self.thread.take() {
            // A panic of it was shown already.
            let _ = thread.join();
        }
    }
}

/// What is remembered of an incident.
struct Known {
    /// As it was when it was looked at: keys, bad keys, violations.
    seen: Option<(u64, u64, u64)>,
    /// Not before this.
    next: Instant,
    wait: Duration,
    /// What was said last.
    said: String,
}

struct Work {
    settings: Settings,
    say: Box<dyn Fn(&str)>,
    known: HashMap<String, Known>,
    /// What was said last of a failure.
    failed: String,
}

impl Work {
    /// Looks at the incidents of the rules; `last` where there is no other time.
    fn look(&mut self, runtime: &tokio::runtime::Runtime, last: bool) {
        match self.try_look(runtime, last) {
            Ok(()) => self.failed.clear(),
            Err(error) => {
                let text = match &error {
                    QuarantineError::Request { hint, .. } => format!("{error}; {hint}"),
                    _ => error.to_string(),
                };
                if text != self.failed {
                    (self.say)(&format!("quarantine: {text}; it is tried again"));
                }
                self.failed = text;
            }
        }
    }

    fn try_look(
        &mut self,
        runtime: &tokio::runtime::Runtime,
        last: bool,
    ) -> Result<(), QuarantineError> {
        let Some(mut reading) = Reading::open(&self.settings.store, true)? else {
            return Ok(());
        };
        let mut session = None;
        for rule in self.settings.rules.clone() {
            for incident in reading.list(false, Some(&rule))? {
                // What was bad before anybody watched is not a release's fault that goes on.
                if incident.pre_existing || !self.is_due(&incident, last) {
                    continue;
                }
                let begun = Instant::now();
                let known = self.known.get_mut(&incident.id());
                let known = known.expect("whether it is due was remembered");
                known.next = begun + known.wait;
                known.wait = (known.wait * 2).min(AGAIN_MAX);
                let is_done = self.set_apart(&incident, &mut reading, &mut session, runtime)?;
                let known = self.known.get_mut(&incident.id());
                let known = known.expect("whether it is due was remembered");
                if is_done {
                    known.seen = Some(figures(&incident));
                    known.wait = AGAIN;
                    // Reading a large table is not all that there is to do.
                    known.next = Instant::now() + AGAIN.max(begun.elapsed() * 10);
                }
            }
        }
        Ok(())
    }

    /// Whether an incident has changed since it was looked at, and enough time has passed.
    fn is_due(&mut self, incident: &Incident, last: bool) -> bool {
        let known = self.known.entry(incident.id()).or_insert_with(|| Known {
            seen: None,
            next: Instant::now(),
            wait: AGAIN,
            said: String::new(),
        });
        known.seen != Some(figures(incident)) && (last || known.next <= Instant::now())
    }

    /// Sets an incident's rows apart; whether all is done that can be.
    fn set_apart(
        &mut self,
        incident: &Incident,
        reading: &mut Reading,
        session: &mut Option<Session>,
        runtime: &tokio::runtime::Runtime,
    ) -> Result<bool, QuarantineError> {
        let id = incident.id();
        if was_released(reading, &id)? {
            self.say_of(&id, "its rows were released, so they are left alone");
            return Ok(true);
        }
        let settings = &self.settings;
        let plan = Plan::read(&settings.store, reading, &id, &settings.rules)?;
        let Some(mut plan) = plan.filter(|plan| !plan.rows.is_empty()) else {
            return Ok(true);
        };
        if session.is_none() {
            *session = Some(runtime.block_on(connect(&settings.target, reading))?);
        }
        let session = session.as_mut().expect("it was opened above");
        let rows_max = settings.rows_max;
        let left = runtime.block_on(async {
            plan.compare(session).await?;
            let left = keep_below(&mut plan, session, rows_max).await?;
            if plan.new_rows() > 0 {
                plan.apply(session).await?;
            }
            Ok::<u64, QuarantineError>(left)
        })?;
        if incident.state != State::Quarantined {
            let person = Person {
                by: Some("firstbad watch".into()),
                note: None,
                time: Some(crate::change::now_us()),
            };
            mark_applied(reading, &plan, &person)?;
        }
        self.tell(&id, &plan, left);
        let mut passed = plan.passed_over();
        Ok(!passed.any(|one| one.reason.may_pass()))
    }

    fn tell(&mut self, id: &str, plan: &Plan, left: u64) {
        let mut text = format!("{} set apart", counted(plan.rows.len() as u64, "row"));
        if left > 0 {
            text += &format!(
                ", {} more are not: the ceiling is {}",
                grouped(left),
                grouped(self.settings.rows_max)
            );
        }
        let others = report::reasons(plan);
        if left == 0 && !others.is_empty() {
            text += &format!(", passed over: {others}");
        }
        self.say_of(id, &text);
    }

    /// Says something of an incident, once.
    fn say_of(&mut self, id: &str, text: &str) {
        if let Some(known) = self.known.get_mut(id)
            && known.said != text
        {
            known.said = text.to_owned();
            (self.say)(&format!("quarantine: {id}: {text}"));
        }
    }
}

fn figures(incident: &Incident) -> (u64, u64, u64) {
    (incident.keys, incident.bad, incident.onsets)
}

/// Whether the last that was said of an incident's rows is that they were released.
fn was_released(reading: &Reading, id: &str) -> Result<bool, QuarantineError> {
    let shown = reading.show(id)?;
    let notices = shown.map_or_else(Vec::new, |(_, _, notices)| notices);
    let said = notices.iter().rev().find_map(|notice| match notice.what {
        What::Released => Some(true),
        What::Quarantined => Some(false),
        _ => None,
    });
    Ok(said.unwrap_or(false))
}

/// Leaves as many new rows in a plan as the ceiling has room for; how many are left out.
async fn keep_below(
    plan: &mut Plan,
    session: &Session,
    rows_max: u64,
) -> Result<u64, QuarantineError> {
    let status = server::status(session, &plan.store).await?;
    let held = status.values().filter_map(|held| held.get(&plan.incident));
    let mut room = rows_max.saturating_sub(held.sum());
    let mut left = 0;
    let rows = std::mem::take(&mut plan.rows);
    for row in rows {
        if row.already {
            plan.rows.push(row);
        } else if room > 0 {
            room -= 1;
            plan.rows.push(row);
        } else {
            left += 1;
            plan.passed.push(row.passed(Reason::Ceiling));
        }
    }
    Ok(left)
}
