//! Random courses of random rules, with crashes: the incidents are those that plain sets of commits say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::tests::{SECOND, batch, began, begun, facts, healed, listed, time, turns};
use super::*;

const ROUNDS: u64 = 60;
const COMMITS: Commit = 40;
const KEYS: u8 = 5;

/// A generator that is enough for tests (SplitMix64).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }
}

/// From when to when a key was bad.
#[derive(Clone, Copy, Debug)]
struct Life {
    key: u8,
    onset: Commit,
    healed: Option<Commit>,
}

fn lives(rng: &mut Rng) -> Vec<Life> {
    let mut lives: Vec<Life> = Vec::new();
    let mut open: BTreeMap<u8, usize> = BTreeMap::new();
    let restless = 2 + rng.below(8);
    for commit in 1..=COMMITS {
        for key in 0..KEYS {
            if rng.below(restless * 3) >= 3 {
                continue;
            }
            match open.remove(&key) {
                Some(at) => lives[at].healed = Some(commit),
                None => {
                    open.insert(key, lives.len());
                    lives.push(Life {
                        key,
                        onset: commit,
                        healed: None,
                    });
                }
            }
        }
    }
    lives
}

/// A stretch: its first commit, the one that ended it, its keys.
type Stretch = (Commit, Option<Commit>, BTreeSet<u8>);

/// The stretches as CONTRACT defines them, commit by commit.
fn stretches(rule: &RuleFacts, lives: &[Life]) -> Vec<Stretch> {
    let now = time(COMMITS);
    let counts = |life: &&Life| match rule.within_us {
        None => true,
        Some(within) => {
            let deadline = time(life.onset) + within;
            now > deadline && life.healed.is_none_or(|healed| time(healed) > deadline)
        }
    };
    let limit = match rule.threshold {
        Some(Threshold::Max(max)) => max as usize,
        _ => 0,
    };
    let findings: Vec<&Life> = lives.iter().filter(counts).collect();
    let mut out: Vec<Stretch> = Vec::new();
    let mut running = false;
    for commit in 1..=COMMITS {
        let is_bad = |life: &&&Life| {
            life.onset <= commit && life.healed.is_none_or(|healed| healed > commit)
        };
        let bad: BTreeSet<u8> = findings
            .iter()
            .filter(is_bad)
            .map(|life| life.key)
            .collect();
        if bad.len() > limit {
            if !running {
                out.push((commit, None, BTreeSet::new()));
            }
            running = true;
            let last = out.last_mut().expect("one runs");
            last.2.extend(bad);
        } else if running {
            running = false;
            out.last_mut().expect("one ran").1 = Some(commit);
        }
    }
    out
}

fn part(rule: &RuleFacts, lives: &[Life], from: Commit, until: Commit) -> Turns {
    let inside = |commit: Commit| commit > from && commit <= until;
    let bad = lives.iter().filter(|life| inside(life.onset));
    let good = lives.iter().filter_map(|life| {
        let at = life.healed.filter(|at| inside(*at))?;
        Some(healed(life.key, at))
    });
    turns(
        rule,
        bad.map(|life| began(life.key, life.onset)).collect(),
        good.collect(),
    )
}

/// Plays everything into the incidents of a directory, in random batches; some come again, some after the file was closed in between.
fn play(rng: &mut Rng, directory: &Path, rules: &[(RuleFacts, Vec<Life>)]) {
    let mut incidents = begun(directory, &[]);
    let mut printed = 0;
    let mut at: Commit = 0;
    while at < COMMITS {
        if rng.below(4) == 0 {
            drop(incidents);
            incidents = begun(directory, &[]);
        }
        // After a crash, what was judged may be judged once more.
        let from = at - (rng.below(5) as Commit).min(at);
        let until = (from + 1 + rng.below(9) as Commit).min(COMMITS);
        let all = rules
            .iter()
            .map(|(rule, lives)| part(rule, lives, from, until));
        incidents
            .take(&batch(from, until, all.collect()))
            .expect("it is taken");
        at = at.max(until);
        assert_eq!(incidents.judged().expect("it is read"), Some(at));
        if rng.below(3) == 0 {
            incidents.tick(time(at) + 1).expect("it passes");
        }
        for notice in incidents.unprinted(1_000).expect("they are read") {
            assert_eq!(notice.seq, printed + 1, "every notice, in order");
            printed = notice.seq;
        }
        incidents.printed(printed).expect("it is written");
    }
}

fn same(rule: &RuleFacts, want: &[Stretch], have: &[&Incident]) {
    let shape = |incident: &&Incident| {
        let first = incident.first_bad.as_ref().map_or(0, |first| first.0);
        (first, incident.ended, incident.keys)
    };
    let have: Vec<_> = have.iter().map(shape).collect();
    if rule.within_us.is_none() {
        let want: Vec<_> = want
            .iter()
            .map(|(from, to, keys)| (*from, *to, keys.len() as u64))
            .collect();
        assert_eq!(have, want);
        return;
    }
    // A key that was pending may turn out to join two incidents that were told already: then a stretch has several.
    let mut rest = have.as_slice();
    for (from, to, keys) in want {
        let inside =
            |one: &&(Commit, Option<Commit>, u64)| one.0 >= *from && to.is_none_or(|to| one.0 < to);
        let own = rest.iter().take_while(inside).count();
        let (own, others) = rest.split_at(own);
        rest = others;
        assert_eq!(own.iter().map(|one| one.0).min(), Some(*from));
        assert!(own.iter().any(|one| one.1 == *to), "{own:?}");
        let counted: u64 = own.iter().map(|one| one.2).sum();
        assert!(counted >= keys.len() as u64, "{own:?}");
        if own.len() == 1 {
            assert_eq!(counted, keys.len() as u64);
        }
    }
    assert_eq!(rest, [], "incidents without a stretch");
}

#[test]
fn incidents_are_the_stretches_whatever_batches_and_crashes() {
    let only: Option<u64> = std::env::var("FIRSTBAD_SEED")
        .ok()
        .map(|text| text.parse().expect("FIRSTBAD_SEED is a number"));
    let seeds = only.map_or(0..ROUNDS, |seed| seed..seed + 1);
    let (mut stretched, mut simple) = (0, 0);
    for seed in seeds {
        println!("FIRSTBAD_SEED={seed}");
        let mut rng = Rng(seed);
        let place = tempfile::tempdir().expect("a temporary directory");
        let mut rules = Vec::new();
        for number in 0..4 {
            let mut rule = facts(&format!("r{number}"));
            match number {
                1 => rule.within_us = Some(1 + rng.below(90) as i64 * SECOND),
                2 => rule.threshold = Some(Threshold::Max(rng.below(3))),
                3 => rule.event = true,
                _ => {}
            }
            rules.push((rule, lives(&mut rng)));
        }
        play(&mut rng, place.path(), &rules);
        let listed = listed(place.path());
        for (rule, lives) in &rules {
            let have = listed.iter().filter(|one| one.rule().id == rule.id);
            let have: Vec<&Incident> = have.collect();
            if rule.event {
                let events = have.iter().map(|one| one.onsets).sum::<u64>();
                assert_eq!(
                    (events, have.len().min(1)),
                    (lives.len() as u64, have.len())
                );
                continue;
            }
            // The clock has passed the last commit's time only where the random tick said so: no deadline lies there.
            let want = stretches(rule, lives);
            stretched += want.len();
            simple += have.len();
            same(rule, &want, &have);
            let closed = have.iter().filter(|one| one.state == State::Closed);
            assert_eq!(
                closed.count(),
                have.iter().filter(|one| one.ended.is_some()).count()
            );
        }
    }
    assert!(stretched > 0 && simple >= stretched);
}
