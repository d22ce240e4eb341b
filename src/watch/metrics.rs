//! Figures for Prometheus, and whether the watcher does its work.
//!
//! The only labels are rule ids, severities, states and words of this program: no figure holds anything of a row (invariant 11).

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use serde_json::{Value, json};

use crate::change::Commit;
use crate::verdict::Verdict;

/// How long the stream may be away before the watcher is not healthy.
pub const AWAY_MAX: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRule {
    rule: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfIncidents {
    state: String,
    severity: String,
}

type Number = Gauge<i64, AtomicI64>;
type Fraction = Gauge<f64, AtomicU64>;

/// The figures. All methods may be called from any thread.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    lag_bytes: Number,
    lag_seconds: Fraction,
    retained_bytes: Number,
    memory_bytes: Number,
    changes: Counter,
    transactions: Counter,
    reconnects: Counter,
    gaps: Counter,
    recorded: Number,
    judged: Number,
    confirmed: Number,
    verdict_delay: Histogram,
    judging: Family<OfRule, Histogram, fn() -> Histogram>,
    verdicts: Family<OfRule, Number>,
    incidents: Family<OfIncidents, Number>,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Bounds for the time from a commit to its verdict, in seconds.
const DELAYS_S: [f64; 12] = [
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0,
];

/// From a tenth of a millisecond to a minute and a half.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 4.0, 11))
}

impl Metrics {
    /// All figures at zero.
    pub fn new() -> Metrics {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("firstbad"),
            lag_bytes: Number::default(),
            lag_seconds: Fraction::default(),
            retained_bytes: Number::default(),
            memory_bytes: Number::default(),
            changes: Counter::default(),
            transactions: Counter::default(),
            reconnects: Counter::default(),
            gaps: Counter::default(),
            recorded: Number::default(),
            judged: Number::default(),
            confirmed: Number::default(),
            verdict_delay: Histogram::new(DELAYS_S),
            judging: Family::new_with_constructor(seconds),
            verdicts: Family::default(),
            incidents: Family::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        let numbers = [
            (
                "recorded_commit",
                "The last commit that the store holds",
                &self.recorded,
            ),
            (
                "judged_commit",
                "The last commit that was judged",
                &self.judged,
            ),
            (
                "confirmed_lsn",
                "The position that was confirmed to the server, in bytes of WAL",
                &self.confirmed,
            ),
        ];
        for (name, help, gauge) in numbers {
            registry.register(name, help, gauge.clone());
        }
        let bytes = [
            (
                "lag",
                "WAL that was written and not judged yet",
                &self.lag_bytes,
            ),
            (
                "retained_wal",
                "WAL that the server keeps for the slot",
                &self.retained_bytes,
            ),
            (
                "resident_memory",
                "Memory of this process",
                &self.memory_bytes,
            ),
        ];
        for (name, help, gauge) in bytes {
            registry.register_with_unit(name, help, Unit::Bytes, gauge.clone());
        }
        let help = "How long ago the last commit that was judged was made, while there are others";
        registry.register_with_unit("lag", help, Unit::Seconds, self.lag_seconds.clone());
        let counters = [
            ("changes", "Changes of rows received", &self.changes),
            ("transactions", "Transactions received", &self.transactions),
            (
                "reconnects",
                "How often the connection was made again",
                &self.reconnects,
            ),
            (
                "gaps",
                "Stretches of history that were not seen",
                &self.gaps,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        let help = "Time from a commit, by the server's clock, to the verdict on it, by ours";
        let delay = self.verdict_delay.clone();
        registry.register_with_unit("commit_to_verdict", help, Unit::Seconds, delay);
        let help = "Time to judge a rule over a batch";
        registry.register_with_unit("judge", help, Unit::Seconds, self.judging.clone());
        let help = "0 held, 1 violated, 2 unknown";
        registry.register("verdict", help, self.verdicts.clone());
        let help = "Incidents by state and severity";
        registry.register("incidents", help, self.incidents.clone());
    }

    /// WAL that was written and not judged yet, and the age of the last commit that was judged.
    pub fn lag(&self, bytes: u64, seconds: f64) {
        self.lag_bytes.set(number(bytes));
        self.lag_seconds.set(seconds);
    }

    /// WAL that the server keeps for the slot, in bytes.
    pub fn retained(&self, bytes: u64) {
        self.retained_bytes.set(number(bytes));
    }

    /// Counts transactions that were received, and their changes.
    pub fn received(&self, transactions: u64, changes: u64) {
        self.transactions.inc_by(transactions);
        self.changes.inc_by(changes);
    }

    /// The last commit that the store holds.
    pub fn recorded(&self, commit: Commit) {
        self.recorded.set(commit.into());
    }

    /// The last commit that was judged.
    pub fn judged(&self, commit: Commit) {
        self.judged.set(commit.into());
    }

    /// A commit was judged so long after it was made.
    pub fn verdict_after(&self, delay: Duration) {
        self.verdict_delay.observe(delay.as_secs_f64());
    }

    /// The position that was confirmed to the server.
    pub fn confirmed(&self, lsn: u64) {
        self.confirmed.set(number(lsn));
    }

    /// The connection was made again.
    pub fn reconnected(&self) {
        self.reconnects.inc();
    }

    /// A stretch of history was not seen.
    pub fn gap(&self) {
        self.gaps.inc();
    }

    /// A rule was judged over a batch.
    pub fn rule(&self, rule: &str, took: Duration, verdict: Verdict) {
        let label = OfRule { rule: rule.into() };
        self.judging
            .get_or_create(&label)
            .observe(took.as_secs_f64());
        self.verdict(rule, verdict);
    }

    /// What is known of a rule.
    pub fn verdict(&self, rule: &str, verdict: Verdict) {
        let label = OfRule { rule: rule.into() };
        let verdict = match verdict {
            Verdict::Held => 0,
            Verdict::Violated => 1,
            Verdict::Unknown => 2,
        };
        self.verdicts.get_or_create(&label).set(verdict);
    }

    /// How many incidents there are of each state and severity, as [`crate::incident::Incidents::counts`] says.
    pub fn incidents(&self, counts: &[(String, String, u64)]) {
        self.incidents.clear();
        for (state, severity, count) in counts {
            let label = OfIncidents {
                state: state.clone(),
                severity: severity.clone(),
            };
            self.incidents.get_or_create(&label).set(number(*count));
        }
    }

    /// All figures in OpenMetrics' text form.
    pub fn text(&self) -> String {
        if let Some(bytes) = resident() {
            self.memory_bytes.set(number(bytes));
        }
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut out, &self.registry);
        out
    }
}

/// Memory of this process in bytes; None where the system does not say.
pub fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[derive(Debug)]
struct Seen {
    /// Since when the stream is away; None while it runs.
    away: Option<Instant>,
    paused: bool,
    store_failed: bool,
    lag_bytes: u64,
    lag_seconds: f64,
    judged: Option<Commit>,
}

/// Whether the watcher does its work.
#[derive(Debug)]
pub struct Health(Mutex<Seen>);

impl Default for Health {
    fn default() -> Self {
        Health::new(Instant::now())
    }
}

impl Health {
    /// A watcher that starts now.
    pub fn new(now: Instant) -> Health {
        Health(Mutex::new(Seen {
            away: Some(now),
            paused: false,
            store_failed: false,
            lag_bytes: 0,
            lag_seconds: 0.0,
            judged: None,
        }))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Seen) -> T) -> T {
        let mut seen = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        work(&mut seen)
    }

    /// The stream runs.
    pub fn streaming(&self) {
        self.with(|seen| seen.away = None);
    }

    /// The stream does not run; said again, it counts from the first time.
    pub fn away(&self, now: Instant) {
        self.with(|seen| seen.away = seen.away.or(Some(now)));
    }

    /// Whether judging is paused, because the lag is above its budget.
    pub fn paused(&self, paused: bool) {
        self.with(|seen| seen.paused = paused);
    }

    /// Whether the store or the incidents cannot be written.
    pub fn store_failed(&self, failed: bool) {
        self.with(|seen| seen.store_failed = failed);
    }

    /// WAL that was written and not judged yet, and the age of the last commit that was judged.
    pub fn lag(&self, bytes: u64, seconds: f64) {
        self.with(|seen| (seen.lag_bytes, seen.lag_seconds) = (bytes, seconds));
    }

    /// The last commit that was judged.
    pub fn judged(&self, commit: Commit) {
        self.with(|seen| seen.judged = Some(commit));
    }

    /// Whether all is well, and the document that says why not.
    pub fn report(&self, now: Instant) -> (bool, Value) {
        self.with(|seen| {
            let away = seen.away.map(|since| now.saturating_duration_since(since));
            let mut reasons = Vec::new();
            if let Some(away) = away.filter(|away| *away > AWAY_MAX) {
                reasons.push(format!("not streaming for {} seconds", away.as_secs()));
            }
            if seen.paused {
                reasons.push("paused: the lag is above its budget".to_owned());
            }
            if seen.store_failed {
                reasons.push("the store cannot be written".to_owned());
            }
            let state = match (seen.store_failed, seen.paused, away) {
                (true, _, _) => "failed",
                (_, true, _) => "paused",
                (_, _, Some(_)) => "connecting",
                (_, _, None) => "streaming",
            };
            let document = json!({
                "schema": "firstbad/health@1",
                "healthy": reasons.is_empty(),
                "state": state,
                "lag": {"bytes": seen.lag_bytes, "seconds": seen.lag_seconds},
                "judged": seen.judged,
                "reasons": reasons,
            });
            (reasons.is_empty(), document)
        })
    }
}
