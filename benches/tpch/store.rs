//! The same tables as a store: how fast one is made and verified, and the history that its checks read in place.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use firstbad::state::History;
use firstbad::store::disk::{Disk, Local};
use firstbad::store::verify::{Options, verify};
use firstbad::store::{Format, Kind, Store, StoreError, Writer};

use super::Failure;

/// Makes the store where there is none, and says how many rows and bytes a second went into it.
pub(crate) fn write(tables: &Path, directory: &Path) -> Result<(), Failure> {
    if firstbad::store::is_store(directory) {
        return Ok(());
    }
    // Made beside its place: a store that is there is whole.
    let unfinished = directory.with_extension("unfinished");
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished)?;
    }
    let start = Instant::now();
    let opened = firstbad::source::open_held(&[tables.display().to_string()]);
    let history = opened.map_err(|error| format!("{error:?}"))?.history;
    let rows: usize = history.tables.iter().map(|table| table.row_count()).sum();
    let read = start.elapsed().as_secs_f64();
    println!("{rows} rows read in {read:.1} s");
    let kind = Kind::of(history.origin);
    let format = || Format::new("tpch", kind, history.schema.clone(), false);
    let mut writer = Writer::open(&unfinished, format).map_err(shown)?;
    let (start, cpu) = (Instant::now(), super::cpu_s());
    writer.snapshot(&history, history.first).map_err(shown)?;
    let (wall, cpu) = (start.elapsed().as_secs_f64(), super::cpu_s() - cpu);
    let million = rows as f64 / 1e6;
    println!(
        "snapshot: {rows} rows in {wall:.2} s ({cpu:.2} s CPU), {:.2} M rows/s ({:.2} a CPU second)",
        million / wall,
        million / cpu
    );
    drop(writer);
    std::fs::rename(&unfinished, directory)?;
    Ok(())
}

/// Compares every byte, and says how many a second.
pub(crate) fn compare(directory: &Path) -> Result<(), Failure> {
    let disk: Arc<dyn Disk> = Arc::new(Local::new(directory));
    let options = Options {
        since: None,
        head: None,
        prove: false,
    };
    let (start, cpu) = (Instant::now(), super::cpu_s());
    let report = verify(&disk, &options, &|_, _, _| {}).map_err(shown)?;
    let (wall, cpu) = (start.elapsed().as_secs_f64(), super::cpu_s() - cpu);
    assert_eq!(report.damage, [], "the store is whole");
    let giga = report.bytes as f64 / 1e9;
    println!(
        "verify: {:.0} MB in {wall:.3} s ({cpu:.2} s CPU), {:.2} GB/s",
        giga * 1e3,
        giga / wall
    );
    Ok(())
}

/// The history of the store's first snapshot, read in place.
pub(crate) fn history(directory: &Path) -> Result<History, Failure> {
    let store = Store::open(directory).map_err(shown)?;
    let at = store.ledger().first;
    store.history_in_place(at).map_err(shown)
}

fn shown(error: StoreError) -> Failure {
    error.to_string().into()
}
