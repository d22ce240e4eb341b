//! A snapshot read in place gives the same verdicts as the same snapshot loaded, whatever its rows are; and bytes that are not those that
//! were sealed give none.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::file::properties::WriterProperties;
use firstbad::change::Commit;
use firstbad::judge::{Judge, Limits, Options};
use firstbad::rule::Rule;
use firstbad::state::{History, InPlace, Relation};
use firstbad::store::disk::{Disk, Memory};
use firstbad::store::{Store, Writer};

use super::routes::{format_of, shop};

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A store with one snapshot, cut into small chunks.
fn stored(history: &History, at: Commit, level: u8) -> (Arc<dyn Disk>, Store) {
    let disk: Arc<dyn Disk> = Arc::new(Memory::new());
    let format = || format_of(history, level);
    let mut writer = Writer::on(Arc::clone(&disk), format).expect("an empty disk");
    writer.snapshot(history, at).expect("it is written");
    drop(writer);
    let store = Store::on(Arc::clone(&disk)).expect("it opens");
    (disk, store)
}

/// All that a rule's outcome says, rule by rule.
fn verdicts(history: History, rules: &[Rule], at: Commit) -> Vec<String> {
    let options = Options {
        position: at,
        now_us: Some(1_773_500_000_000_000),
        sample: None,
    };
    let judge = Judge::new(Arc::new(history), Limits::default()).expect("it can judge");
    let prepared = judge.prepare(rules, &options).expect("all rules fit");
    let outcomes = judge.check(prepared, &options, &|_| {});
    let text = |outcome: firstbad::verdict::Outcome| {
        let reason = outcome.reason.unwrap_or_default();
        format!(
            "{}: {:?} {:?} of {:?} {reason} {:?} {} {:?}",
            outcome.rule.id,
            outcome.verdict,
            outcome.violations,
            outcome.judged,
            outcome.impact,
            outcome.pending,
            outcome.sample
        )
    };
    outcomes.into_iter().map(text).collect()
}

fn rules(path: &str) -> Vec<Rule> {
    let (rules, _) = firstbad::rule::file::load(&[root(path)]);
    assert!(!rules.is_empty(), "{path} holds rules");
    rules
}

fn in_place_tables(history: &History) -> usize {
    let chunks = |table: &&Option<InPlace>| matches!(table, Some(InPlace::Chunks(_)));
    history.in_place.iter().filter(chunks).count()
}

#[test]
fn the_shop_is_judged_in_place_as_it_is_loaded() {
    let history = shop();
    let rules = rules("testdata/shop/rules");
    for at in [0, 1_500, history.head()] {
        let (_, store) = stored(&history, at, 0);
        let loaded = store.history_of(at..=at).expect("it is whole");
        let in_place = store.history_in_place(at).expect("it is whole");
        assert!(in_place_tables(&in_place) > 0);
        assert_eq!(
            in_place.state_fingerprint(at),
            loaded.state_fingerprint(at),
            "#{at}"
        );
        assert_eq!(in_place.base, loaded.base);
        assert_eq!(in_place.origin, loaded.origin);
        assert_eq!(verdicts(in_place, &rules, at), verdicts(loaded, &rules, at));
    }
}

/// A generator of small numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

const SCHEMA: &str = "\
create table parents (b bigint, a integer, v numeric(10,2), kind text, primary key (a, b));
create table children (a bigint, b bigint, n smallint, amount numeric, note text, primary key (a, b, n));
create table codes (code text primary key, rate double precision);
create table uses (code text, day date, flag boolean, tags text[], primary key (code, day));
create table measures (x double precision primary key, at timestamp, a bigint);
create table logs (z bigint, a bigint, word text);
";

const RULES: &str = "\
rules:
  - {table: parents, unique: [a, b]}
  - {table: parents, unique: [a]}
  - {table: parents, unique: [b]}
  - {table: parents, unique: [b, a], where: v > 3}
  - {table: children, unique: [a, b, n], impact: amount}
  - {table: children, unique: [a, b]}
  - {table: codes, unique: [code]}
  - {table: measures, unique: [x]}
  - {table: logs, unique: [a, word]}
  - {table: children, references: {columns: [a, b], to: {table: parents, columns: [a, b]}}}
  - {table: children, references: {columns: [b, a], to: {table: parents, columns: [b, a]}}}
  - {table: children, references: {column: a, to: parents.a}}
  - {table: children, references: {column: n, to: parents.a}}
  - {table: parents, references: {column: a, to: children.a}, where: kind <> 'x'}
  - {table: uses, references: {column: code, to: codes.code}}
  - {table: logs, references: {column: a, to: measures.a}}
  - {table: parents, has: {table: children, match: {a: a, b: b}}}
  - {id: some, table: parents, has: {table: children, match: {a: a, b: b}, min: 2, max: 3}}
  - {id: few, table: parents, has: {table: children, match: {a: a}, where: amount > 2, min: 2}}
  - {table: parents, has_no: {table: children, match: {a: a, b: b}, where: note is null}}
  - {table: codes, has: {table: uses, match: {code: code}}}
  - {id: sums, table: parents, balance: {left: v, right: sum(children.amount), match: {a: a, b: b}}}
  - {id: counts, table: parents, balance: {left: b, right: count(children.note), match: {a: a, b: b}, tolerance: 1}}
  - {id: groups, table: parents, balance: {left: sum(v), right: sum(children.amount), per: [a]}}
  - {table: parents, row_count: {min: 2, max: 4, per: [a]}}
  - {id: mean, table: children, aggregate: {sql: avg(amount), max: 4, per: [a, b]}}
  - {id: most, table: children, aggregate: {sql: max(character_length(note)), max: 3, per: [a]}}
  - {table: children, sequence: {column: n, per: [a, b]}}
  - {table: children, sequence: {column: a}}
  - {table: parents, range: {column: v, min: 1, max: 6}}
  - {table: children, not_null: [note]}
  - {table: uses, not_null: [flag]}
  - {table: codes, accepted_values: {column: code, values: [a, b, c]}}
  - {table: children, expression: \"b + n < 4\"}
  - {table: parents, same_rows: {as: children, match: {a: a, b: b}}}
  - {table: measures, range: {column: x, max: 2}}
  - {id: highest, table: measures, aggregate: {sql: max(x), max: 2}}
  - {table: logs, references: {columns: [z, a], to: {table: parents, columns: [b, a]}}}
  - {table: parents, references: {columns: [a, b], to: {table: logs, columns: [a, z]}}}
  - {id: joined, sql: \"select p.a, p.b, c.n from parents p join children c on p.a = c.a and p.b = c.b where c.amount > p.v\", key: [a, b, n]}
  - {id: lone, sql: \"select p.a, p.b from parents p full join children c on p.a = c.a and p.b = c.b where c.a is null\", key: [a, b]}
  - {id: above, sql: \"select a, b from parents where v > (select avg(amount) from children)\", key: [a, b]}
  - {id: days, sql: \"select code, day, count(*) as n from uses group by day, code having count(*) > 1\", key: [code, day]}
  - {id: twice, sql: \"select a, count(distinct note) as n from children group by a having count(distinct note) > 1\", key: [a]}
";

/// Tables as CSV. Keys repeat, and some of their cells are NULL.
fn tables(random: &mut Random, rows: u64) -> Vec<(&'static str, String)> {
    let some = |random: &mut Random, bound: u64| match random.below(30) {
        0 => String::new(),
        _ => random.below(bound).to_string(),
    };
    let word = |random: &mut Random| match random.below(6) {
        0 => String::new(),
        1 => "\"a\"".into(),
        2 => "\"\"".into(),
        3 => "z\u{e9}".into(),
        _ => ["a", "b", "ab", "Z", "m", "x"][random.below(6) as usize].to_owned(),
    };
    let mut out: Vec<(&str, String)> = [
        ("parents", "a,b,v,kind\n"),
        ("children", "a,b,n,amount,note\n"),
        ("codes", "code,rate\n"),
        ("uses", "code,day,flag,tags\n"),
        ("measures", "x,at,a\n"),
        ("logs", "z,a,word\n"),
    ]
    .map(|(name, head)| (name, head.to_owned()))
    .to_vec();
    let wide = rows / 3 + 2;
    for _ in 0..rows {
        let (a, b) = (some(random, wide), some(random, 4));
        let cents = random.below(800);
        let v = format!("{}.{:02}", cents / 100, cents % 100);
        writeln!(out[0].1, "{a},{b},{v},{}", word(random)).expect("a string grows");
        for _ in 0..random.below(4) {
            let (a, b) = match random.below(10) {
                0 => (some(random, wide), some(random, 4)),
                _ => (a.clone(), b.clone()),
            };
            let amount = format!(
                "{}.{}",
                random.below(5),
                ["0", "25", "125", "5000"][random.below(4) as usize]
            );
            let n = some(random, 3);
            writeln!(out[1].1, "{a},{b},{n},{amount},{}", word(random)).expect("a string grows");
        }
        writeln!(out[2].1, "{},{}", word(random), random.below(9)).expect("a string grows");
        let day = random.below(9) + 1;
        let (flag, tags) = (
            ["t", "f", ""][random.below(3) as usize],
            ["", "{a}"][random.below(2) as usize],
        );
        writeln!(out[3].1, "{},2026-01-0{day},{flag},{tags}", word(random))
            .expect("a string grows");
        let x = ["0", "-0", "NaN", "1.5", "-2", "1e300", "-Infinity"][random.below(7) as usize];
        let a = some(random, wide);
        writeln!(out[4].1, "{x},2026-01-0{day}T00:00:00,{a}").expect("a string grows");
        writeln!(out[5].1, "{},{a},{}", some(random, 9), word(random)).expect("a string grows");
    }
    out
}

fn random_history(seed: u64, rows: u64, directory: &Path) -> History {
    std::fs::write(directory.join("schema.sql"), SCHEMA).expect("it is written");
    for (name, text) in tables(&mut Random(seed), rows) {
        let file = directory.join(format!("{name}.csv"));
        std::fs::write(file, text).expect("it is written");
    }
    let source = [directory.display().to_string()];
    let opened = firstbad::source::open_held(&source);
    opened.expect("it opens").history
}

#[test]
fn whatever_the_rows_are() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let (rules, mistakes) = firstbad::rule::file::parse(RULES, Path::new("rules.yaml"));
    assert!(mistakes.is_empty(), "{mistakes:?}");
    for seed in seed.map_or(1..9, |seed: u64| seed..seed + 1) {
        println!("SEED={seed}");
        let directory = tempfile::tempdir().expect("a directory");
        let rows = [3, 60, 400, 1500][seed as usize % 4];
        let history = random_history(seed, rows, directory.path());
        let (_, store) = stored(&history, 0, 0);
        let in_place = store.history_in_place(0).expect("it is whole");
        // All but the one with arrays.
        assert_eq!(in_place_tables(&in_place), 5);
        let loaded = store.history_of(0..=0).expect("it is whole");
        let (found, expected) = (verdicts(in_place, &rules, 0), verdicts(loaded, &rules, 0));
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected, "SEED={seed}");
        }
        let unknown = |text: &&String| text.contains(": Unknown");
        assert_eq!(found.iter().find(unknown), None);
    }
}

#[test]
fn numbers_of_any_size_are_judged_where_they_lie_or_loaded() {
    let schema = "create table plain (id bigint primary key, n numeric);
        create table odd (id bigint primary key, n numeric);
        create table scales (id bigint primary key, n numeric);";
    let rules = "rules:
  - {table: plain, range: {column: n, max: 300}}
  - {table: odd, range: {column: n, max: 300}}
  - {table: scales, range: {column: n, min: 1}}
  - {table: scales, unique: [n], impact: n}
";
    let directory = tempfile::tempdir().expect("a directory");
    let put = |name: &str, text: String| {
        std::fs::write(directory.path().join(name), text).expect("it is written");
    };
    let rows = |n: &dyn Fn(u32) -> String| {
        let rows = (0..400).map(|id| format!("{id},{}\n", n(id)));
        format!("id,n\n{}", rows.collect::<String>())
    };
    put("schema.sql", schema.into());
    put("plain.csv", rows(&|id| format!("{id}.50")));
    let odd = |id| match id {
        350 => "NaN".to_owned(),
        id => format!("{id}.50"),
    };
    put("odd.csv", rows(&odd));
    let small = format!("0.{}1", "0".repeat(29));
    let scales = |id| match id < 200 {
        true => small.clone(),
        false => format!("{id}{}", "7".repeat(30)),
    };
    put("scales.csv", rows(&scales));
    let (rules, mistakes) = firstbad::rule::file::parse(rules, Path::new("rules.yaml"));
    assert!(mistakes.is_empty(), "{mistakes:?}");
    let source = [directory.path().display().to_string()];
    let history = firstbad::source::open_held(&source)
        .expect("it opens")
        .history;
    let (_, store) = stored(&history, 0, 0);
    let in_place = store.history_in_place(0).expect("it is whole");
    assert_eq!(in_place_tables(&in_place), 1);
    let loaded = store.history_of(0..=0).expect("it is whole");
    assert_eq!(in_place.state_fingerprint(0), history.state_fingerprint(0));
    let found = verdicts(in_place, &rules, 0);
    assert_eq!(found, verdicts(loaded, &rules, 0));
    assert_eq!(found, verdicts(history, &rules, 0));
    let counts = ["Some(100)", "Some(100)", "Some(200)", "Some(1)"];
    for (found, count) in found.iter().zip(counts) {
        assert!(found.contains(&format!("Violated {count} of")), "{found}");
    }
}

/// Writes every table's rows as Parquet beside the schema, one value of each type a column.
fn write_parquet(history: &History, directory: &Path) {
    std::fs::create_dir_all(directory).expect("a directory");
    std::fs::write(directory.join("schema.sql"), SCHEMA).expect("it is written");
    for (number, table) in history.schema.tables.iter().enumerate() {
        let batch = history.rows(number, &Relation::State, 0).batch;
        let path = directory.join(format!("{}.parquet", table.name.name));
        let file = std::fs::File::create(path).expect("it is made");
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(100));
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties.build()))
            .expect("a file with these columns");
        writer.write(&batch).expect("it is written");
        writer.close().expect("it is written");
    }
}

#[test]
fn files_in_any_order_are_judged_in_place_as_they_are_loaded() {
    let (rules, _) = firstbad::rule::file::parse(RULES, Path::new("rules.yaml"));
    for seed in [3, 5] {
        let directory = tempfile::tempdir().expect("a directory");
        let history = random_history(seed, 400, directory.path());
        let (_, store) = stored(&history, 0, 0);
        let sorted = store.history_of(0..=0).expect("it is whole");
        for (name, history) in [("as-they-came", &history), ("by-key", &sorted)] {
            let directory = directory.path().join(name);
            write_parquet(history, &directory);
            let source = [directory.display().to_string()];
            let in_place = firstbad::source::open(&source).expect("it opens").history;
            let files = |table: &&Option<InPlace>| matches!(table, Some(InPlace::Files(_)));
            assert!(in_place.in_place.iter().filter(files).count() >= 5);
            let held = firstbad::source::open_held(&source)
                .expect("it opens")
                .history;
            let (found, expected) = (verdicts(in_place, &rules, 0), verdicts(held, &rules, 0));
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(found, expected, "seed {seed}, {name}");
            }
        }
    }
}

#[test]
fn a_changed_chunk_gives_no_verdict() {
    let history = shop();
    let rules = rules("testdata/shop/rules");
    let (disk, store) = stored(&history, 0, 1);
    let manifest = store.manifest(0).expect("it is whole");
    let (table, chunk) = manifest.chunks().last().expect("the shop has rows");
    let path = chunk.sealed().path;
    let whole = disk.read(&path, u64::MAX).expect("it is there");
    let mut other = whole.clone();
    let middle = other.len() / 2;
    other[middle] ^= 1;
    let put = |bytes: &[u8]| {
        disk.remove(&path).expect("it is there");
        disk.create(&path, bytes).expect("there is room");
    };
    put(&other);
    let refused = store.history_in_place(0).expect_err("a byte is another");
    assert!(refused.to_string().contains(&path), "{refused}");
    // What was compared once is kept: the right bytes are judged.
    put(&whole);
    let in_place = store.history_in_place(0).expect("it is whole again");
    put(&other);
    assert!(
        matches!(&in_place.in_place[table], Some(InPlace::Chunks(chunks)) if chunks.count() > 0)
    );
    let states = |verdict: &String| !verdict.contains("has no changes");
    let mut found = verdicts(in_place, &rules, 0);
    found.retain(states);
    let unknown = |text: &&String| text.contains(": Unknown");
    assert!(!found.is_empty());
    assert_eq!(found.iter().find(unknown), None);
}

#[test]
fn a_position_without_a_snapshot_is_refused() {
    let history = shop();
    let (_, store) = stored(&history, 0, 1);
    let refused = store.history_in_place(7).expect_err("there is none");
    assert_eq!(refused.to_string(), "the store has no snapshot at #7");
}
