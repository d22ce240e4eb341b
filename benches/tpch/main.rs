//! The check suite over TPC-H: writes the data when they are not there, judges `benches/tpch-rules.yaml` over the files and over a store
//! made from them, and fails unless exactly what was planted is found.
//!
//! `cargo bench --bench tpch -- [--scale 1] [--dir target/tpch-sf1] [--generate] [--only-store]`

mod plant;
mod store;
mod tables;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use firstbad::judge::{Judge, Limits, Options};
use firstbad::schema::value::parse_timestamp;
use firstbad::state::History;

type Failure = Box<dyn std::error::Error>;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Two days after the last order.
const NOW: &str = "1998-08-04T00:00:00Z";
const PLANTED: &str = "planted.json";

struct Arguments {
    scale: f64,
    directory: PathBuf,
    store: PathBuf,
    generate_only: bool,
    /// Only the checks over the store, with what they found as JSON: for `benches/peers.py`.
    only_store: bool,
}

impl Arguments {
    fn read(root: &Path) -> Result<Arguments, Failure> {
        let (mut scale, mut directory) = (1.0, None);
        let (mut generate_only, mut only_store) = (false, false);
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--scale" => scale = value()?.parse()?,
                "--dir" => directory = Some(PathBuf::from(value()?)),
                "--generate" => generate_only = true,
                "--only-store" => only_store = true,
                "--bench" => {}
                other => return Err(format!("unknown argument {other}").into()),
            }
        }
        let directory = directory.unwrap_or_else(|| root.join(format!("target/tpch-sf{scale}")));
        let mut store = directory.clone().into_os_string();
        store.push("-store");
        Ok(Arguments {
            scale,
            directory,
            store: store.into(),
            generate_only,
            only_store,
        })
    }
}

fn main() -> Result<(), Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let arguments = Arguments::read(root)?;
    let directory = &arguments.directory;
    let rules = root.join("benches/tpch-rules.yaml");
    if arguments.only_store {
        let start = Instant::now();
        let found = judge(|| store::history(&arguments.store), &rules)?.found;
        let inside = start.elapsed().as_secs_f64();
        println!(
            "{}",
            serde_json::json!({ "found": found, "inside": inside })
        );
        return Ok(());
    }
    if !directory.join(PLANTED).is_file() {
        let start = Instant::now();
        let planted = tables::write(directory, arguments.scale)?;
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
    if arguments.generate_only {
        for (check, count) in &planted {
            println!("{count:6}  {check}");
        }
        return Ok(());
    }
    store::write(directory, &arguments.store)?;
    store::compare(&arguments.store)?;
    println!("   files    store  judged (ms a check; two are judged at once)");
    let open = || {
        let opened = firstbad::source::open(&[directory.display().to_string()]);
        Ok(opened.map_err(|error| format!("{error:?}"))?.history)
    };
    let files = judge(open, &rules)?;
    let store = judge(|| store::history(&arguments.store), &rules)?;
    for ((id, judged, ms), (_, also, in_store)) in files.checks.iter().zip(&store.checks) {
        assert_eq!(judged, also, "{id}");
        println!("{ms:8} {in_store:8}  {judged:9}  {id}");
    }
    for (name, run) in [("files", &files), ("store", &store)] {
        assert_eq!(
            run.found, planted,
            "found on the left, planted on the right"
        );
        println!(
            "{name}: {} checks found the {} planted violations in {:.2} s, {:.2} s CPU",
            run.found.len(),
            run.found.values().sum::<u64>(),
            run.wall_s,
            run.cpu_s
        );
    }
    Ok(())
}

/// What judging all checks found, and what it took from opening the source on.
struct Run {
    found: BTreeMap<String, u64>,
    /// Id, subjects and milliseconds of each check.
    checks: Vec<(String, u64, u64)>,
    wall_s: f64,
    cpu_s: f64,
}

fn judge(open: impl FnOnce() -> Result<History, Failure>, rules: &Path) -> Result<Run, Failure> {
    let (start, cpu) = (Instant::now(), cpu_s());
    let history = open()?;
    let text = std::fs::read_to_string(rules)?;
    let (rules, mistakes) = firstbad::rule::file::parse(&text, rules);
    if !mistakes.is_empty() {
        return Err(format!("{mistakes:?}").into());
    }
    let options = Options {
        position: history.first,
        now_us: parse_timestamp(NOW),
        sample: Some(10),
    };
    let judge = Judge::new(Arc::new(history), Limits::default())?;
    let prepared = judge
        .prepare(&rules, &options)
        .map_err(|mistakes| format!("{mistakes:?}"))?;
    let outcomes = judge.check(prepared, &options, &|_| {});
    let (wall_s, cpu_s) = (start.elapsed().as_secs_f64(), cpu_s() - cpu);
    let mut found = BTreeMap::new();
    let mut checks = Vec::new();
    for outcome in &outcomes {
        let id = outcome.rule.id.to_string();
        if let Some(reason) = &outcome.reason {
            return Err(format!("{id}: {reason}").into());
        }
        found.insert(id.clone(), outcome.violations.unwrap_or(0));
        checks.push((id, outcome.judged.unwrap_or(0), outcome.elapsed_ms));
    }
    Ok(Run {
        found,
        checks,
        wall_s,
        cpu_s,
    })
}

/// Seconds of CPU that this process took; 0 where the system does not say.
fn cpu_s() -> f64 {
    const TICKS: f64 = 100.0;
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = text.rsplit_once(')').map_or("", |(_, after)| after);
    // After the name: state, and user and system time as the 12th and 13th field.
    let fields: Vec<f64> = after
        .split_whitespace()
        .skip(12 - 1)
        .take(2)
        .filter_map(|field| field.parse().ok())
        .collect();
    fields.iter().sum::<f64>() / TICKS
}
