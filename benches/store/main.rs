//! What a store costs: snapshots and their proof, time travel, and the way to the first bad write among many snapshots.
//!
//! `cargo bench --profile dist --bench store -- [snapshot] [travel] [search] [--orders 400000] [--snapshots 1000] [--each 10000]`

#[path = "../history/shop.rs"]
#[allow(dead_code)]
mod shop;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use firstbad::store::disk::{Disk, Local};
use firstbad::store::verify::{Options, verify};
use firstbad::store::{Format, Kind, Sealing, Store, Writer};

use firstbad::state::History;
use shop::Shop;

type Failure = Box<dyn std::error::Error>;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Sizes {
    orders: usize,
    snapshots: usize,
    each: usize,
}

fn main() -> Result<(), Failure> {
    let mut parts = Vec::new();
    let mut sizes = Sizes {
        orders: 400_000,
        snapshots: 1_000,
        each: 10_000,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--orders" => sizes.orders = value()?.parse()?,
            "--snapshots" => sizes.snapshots = value()?.parse()?,
            "--each" => sizes.each = value()?.parse()?,
            "--bench" => {}
            part => parts.push(part.to_owned()),
        }
    }
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|have| have == part);
    if wanted("snapshot") {
        snapshots(&sizes)?;
    }
    if wanted("travel") {
        travel(&sizes)?;
    }
    if wanted("search") {
        search(&sizes)?;
    }
    Ok(())
}

/// A directory below `target/` that is empty.
fn place(name: &str) -> Result<PathBuf, Failure> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if place.is_dir() {
        std::fs::remove_dir_all(&place)?;
    }
    Ok(place)
}

fn writer(place: &Path, history: &History) -> Result<Writer, Failure> {
    let format = || Format::new("shop", Kind::Changes, history.schema.clone(), false);
    Ok(Writer::open(place, format)?)
}

fn bytes_of(store: &Store) -> Result<u64, Failure> {
    Ok(store.usage()?.snapshots_bytes)
}

fn ratio(part: Duration, whole: Duration) -> f64 {
    part.as_secs_f64() / whole.as_secs_f64() * 100.0
}

/// The first snapshot, and further ones after 1 % of the rows changed: neighbours by key, and random ones.
fn snapshots(sizes: &Sizes) -> Result<(), Failure> {
    let mut shop = Shop::new(sizes.orders);
    let rows = shop.rows();
    let place = place("store-snapshot")?;
    let mut writer = writer(&place, &shop.history)?;
    let begun = Instant::now();
    writer.snapshot(&shop.history, 0)?;
    let first = begun.elapsed();
    let first_bytes = bytes_of(writer.store())?;
    println!(
        "first snapshot: {rows} rows in {:.2} s, {:.0} rows/s, {first_bytes} bytes",
        first.as_secs_f64(),
        rows as f64 / first.as_secs_f64()
    );
    for how in ["neighbours", "random"] {
        match how {
            "neighbours" => shop.neighbours(rows / 100),
            _ => shop.transaction(rows / 100),
        }
        writer.record(
            &shop.history,
            Sealing {
                snapshot_every: 0,
                ..Sealing::default()
            },
            &|_| {},
        )?;
        let before = bytes_of(writer.store())?;
        let begun = Instant::now();
        writer.snapshot(&shop.history, shop.history.head())?;
        let next = begun.elapsed();
        let bytes = bytes_of(writer.store())? - before;
        println!(
            "1 % changed, {how}: {:.3} s ({:.1} % of the time), {bytes} bytes ({:.1} %)",
            next.as_secs_f64(),
            ratio(next, first),
            bytes as f64 / first_bytes as f64 * 100.0
        );
    }
    let disk: Arc<dyn Disk> = Arc::new(Local::new(&place));
    for prove in [false, true] {
        let options = Options {
            since: None,
            head: None,
            prove,
        };
        let begun = Instant::now();
        let report = verify(&disk, &options, &|_, _, _| {})?;
        assert!(report.damage.is_empty(), "the store is intact");
        let seconds = begun.elapsed().as_secs_f64();
        let rate = report.bytes as f64 / seconds / 1e9;
        println!(
            "verify, proof {prove}: {} bytes in {seconds:.3} s, {rate:.2} GB/s",
            report.bytes
        );
    }
    Ok(())
}

/// The state a million changes after the last snapshot.
fn travel(sizes: &Sizes) -> Result<(), Failure> {
    let mut shop = Shop::new(sizes.orders);
    let place = place("store-travel")?;
    let mut writer = writer(&place, &shop.history)?;
    while shop.changes() < 1_000_000 {
        shop.transaction(10);
    }
    let sealing = Sealing {
        snapshot_every: 0,
        ..Sealing::default()
    };
    let begun = Instant::now();
    let recorded = writer.record(&shop.history, sealing, &|_| {})?;
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "recorded {} changes in {seconds:.2} s with the first snapshot of {} rows; {} bytes",
        recorded.changes,
        shop.rows(),
        recorded.bytes
    );
    let expected = shop.history.state_fingerprint(shop.history.head());
    drop(writer);
    drop(shop);
    let begun = Instant::now();
    let store = Store::open(&place)?;
    let head = store.ledger().head();
    let history = store.history_of(head..=head)?;
    let seconds = begun.elapsed().as_secs_f64();
    assert_eq!(history.state_fingerprint(head), expected);
    println!(
        "the state {} changes after the snapshot: {seconds:.2} s",
        recorded.changes
    );
    Ok(())
}

/// `bisect --quick` over many snapshots, as a user runs it.
fn search(sizes: &Sizes) -> Result<(), Failure> {
    let mut shop = Shop::new(sizes.orders / 20);
    let place = place("store-search")?;
    let mut writer = writer(&place, &shop.history)?;
    let mut changes = 0;
    let begun = Instant::now();
    let planted = sizes.snapshots * 5 / 8;
    let mut bad = 0;
    for number in 0..sizes.snapshots {
        for _ in 0..sizes.each / 10 {
            shop.transaction(10);
        }
        if number == planted {
            shop.plant();
            bad = shop.history.head();
        }
        let sealing = Sealing {
            snapshot_every: 1,
            ..Sealing::default()
        };
        changes += writer.record(&shop.history, sealing, &|_| {})?.changes;
    }
    println!(
        "{} snapshots of {} rows and {changes} changes: made in {:.0} s, {} bytes",
        sizes.snapshots,
        shop.rows(),
        begun.elapsed().as_secs_f64(),
        bytes_of(writer.store())?
    );
    drop(writer);
    drop(shop);
    let rules = place.with_extension("yaml");
    std::fs::write(
        &rules,
        "rules:\n  - {id: order-total, table: orders, range: {column: total, min: 0}}\n",
    )?;
    for (what, command) in [
        ("check", vec!["check"]),
        ("bisect --quick", vec!["bisect", "--quick"]),
    ] {
        let mut best = f64::MAX;
        for _ in 0..3 {
            let begun = Instant::now();
            let run = Command::new(env!("CARGO_BIN_EXE_firstbad"))
                .args(&command)
                .arg(&place)
                .args(["--rules", &rules.display().to_string(), "--format", "json"])
                .output()?;
            best = best.min(begun.elapsed().as_secs_f64());
            let answer: serde_json::Value = serde_json::from_slice(&run.stdout)?;
            let rule = &answer["rules"][0];
            assert_eq!(rule["verdict"], "violated");
            if what != "check" {
                assert_eq!(rule["first_bad"]["commit"], bad, "the planted write");
                assert_eq!(rule["certainty"], "exact");
            }
        }
        println!("{what}: {best:.2} s");
    }
    Ok(())
}
