//! The check suite over TPC-H: writes the data when they are not there, judges `benches/tpch-rules.yaml`, and fails unless exactly
//! what was planted is found.
//!
//! `cargo bench --bench tpch -- [--scale 1] [--dir target/tpch-sf1] [--generate] [--shuffle]`

mod plant;
mod tables;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use firstbad::judge::{Judge, Limits, Options};
use firstbad::schema::value::parse_timestamp;

type Failure = Box<dyn std::error::Error>;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Two days after the last order.
const NOW: &str = "1998-08-04T00:00:00Z";
const PLANTED: &str = "planted.json";

fn main() -> Result<(), Failure> {
    let mut scale = 1.0;
    let mut directory = None;
    let mut generate_only = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--scale" => scale = value()?.parse()?,
            "--dir" => directory = Some(PathBuf::from(value()?)),
            "--generate" => generate_only = true,
            "--bench" => {}
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = directory.unwrap_or_else(|| root.join(format!("target/tpch-sf{scale}")));
    if !directory.join(PLANTED).is_file() {
        let start = Instant::now();
        let planted = tables::write(&directory, scale)?;
        // Last: a directory that has it is whole.
        std::fs::write(
            directory.join(PLANTED),
            serde_json::to_string_pretty(&planted)?,
        )?;
        println!(
            "wrote {} in {:.1} s",
            directory.display(),
            start.elapsed().as_secs_f64()
        );
    }
    let planted: BTreeMap<String, u64> =
        serde_json::from_str(&std::fs::read_to_string(directory.join(PLANTED))?)?;
    if generate_only {
        for (check, count) in &planted {
            println!("{count:6}  {check}");
        }
        return Ok(());
    }
    judge(&directory, &root.join("benches/tpch-rules.yaml"), &planted)
}

fn judge(directory: &Path, rules: &Path, planted: &BTreeMap<String, u64>) -> Result<(), Failure> {
    let start = Instant::now();
    let source = [directory.display().to_string()];
    let opened = firstbad::source::open(&source).map_err(|error| format!("{error:?}"))?;
    let text = std::fs::read_to_string(rules)?;
    let (rules, mistakes) = firstbad::rule::file::parse(&text, rules);
    if !mistakes.is_empty() {
        return Err(format!("{mistakes:?}").into());
    }
    let options = Options {
        position: 0,
        now_us: parse_timestamp(NOW),
        sample: Some(10),
    };
    let judge = Judge::new(Arc::new(opened.history), Limits::default())?;
    let prepared = judge
        .prepare(&rules, &options)
        .map_err(|mistakes| format!("{mistakes:?}"))?;
    let outcomes = judge.check(prepared, &options, &|_| {});
    let elapsed = start.elapsed();
    let mut found = BTreeMap::new();
    for outcome in &outcomes {
        let judged = outcome
            .judged
            .map_or_else(String::new, |judged| judged.to_string());
        println!(
            "{:6} ms  {judged:>8} judged  {}",
            outcome.elapsed_ms, outcome.rule.id
        );
        if let Some(reason) = &outcome.reason {
            return Err(format!("{}: {reason}", outcome.rule.id).into());
        }
        found.insert(outcome.rule.id.to_string(), outcome.violations.unwrap_or(0));
    }
    assert_eq!(&found, planted, "found on the left, planted on the right");
    println!(
        "{} checks found the {} planted violations in {:.2} s",
        found.len(),
        found.values().sum::<u64>(),
        elapsed.as_secs_f64()
    );
    Ok(())
}
