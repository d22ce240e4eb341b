//! Lifted judgement against full judgement of the state after every commit: random rules, random histories.
//!
//! Each history is judged by the life of its keys (one batch for all), in batches of one commit, in random batches through small
//! chunks, and with aggregates kept as tables. `FIRSTBAD_SEED` replays one history, `FIRSTBAD_LIFTED` says how many rules are judged.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use firstbad::judge::{Judge, Limits, Lives, Mistake, Options, Prepared, Tuning};
use firstbad::rule::{Check, file};

use crate::coverage::Coverage;
use crate::rng::Rng;
use crate::world::Past;
use crate::{FIRST_SEED, RULES_AT_ONCE, number, rules, world};

const CASES: usize = 1_750;
/// How many times as many rules are looked at, until everything happened.
const MORE: usize = 4;
/// Rules that are judged with a mistake.
const MISTAKEN: usize = 1_400;
/// Histories have fewer commits than this.
const COMMITS_MAX: usize = 14;

/// Checks that must be judged by the lives of their keys, so that a locality which gives up everywhere is seen.
const MUST_BE_LIFTED: [&str; 14] = [
    "not_null",
    "not_empty",
    "unique",
    "accepted_values",
    "range",
    "expression",
    "references",
    "has",
    "has_no",
    "balance",
    "row_count",
    "aggregate",
    "completeness",
    "sql",
];

/// Intervals as text, in one order.
pub(crate) fn told(lives: &Lives) -> Vec<String> {
    let interval = |life: &firstbad::judge::Life| {
        let key = serde_json::Value::Object(life.key.clone());
        format!("#{} to {:?} {key}", life.onset, life.healed)
    };
    lives.intervals.iter().map(interval).collect()
}

/// A history with its rules, ready to be judged.
struct Case {
    seed: u64,
    past: Past,
    judge: Judge,
    options: Options,
    prepared: Vec<Prepared>,
}

fn case(seed: u64) -> Case {
    let mut rng = Rng::new(seed);
    let (past, history) = world::history_of(&mut rng, COMMITS_MAX);
    let mut text = "rules:\n".to_owned();
    for id in 0..RULES_AT_ONCE {
        text += &rules::rule(&mut rng, &past, rules::STATES[id % rules::STATES.len()], id);
    }
    let (rules, _) = file::parse(&text, Path::new("random.yaml"));
    let options = Options {
        position: history.head(),
        now_us: None,
        sample: None,
    };
    let judge = Judge::new(Arc::new(history), Limits::default()).expect("the engine starts");
    let Ok(prepared) = judge.prepare(&rules, &options) else {
        panic!("FIRSTBAD_SEED={seed}: the rules do not fit");
    };
    Case {
        seed,
        past,
        judge,
        options,
        prepared,
    }
}

impl Case {
    /// The ends of random batches.
    fn batches(&self, rng: &mut Rng) -> Vec<u32> {
        let head = self.options.position;
        let mut ends: Vec<u32> = (0..head).filter(|_| rng.chance(40)).collect();
        ends.push(head);
        ends
    }

    /// The ways in which a history is judged.
    fn ways(&self) -> Vec<(&'static str, Vec<u32>, Tuning)> {
        let rng = &mut Rng::new(self.seed);
        let head = self.options.position;
        let small = Tuning {
            chunk_rows: 1 + rng.below(12),
            ..Tuning::default()
        };
        let tables = Tuning {
            hot_rows: 0,
            hot_factor: 0,
            hot_share: 0,
            ..small.clone()
        };
        let by_the_engine = |tuning: &Tuning| Tuning {
            few_rows: 0,
            ..tuning.clone()
        };
        let streamed = by_the_engine(&Tuning::default());
        let tables_streamed = by_the_engine(&tables);
        vec![
            ("the life of the keys", vec![head], Tuning::default()),
            ("batches of one commit", (0..=head).collect(), streamed),
            ("random batches, small chunks", self.batches(rng), small),
            ("aggregates as tables", self.batches(rng), tables),
            (
                "aggregates as tables, one batch",
                vec![head],
                tables_streamed,
            ),
        ]
    }

    fn lifted(&self, rule: &Prepared, batches: &[u32], tuning: &Tuning) -> Option<Answer> {
        let lives = self
            .judge
            .lives_in_batches(rule, batches, &self.options, tuning);
        lives.transpose().map(|lives| {
            lives
                .map(|lives| told(&lives))
                .map_err(|error| error.to_string())
        })
    }

    /// Judges a rule in all ways; false where it can only be judged in full.
    fn agrees(&self, rule: &Prepared, disagreements: &mut Vec<String>) -> bool {
        let mut want = None;
        for (way, batches, tuning) in self.ways() {
            let Some(have) = self.lifted(rule, &batches, &tuning) else {
                continue;
            };
            let want = want.get_or_insert_with(|| self.full(rule));
            if have.as_ref().ok() != want.as_ref().ok() {
                disagreements.push(format!(
                    "FIRSTBAD_SEED={} rule {} ({}), {way} {batches:?} {tuning:?}\nwant {want:?}\nhave {have:?}",
                    self.seed,
                    rule.rule.id,
                    kind(rule),
                ));
            }
        }
        want.is_some()
    }

    fn full(&self, rule: &Prepared) -> Answer {
        let head = self.options.position;
        let lives = self.judge.lives_in_full(rule, 0, head, &self.options);
        lives
            .map(|lives| told(&lives))
            .map_err(|error| error.to_string())
    }
}

/// The intervals, or that it cannot be judged.
type Answer = Result<Vec<String>, String>;

fn seeds(cases: usize, first: u64) -> Vec<u64> {
    match number("FIRSTBAD_SEED") {
        Some(seed) => vec![seed],
        None => (0..cases.div_ceil(RULES_AT_ONCE))
            .map(|at| FIRST_SEED + first + at as u64)
            .collect(),
    }
}

#[test]
fn lifted_lives_are_those_of_full_judgement() {
    let cases =
        number("FIRSTBAD_LIFTED").map_or(CASES, |cases| usize::try_from(cases).expect("a count"));
    let mut lifted_kinds: BTreeMap<&str, usize> = BTreeMap::new();
    let mut coverage = Coverage::default();
    let mut disagreements = Vec::new();
    // Then on, with rules of the kinds to which something did not happen yet.
    let all = seeds(cases, 2_000_000).len();
    let seeds = seeds(MORE * cases, 2_000_000).into_iter().enumerate();
    for (at, seed) in seeds {
        let more = at >= all;
        if more && coverage.missing(&MUST_BE_LIFTED).is_empty() {
            break;
        }
        let case = case(seed);
        for rule in &case.prepared {
            if more && (coverage.is_complete(kind(rule)) || !MUST_BE_LIFTED.contains(&kind(rule))) {
                continue;
            }
            if case.agrees(rule, &mut disagreements) {
                *lifted_kinds.entry(kind(rule)).or_default() += 1;
                coverage.add(kind(rule), &rule.rule, &case.past);
            }
        }
    }
    assert!(
        disagreements.is_empty(),
        "{} disagreements\n{}",
        disagreements.len(),
        disagreements[..disagreements.len().min(3)].join("\n\n")
    );
    if number("FIRSTBAD_SEED").is_none() && cases >= CASES {
        let missing: Vec<&str> = MUST_BE_LIFTED
            .into_iter()
            .filter(|kind| !lifted_kinds.contains_key(*kind))
            .collect();
        assert!(
            missing.is_empty(),
            "judged in full: {missing:?}; lifted: {lifted_kinds:?}"
        );
        let missing = coverage.missing(&MUST_BE_LIFTED);
        assert!(missing.is_empty(), "never happened: {missing:#?}");
    }
}

fn kind(rule: &Prepared) -> &'static str {
    match &rule.rule.check {
        Check::Sql { .. } => "sql",
        check => check.kind(),
    }
}

#[test]
fn a_comparison_notices_what_lifting_leaves_out() {
    let mistakes = [Mistake::NoReset, Mistake::NoCommitPair, Mistake::NoOldImage];
    let mut noticed: Vec<Vec<&str>> = vec![Vec::new(); mistakes.len()];
    for seed in seeds(MISTAKEN, 2_500_000) {
        let case = case(seed);
        let batches = case.batches(&mut Rng::new(seed));
        for rule in &case.prepared {
            let mut want = None;
            for (mistake, noticed) in mistakes.iter().zip(&mut noticed) {
                let tuning = Tuning {
                    mistake: Some(*mistake),
                    ..Tuning::default()
                };
                let Some(have) = case.lifted(rule, &batches, &tuning) else {
                    continue;
                };
                let want = want.get_or_insert_with(|| case.full(rule));
                if have.as_ref().ok() != want.as_ref().ok() {
                    noticed.push(kind(rule));
                }
            }
        }
    }
    if number("FIRSTBAD_SEED").is_none() {
        for (mistake, noticed) in mistakes.iter().zip(&noticed) {
            assert!(
                noticed.len() >= 3,
                "{mistake:?} is noticed by {noticed:?} only"
            );
        }
    }
}
