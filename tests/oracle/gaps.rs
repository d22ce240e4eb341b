//! Histories that begin later, and histories with gaps, against the whole history: what is known of them must be what is true.
//!
//! The same history is held twice: whole, and from a random position on with some stretches of which only the state after them is known.
//! `FIRSTBAD_SEED` replays one history, `FIRSTBAD_GAPS` says how many are looked at.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use firstbad::bisect::{self, Certainty, Range};
use firstbad::change::{Cell, Change, Image, Op, Transaction, TransactionMeta};
use firstbad::judge::{Judge, JudgeError, Life, Limits, Lives, Options, Prepared, QueryError};
use firstbad::rule::{Rule, file};
use firstbad::state::{Gap, History, Origin};
use firstbad::verdict::{Outcome, Verdict};

use crate::ask::answered;
use crate::rng::Rng;
use crate::value::V;
use crate::world::{self, Past, Row, World};
use crate::{FIRST_SEED, RULES_AT_ONCE, lifted, number, rules};

const HISTORIES: usize = 16;
const COMMITS_MAX: usize = 25;

/// What of a history is left.
struct Cut {
    first: u32,
    gaps: Vec<Gap>,
}

fn commit(at: usize) -> u32 {
    u32::try_from(at).expect("few commits")
}

fn cut(rng: &mut Rng, head: usize) -> Cut {
    let first = if rng.chance(60) { rng.below(head) } else { 0 };
    let mut gaps = Vec::new();
    let mut next = first + 1;
    while next <= head {
        if rng.chance(18) {
            let to = (next + rng.below(6)).min(head);
            gaps.push(Gap {
                from: commit(next),
                to: commit(to),
            });
            next = to + 1;
        } else {
            next += 1;
        }
    }
    Cut {
        first: commit(first),
        gaps,
    }
}

impl Cut {
    fn is_known(&self, position: u32) -> bool {
        position >= self.first && !self.gaps.iter().any(|gap| gap.hides(position))
    }

    fn gap_until(&self, position: u32) -> bool {
        self.gaps.iter().any(|gap| gap.from <= position)
    }
}

fn image(row: &Row) -> Image {
    row.iter().map(V::cell).enumerate().collect()
}

fn cells(world: &World) -> Vec<Vec<Vec<Cell>>> {
    let table = |rows: &Vec<Row>| {
        rows.iter()
            .map(|row| row.iter().map(V::cell).collect())
            .collect()
    };
    world.iter().map(table).collect()
}

fn change(table: usize, op: Op, before: Option<&Row>, after: Option<&Row>) -> Change {
    Change {
        table,
        op,
        key: None,
        before: before.map(image),
        after: after.map(image),
    }
}

/// The differences between two states, as a store would have written them down.
fn differences(old: &World, new: &World) -> Vec<Change> {
    let mut changes = Vec::new();
    for (table, (old, new)) in old.iter().zip(new).enumerate() {
        let (mut gone, mut come) = (old.clone(), new.clone());
        come.retain(|row| match gone.iter().position(|have| have == row) {
            Some(at) => {
                gone.remove(at);
                false
            }
            None => true,
        });
        let deleted = gone.iter().map(|row| (Op::Delete, Some(row), None));
        let inserted = come.iter().map(|row| (Op::Insert, None, Some(row)));
        let both = deleted.chain(inserted);
        changes.extend(both.map(|(op, before, after)| change(table, op, before, after)));
    }
    changes
}

/// What is left of a history, as the engine holds it.
fn partial(rng: &mut Rng, past: &Past, cut: &Cut) -> History {
    let first = cut.first as usize;
    let mut history = History::beginning_at(world::schema(), Origin::Changes, false, cut.first);
    if first > 0 {
        history.base.time = past.times[first - 1];
    }
    for (table, rows) in cells(&past.states[first]).iter().enumerate() {
        for row in rows {
            history.load(table, row);
        }
    }
    for at in first + 1..=past.head() {
        let meta = |snapshot: Option<&str>| TransactionMeta {
            time: past.times[at - 1],
            snapshot: snapshot.map(str::to_owned),
            ..TransactionMeta::default()
        };
        let gap = cut
            .gaps
            .iter()
            .find(|gap| (gap.from..=gap.to).contains(&commit(at)));
        let transaction = match gap {
            Some(gap) if commit(at) < gap.to => continue,
            Some(gap) if rng.chance(50) => {
                if gap.from == gap.to {
                    history.skip_to(gap.to);
                    history.replace(meta(Some("later")), &cells(&past.states[at]))
                } else {
                    history.leap(gap.to, meta(Some("later")), &cells(&past.states[at]))
                }
                .expect("small numbers fit");
                continue;
            }
            Some(gap) => {
                history.skip_to(gap.to);
                let before = &past.states[gap.before() as usize];
                Transaction {
                    commit: gap.to,
                    meta: meta(Some("later")),
                    changes: differences(before, &past.states[at]),
                }
            }
            None => {
                let recorded = past.changes[at - 1].iter();
                Transaction {
                    commit: commit(at),
                    meta: meta(None),
                    changes: recorded
                        .map(|one| {
                            change(one.table, one.op, one.before.as_ref(), one.after.as_ref())
                        })
                        .collect(),
                }
            }
        };
        history.apply(&transaction).expect("it contradicts nothing");
    }
    assert_eq!(history.gaps(), cut.gaps);
    history
}

/// A whole history and what is left of it, with rules for both.
struct Case {
    seed: u64,
    past: Past,
    cut: Cut,
    whole: Judge,
    part: Judge,
    rules: [Vec<Prepared>; 2],
}

fn case(seed: u64) -> Option<Case> {
    let mut rng = Rng::new(seed);
    let (past, history) = world::history_of(&mut rng, COMMITS_MAX);
    if past.head() < 3 {
        return None;
    }
    let kinds: Vec<&str> = rules::STATES
        .iter()
        .chain(&rules::WRITES)
        .copied()
        .collect();
    let mut text = "rules:\n".to_owned();
    for id in 0..RULES_AT_ONCE {
        text += &rules::rule(&mut rng, &past, kinds[id % kinds.len()], id);
    }
    if number("FIRSTBAD_SEED").is_some() {
        println!("{text}");
    }
    let (rules, _) = file::parse(&text, Path::new("random.yaml"));
    let cut = cut(&mut rng, past.head());
    let part = partial(&mut rng, &past, &cut);
    let judge = |history| Judge::new(Arc::new(history), Limits::default()).expect("it starts");
    let (whole, part) = (judge(history), judge(part));
    let options = at(commit(past.head()));
    let prepared = [&whole, &part].map(|judge| match judge.prepare(&rules, &options) {
        Ok(prepared) => prepared,
        Err(found) => panic!("FIRSTBAD_SEED={seed}: {}", crate::messages(&found)),
    });
    Some(Case {
        seed,
        past,
        cut,
        whole,
        part,
        rules: prepared,
    })
}

fn at(position: u32) -> Options {
    Options {
        position,
        now_us: None,
        sample: None,
    }
}

fn shown(outcome: &Outcome) -> String {
    let keys: Vec<String> = outcome
        .sample
        .iter()
        .map(|violation| serde_json::Value::Object(violation.key.clone()).to_string())
        .collect();
    let verdict = outcome.verdict.as_str();
    format!(
        "{verdict} {:?} of {:?}, {} pending: {}",
        outcome.violations,
        outcome.judged,
        outcome.pending,
        keys.join(" ")
    )
}

/// What the two may say of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// The same.
    Same,
    /// The same, or that it is not known.
    SameOrUnknown,
    /// That it is not known.
    Unknown,
    /// Anything: it depends on what was before the first state.
    Anything,
}

fn reads_changes(rule: &Prepared) -> bool {
    let views = ["changes.", "writes.", "steps.", "firstbad."];
    let reads = rule.reads();
    let read = |(name, _): &(String, Vec<String>)| views.iter().any(|view| name.starts_with(view));
    reads.iter().any(read)
}

impl Case {
    fn expected(&self, prepared: &Prepared, position: u32) -> Expected {
        let (rule, first) = (&prepared.rule, self.cut.first);
        let writes = rule.check.judges_writes();
        if !self.cut.is_known(position) {
            return Expected::Unknown;
        }
        if writes || reads_changes(prepared) {
            let from = match rule.check.kind() {
                "no_resurrection" => 1,
                _ if writes => prepared.since().max(1),
                _ => 1,
            };
            let history = self.part.history();
            let is_seen = history.unseen_in(from..=position).is_none();
            return match (is_seen, first) {
                (false, _) => Expected::Unknown,
                (true, 0) => Expected::Same,
                (true, _) => Expected::Anything,
            };
        }
        if rule.check.kind() == "metric" || rule.within_us.is_some() {
            return match first {
                0 if self.cut.gap_until(position) => Expected::SameOrUnknown,
                0 => Expected::Same,
                _ => Expected::Anything,
            };
        }
        match rule.since {
            Some(_) => Expected::SameOrUnknown,
            None => Expected::Same,
        }
    }

    fn check_at(&self, position: u32, occurred: &mut BTreeMap<&'static str, usize>) {
        let outcomes = [(&self.whole, 0), (&self.part, 1)].map(|(judge, at_rules)| {
            let rules = self.rules[at_rules].iter();
            let rules: Vec<Rule> = rules.map(|prepared| prepared.rule.clone()).collect();
            // A plan is for one position, and runs once.
            let prepared = judge.prepare(&rules, &at(position)).expect("they fit");
            judge.check(prepared, &at(position), &|_| {})
        });
        let [whole, part] = &outcomes;
        for (number, (want, have)) in whole.iter().zip(part).enumerate() {
            let expected = self.expected(&self.rules[1][number], position);
            let told = format!(
                "FIRSTBAD_SEED={} #{position} after #{} with {:?}: {} {} {expected:?}\nwhole {}\npart  {} {:?}",
                self.seed,
                self.cut.first,
                self.cut.gaps,
                have.rule.id,
                have.rule.check.kind(),
                shown(want),
                shown(have),
                have.reason
            );
            let is_unknown = have.verdict == Verdict::Unknown;
            match expected {
                Expected::Unknown => assert!(is_unknown, "{told}"),
                Expected::SameOrUnknown if is_unknown => {}
                Expected::Anything => {}
                _ => assert_eq!(shown(want), shown(have), "{told}"),
            }
            *occurred
                .entry(match (expected, is_unknown) {
                    (Expected::SameOrUnknown, true) => "undecided",
                    (Expected::SameOrUnknown, false) => "decided",
                    (Expected::Unknown, _) => "unknown",
                    _ => "same",
                })
                .or_default() += 1;
        }
    }

    /// The lives that are seen by who looks at the known positions only.
    fn clipped(&self, whole: &Lives, until: u32) -> Vec<Life> {
        let mut open: BTreeMap<Box<[u8]>, Life> = BTreeMap::new();
        let mut lives = Vec::new();
        for position in (self.cut.first..=until).filter(|at| self.cut.is_known(*at)) {
            let covers = |life: &&Life| {
                life.onset <= position && life.healed.is_none_or(|healed| position < healed)
            };
            let bad: Vec<&Life> = whole.intervals.iter().filter(covers).collect();
            let is_bad = |key: &[u8]| bad.iter().any(|life| *life.order == *key);
            let mut healed: Vec<Box<[u8]>> = open.keys().cloned().collect();
            healed.retain(|key| !is_bad(key));
            for key in healed {
                let mut life = open.remove(&key).expect("it is open");
                life.healed = Some(position);
                lives.push(life);
            }
            for life in bad {
                let is_first = position == self.cut.first;
                open.entry(life.order.clone()).or_insert(Life {
                    onset: if is_first { 0 } else { position },
                    healed: None,
                    ..life.clone()
                });
            }
        }
        lives.extend(open.into_values());
        lives.sort_by_key(|life| (life.onset, life.order.clone()));
        lives
    }

    fn check_lives(&self, number: usize, until: u32, occurred: &mut BTreeMap<&'static str, usize>) {
        let [whole, part] = [&self.rules[0][number], &self.rules[1][number]];
        let writes = part.rule.check.judges_writes();
        let kind = part.rule.check.kind();
        if kind == "metric" || reads_changes(part) && !writes {
            return;
        }
        let told = format!(
            "FIRSTBAD_SEED={} until #{until} after #{} with {:?}: {}",
            self.seed, self.cut.first, self.cut.gaps, part.rule.id
        );
        let options = at(until);
        let Ok(want) = self.whole.lives(whole, until, &options) else {
            return;
        };
        let have = self.part.lives(part, until, &options);
        if writes {
            if kind == "no_resurrection" || prepared_unknown(&have) {
                return;
            }
            let since = part.since().max(self.cut.first + 1);
            let seen = |lives: &Lives| {
                let mut lives = lives.clone();
                lives.intervals.retain(|life| life.onset >= since);
                lifted::told(&lives)
            };
            let have = have.unwrap_or_else(|error| panic!("{told}: {error}"));
            assert_eq!(seen(&have), seen(&want), "{told}");
            return;
        }
        // Without its own, the first state has the time of the first commit: unless that was not seen.
        let history = self.part.history();
        if history.began(0).is_none() && have.is_err() {
            return;
        }
        let have = have.unwrap_or_else(|error| panic!("{told}: {error}"));
        let clipped = Lives {
            intervals: self.clipped(&want, until),
            ..have.clone()
        };
        assert_eq!(lifted::told(&have), lifted::told(&clipped), "{told}");
        let full = self.part.lives_in_full(part, 0, until, &options);
        let full = full.unwrap_or_else(|error| panic!("{told}: {error}"));
        assert_eq!(
            lifted::told(&full),
            lifted::told(&clipped),
            "{told}: in full"
        );
        if part.rule.within_us.is_none() && part.rule.since.is_none() {
            self.check_certainty(part, &have, &want, until, occurred);
        }
    }

    fn check_certainty(
        &self,
        rule: &Prepared,
        lives: &Lives,
        whole: &Lives,
        until: u32,
        occurred: &mut BTreeMap<&'static str, usize>,
    ) {
        let range = Range {
            bad: until,
            ..Range::default()
        };
        let history = self.part.history();
        let found = bisect::locate(&rule.rule, lives, history, &range).expect("no deadlines");
        let Some(first) = found.first_bad.and_then(|first| first.at.commit) else {
            return;
        };
        let last = found
            .last_good
            .and_then(|at| at.commit)
            .expect("a position");
        let told = format!("FIRSTBAD_SEED={} {} from #{first}", self.seed, rule.rule.id);
        let range = match history.gap_ended_by(first) {
            None => {
                assert_eq!(found.certainty, Some(Certainty::Exact), "{told}");
                assert_eq!(
                    (last, found.candidates.is_none()),
                    (first - 1, true),
                    "{told}"
                );
                *occurred.entry("exact").or_default() += 1;
                first..=first
            }
            Some(gap) => {
                assert_eq!(found.certainty, Some(Certainty::Bounded), "{told}");
                assert_eq!((last, found.gap), (gap.from - 1, Some(gap)), "{told}");
                *occurred.entry("bounded").or_default() += 1;
                gap.from..=gap.to
            }
        };
        // With a threshold a stretch may also begin with fewer subjects.
        let began = |life: &Life| range.contains(&life.onset);
        let began = whole.intervals.iter().any(began);
        assert!(began || rule.rule.threshold.is_some(), "{told}: {range:?}");
    }
}

fn prepared_unknown<T, E>(lives: &Result<T, E>) -> bool {
    lives.is_err()
}

#[test]
fn what_is_known_of_a_part_is_true_of_the_whole() {
    let count =
        number("FIRSTBAD_GAPS").map_or(HISTORIES, |count| usize::try_from(count).expect("a count"));
    let seeds: Vec<u64> = match number("FIRSTBAD_SEED") {
        Some(seed) => vec![seed],
        None => (0..count)
            .map(|at| FIRST_SEED + 5_000_000 + at as u64)
            .collect(),
    };
    let mut occurred: BTreeMap<&'static str, usize> = BTreeMap::new();
    for seed in seeds {
        let Some(case) = case(seed) else {
            continue;
        };
        let head = case.part.history().head();
        let mut rng = Rng::new(seed);
        for position in (case.cut.first..=head).filter(|at| case.cut.is_known(*at)) {
            let [whole, part] =
                [&case.whole, &case.part].map(|judge| judge.history().state_fingerprint(position));
            assert_eq!(
                whole, part,
                "FIRSTBAD_SEED={seed}: the state at #{position}"
            );
        }
        for position in case.cut.first..=head {
            if position == head || rng.chance(25) {
                case.check_at(position, &mut occurred);
            }
        }
        for number in 0..case.rules[1].len() {
            case.check_lives(number, head, &mut occurred);
        }
    }
    if number("FIRSTBAD_SEED").is_none() && count >= HISTORIES {
        for what in [
            "same",
            "unknown",
            "decided",
            "undecided",
            "exact",
            "bounded",
        ] {
            assert!(occurred.contains_key(what), "{what}: {occurred:?}");
        }
    }
}

impl Case {
    fn check_queries(&self, position: u32) {
        let first = self.cut.first;
        let head = at(self.part.history().head());
        let told = format!("FIRSTBAD_SEED={} #{position}", self.seed);
        let there = format!("select count(*) as n from \"#{position}\".parent");
        let answers = [
            answered(
                &self.part,
                "select count(*) as n from parent",
                &at(position),
            ),
            answered(&self.part, &there, &head),
        ];
        for answer in answers {
            if self.cut.is_known(position) {
                let count = self.past.states[position as usize][0].len();
                let rows = answer.unwrap_or_else(|error| panic!("{told}: {error}"));
                assert_eq!(rows, [format!("{{\"n\":{count}}}")], "{told}");
                continue;
            }
            match answer {
                Err(QueryError::Unanswered(JudgeError::Unknown(reason))) => {
                    assert!(reason.contains("not seen"), "{told}: {reason}");
                }
                other => panic!("{told}: {other:?}"),
            }
        }
        if let Some(before) = first.checked_sub(1) {
            let query = format!("select count(*) from \"#{before}\".parent");
            match answered(&self.part, &query, &head) {
                Err(QueryError::Mistake(found)) => {
                    let words = format!("begins at #{first}");
                    assert!(found.message.contains(&words), "{}", found.message);
                }
                other => panic!("{told}: {other:?}"),
            }
        }
        if self.cut.is_known(position) {
            let known = (first + 1..=position).filter(|at| self.cut.is_known(*at));
            let mut rows: Vec<String> = known.map(|at| format!("{{\"commit\":{at}}}")).collect();
            rows.sort();
            let query = "select commit from firstbad.transactions";
            let have = answered(&self.part, query, &at(position)).expect("it can be read");
            assert_eq!(have, rows, "{told}");
        }
    }
}

#[test]
fn queries_name_what_was_not_seen() {
    let seeds = match number("FIRSTBAD_SEED") {
        Some(seed) => seed..seed + 1,
        None => FIRST_SEED + 5_000_000..FIRST_SEED + 5_000_012,
    };
    for case in seeds.filter_map(case) {
        for position in case.cut.first..=case.part.history().head() {
            case.check_queries(position);
        }
    }
}
