//! A watch that runs: what comes is applied, recorded and judged, what is sealed is told and confirmed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::feed::{Durable, FeedError, Input, Room};
use super::guest::Seen;
use super::judging::Judging;
use super::recorder::{Committed, Recorder, Said};
use super::{Ended, Outside, Settings, Told, WatchError, setup};
use crate::change::{Commit, TransactionMeta, now_us};
use crate::gate::{self, UpTo};
use crate::incident::Notice;
use crate::postgres::Lsn;
use crate::postgres::assemble::{Assembled, Body, Item};

/// How often the clock is looked at while nothing comes.
const TICK: Duration = Duration::from_millis(500);
/// So many changes are judged together at most, while more are waiting.
const TOGETHER: u64 = 20_000;
/// The same while the watcher is far behind: judged seldom, and exactly all the same.
const TOGETHER_BEHIND: u64 = 200_000;
/// Late transactions are gathered for so long and judged together: a batch has costs of its own, and those who are late are to catch up.
const GATHERING: Duration = Duration::from_millis(100);

/// Gates are told so often that time has passed, where nothing else has happened.
const TELL_AGAIN: Duration = Duration::from_secs(5);
/// An idle server is asked for its clock after so many seconds.
const CLOCK_AGE_S: f64 = 20.0;

/// A transaction that is open for longer, in seconds, holds back the server's log.
const LONG_TRANSACTION_S: f64 = 300.0;

/// A watch that runs.
pub(super) struct Watch<'a> {
    pub(super) settings: &'a Settings,
    pub(super) judging: Judging,
    pub(super) recorder: Option<Recorder>,
    pub(super) durable: Arc<Durable>,
    pub(super) inputs: Receiver<Input>,
    /// The last commit.
    pub(super) head: Commit,
    /// The last commit that is on the disk.
    pub(super) sealed: Commit,
    /// The LSN of the last commit: what comes at or before it was there already.
    pub(super) last: Lsn,
    /// Commits that are not on the disk, with the end of each in the log.
    pub(super) ends: VecDeque<(Commit, Lsn)>,
    /// A position behind everything that came, where nothing of ours lies between.
    pub(super) passed: Lsn,
    /// Where to end.
    pub(super) until: Option<Lsn>,
    /// Where the tables are to be read anew, and why: what is told before that is taken first.
    pub(super) anew: Option<(Lsn, String)>,
    pub(super) behind: bool,
    pub(super) warned: bool,
    /// An open transaction holds the server's log back.
    pub(super) held: bool,
    /// The server's clock as it was told last, in microseconds since the epoch, and when that was.
    pub(super) heard: Instant,
    pub(super) clock: i64,
    pub(super) outside: Outside,
    /// When the commits were made that are applied and not judged, in microseconds since the epoch.
    pub(super) made: Vec<i64>,
    /// Commits whose verdicts are not kept yet, with the end of each in the log and its time.
    pub(super) judged_ends: VecDeque<(Commit, Lsn, Option<i64>)>,
    /// What gates were told last, and when.
    pub(super) kept: Option<(UpTo, Instant)>,
}

impl Watch<'_> {
    /// Judges what was recorded before and not judged.
    pub(super) fn catch_up_with_the_store(
        &mut self,
        later: Vec<crate::change::Transaction>,
        tell: &mut dyn FnMut(Told<'_>) -> bool,
    ) -> Result<(), WatchError> {
        let any = !later.is_empty();
        for transaction in later {
            let items = transaction.changes.into_iter().map(Item::Change);
            self.judging.apply(&Committed {
                commit: transaction.commit,
                meta: transaction.meta,
                body: Body::Held(items.collect()),
                room: None,
            })?;
        }
        if any {
            self.judging.judge();
        }
        let notices = self.judging.sealed(self.sealed)?;
        self.print_all(&notices, tell)?;
        self.judging.say_what_is_left(tell)
    }

    pub(super) fn print_all(
        &mut self,
        notices: &[Notice],
        tell: &mut dyn FnMut(Told<'_>) -> bool,
    ) -> Result<(), WatchError> {
        self.judging.say(notices, tell)
    }

    pub(super) fn run(
        &mut self,
        tell: &mut dyn FnMut(Told<'_>) -> bool,
    ) -> Result<Ended, WatchError> {
        let mut ticked = Instant::now();
        loop {
            let first = match self.inputs.recv_timeout(TICK) {
                Ok(input) => Some(input),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Ok(Ended::Stopped),
            };
            let mut applied = 0;
            let mut gathering = None;
            let mut next = first;
            while let Some(input) = next.take() {
                match &input {
                    Input::Transactions(.., true) => {
                        gathering.get_or_insert_with(|| Instant::now() + GATHERING);
                    }
                    Input::Recorder(_) | Input::Slot(_) => {}
                    _ => gathering = None,
                }
                if let Some(ended) = self.take(input, &mut applied, tell)? {
                    return Ok(ended);
                }
                let most = if self.behind {
                    TOGETHER_BEHIND
                } else {
                    TOGETHER
                };
                if applied >= most {
                    break;
                }
                next = match gathering {
                    Some(until) => {
                        let left = until.saturating_duration_since(Instant::now());
                        self.inputs.recv_timeout(left).ok()
                    }
                    None => self.inputs.try_recv().ok(),
                };
            }
            if applied > 0 || ticked.elapsed() >= TICK {
                ticked = Instant::now();
                self.judge(tell)?;
                self.ask_for_the_time()?;
            }
            if let Some((_, reason)) = self
                .anew
                .take_if(|(behind, _)| self.durable.lsn() >= *behind)
            {
                return Ok(Ended::Anew(reason));
            }
            if self.until.is_some_and(|until| self.durable.lsn() >= until) {
                return Ok(Ended::Stopped);
            }
            if self.until.is_some_and(|until| self.passed >= until) && !self.ends.is_empty() {
                self.recorder().seal();
            }
        }
    }

    /// Where a deadline should have passed by now, the server's clock decides: an idle server is asked for it.
    fn ask_for_the_time(&mut self) -> Result<(), WatchError> {
        let since = i64::try_from(self.heard.elapsed().as_micros()).unwrap_or(i64::MAX);
        // The end of the watch may lie behind the last commit: an idle server is asked how far it has read.
        let near_the_end = self.until.is_some() && self.ends.is_empty();
        if near_the_end || self.judging.is_overdue(self.clock.saturating_add(since))? {
            self.durable.ask();
        }
        Ok(())
    }

    fn judge(&mut self, tell: &mut dyn FnMut(Told<'_>) -> bool) -> Result<(), WatchError> {
        if self.judging.judge() {
            self.recorder().seal();
        }
        for rule in self.judging.slowed() {
            tell(Told::Note(&format!(
                "rule {rule} reads too many rows at every commit: it is judged from time to time, and its first bad writes are bounded"
            )));
        }
        let now = now_us();
        for made in self.made.drain(..) {
            let delay = u64::try_from(now - made).unwrap_or(0);
            self.outside
                .metrics
                .verdict_after(Duration::from_micros(delay));
        }
        self.outside.metrics.judged(self.judging.judged());
        self.outside.health.judged(self.judging.judged());
        if self.ends.is_empty() {
            self.reach(self.passed)?;
        }
        if self.sealed == self.head && self.judging.is_waiting() {
            let notices = self.judging.sealed(self.sealed)?;
            self.print_all(&notices, tell)?;
        }
        self.keep_position()
    }

    /// Tells gates up to where everything is judged: that is less than what is on the disk, and more than the last commit while
    /// nothing of ours comes.
    fn keep_position(&mut self) -> Result<(), WatchError> {
        let taken = self.judging.taken();
        let mut last = None;
        while let Some(end) = self
            .judged_ends
            .pop_front_if(|(commit, ..)| *commit <= taken)
        {
            last = Some((end.1, end.2));
        }
        let (lsn, time) = match (self.judged_ends.is_empty(), last) {
            (true, _) => (self.passed.max(self.durable.lsn()), Some(self.clock)),
            (false, Some(last)) => last,
            (false, None) => return Ok(()),
        };
        let at = UpTo {
            commit: Some(taken),
            lsn: Some(lsn).filter(|lsn| lsn.0 > 0),
            time: time.filter(|time| *time > 0),
        };
        if let Some((before, since)) = &self.kept {
            let is_old = since.elapsed() >= TELL_AGAIN;
            if (before.lsn == at.lsn && !is_old) || *before == at {
                return Ok(());
            }
        }
        gate::keep_position(self.judging.incidents(), &at)?;
        self.kept = Some((at, Instant::now()));
        Ok(())
    }

    /// Takes an input. Some when the watch ends.
    fn take(
        &mut self,
        input: Input,
        applied: &mut u64,
        tell: &mut dyn FnMut(Told<'_>) -> bool,
    ) -> Result<Option<Ended>, WatchError> {
        match input {
            Input::Transactions(list, room, _) => {
                self.heard = Instant::now();
                let room = Arc::new(room);
                for assembled in list {
                    *applied += assembled.changes;
                    self.commit(assembled, &room, tell)?;
                }
            }
            Input::Idle(end, time) => {
                self.heard = Instant::now();
                self.pass(end);
                self.clock = time;
                if self.ends.is_empty() {
                    self.reach(self.passed)?;
                }
                if self.ends.is_empty() && *applied == 0 {
                    let notices = self.judging.tick(time)?;
                    self.print_all(&notices, tell)?;
                }
            }
            Input::Mark => {}
            Input::Seal => self.recorder().seal(),
            Input::Connected { in_bulk } => {
                self.outside.health.streaming();
                if in_bulk {
                    tell(Told::Note("catching up in bulk"));
                }
            }
            Input::Lost(error) => {
                self.outside.health.away(Instant::now());
                self.outside.metrics.reconnected();
                tell(Told::Note(&format!(
                    "the connection was lost: {error}; trying again"
                )));
            }
            Input::Failed(error) => return self.failed(error),
            Input::Recorder(Said::Sealed(until)) => {
                self.sealed = until;
                let mut end = Lsn(0);
                while self
                    .ends
                    .front()
                    .is_some_and(|(commit, _)| *commit <= until)
                {
                    end = self.ends.pop_front().expect("looked at above").1;
                }
                let notices = self.judging.sealed(until)?;
                self.print_all(&notices, tell)?;
                self.reach(end)?;
                if self.ends.is_empty() {
                    self.reach(self.passed)?;
                }
                self.outside.metrics.recorded(until);
            }
            Input::Recorder(Said::Failed(error)) => return Err(error.into()),
            Input::Slot(seen) => return self.look(&seen, tell),
            Input::Stop => return Ok(Some(Ended::Stopped)),
        }
        Ok(None)
    }

    /// A slot that is gone or invalid while we stream is a gap; everything else ends the watch.
    fn failed(&mut self, error: FeedError) -> Result<Option<Ended>, WatchError> {
        let gone = match &error {
            FeedError::Moved(reason) => return Ok(Some(Ended::Anew(reason.clone()))),
            FeedError::Postgres(error) => matches!(error.sqlstate(), Some("42704" | "55000")),
            _ => false,
        };
        match gone {
            true => Ok(Some(Ended::Anew(format!(
                "the slot cannot be streamed any more ({error})"
            )))),
            false => Err(error.into()),
        }
    }

    fn commit(
        &mut self,
        assembled: Assembled,
        room: &Arc<Room>,
        tell: &mut dyn FnMut(Told<'_>) -> bool,
    ) -> Result<(), WatchError> {
        let Assembled {
            meta,
            end_lsn,
            body,
            changes,
            ..
        } = assembled;
        let lsn = lsn_of(&meta);
        if lsn <= self.last {
            // It came again: it is recorded already.
            self.pass(end_lsn);
            return Ok(());
        }
        if changes == 0 {
            // Perhaps a table is different from here on; there is no commit of rows.
            let altered = self.judging.alter(&body)?;
            altered
                .iter()
                .for_each(|change| _ = tell(Told::Note(change)));
            self.pass(end_lsn);
            return Ok(());
        }
        self.last = lsn;
        self.head += 1;
        let committed = Committed {
            commit: self.head,
            meta,
            body,
            room: Some(Arc::clone(room)),
        };
        let altered = self.judging.apply(&committed)?;
        altered
            .iter()
            .for_each(|change| _ = tell(Told::Note(change)));
        self.ends.push_back((self.head, end_lsn));
        self.judged_ends
            .push_back((self.head, end_lsn, committed.meta.time));
        self.passed = self.passed.max(end_lsn);
        self.clock = self.clock.max(committed.meta.time.unwrap_or(0));
        self.made.extend(committed.meta.time);
        self.outside.metrics.received(1, changes);
        self.recorder().record(Arc::new(committed));
        Ok(())
    }

    fn recorder(&self) -> &Recorder {
        self.recorder.as_ref().expect("it records until the end")
    }

    /// Nothing of ours lies before this position that has not come.
    fn pass(&mut self, end: Lsn) {
        self.passed = self.passed.max(end);
    }

    /// The server need keep nothing before this position.
    fn reach(&mut self, lsn: Lsn) -> Result<(), WatchError> {
        if lsn > self.durable.lsn() {
            setup::confirm(self.judging.incidents(), lsn)?;
            self.durable.reach(lsn);
            self.outside.metrics.confirmed(lsn.0);
        }
        Ok(())
    }

    fn look(
        &mut self,
        seen: &Seen,
        tell: &mut dyn FnMut(Told<'_>) -> bool,
    ) -> Result<Option<Ended>, WatchError> {
        let lag_s = match self.ends.is_empty() && seen.lag_bytes == 0 {
            true => 0.0,
            false => seconds_since(self.clock),
        };
        self.outside.metrics.lag(seen.lag_bytes, lag_s);
        self.outside.health.lag(seen.lag_bytes, lag_s);
        self.outside.metrics.retained(seen.retained_bytes);
        self.outside
            .metrics
            .incidents(&self.judging.incidents().counts()?);
        if let (Some(altered), None) = (&seen.altered, &self.anew) {
            self.anew = Some((seen.end, altered.clone()));
        }
        if let (Some(shape), None) = (&seen.shape, &self.anew) {
            setup::keep_shape(self.judging.incidents(), shape)?;
        }
        let lost = seen
            .slot
            .as_ref()
            .is_none_or(|slot| slot.wal_status.as_deref() == Some("lost"));
        if lost {
            return Ok(Some(Ended::Anew("the slot is gone".into())));
        }
        self.behind = seen.lag_bytes > self.settings.lag_warn_bytes;
        if self.behind && !self.warned {
            tell(Told::Note(&format!(
                "{} bytes of log behind: larger batches are judged until that is made good",
                seen.lag_bytes
            )));
        }
        // Log that is none of ours comes without a word: whoever asks how far everything is judged has to know.
        if self.ends.is_empty()
            && (seen.end > self.passed || seconds_since(self.clock) > CLOCK_AGE_S)
        {
            self.durable.ask();
        }
        let held = seen.oldest_transaction_s.unwrap_or(0.0) > LONG_TRANSACTION_S;
        if held && seen.retained_bytes > self.settings.lag_warn_bytes && !self.behind && !self.held
        {
            tell(Told::Note(&format!(
                "the server keeps {} bytes of log because of a transaction that has been open for long, not because of the watcher",
                seen.retained_bytes
            )));
        }
        self.held = held;
        self.warned = self.behind;
        self.outside.health.paused(self.behind);
        match self.settings.lag_drop_bytes {
            Some(most) if seen.retained_bytes > most => {
                Err(WatchError::Dropped(seen.retained_bytes))
            }
            _ => Ok(None),
        }
    }

    /// Everything that was received is sealed, judged and confirmed.
    pub(super) fn finish(
        &mut self,
        tell: &mut dyn FnMut(Told<'_>) -> bool,
    ) -> Result<(), WatchError> {
        let recorder = self.recorder.take();
        let closing = std::thread::spawn(move || drop(recorder));
        let mut result: Result<(), WatchError> = Ok(());
        // The recorder may have to say something before it ends, and others still hand over.
        while !closing.is_finished() || self.sealed < self.head {
            match self.inputs.recv_timeout(Duration::from_millis(20)) {
                Ok(Input::Recorder(Said::Sealed(until))) => self.sealed = until,
                Ok(Input::Recorder(Said::Failed(error))) => {
                    result = Err(error.into());
                    break;
                }
                Ok(_) => {}
                Err(_) if closing.is_finished() => break,
                Err(_) => {}
            }
        }
        let _ = closing.join();
        result?;
        self.judging.judge_the_rest();
        let notices = self.judging.sealed(self.sealed)?;
        self.print_all(&notices, tell)?;
        let end = self
            .ends
            .iter()
            .rev()
            .find(|(commit, _)| *commit <= self.sealed);
        let end = end.map_or(Lsn(0), |(_, end)| *end);
        self.reach(end)?;
        self.keep_position()
    }
}

/// How long ago an instant was, in seconds; it is given in microseconds since the epoch.
fn seconds_since(time_us: i64) -> f64 {
    Duration::from_micros(u64::try_from(now_us() - time_us).unwrap_or(0)).as_secs_f64()
}

fn lsn_of(meta: &TransactionMeta) -> Lsn {
    let lsn = meta.lsn.as_deref().and_then(|text| text.parse().ok());
    lsn.unwrap_or(Lsn(0))
}
