//! `bisect` against stretches, onsets and heals that are computed by looking at every position.
//!
//! `FIRSTBAD_SEED` replays one history, `FIRSTBAD_LIVES` says how many rules are judged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use firstbad::bisect::{self, BisectReport, Found as Bisected, Range};
use firstbad::diagnostic::Level;
use firstbad::judge::{Judge, Limits, Options, exceeds};
use firstbad::report::{self, Format};
use firstbad::rule::{Rule, Severity, file};
use firstbad::schema::value::format_timestamp;
use serde_json::{Map, Value, json};

use crate::coverage::Coverage;
use crate::judge::{Context, Found, Key, find, since};
use crate::rng::Rng;
use crate::value::V;
use crate::world::{self, Past};
use crate::{FIRST_SEED, RULES_AT_ONCE, messages, number, rules};

const CASES: usize = 2_100;
/// Histories are shorter than this.
const COMMITS_MAX: usize = 25;
/// How many times as many rules are looked at, until everything happened.
const MORE: usize = 4;
/// Disagreements that are shown.
const REPORTED: usize = 3;

/// A deliberate mistake, to see that comparing finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    /// What healed at the deadline counts.
    HealIsLate,
    /// What was bad before the range begins a stretch.
    OldIsNew,
    /// A key that broke again is listed once.
    OnceOnly,
    /// A stretch ends with its first heal.
    FirstHealEnds,
}

/// What is asked.
struct Question {
    good: usize,
    bad: usize,
    since: usize,
    now: Option<i64>,
    keys: Vec<Map<String, Value>>,
    /// The first position of which the answer may need to know something.
    first: usize,
}

/// From where to where one key is bad; `end` is the commit that healed it.
#[derive(Clone, Debug)]
struct Spell {
    key: Key,
    start: usize,
    end: Option<usize>,
    deadline: Option<i64>,
}

impl Spell {
    fn covers(&self, position: usize) -> bool {
        self.start <= position && self.end.is_none_or(|end| position < end)
    }
}

fn context(past: &Past, position: usize, now: Option<i64>) -> Context<'_> {
    let first = past.times.first().copied().flatten();
    let now = now.or(if position == 0 { first } else { None });
    Context::new(past, position, now, None)
}

/// Names of the key columns, every spell up to `bad`, and the number of subjects at each position; None where a state is unknown.
type Course = (Vec<String>, Vec<Spell>, Vec<u64>);

fn course(rule: &Rule, past: &Past, question: &Question) -> Option<Course> {
    let mut names = Vec::new();
    let mut spells: Vec<Spell> = Vec::new();
    let mut judged = Vec::new();
    let writes = rule.check.judges_writes();
    if writes {
        // Whether it can be judged at all is said by the last position.
        let whole = find(rule, &context(past, question.bad, question.now), 1);
        let Found::Keys { names: all, .. } = whole else {
            return None;
        };
        names = all;
    }
    for position in 0..=question.bad {
        let since = if writes { position.max(1) } else { 0 };
        let (keys, count) = match find(rule, &context(past, position, question.now), since) {
            // What lies before all that is asked need not be known.
            Found::Unknown if position < question.first => {
                judged.push(0);
                continue;
            }
            Found::Unknown => return None,
            Found::TooShort => (BTreeSet::new(), 0),
            Found::Keys {
                names: all,
                keys,
                judged,
            } => {
                names = all;
                (keys, judged)
            }
        };
        judged.push(count);
        if writes {
            if position > 0 {
                spells.extend(keys.into_iter().map(|key| Spell {
                    key,
                    start: position,
                    end: None,
                    deadline: None,
                }));
            }
            continue;
        }
        for spell in spells.iter_mut().filter(|spell| spell.end.is_none()) {
            if !keys.contains(&spell.key) {
                spell.end = Some(position);
            }
        }
        for key in keys {
            if !spells
                .iter()
                .any(|spell| spell.key == key && spell.end.is_none())
            {
                spells.push(Spell {
                    key,
                    start: position,
                    end: None,
                    deadline: None,
                });
            }
        }
    }
    Some((names, spells, judged))
}

/// The rule's part of the document, as far as it is compared.
fn expected(rule: &Rule, past: &Past, question: &Question, wrong: Option<Wrong>) -> Value {
    answer(rule, past, question, wrong).unwrap_or_else(|| json!({"verdict": "unknown"}))
}

fn answer(rule: &Rule, past: &Past, question: &Question, wrong: Option<Wrong>) -> Option<Value> {
    let (names, spells, judged) = course(rule, past, question)?;
    let object = |key: &Key| -> Map<String, Value> {
        names.iter().cloned().zip(key.iter().map(V::json)).collect()
    };
    let writes = rule.check.judges_writes();
    let within = rule.within_us.filter(|_| !writes);
    let now = question.now.or_else(|| past.now_at(question.bad));
    if within.is_some() {
        now?;
    }
    let since = since(rule).max(question.since);
    let mut pending = 0;
    let mut counted: Vec<Spell> = Vec::new();
    for mut spell in spells {
        let wanted = question.keys.is_empty() || question.keys.contains(&object(&spell.key));
        if !wanted || spell.start < since || spell.end.is_some_and(|end| end <= question.good) {
            continue;
        }
        if let Some(within) = within {
            let began = past.times.get(spell.start.saturating_sub(1)).copied()??;
            let deadline = began + within;
            let healed = match spell.end {
                Some(end) => Some(past.times[end - 1]?),
                None => None,
            };
            let late = |healed: i64| {
                if wrong == Some(Wrong::HealIsLate) {
                    healed >= deadline
                } else {
                    healed > deadline
                }
            };
            let overdue = now? > deadline || wrong == Some(Wrong::HealIsLate) && now? == deadline;
            match healed {
                Some(healed) if !late(healed) || !overdue => continue,
                None if !overdue => {
                    pending += 1;
                    continue;
                }
                _ => spell.deadline = Some(deadline),
            }
        }
        // A key with a write before the range is bad there, once.
        let twice = |have: &Spell| have.key == spell.key && have.start <= question.good;
        if writes && spell.start <= question.good && counted.iter().any(twice) {
            continue;
        }
        let again = |have: &Spell| have.key == spell.key;
        if wrong == Some(Wrong::OnceOnly) && counted.iter().any(again) {
            continue;
        }
        counted.push(spell);
    }
    Some(told(
        rule, question, &counted, &judged, pending, &object, wrong,
    ))
}

fn told(
    rule: &Rule,
    question: &Question,
    counted: &[Spell],
    judged: &[u64],
    pending: u64,
    object: &dyn Fn(&Key) -> Map<String, Value>,
    wrong: Option<Wrong>,
) -> Value {
    let threshold = rule.threshold.as_ref().map(|threshold| &threshold.value);
    let threshold = threshold.filter(|_| question.keys.is_empty());
    let new = |spell: &Spell| spell.start > question.good || wrong == Some(Wrong::OldIsNew);
    let bad_at = |position: usize| -> BTreeSet<&Key> {
        let running = counted.iter().filter(|spell| spell.covers(position));
        running.map(|spell| &spell.key).collect()
    };
    let healed_at = |position: usize| counted.iter().any(|spell| spell.end == Some(position));
    let mut earlier: Vec<Value> = Vec::new();
    let mut open: Option<usize> = None;
    let mut violated = false;
    let range = judged.iter().enumerate().take(question.bad + 1);
    for (position, &subjects) in range.skip(question.good) {
        let bad = bad_at(position).len() as u64;
        violated = exceeds(threshold, bad, subjects);
        let own = counted
            .iter()
            .any(|spell| new(spell) && spell.covers(position));
        let cut = wrong == Some(Wrong::FirstHealEnds) && healed_at(position);
        match (open, violated && own && !cut) {
            (None, true) => open = Some(position),
            (Some(from), false) => {
                earlier.push(json!({"from": from, "to": position}));
                open = None;
            }
            _ => {}
        }
    }
    let mut ordered: Vec<&Spell> = counted.iter().collect();
    ordered.sort_by_key(|spell| (spell.start.max(question.good), spell.key.clone()));
    let onset = |spell: &&Spell| {
        let commit = spell.start.max(question.good);
        let mut out = json!({"key": object(&spell.key), "commit": commit, "healed": spell.end});
        if let Some(deadline) = spell.deadline {
            out["deadline"] = format_timestamp(deadline).into();
        }
        out
    };
    let before = counted.iter().filter(|spell| spell.start <= question.good);
    let before: BTreeSet<&Key> = before.map(|spell| &spell.key).collect();
    json!({
        "verdict": if violated { "violated" } else { "held" },
        "certainty": match (violated, open) {
            (false, _) => None,
            (true, Some(_)) => Some("exact"),
            (true, None) => Some("pre_existing"),
        },
        "first_bad": open,
        "last_good": open.map(|commit| commit.saturating_sub(1)),
        "earlier": earlier,
        "onsets": ordered.iter().map(onset).collect::<Vec<_>>(),
        "violations": bad_at(question.bad).len(),
        "pre_existing": before.len(),
        "pending": pending,
    })
}

/// The same from the program's JSON.
fn found(found: Bisected, question: &Question) -> Value {
    let report = BisectReport {
        source: String::new(),
        at: Default::default(),
        good: u32::try_from(question.good).expect("small"),
        found: vec![found],
        counts: [0; 3],
        expired: Vec::new(),
        fail_on: Severity::Error,
        given: Default::default(),
        command: None,
        elapsed_ms: 0,
    };
    let looks = report::Options::default();
    // It has to be written for people as well.
    let text = report::render_bisect(&report, Format::Text, &looks);
    assert!(text.ends_with('\n'));
    let document = report::render_bisect(&report, Format::Json, &looks);
    let document: Value = serde_json::from_str(&document).expect("the report is JSON");
    let rule = &document["rules"][0];
    if rule["verdict"] == "unknown" {
        return json!({"verdict": "unknown"});
    }
    json!({
        "verdict": rule["verdict"],
        "certainty": rule["certainty"],
        "first_bad": rule["first_bad"]["commit"],
        "last_good": rule["last_good"]["commit"],
        "earlier": rule["earlier"],
        "onsets": rule["onsets"],
        "violations": rule["violations"],
        "pre_existing": rule["pre_existing"],
        "pending": rule["pending"],
    })
}

fn question(rng: &mut Rng, past: &Past) -> Question {
    let bad = if rng.chance(70) {
        past.head()
    } else {
        rng.below(past.head() + 1)
    };
    let good = if rng.chance(25) && bad > 0 {
        rng.below(bad)
    } else {
        0
    };
    Question {
        good,
        bad,
        since: if rng.chance(15) {
            rng.below(bad + 1)
        } else {
            0
        },
        now: rng.chance(15).then(|| world::stamp(rng)),
        keys: Vec::new(),
        first: 0,
    }
}

fn random_rules(rng: &mut Rng, past: &Past, seed: u64) -> Vec<Rule> {
    let kinds: Vec<&str> = rules::STATES
        .iter()
        .chain(&rules::WRITES)
        .copied()
        .collect();
    let mut text = "rules:\n".to_owned();
    for id in 0..RULES_AT_ONCE {
        text += &rules::rule(rng, past, kinds[id % kinds.len()], id);
    }
    let (rules, mut diagnostics) = file::parse(&text, Path::new("random.yaml"));
    diagnostics.retain(|diagnostic| diagnostic.level == Level::Error);
    assert!(
        diagnostics.is_empty(),
        "FIRSTBAD_SEED={seed}: {}",
        messages(&diagnostics)
    );
    rules
}

/// Some of the keys that ever were bad, to be asked for.
fn some_keys(
    rng: &mut Rng,
    rule: &Rule,
    past: &Past,
    question: &Question,
) -> Vec<Map<String, Value>> {
    let Some((names, spells, _)) = course(rule, past, question) else {
        return Vec::new();
    };
    // `{}` is no key that can be named.
    if spells.is_empty() || names.is_empty() || !rng.chance(20) {
        return Vec::new();
    }
    let spell = rng.pick(&spells).clone();
    vec![
        names
            .into_iter()
            .zip(spell.key.iter().map(V::json))
            .collect(),
    ]
}

#[test]
fn bisect_agrees_with_looking_at_every_position() {
    let cases =
        number("FIRSTBAD_LIVES").map_or(CASES, |cases| usize::try_from(cases).expect("a count"));
    let seeds: Vec<u64> = match number("FIRSTBAD_SEED") {
        Some(seed) => vec![seed],
        None => (0..(MORE * cases).div_ceil(RULES_AT_ONCE))
            .map(|at| FIRST_SEED + 1_000_000 + at as u64)
            .collect(),
    };
    let kinds: Vec<&str> = rules::STATES
        .iter()
        .chain(&rules::WRITES)
        .copied()
        .collect();
    let mut coverage = Coverage::default();
    let all = [
        Wrong::HealIsLate,
        Wrong::OldIsNew,
        Wrong::OnceOnly,
        Wrong::FirstHealEnds,
    ];
    let mut caught: BTreeSet<usize> = BTreeSet::new();
    let mut occurred: BTreeMap<String, usize> = BTreeMap::new();
    let mut disagreements = Vec::new();
    for (at, &seed) in seeds.iter().enumerate() {
        // Then on, with rules of the kinds to which something did not happen yet.
        let more = at >= cases.div_ceil(RULES_AT_ONCE);
        if more && coverage.missing(&kinds).is_empty() {
            break;
        }
        let mut rng = Rng::new(seed);
        let (past, history) = world::history_of(&mut rng, COMMITS_MAX);
        let asked = question(&mut rng, &past);
        let rules = random_rules(&mut rng, &past, seed);
        let commit = |at: usize| u32::try_from(at).expect("few commits");
        let options = Options {
            position: commit(asked.bad),
            now_us: asked.now,
            sample: None,
        };
        let judge = Judge::new(Arc::new(history), Limits::default()).expect("the engine starts");
        let prepared = judge
            .prepare(&rules, &options)
            .unwrap_or_else(|found| panic!("FIRSTBAD_SEED={seed}: {}", messages(&found)));
        for (id, prepared) in prepared.iter().enumerate() {
            let rule = &prepared.rule;
            let kind = kinds[id % kinds.len()];
            if more && coverage.is_complete(kind) {
                continue;
            }
            let rng = &mut Rng::new(seed + id as u64);
            coverage.add(kind, rule, &past);
            let first = match (since(rule).max(asked.since), rule.within_us) {
                (0, Some(_)) => 0,
                (0, None) => asked.good,
                (since, _) => asked.good.min(since - 1),
            };
            let asked = Question {
                first,
                keys: Vec::new(),
                ..asked
            };
            let keys = some_keys(rng, rule, &past, &asked);
            let asked = Question { keys, ..asked };
            let range = Range {
                good: commit(asked.good),
                bad: commit(asked.bad),
                since: commit(asked.since).max(prepared.since()),
                keys: asked.keys.clone(),
                now_us: asked.now,
            };
            let located = judge
                .lives_from(prepared, range.first_judged(rule), range.bad, &options)
                .map_err(|error| error.to_string())
                .and_then(|lives| bisect::locate(rule, &lives, judge.history(), &range))
                .unwrap_or_else(|reason| Bisected::unknown(rule, reason));
            let reason = located.reason.clone().unwrap_or_default();
            let have = found(located, &asked);
            let want = expected(rule, &past, &asked, None);
            if have != want {
                let header = format!(
                    "FIRSTBAD_SEED={seed} rule {} ({}) from #{} to #{} since #{} now {:?} keys {:?} {reason}",
                    rule.id,
                    rule.check.kind(),
                    asked.good,
                    asked.bad,
                    asked.since,
                    asked.now,
                    asked.keys
                );
                disagreements.push(format!("{header}\nwant {want}\nhave {have}"));
            }
            for (which, wrong) in all.iter().enumerate() {
                if expected(rule, &past, &asked, Some(*wrong)) != want {
                    caught.insert(which);
                }
            }
            note(&mut occurred, rule, &want);
        }
    }
    assert!(
        disagreements.is_empty(),
        "{} disagreements\n{}",
        disagreements.len(),
        disagreements[..disagreements.len().min(REPORTED)].join("\n\n")
    );
    if number("FIRSTBAD_SEED").is_none() && cases >= CASES {
        let missing = coverage.missing(&kinds);
        assert!(missing.is_empty(), "never happened: {missing:#?}");
    }
    if number("FIRSTBAD_SEED").is_none() && cases >= CASES {
        let missing: Vec<&str> = MUST_OCCUR
            .iter()
            .filter(|what| !occurred.contains_key(**what))
            .copied()
            .collect();
        assert!(
            missing.is_empty(),
            "never occurred: {missing:?} in {occurred:?}"
        );
        assert_eq!(
            caught.len(),
            all.len(),
            "a mistake on purpose makes no difference: {caught:?}"
        );
    }
}

const MUST_OCCUR: [&str; 12] = [
    "held",
    "violated",
    "unknown",
    "exact",
    "pre_existing",
    "earlier and open",
    "several earlier",
    "healed",
    "broke again",
    "deadline",
    "pending",
    "writes",
];

/// Counts what occurred.
fn note(occurred: &mut BTreeMap<String, usize>, rule: &Rule, want: &Value) {
    let mut add = |what: &str| *occurred.entry(what.to_owned()).or_default() += 1;
    add(want["verdict"].as_str().expect("a verdict"));
    want["certainty"].as_str().into_iter().for_each(&mut add);
    let empty = Vec::new();
    let earlier = want["earlier"].as_array().unwrap_or(&empty);
    let onsets = want["onsets"].as_array().unwrap_or(&empty);
    let keys: BTreeSet<String> = onsets
        .iter()
        .map(|onset| onset["key"].to_string())
        .collect();
    let writes = rule.check.judges_writes();
    let facts = [
        (
            "earlier and open",
            !earlier.is_empty() && !want["first_bad"].is_null(),
        ),
        ("several earlier", earlier.len() > 1),
        (
            "healed",
            onsets.iter().any(|onset| !onset["healed"].is_null()),
        ),
        ("broke again", !writes && keys.len() < onsets.len()),
        (
            "deadline",
            onsets.iter().any(|onset| onset["deadline"].is_string()),
        ),
        ("pending", want["pending"].as_u64().unwrap_or(0) > 0),
        ("writes", writes && !onsets.is_empty()),
    ];
    for (what, _) in facts.iter().filter(|(_, occurred)| *occurred) {
        add(what);
    }
}
