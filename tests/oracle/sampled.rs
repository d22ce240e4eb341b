//! Judging only some states: what is said about the states that were judged must be what judging all of them says.
//!
//! `FIRSTBAD_SEED` replays one history.

use std::path::Path;
use std::sync::Arc;

use firstbad::judge::{Judge, Life, Limits, Looked, Options};
use firstbad::rule::file;

use crate::rng::Rng;
use crate::{FIRST_SEED, RULES_AT_ONCE, number, rules, world};

const HISTORIES: usize = 12;
const COMMITS_MAX: usize = 25;

fn was_bad(lives: &[Life], key: &Life, position: u32) -> bool {
    let covers =
        |life: &&Life| life.onset <= position && life.healed.is_none_or(|healed| position < healed);
    lives
        .iter()
        .filter(covers)
        .any(|life| life.order == key.order)
}

#[test]
fn what_sampling_says_is_true_where_it_looked() {
    let seeds: Vec<u64> = match number("FIRSTBAD_SEED") {
        Some(seed) => vec![seed],
        None => (0..HISTORIES)
            .map(|at| FIRST_SEED + 3_000_000 + at as u64)
            .collect(),
    };
    let (mut vague_onsets, mut exact_onsets, mut skipped) = (0, 0, 0);
    for seed in seeds {
        let mut rng = Rng::new(seed);
        let (past, history) = world::history_of(&mut rng, COMMITS_MAX);
        let mut text = "rules:\n".to_owned();
        for id in 0..RULES_AT_ONCE {
            text += &rules::rule(&mut rng, &past, rules::STATES[id % rules::STATES.len()], id);
        }
        let (rules, _) = file::parse(&text, Path::new("random.yaml"));
        let head = history.head();
        let options = Options {
            position: head,
            now_us: None,
            sample: None,
        };
        let judge = Judge::new(Arc::new(history), Limits::default()).expect("the engine starts");
        let Ok(prepared) = judge.prepare(&rules, &options) else {
            panic!("FIRSTBAD_SEED={seed}: the rules do not fit");
        };
        for rule in &prepared {
            let Ok(full) = judge.lives_in_full(rule, 0, head, &options) else {
                continue;
            };
            let most = 2 + rng.below(head as usize + 2);
            let sampled = judge.lives_sampled(rule, 0, head, &options, Some(most));
            let told = format!("FIRSTBAD_SEED={seed} rule {} at most {most}", rule.rule.id);
            let sampled = sampled.unwrap_or_else(|error| panic!("{told}: {error}"));
            let now = |lives: &[Life]| {
                let open = lives.iter().filter(|life| life.healed.is_none());
                open.map(|life| life.order.clone()).collect::<Vec<_>>()
            };
            let (mut have, mut want) = (now(&sampled.intervals), now(&full.intervals));
            have.sort();
            want.sort();
            assert_eq!(have, want, "{told}: what is bad in the end");
            let vague = match &sampled.looked {
                Looked::Everywhere => Default::default(),
                Looked::Sampled { vague, passed_over } => {
                    skipped += passed_over;
                    vague.clone()
                }
            };
            for life in &sampled.intervals {
                let bad = |position| was_bad(&full.intervals, life, position);
                assert!(bad(life.onset), "{told}: bad since #{}", life.onset);
                let before = match vague.get(&life.onset) {
                    Some(before) => {
                        vague_onsets += 1;
                        Some(*before)
                    }
                    None => life.onset.checked_sub(1),
                };
                exact_onsets += usize::from(!vague.contains_key(&life.onset));
                if let Some(before) = before {
                    assert!(
                        !bad(before),
                        "{told}: good at #{before}, before #{}",
                        life.onset
                    );
                }
            }
        }
    }
    if number("FIRSTBAD_SEED").is_none() {
        assert!(vague_onsets > 10 && exact_onsets > 10 && skipped > 10);
    }
}
