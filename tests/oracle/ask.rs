//! Queries across positions against the states themselves: every state that a query reads, under whatever name its position has, is the
//! state that plain rows say.
//!
//! `FIRSTBAD_SEED` replays one history (a failure prints it), `FIRSTBAD_ASKED` says how many queries are asked.

use std::path::PathBuf;
use std::sync::Arc;

use firstbad::answer::{self, Format};
use firstbad::judge::{Judge, Limits, Options, QueryError};
use firstbad::rule::{Span, Spanned};
use firstbad::schema::value::format_timestamp;
use serde_json::{Map, Value};

use crate::number;
use crate::rng::Rng;
use crate::value::V;
use crate::world::{self, Past, TABLES};

const FIRST_SEED: u64 = 20_260_601;
const QUERIES: usize = 400;
const COMMITS_MAX: usize = 9;
const QUERIES_A_HISTORY: usize = 10;

type Object = Map<String, Value>;

/// The answer's rows, sorted.
fn ask(judge: &Judge, query: &str, options: &Options) -> Vec<String> {
    answered(judge, query, options).unwrap_or_else(|error| panic!("{query}: {error:?}"))
}

/// The same, or why there are none.
pub(crate) fn answered(
    judge: &Judge,
    query: &str,
    options: &Options,
) -> Result<Vec<String>, QueryError> {
    let span = Span {
        file: PathBuf::from("query"),
        line: 1,
        column: 1,
        length: 1,
        source_line: query.to_owned(),
        runs: None,
    };
    let sql = Spanned {
        value: query.to_owned(),
        span,
    };
    let looks = answer::Options {
        source: String::new(),
        at: Default::default(),
        width: 100,
        color: false,
        limit: None,
    };
    let mut out: Vec<u8> = Vec::new();
    let mut writer = answer::writer(Format::Jsonl, Box::new(&mut out), looks);
    judge.query(&sql, options, writer.as_mut())?;
    writer.finish().expect("memory can be written");
    let text = String::from_utf8(out).expect("JSON is UTF-8");
    let mut rows: Vec<String> = text.lines().map(str::to_owned).collect();
    rows.sort();
    Ok(rows)
}

/// A position as SQL names it, in one of the ways that name it.
fn named(rng: &mut Rng, past: &Past, position: usize) -> String {
    let time = position.checked_sub(1).and_then(|at| past.times[at]);
    let last_of_its_time = time.is_some() && past.times.get(position) != Some(&time);
    if position == past.head() && rng.chance(30) {
        return "latest".to_owned();
    }
    match time.filter(|_| last_of_its_time && rng.chance(40)) {
        Some(time) => format!("\"{}\"", format_timestamp(time)),
        None => format!("\"#{position}\""),
    }
}

fn object<'n>(cells: impl Iterator<Item = (&'n str, Value)>) -> String {
    let object: Object = cells.map(|(name, cell)| (name.to_owned(), cell)).collect();
    Value::Object(object).to_string()
}

fn sorted(rows: impl Iterator<Item = String>) -> Vec<String> {
    let mut rows: Vec<String> = rows.collect();
    rows.sort();
    rows
}

/// A random query over two positions, and its answer.
fn question(rng: &mut Rng, past: &Past, own: usize) -> (String, Vec<String>) {
    let (p, q) = (rng.below(past.head() + 1), rng.below(past.head() + 1));
    let table = rng.below(TABLES.len());
    let name = TABLES[table];
    let (before, after) = (&past.states[p][table], &past.states[q][table]);
    let first = named(rng, past, p);
    let second = named(rng, past, q);
    let schema = if rng.chance(30) { "public." } else { "" };
    let names = world::columns(table);
    let whole = |row: &world::Row| object(names.iter().copied().zip(row.iter().map(V::json)));
    match rng.below(4) {
        // One other state, whole.
        0 => {
            let query = format!("select * from {first}.{schema}{name}");
            (query, sorted(before.iter().map(whole)))
        }
        // Two others and the own one, counted.
        1 => {
            let query = format!(
                "select (select count(*) from {first}.{schema}{name}) as a, (select count(n) from {second}.{name}) as b, count(*) as c from {name}"
            );
            let n = world::column_index(table, "n");
            let filled = after.iter().filter(|row| !row[n].is_null()).count();
            let counts = [before.len(), filled, past.states[own][table].len()];
            let row = object(["a", "b", "c"].into_iter().zip(counts.map(Value::from)));
            (query, vec![row])
        }
        // What is new between two, by all columns.
        2 => {
            let query = format!(
                "select * from {second}.{schema}{name} except select * from {first}.{name}"
            );
            let mut rows = sorted(after.iter().filter(|row| !before.contains(row)).map(whole));
            rows.dedup();
            (query, rows)
        }
        // Rows side by side.
        _ => {
            let key = world::own_columns(table);
            let same: Vec<String> = key
                .iter()
                .map(|name| format!("(a.{name} is not distinct from b.{name})"))
                .collect();
            let query = format!(
                "select a.s as x, b.s as y from {first}.{name} as a join {second}.{schema}{name} as b on {}",
                same.join(" and ")
            );
            let s = world::column_index(table, "s");
            let width = key.len();
            let pairs = before.iter().flat_map(|a| {
                let same = after.iter().filter(move |b| a[..width] == b[..width]);
                same.map(move |b| object([("x", a[s].json()), ("y", b[s].json())].into_iter()))
            });
            (query, sorted(pairs))
        }
    }
}

#[test]
fn queries_read_the_states_that_they_name() {
    let most =
        number("FIRSTBAD_ASKED").map_or(QUERIES, |most| usize::try_from(most).expect("a count"));
    let seeds = match number("FIRSTBAD_SEED") {
        Some(seed) => seed..seed + 1,
        None => FIRST_SEED..FIRST_SEED + most.div_ceil(QUERIES_A_HISTORY) as u64,
    };
    let (mut rows, mut differ) = (0, 0);
    for seed in seeds {
        let mut rng = Rng::new(seed);
        let (past, history) = world::history_of(&mut rng, COMMITS_MAX);
        let own = rng.below(past.head() + 1);
        let options = Options {
            position: u32::try_from(own).expect("few commits"),
            now_us: None,
            sample: None,
        };
        let judge = Judge::new(Arc::new(history), Limits::default()).expect("the engine starts");
        for _ in 0..QUERIES_A_HISTORY {
            let (query, want) = question(&mut rng, &past, own);
            let have = ask(&judge, &query, &options);
            assert_eq!(have, want, "FIRSTBAD_SEED={seed} at #{own}: {query}");
            rows += want.len();
            differ += usize::from(past.states[own] != past.states[0]);
        }
    }
    if number("FIRSTBAD_SEED").is_none() {
        assert!(rows > most && differ > most / 3, "{rows} rows, {differ}");
    }
}
