//! A naive judge against the engine: random tables, histories and rules, judged by plain loops over rows and by the engine.
//!
//! `FIRSTBAD_SEED` replays one history (a failure prints it), `FIRSTBAD_CASES` says how many rules are judged.

mod ask;
mod clock;
mod coverage;
mod diff;
mod fragments;
mod gaps;
mod judge;
mod lifted;
mod live;
mod lives;
mod rng;
mod rules;
mod sampled;
mod sides;
mod states;
mod value;
mod world;
mod write_rules;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use firstbad::diagnostic::{Diagnostic, Level};
use firstbad::judge::{Judge, Limits, Options};
use firstbad::rule::{Rule, file};
use firstbad::verdict::{Outcome, Verdict};

use judge::{Answer, Context, Wrong};
use rng::Rng;
use world::{Past, TABLES};

/// Rules judged by one judge.
const RULES_AT_ONCE: usize = 35;
const CASES: usize = 5_250;
/// Disagreements of one kind of check that are shown.
const REPORTED: usize = 2;
const FIRST_SEED: u64 = 20_260_312;
/// What must occur of every kind.
const CELLS: [&str; 7] = [
    "violated",
    "held",
    "null",
    "composite key",
    "where",
    "threshold",
    "empty table",
];

/// One history with its rules, judged by the engine.
struct Case {
    seed: u64,
    text: String,
    past: Past,
    rules: Vec<Rule>,
    position: usize,
    now: Option<i64>,
    sample: Option<usize>,
    outcomes: Vec<Outcome>,
}

impl Case {
    fn new(seed: u64) -> Case {
        let mut rng = Rng::new(seed);
        let (past, history) = world::history(&mut rng);
        let position = if rng.chance(60) {
            past.head()
        } else {
            rng.below(past.head() + 1)
        };
        let now = match rng.below(10) {
            0..4 => Some(world::stamp(&mut rng)),
            4 => past.now_at(position).map(|now| now + world::HOUR),
            _ => None,
        };
        let mut text = "rules:\n".to_owned();
        let kinds: Vec<&str> = rules::STATES
            .iter()
            .chain(&rules::WRITES)
            .copied()
            .collect();
        for id in 0..RULES_AT_ONCE {
            text += &rules::rule(&mut rng, &past, kinds[id % kinds.len()], id);
        }
        let (rules, mut diagnostics) = file::parse(&text, Path::new("random.yaml"));
        diagnostics.retain(|diagnostic| diagnostic.level == Level::Error);
        assert!(
            diagnostics.is_empty(),
            "FIRSTBAD_SEED={seed}: a random rule is refused: {}",
            messages(&diagnostics)
        );
        let sample = rng.chance(20).then(|| rng.below(4));
        let options = Options {
            position: u32::try_from(position).expect("few commits"),
            now_us: now,
            sample,
        };
        let judge = Judge::new(Arc::new(history), Limits::default()).expect("the engine starts");
        let prepared = judge
            .prepare(&rules, &options)
            .unwrap_or_else(|diagnostics| {
                panic!(
                    "FIRSTBAD_SEED={seed}: a random rule does not fit: {}",
                    messages(&diagnostics)
                )
            });
        let outcomes = judge.check(prepared, &options, &|_| {});
        Case {
            seed,
            text,
            past,
            rules,
            position,
            now,
            sample,
            outcomes,
        }
    }

    fn context(&self, wrong: Option<Wrong>) -> Context<'_> {
        Context::new(&self.past, self.position, self.now, wrong)
    }

    /// What the oracle says of a rule, cut to the sample that the engine was asked for.
    fn expected(&self, rule: &Rule, wrong: Option<Wrong>) -> Answer {
        let mut answer = judge::judge(rule, &self.context(wrong));
        answer.keys.truncate(self.sample.unwrap_or(usize::MAX));
        answer
    }

    /// Everything that is needed to understand a disagreement.
    fn report(&self, at: usize, expected: &Answer) -> String {
        let (rule, outcome) = (&self.rules[at], &self.outcomes[at]);
        let mut out = format!(
            "FIRSTBAD_SEED={}: the engine and the oracle disagree\n",
            self.seed
        );
        out += self.text.lines().nth(at + 1).unwrap_or_default();
        out += &format!(
            "\nposition {} of {}, now {:?}\n",
            self.position,
            self.past.head(),
            self.context(None).now
        );
        for (name, rows) in TABLES.iter().zip(&self.past.states[self.position]) {
            if self
                .text
                .lines()
                .nth(at + 1)
                .is_some_and(|line| line.contains(name))
            {
                let columns = world::columns(world::table_index(name));
                out += &format!("{name} {columns:?}\n");
                rows.iter()
                    .for_each(|row| out += &format!("  {}\n", shown(row)));
            }
        }
        let table = world::table_index(
            &rule
                .table
                .as_ref()
                .expect("random rules have a table")
                .value
                .name,
        );
        let changing =
            rule.check.judges_writes() || rule.within_us.is_some() || rule.since.is_some();
        for (at, changes) in self.past.changes[..self.position]
            .iter()
            .enumerate()
            .filter(|_| changing)
        {
            out += &format!("commit {} at {:?}\n", at + 1, self.past.times[at]);
            for change in changes.iter().filter(|change| change.table == table) {
                let side = |row: &Option<world::Row>| row.as_deref().map_or("-".to_owned(), shown);
                out += &format!(
                    "  {:?}\n    {}\n    {}\n",
                    change.op,
                    side(&change.before),
                    side(&change.after)
                );
            }
        }
        out += &format!("oracle: {}\n", told(expected));
        out + &format!(
            "engine: {} {}\n",
            told(&answer(outcome)),
            outcome.reason.as_deref().unwrap_or("")
        )
    }
}

fn messages(diagnostics: &[Diagnostic]) -> String {
    let one = |d: &Diagnostic| {
        format!(
            "\n{}\n{}",
            d.message,
            d.source_line.as_deref().unwrap_or("")
        )
    };
    diagnostics.iter().map(one).collect()
}

fn shown(row: &[value::V]) -> String {
    let values: Vec<String> = row.iter().map(|value| value.json().to_string()).collect();
    values.join(" ")
}

fn told(answer: &Answer) -> String {
    let keys: Vec<String> = answer
        .keys
        .iter()
        .map(|key| serde_json::Value::Object(key.clone()).to_string())
        .collect();
    let Answer {
        verdict,
        violations,
        judged,
        pending,
        ..
    } = answer;
    format!(
        "{} violations {violations:?} judged {judged:?} pending {pending} keys {}",
        verdict.as_str(),
        keys.join(" ")
    )
}

/// The engine's outcome as far as it is compared.
fn answer(outcome: &Outcome) -> Answer {
    Answer {
        verdict: outcome.verdict,
        violations: outcome.violations,
        judged: outcome.judged,
        pending: outcome.pending,
        keys: outcome
            .sample
            .iter()
            .map(|violation| violation.key.clone())
            .collect(),
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text}")),
    )
}

/// The seeds to judge.
fn seeds() -> Vec<u64> {
    if let Some(seed) = number("FIRSTBAD_SEED") {
        return vec![seed];
    }
    let cases =
        number("FIRSTBAD_CASES").map_or(CASES, |cases| usize::try_from(cases).expect("a count"));
    (0..cases.div_ceil(RULES_AT_ONCE))
        .map(|at| FIRST_SEED + at as u64)
        .collect()
}

/// Counts what occurred of each kind.
#[derive(Default)]
struct Coverage(BTreeMap<(String, &'static str), usize>);

impl Coverage {
    fn add(&mut self, case: &Case, at: usize) {
        let (rule, outcome) = (&case.rules[at], &case.outcomes[at]);
        let table = world::table_index(
            &rule
                .table
                .as_ref()
                .expect("random rules have a table")
                .value
                .name,
        );
        let rows = &case.past.states[case.position][table];
        let nulls = rows.iter().any(|row| row.iter().any(value::V::is_null));
        let occurred = [
            outcome.verdict == Verdict::Violated,
            outcome.verdict == Verdict::Held,
            outcome.verdict != Verdict::Unknown && nulls,
            outcome.verdict != Verdict::Unknown && states::key_names(rule, table).len() > 1,
            outcome.verdict != Verdict::Unknown && rule.filter.is_some(),
            outcome.verdict != Verdict::Unknown && rule.threshold.is_some(),
            outcome.verdict != Verdict::Unknown && rows.is_empty(),
        ];
        for (cell, _) in CELLS.iter().zip(occurred).filter(|(_, occurred)| *occurred) {
            *self
                .0
                .entry((rule.check.kind().to_owned(), cell))
                .or_default() += 1;
        }
    }

    fn missing(&self) -> Vec<String> {
        let kinds = rules::STATES.iter().chain(&rules::WRITES);
        let all = kinds.flat_map(|kind| CELLS.iter().map(move |cell| (*kind, *cell)));
        all.filter(|(kind, cell)| !self.0.contains_key(&((*kind).to_owned(), *cell)))
            .map(|(kind, cell)| format!("{kind} × {cell}"))
            .collect()
    }
}

#[test]
fn the_engine_agrees_with_a_naive_judge() {
    let all = [
        Wrong::NullIsDuplicate,
        Wrong::RangeOffByOne,
        Wrong::ResurrectionInOneCommit,
        Wrong::GraceIsOpen,
    ];
    let mut caught: BTreeSet<usize> = BTreeSet::new();
    let mut coverage = Coverage::default();
    let mut disagreements = Vec::new();
    let mut kinds = BTreeMap::new();
    let mut judged = 0;
    for seed in seeds() {
        let case = Case::new(seed);
        for (at, rule) in case.rules.iter().enumerate() {
            let expected = case.expected(rule, None);
            let found = answer(&case.outcomes[at]);
            if found != expected {
                let of_kind = kinds.entry(rule.check.kind()).or_insert(0);
                *of_kind += 1;
                if *of_kind <= REPORTED {
                    disagreements.push(case.report(at, &expected));
                }
            }
            for (which, wrong) in all.iter().enumerate() {
                if !caught.contains(&which)
                    && case.expected(rule, Some(*wrong)) != found
                    && found == expected
                {
                    caught.insert(which);
                }
            }
            coverage.add(&case, at);
            judged += 1;
        }
    }
    assert!(
        kinds.is_empty(),
        "disagreements in {judged} cases: {kinds:?}\n\n{}",
        disagreements.join("\n")
    );
    if number("FIRSTBAD_SEED").is_none() {
        let missing = coverage.missing();
        assert!(
            missing.is_empty(),
            "of {judged} cases, these never occurred: {}",
            missing.join(", ")
        );
        let missed: Vec<_> = (0..all.len())
            .filter(|which| !caught.contains(which))
            .map(|which| all[which])
            .collect();
        assert!(
            missed.is_empty(),
            "a judge that is wrong on purpose was not caught: {missed:?}"
        );
    }
}
