//! Rules that ask for the time, judged by the lives of their keys and in full after every commit: random rules, random histories whose
//! times stand still, jump, go backwards or are missing.
//!
//! `FIRSTBAD_SEED` replays one history, `FIRSTBAD_CLOCK` says how many rules are judged.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use firstbad::diagnostic::Level;
use firstbad::judge::{Judge, Limits, Lives, Mistake, Options, Tuning};
use firstbad::rule::file;
use firstbad::state::History;

use crate::lifted::told;
use crate::rng::Rng;
use crate::rules::quoted;
use crate::world::{DAY, HOUR, Past};
use crate::{FIRST_SEED, number, rules, world};

const CASES: usize = 750;
const RULES_AT_ONCE: usize = 30;
const COMMITS: usize = 40;

/// Whether a query must be judged by the lives of its keys.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    Lifted,
    Either,
}
use Want::{Either, Lifted};

/// Queries, with their key; `AGE` is an interval.
const QUERIES: [(&str, &str, Want); 40] = [
    (
        "select id, t from parent where t < now() - AGE",
        "id",
        Lifted,
    ),
    ("select id from parent where t > now() + AGE", "id", Lifted),
    (
        "select id from parent where now() - t > AGE and n > 0",
        "id",
        Lifted,
    ),
    (
        "select id from parent where n > 1 or not (t > now() - AGE)",
        "id",
        Lifted,
    ),
    (
        "select id from parent where t between now() - AGE and now()",
        "id",
        Lifted,
    ),
    (
        "select id from parent where t < now() - AGE and u > now()",
        "id",
        Lifted,
    ),
    (
        "select id from parent where t < now() - AGE or u < current_timestamp",
        "id",
        Lifted,
    ),
    ("select id from parent where d < current_date", "id", Lifted),
    ("select id from parent where d = current_date", "id", Lifted),
    (
        "select id from parent where d <= current_date - interval '1 day'",
        "id",
        Lifted,
    ),
    ("select id from parent where d < today()", "id", Lifted),
    (
        "select id from parent where current_time > time '12:00:00'",
        "id",
        Lifted,
    ),
    (
        "select id, now() - t as age from parent where n > 1",
        "id",
        Lifted,
    ),
    (
        "select id, current_date as day from parent where t < now()",
        "id, day",
        Lifted,
    ),
    (
        "select id from parent where extract(epoch from now() - t) / 3600 > 7.5",
        "id",
        Lifted,
    ),
    (
        "select id from parent where extract(hour from now()) > 12 and n > 0",
        "id",
        Lifted,
    ),
    (
        "select id from parent where t < now() - interval '1 month'",
        "id",
        Lifted,
    ),
    (
        "select id from parent where (t < now()) is not true",
        "id",
        Lifted,
    ),
    (
        "select id from parent where coalesce(t, now()) < now() - AGE",
        "id",
        Lifted,
    ),
    (
        "select id from parent where least(t, u) < date_trunc('hour', now())",
        "id",
        Lifted,
    ),
    (
        "select id from parent where case when n > 1 then t < now() else u < now() end",
        "id",
        Lifted,
    ),
    (
        "select r as id, k from child where t < now() - AGE",
        "id",
        Lifted,
    ),
    ("select id from loose where t < now() - AGE", "id", Lifted),
    (
        "select s as id, max(t) from parent group by s having max(t) < now() - AGE",
        "id",
        Lifted,
    ),
    (
        "select s as id, count(*) from parent where t < now() - AGE group by s having count(*) > 1",
        "id",
        Lifted,
    ),
    (
        "select s as id, max(n) from parent where t < now() - AGE group by s having max(n) > 1",
        "id",
        Lifted,
    ),
    (
        "select distinct s as id from parent where t < now() - AGE",
        "id",
        Lifted,
    ),
    (
        "select p.id, c.a from parent p join child c on c.r = p.id where c.u < now() - AGE",
        "id, a",
        Lifted,
    ),
    (
        "select p.id from parent p join child c on c.r = p.id and c.t < now() - (now() - p.t)",
        "id",
        Lifted,
    ),
    (
        "select p.id from parent p where exists (select 1 from child c where c.r = p.id and c.u < now() - AGE)",
        "id",
        Lifted,
    ),
    (
        "select p.id from parent p where not exists (select 1 from child c where c.r = p.id and c.u > now() - AGE)",
        "id",
        Lifted,
    ),
    (
        "select p.id from parent p where p.t < now() and not exists (select 1 from child c where c.r = p.id and c.u > p.t)",
        "id",
        Lifted,
    ),
    (
        "select p.id from parent p where p.t < now() and not exists (select 1 from child c where c.r = p.id and c.u < now())",
        "id",
        Lifted,
    ),
    (
        "select p.id from parent p left join child c on c.r = p.id and c.u > now() - AGE where c.a is null",
        "id",
        Lifted,
    ),
    (
        "select p.id from parent p left join child c on c.r = p.id where c.a is null and p.t < now() - AGE",
        "id",
        Lifted,
    ),
    (
        "select coalesce(p.id, q.id) as id from parent p full join copy q on p.id = q.id where p.t < now() or q.t is null",
        "id",
        Either,
    ),
    (
        "select id from parent where t < now() union all select id from copy where u < now() - AGE",
        "id",
        Lifted,
    ),
    (
        "select id, rank from (select r as id, row_number() over (partition by r order by id) as rank from parent where t < now()) x where rank > 1",
        "id",
        Lifted,
    ),
    (
        "select id from parent where n in (select n from child where u < now() - AGE)",
        "id",
        Lifted,
    ),
    (
        "select count(*) as id from parent where t < now() - AGE",
        "id",
        Either,
    ),
];

/// Built-in checks whose answers depend on the time, as entries of a rule file.
const CHECKS: [&str; 6] = [
    "{id: ID, table: parent, where: \"t < now() - AGE\", not_null: [s], threshold: {max_percent: 10}}",
    "{id: ID, table: parent, where: \"t < now() - AGE\", has: {table: child, match: {r: id}, min: 2}}",
    "{id: ID, table: parent, has: {table: child, match: {r: id}, where: \"u < now() - AGE\", min: 2}}",
    "{id: ID, table: parent, has_no: {table: child, match: {r: id}, where: \"u < now() - AGE\"}}",
    "{id: ID, table: child, expression: \"u > now() - AGE\"}",
    "{id: ID, table: copy, range: {column: n, min: 0}, where: \"t < now()\"}",
];

/// A random rule as an entry of a rule file, and its kind.
fn rule(rng: &mut Rng, past: &Past, at: usize) -> (String, String, Want) {
    let age = *rng.pick(&[
        "30 minutes",
        "1 hour",
        "12 hours",
        "1 day",
        "2 days",
        "90 seconds",
    ]);
    let age = format!("interval '{age}'");
    match at % 10 {
        0 => (
            rules::rule(rng, past, "fresh", at),
            "fresh".to_owned(),
            Either,
        ),
        1 => (
            rules::rule(rng, past, "window_gap", at),
            "window_gap".to_owned(),
            Either,
        ),
        2 | 3 => {
            let check = *rng.pick(&CHECKS);
            let text = check.replace("ID", &format!("r-{at}")).replace("AGE", &age);
            (format!("  - {text}\n"), check.to_owned(), Either)
        }
        _ => {
            let (sql, key, want) = *rng.pick(&QUERIES);
            let text = quoted(&sql.replace("AGE", &age));
            (
                format!("  - {{id: r-{at}, key: [{key}], sql: {text}}}\n"),
                sql.to_owned(),
                want,
            )
        }
    }
}

/// Makes the times of a history less tidy. False where some state has no time, so that nothing can be judged.
fn untidy(rng: &mut Rng, history: &mut History) -> bool {
    let (jitter, missing) =
        *rng.pick(&[(0, 0), (0, 0), (HOUR, 0), (DAY, 0), (0, 30), (3 * HOUR, 15)]);
    for (at, meta) in history.transactions.iter_mut().enumerate() {
        meta.time = meta
            .time
            .map(|time| time + rng.between(0, 8) * (jitter / 8));
        if at > 0 && rng.chance(missing) {
            meta.time = None;
        }
    }
    history.has_changes()
        && history
            .transactions
            .first()
            .is_some_and(|meta| meta.time.is_some())
}

/// The last commits of some batches: often one for all, sometimes one a commit.
fn batches(rng: &mut Rng, head: u32) -> Vec<u32> {
    let share = *rng.pick(&[0, 0, 20, 50, 100]);
    let ends = (0..head).filter(|_| rng.chance(share));
    let mut ends: Vec<u32> = ends.collect();
    ends.push(head);
    ends
}

/// The number of subjects after every commit.
fn counts(lives: &Lives, head: u32) -> Option<Vec<Option<u64>>> {
    let judged = lives.judged.as_ref()?;
    let at = |commit: u32| {
        let until = judged.iter().take_while(|(from, _)| *from <= commit);
        until.last().map(|(_, count)| *count)
    };
    Some((0..=head).map(at).collect())
}

#[test]
fn rules_that_ask_for_the_time_have_the_lives_of_full_judgement() {
    let cases =
        number("FIRSTBAD_CLOCK").map_or(CASES, |cases| usize::try_from(cases).expect("a count"));
    let seeds: Vec<u64> = match number("FIRSTBAD_SEED") {
        Some(seed) => vec![seed],
        None => (0..cases.div_ceil(RULES_AT_ONCE))
            .map(|at| FIRST_SEED + 4_000_000 + at as u64)
            .collect(),
    };
    let mut lifted_kinds: BTreeMap<String, usize> = BTreeMap::new();
    let mut disagreements = Vec::new();
    // How many rules tell that a judge is wrong to which the time changes nothing.
    let mut noticed = 0;
    for &seed in &seeds {
        let mut rng = Rng::new(seed);
        let (past, mut history) = world::history_of(&mut rng, COMMITS);
        let timed = untidy(&mut rng, &mut history);
        let written: Vec<_> = (0..RULES_AT_ONCE)
            .map(|at| rule(&mut rng, &past, at))
            .collect();
        let text: String = written.iter().map(|(text, _, _)| text.as_str()).collect();
        let (rules, found) = file::parse(&format!("rules:\n{text}"), Path::new("random.yaml"));
        let wrong: Vec<_> = found
            .iter()
            .filter(|found| found.level == Level::Error)
            .collect();
        assert!(wrong.is_empty(), "FIRSTBAD_SEED={seed}: {wrong:?}");
        let head = history.head();
        let options = Options {
            position: head,
            now_us: rng.chance(15).then(|| world::stamp(&mut rng)),
            sample: None,
        };
        let judge = Judge::new(Arc::new(history), Limits::default()).expect("the engine starts");
        let prepared = judge.prepare(&rules, &options);
        let prepared = prepared.unwrap_or_else(|wrong| panic!("FIRSTBAD_SEED={seed}: {wrong:?}"));
        for (prepared, (text, kind, want)) in prepared.iter().zip(&written) {
            let batches = batches(&mut rng, head);
            let tuning = Tuning {
                chunk_rows: *rng.pick(&[1 << 20, 7, 1]),
                ..Tuning::default()
            };
            let lifted = judge.lives_in_batches(prepared, &batches, &options, &tuning);
            let lifted = lifted.transpose();
            let Some(lifted) = lifted else {
                if timed && *want == Lifted {
                    disagreements.push(format!("FIRSTBAD_SEED={seed}: judged in full: {text}"));
                }
                continue;
            };
            *lifted_kinds.entry(kind.clone()).or_default() += 1;
            let full = judge.lives_in_full(prepared, 0, head, &options);
            let told = |lives: &Lives| (told(lives), counts(lives, head));
            let mistaken = Tuning {
                mistake: Some(Mistake::NoClock),
                ..tuning
            };
            let mistaken = judge.lives_in_batches(prepared, &batches, &options, &mistaken);
            let mistaken = mistaken.ok().flatten();
            noticed +=
                usize::from(mistaken.map(|lives| told(&lives)) != full.as_ref().ok().map(told));
            let (want, have) = (
                full.map(|lives| told(&lives)),
                lifted.map(|lives| told(&lives)),
            );
            if want.as_ref().ok() != have.as_ref().ok() {
                disagreements.push(format!(
                    "FIRSTBAD_SEED={seed} {options:?} batches {batches:?}\n{text}want {want:?}\nhave {have:?}",
                ));
            }
        }
    }
    assert!(
        disagreements.is_empty(),
        "{} disagreements\n{}",
        disagreements.len(),
        disagreements[..disagreements.len().min(5)].join("\n\n")
    );
    if number("FIRSTBAD_SEED").is_none() {
        assert!(
            noticed > cases / 10,
            "only {noticed} of {cases} rules depend on the time"
        );
        let kinds = QUERIES.iter().filter(|(_, _, want)| *want == Lifted);
        let kinds = kinds
            .map(|(sql, _, _)| *sql)
            .chain(CHECKS)
            .chain(["fresh", "window_gap"]);
        let missing: Vec<&str> = kinds
            .filter(|kind| !lifted_kinds.contains_key(*kind))
            .collect();
        assert!(missing.is_empty(), "judged in full: {missing:#?}");
    }
}
