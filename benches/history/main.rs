//! What judging every commit of a history costs: full against lifted judgement, the cost of a batch while the tables grow, a rule over
//! one large group, and `bisect`'s road over long histories that are read from files.
//!
//! `cargo bench --profile dist --bench history -- [batch] [group] [long] [--orders 200000] [--transactions 1000000]`

// The benchmarks of stores share it.
#[allow(dead_code)]
mod shop;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use firstbad::judge::{Judge, Limits, Options, Prepared, Tuning};
use firstbad::state::History;

type Failure = Box<dyn std::error::Error>;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Commits of the batch whose judgement is timed, and the changes in each.
const BATCH: u32 = 1_000;
const CHANGES: usize = 10;
/// How often a batch is judged; the median is told.
const ROUNDS: usize = 5;

fn main() -> Result<(), Failure> {
    let (mut parts, mut orders, mut transactions) = (Vec::new(), 200_000, 1_000_000);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--orders" => orders = value()?.parse()?,
            "--transactions" => transactions = value()?.parse()?,
            "--bench" => {}
            part => parts.push(part.to_owned()),
        }
    }
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|have| have == part);
    if wanted("batch") {
        batches(orders)?;
    }
    if wanted("group") {
        groups()?;
    }
    if wanted("long") {
        for count in [transactions / 10, transactions] {
            long(count)?;
        }
    }
    Ok(())
}

fn judge_of(history: History) -> Result<Judge, Failure> {
    Ok(Judge::new(Arc::new(history), Limits::default())?)
}

fn prepared(judge: &Judge, text: &str, position: u32) -> Result<Vec<Prepared>, Failure> {
    let (rules, mistakes) = firstbad::rule::file::parse(text, Path::new("bench.yaml"));
    let options = options(position);
    let prepared = judge.prepare(&rules, &options);
    match prepared {
        Ok(prepared) if mistakes.is_empty() => Ok(prepared),
        Ok(_) => Err(format!("{mistakes:?}").into()),
        Err(mistakes) => Err(format!("{mistakes:?}").into()),
    }
}

fn options(position: u32) -> Options {
    Options {
        position,
        now_us: None,
        sample: Some(10),
    }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1_000.0
}

/// 20 rules over a batch of 10,000 changes of random rows, while the tables are 1, 10 and 100 times as large; against judging the state
/// after the last commit alone, in full.
fn batches(orders: usize) -> Result<(), Failure> {
    println!("20 rules, a batch of {BATCH} commits with {CHANGES} changes of random rows each");
    println!("     orders       rows   lifted: all commits   full: the last state   lifted is");
    for orders in [orders / 100, orders / 10, orders] {
        let mut shop = shop::Shop::new(orders);
        let rounds = u32::try_from(ROUNDS)?;
        for _ in 0..BATCH * (rounds + 1) {
            shop.transaction(CHANGES);
        }
        let rows = shop.rows();
        let judge = judge_of(shop.history)?;
        let rules = prepared(&judge, shop::RULES, BATCH * (rounds + 1))?;
        let mut following = judge
            .follow(&rules, &Tuning::default())
            .map_err(|(id, why)| format!("{id}: {why}"))?;
        // The first batch meets every key of the start.
        following.advance(BATCH)?;
        let mut lifted = Vec::new();
        for round in 2..=rounds + 1 {
            let start = Instant::now();
            following.advance(round * BATCH)?;
            lifted.push(start.elapsed());
        }
        let mut full = Vec::new();
        for _ in 0..ROUNDS {
            let start = Instant::now();
            let outcomes = judge.check(rules.clone(), &options(BATCH * (rounds + 1)), &|_| {});
            full.push(start.elapsed());
            if let Some(unknown) = outcomes.iter().find_map(|outcome| outcome.reason.as_ref()) {
                return Err(unknown.clone().into());
            }
        }
        let (lifted, full) = (median(lifted), median(full));
        println!(
            "{orders:>11} {rows:>10} {lifted:>18.1} ms {full:>18.1} ms   {:.2} of one full judgement",
            lifted / full
        );
    }
    Ok(())
}

/// One rule over a group of 10 and of 1,000,000 rows of which one changes in each commit.
fn groups() -> Result<(), Failure> {
    println!("the balance of a branch is the sum of its accounts, a batch of {BATCH} commits");
    println!("   accounts of the branch     a commit");
    for accounts in [10, 1_000, 1_000_000] {
        let mut bank = shop::Bank::new(accounts);
        let rounds = u32::try_from(ROUNDS)?;
        for _ in 0..BATCH * (rounds + 1) {
            bank.transfer();
        }
        let judge = judge_of(bank.history)?;
        let rules = prepared(&judge, shop::BALANCE, BATCH * (rounds + 1))?;
        let mut following = judge
            .follow(&rules, &Tuning::default())
            .map_err(|(id, why)| format!("{id}: {why}"))?;
        following.advance(BATCH)?;
        let mut times = Vec::new();
        for round in 2..=rounds + 1 {
            let start = Instant::now();
            following.advance(round * BATCH)?;
            times.push(start.elapsed());
        }
        if !following.lives(0).is_empty() {
            return Err("the balances agree, and were found to differ".into());
        }
        let each = median(times) * 1_000.0 / f64::from(BATCH);
        println!("{accounts:>25} {each:>9.1} us");
    }
    Ok(())
}

/// Reading a history of so many transactions from files, and 10 rules over all its commits with one planted bad write.
fn long(transactions: usize) -> Result<(), Failure> {
    let directory =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("target/history-{transactions}"));
    let changes = shop::write(&directory, transactions)?;
    let start = Instant::now();
    let source = [directory.display().to_string()];
    let opened = firstbad::source::open(&source).map_err(|error| format!("{error:?}"))?;
    let read = start.elapsed().as_secs_f64();
    let head = opened.history.head();
    let judge = judge_of(opened.history)?;
    let rules = prepared(&judge, shop::TEN, head)?;
    let mut following = judge
        .follow(&rules, &Tuning::default())
        .map_err(|(id, why)| format!("{id}: {why}"))?;
    let judging = Instant::now();
    following.advance(head)?;
    let judged = judging.elapsed().as_secs_f64();
    let onsets: Vec<u32> = (0..rules.len())
        .flat_map(|at| following.lives(at))
        .map(|life| life.onset)
        .collect();
    let planted = u32::try_from(transactions / 2)?;
    if onsets != [planted] {
        return Err(format!("planted at #{planted}, found at {onsets:?}").into());
    }
    let whole = start.elapsed().as_secs_f64();
    println!(
        "{transactions} transactions, {changes} changes: read in {read:.2} s, judged after every commit by 10 rules in \
         {judged:.2} s: {:.0} changes/s",
        changes as f64 / whole
    );
    Ok(())
}
