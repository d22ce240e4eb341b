//! A live database as the source of a command: one state, read as far as it is needed.

use indicatif::ProgressBar;

use super::arguments::AtArgs;
use super::settings::Source;
use super::{Stop, inputs, output};
use crate::postgres::{Progress, Wanted};
use crate::source::{self, Live, Opened, is_postgres};

/// The database that a source names, at this moment; None for any other source.
pub(super) fn open(
    source: &[String],
    place: Option<&AtArgs>,
    verbose: u8,
) -> Result<Option<Live>, Stop> {
    if !is_live(source) {
        return Ok(None);
    }
    if let Some(place) = place.filter(|place| place.at.trim() != "latest") {
        let at = &place.at;
        let message =
            format!("--at: `{at}` is no position of a live database: it has one state, the latest");
        return Err(output::wrong_argument(&message, Some(RECORD)));
    }
    let bar = output::waiting("connecting");
    let live = source::live(source);
    bar.finish_and_clear();
    live.map_err(|error| inputs::source_error(&error, verbose))
}

/// Where other positions come from.
const RECORD: &str = "`firstbad watch` records its changes in a store, where every commit is a position; \
                      `firstbad snapshot` adds its state to one";

/// Whether arguments name a database.
pub(super) fn is_live(source: &[String]) -> bool {
    matches!(source, [one] if is_postgres(one))
}

/// Reads of a database what is wanted.
pub(super) fn read(live: &Live, wanted: &Wanted, verbose: u8) -> Result<Opened, Stop> {
    let bar = output::waiting("");
    let told = |progress: Progress| show(&bar, progress);
    let opened = live.read(wanted, &told);
    bar.finish_and_clear();
    opened.map_err(|error| inputs::source_error(&error, verbose))
}

/// Shows how far reading has come.
pub(super) fn show(bar: &ProgressBar, progress: Progress) {
    let (rows, expected) = (progress.rows, progress.rows_expected);
    let of = match expected > rows {
        true => format!(" of about {}", crate::report::grouped(expected)),
        false => String::new(),
    };
    bar.set_message(format!(
        "{} rows{of}, {} of {} parts",
        crate::report::grouped(rows),
        progress.parts,
        progress.parts_all
    ));
}

/// Stops where a command needs more than one state.
pub(super) fn one_state(source: &Source) -> Stop {
    let message = format!(
        "`{}` is a live database: it has one state and no history",
        source.shown
    );
    output::wrong_argument(&message, Some(RECORD))
}
