//! Lifted judgement against full judgement of the state after every commit: random rules, random histories.
//!
//! `FIRSTBAD_SEED` replays one history, `FIRSTBAD_LIFTED` says how many rules are judged.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use firstbad::judge::{Judge, Limits, Lives, Options};
use firstbad::rule::{Check, file};

use crate::rng::Rng;
use crate::{FIRST_SEED, RULES_AT_ONCE, number, rules, world};

const CASES: usize = 1_400;

/// Checks that must be judged by the lives of their keys, so that a locality which gives up everywhere is seen.
const MUST_BE_LIFTED: [&str; 12] = [
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
    "completeness",
];

/// Intervals as text, in one order.
pub(crate) fn told(lives: &Lives) -> Vec<String> {
    let interval = |life: &firstbad::judge::Life| {
        let key = serde_json::Value::Object(life.key.clone());
        format!("#{} to {:?} {key}", life.onset, life.healed)
    };
    lives.intervals.iter().map(interval).collect()
}

#[test]
fn lifted_lives_are_those_of_full_judgement() {
    let cases =
        number("FIRSTBAD_LIFTED").map_or(CASES, |cases| usize::try_from(cases).expect("a count"));
    let seeds: Vec<u64> = match number("FIRSTBAD_SEED") {
        Some(seed) => vec![seed],
        None => (0..cases.div_ceil(RULES_AT_ONCE))
            .map(|at| FIRST_SEED + 2_000_000 + at as u64)
            .collect(),
    };
    let mut lifted_kinds: BTreeMap<String, usize> = BTreeMap::new();
    let mut disagreements = Vec::new();
    for &seed in &seeds {
        let mut rng = Rng::new(seed);
        let (past, history) = world::history(&mut rng);
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
        for prepared in &prepared {
            let lifted = judge.lives_lifted(prepared, options.position, &options);
            let Some(lifted) = lifted.transpose() else {
                continue;
            };
            let kind = match &prepared.rule.check {
                Check::Sql { .. } => "sql",
                check => check.kind(),
            };
            *lifted_kinds.entry(kind.to_owned()).or_default() += 1;
            let full = judge.lives_in_full(prepared, 0, options.position, &options);
            let (want, have) = (
                full.map(|lives| told(&lives)),
                lifted.map(|lives| told(&lives)),
            );
            if want.as_ref().ok() != have.as_ref().ok() {
                disagreements.push(format!(
                    "FIRSTBAD_SEED={seed} rule {} ({kind})\nwant {want:?}\nhave {have:?}",
                    prepared.rule.id
                ));
            }
        }
    }
    assert!(
        disagreements.is_empty(),
        "{} disagreements\n{}",
        disagreements.len(),
        disagreements[..disagreements.len().min(3)].join("\n\n")
    );
    if number("FIRSTBAD_SEED").is_none() {
        let missing: Vec<&str> = MUST_BE_LIFTED
            .into_iter()
            .filter(|kind| !lifted_kinds.contains_key(*kind))
            .collect();
        assert!(
            missing.is_empty(),
            "judged in full: {missing:?}; lifted: {lifted_kinds:?}"
        );
    }
}
