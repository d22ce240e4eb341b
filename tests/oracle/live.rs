//! Rules that are judged while their history grows, in batches of any size and with the past cut off at any time, against the lives of
//! the same rules over the whole history.
//!
//! `FIRSTBAD_SEED` replays one history, `FIRSTBAD_LIVE` says how many rules are judged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use firstbad::change::{Commit, Transaction};
use firstbad::diagnostic::Level;
use firstbad::judge::{Judge, Limits, Live, Looked, Options, Tuning};
use firstbad::rule::{Check, Rule, file};
use firstbad::state::{History, Relation};

use crate::rng::Rng;
use crate::world;
use crate::{FIRST_SEED, RULES_AT_ONCE, messages, number, rules};

const CASES: usize = 560;
const COMMITS_MAX: usize = 25;

/// Keys that are bad, and since when.
type Open = BTreeMap<Box<[u8]>, (String, Commit)>;

/// Key, onset, heal.
type Interval = (String, Commit, Option<Commit>);

/// The state at position 0 of a history, as the beginning of another.
fn beginning(whole: &History) -> History {
    let mut history = History::new(whole.schema.clone(), whole.origin, false);
    for (at, table) in whole.tables.iter().enumerate() {
        for row in table.visible(0) {
            let columns = 0..table.table.columns.len();
            let cells: Vec<_> = columns.map(|column| table.cell(column, row)).collect();
            history.load(at, &cells);
        }
        let rows = history.rows(at, &Relation::State, 0).batch.num_rows();
        assert_eq!(rows, whole.rows(at, &Relation::State, 0).batch.num_rows());
    }
    history
}

/// What a run of a live judge said about each rule, and whether each was judged at every commit.
struct Said {
    intervals: Vec<Vec<Interval>>,
    bounds: Vec<BTreeMap<(String, Commit), Commit>>,
    exact: Vec<bool>,
    unknown: Vec<bool>,
    cuts: usize,
    /// Whether numbers became ones of any size on the way.
    widened: bool,
    /// Whether rules took too long for a batch on the way.
    struck: bool,
}

/// When sums of large groups are kept as tables: hardly ever, in the midst of the history, or from its start.
fn tuning(seed: u64) -> Tuning {
    let hot = match seed % 3 {
        0 => return Tuning::default(),
        1 => 20,
        _ => 0,
    };
    Tuning {
        hot_rows: hot,
        hot_factor: hot.min(1),
        hot_share: hot.min(1),
        ..Tuning::default()
    }
}

/// `strike` is where every rule that is judged at every commit takes too long for a batch, once, and whether the past is cut off then.
fn run(
    rng: &mut Rng,
    whole: &History,
    all: &[Rule],
    tuning: Tuning,
    strike: Option<(Commit, bool)>,
) -> Said {
    let live = Live::begin(beginning(whole), all, Limits::default());
    let live = live.unwrap_or_else(|found| panic!("{}", messages(&found)));
    let mut live = live.expect("the engine can be set up");
    live.rest(Duration::ZERO, 0);
    live.tune(tuning);
    let mut said = Said {
        intervals: vec![Vec::new(); all.len()],
        bounds: vec![BTreeMap::new(); all.len()],
        exact: vec![true; all.len()],
        unknown: vec![false; all.len()],
        cuts: 0,
        widened: false,
        struck: false,
    };
    let widens = rng.chance(60).then(|| rng.below(COMMITS_MAX));
    let mut open: Vec<Open> = vec![BTreeMap::new(); all.len()];
    let mut at = 0;
    loop {
        let is_struck = !said.struck && strike.is_some_and(|(commit, _)| at >= commit);
        let cut = strike.is_some_and(|(_, cut)| cut);
        if is_struck {
            live.batches_within(Duration::ZERO);
        }
        let turns = live.judge(None);
        live.batches_within(Duration::from_secs(2));
        said.struck |= is_struck;
        for (rule, turn) in turns.into_iter().enumerate() {
            said.unknown[rule] |= turn.unknown.is_some();
            said.exact[rule] &= !live.on_a_cadence(rule);
            let writes = all[rule].check.judges_writes();
            let mut heals = turn.healed.into_iter().peekable();
            for onset in turn.began {
                let key = serde_json::to_string(&onset.key).expect("keys are JSON");
                if let Some(after) = onset.after {
                    said.bounds[rule].insert((key.clone(), onset.commit), after);
                }
                if writes {
                    said.intervals[rule].push((key, onset.commit, None));
                    continue;
                }
                // What healed before this onset is over.
                while let Some(heal) = heals.next_if(|heal| heal.commit <= onset.commit) {
                    if let Some((key, from)) = open[rule].remove(&heal.order) {
                        said.intervals[rule].push((key, from, Some(heal.commit)));
                    }
                }
                let had = open[rule].insert(onset.order, (key, onset.commit));
                assert_eq!(had, None, "a key that is bad does not begin to be");
            }
            for heal in heals {
                let (key, from) = open[rule].remove(&heal.order).expect("it was bad");
                said.intervals[rule].push((key, from, Some(heal.commit)));
            }
        }
        if is_struck && cut {
            // What they are still to judge is cut off.
            live.cut_now();
            said.cuts += 1;
        }
        if is_struck {
            continue;
        }
        if at == whole.head() {
            break;
        }
        if !said.widened && widens.is_some_and(|commit| at as usize >= commit) {
            for table in 0..whole.tables.len() {
                if rng.chance(60) {
                    live.widen(table);
                }
            }
            said.widened = true;
        }
        if rng.chance(20) {
            live.cut_now();
            said.cuts += 1;
        }
        for _ in 0..1 + rng.below(4) {
            if at == whole.head() {
                break;
            }
            at += 1;
            let transaction = Transaction {
                commit: at,
                meta: whole.meta(at).cloned().unwrap_or_default(),
                changes: whole.written_changes(at),
            };
            live.apply(&transaction).expect("it was applied before");
            if strike.is_some() && at % 7 == 3 {
                // Between two judgements, as where a query that was given up holds on to the past.
                live.cut_now();
                said.cuts += 1;
            }
        }
    }
    for (rule, open) in open.into_iter().enumerate() {
        said.intervals[rule].extend(open.into_values().map(|(key, from)| (key, from, None)));
        said.intervals[rule].sort();
        said.intervals[rule].dedup();
    }
    said
}

/// The intervals of a rule over the whole history; None where not every state can be judged.
fn expected(judge: &Judge, rule: &Rule) -> Option<Vec<Interval>> {
    let head = judge.history().head();
    let options = Options {
        position: head,
        now_us: None,
        sample: None,
    };
    let prepared = judge.prepare(std::slice::from_ref(rule), &options).ok()?;
    let lives = judge.lives(&prepared[0], head, &options).ok()?;
    if lives.looked != Looked::Everywhere {
        return None;
    }
    let interval = |life: firstbad::judge::Life| {
        let key = serde_json::to_string(&life.key).expect("keys are JSON");
        (key, life.onset, life.healed)
    };
    let mut intervals: Vec<Interval> = lives.intervals.into_iter().map(interval).collect();
    intervals.sort();
    intervals.dedup();
    Some(intervals)
}

#[test]
fn a_history_that_grows_is_judged_as_if_it_had_been_there() {
    let cases = number("FIRSTBAD_LIVE").map_or(CASES, |cases| usize::try_from(cases).expect("few"));
    let seeds = match number("FIRSTBAD_SEED") {
        Some(seed) => seed..seed + 1,
        None => FIRST_SEED..FIRST_SEED + cases.div_ceil(RULES_AT_ONCE) as u64,
    };
    let (mut exact, mut bounded, mut cuts, mut bad) = (0, 0, 0, 0);
    let (mut widened, mut struck) = (0, 0);
    let mut roads: BTreeMap<&'static str, BTreeSet<bool>> = BTreeMap::new();
    for seed in seeds {
        let mut rng = Rng::new(seed);
        let (past, whole) = world::history_of(&mut rng, COMMITS_MAX);
        let whole = Arc::new(whole);
        if whole.tables.iter().any(|table| table.begins_partial()) {
            continue;
        }
        let kinds: Vec<&str> = rules::STATES
            .iter()
            .chain(&rules::WRITES)
            .copied()
            .collect();
        let mut text = String::from("rules:\n");
        for id in 0..RULES_AT_ONCE {
            let kind = kinds[rng.below(kinds.len())];
            text += &rules::rule(&mut rng, &past, kind, id);
        }
        let (mut all, found) = file::parse(&text, Path::new("random.yaml"));
        assert!(
            found.iter().all(|d| d.level != Level::Error),
            "{}\n{text}",
            messages(&found)
        );
        let judge = Judge::new(Arc::clone(&whole), Limits::default()).expect("it can be set up");
        // `since` names positions, which a history that has just begun does not have yet.
        all.retain(|rule| rule.since.is_none());
        let strike = (seed % 2 == 0).then_some(((seed / 4 % 16) as Commit, seed % 4 == 0));
        let said = run(&mut rng, &whole, &all, tuning(seed), strike);
        cuts += said.cuts;
        widened += usize::from(said.widened);
        struck += usize::from(said.struck);
        for (at, rule) in all.iter().enumerate() {
            let Some(expected) = expected(&judge, rule) else {
                continue;
            };
            if said.unknown[at] {
                continue;
            }
            let found = &said.intervals[at];
            roads
                .entry(rule.check.kind())
                .or_default()
                .insert(said.exact[at]);
            bad += expected.len();
            let shown = || format!("seed {seed}, rule {}\n{text}", rule.id);
            if said.exact[at] {
                assert_eq!(*found, expected, "{}", shown());
                exact += 1;
                continue;
            }
            let last = |all: &[Interval]| -> BTreeSet<String> {
                let open = all.iter().filter(|interval| interval.2.is_none());
                open.map(|interval| interval.0.clone()).collect()
            };
            if rule.check != Check::NoResurrection || said.cuts == 0 {
                assert_eq!(last(found), last(&expected), "{}", shown());
            }
            for ((key, onset), after) in &said.bounds[at] {
                let within = |interval: &&Interval| {
                    interval.0 == *key && interval.1 > *after && interval.1 <= *onset
                };
                assert!(expected.iter().any(|i| within(&i)), "{key} {}", shown());
            }
            bounded += 1;
        }
    }
    if number("FIRSTBAD_SEED").is_none() {
        assert!(
            exact > cases / 3
                && bounded > 0
                && cuts > 0
                && bad > cases
                && widened > 0
                && struck > 0,
            "{exact} {bounded} {cuts} {bad} {widened} {struck}"
        );
        let never: Vec<_> = roads
            .iter()
            .filter(|(_, how)| !how.contains(&true))
            .collect();
        println!(
            "judged at every commit: {exact} rules, on a cadence: {bounded}; only on a cadence: {never:?}"
        );
    }
}

#[test]
fn rules_that_are_given_up_are_unknown_and_hold_nothing_up() {
    let mut rng = Rng::new(FIRST_SEED);
    let (past, whole) = world::history_of(&mut rng, COMMITS_MAX);
    let mut text = String::from("rules:\n");
    for (id, kind) in rules::STATES.iter().enumerate() {
        text += &rules::rule(&mut rng, &past, kind, id);
    }
    let (mut all, _) = file::parse(&text, Path::new("random.yaml"));
    all.retain(|rule| rule.since.is_none());
    let limits = Limits {
        rule_timeout: Duration::ZERO,
        ..Limits::default()
    };
    let live = Live::begin(beginning(&whole), &all, limits);
    // Planning is given up as well, so there may be nothing to say about a rule but that.
    let Ok(live) = live else {
        panic!("random rules fit");
    };
    let mut live = live.expect("the engine can be set up");
    let mut given_up = 0;
    for commit in 1..=whole.head() {
        let turns = live.judge(None);
        // Now and then one is done before anybody looks at the time.
        given_up += turns.iter().filter(|turn| turn.unknown.is_some()).count();
        let transaction = Transaction {
            commit,
            meta: whole.meta(commit).cloned().unwrap_or_default(),
            changes: whole.written_changes(commit),
        };
        live.apply(&transaction).expect("it was applied before");
    }
    assert_eq!(live.history().head(), whole.head());
    assert!(given_up > all.len(), "{given_up}");
}
