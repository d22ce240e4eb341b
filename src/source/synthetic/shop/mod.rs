//! A shop: a week of commerce with three things wrong in it, each of which one rule of `testdata/shop/rules` finds.
//!
//! - From a release on ([`BROKEN_VERSION`] of checkout), one of every thirty orders that are paid never reaches the
//!   warehouse: [`Summary::missing_shipments`].
//! - A job spoils the totals of some orders and puts them back a few commits later: [`Summary::flash`].
//! - A receipt of goods overwrites stock that a parcel had just taken from: [`Summary::lost_update`].
//!
//! Everything else is in order. Equal shops give equal bytes; time and memory follow the number of transactions and
//! of orders under way.

mod faults;
mod life;
mod names;
mod noise;
mod out;
mod parcels;
mod past;
mod plan;
mod world;

use std::fmt;
use std::io;
use std::path::Path;

use self::life::Life;
use self::out::{Log, timestamp};
use self::plan::Plan;
use super::rng::Rng;
use crate::change::Commit;

/// The tables, as `pg_dump --schema-only` printed them.
const SCHEMA: &str = include_str!("schema.sql");
/// The release of checkout that loses orders.
pub const BROKEN_VERSION: &str = "v2.14.0";
/// An order is with the warehouse so many minutes after it was paid, or it is lost.
pub const GRACE_MINUTES: i64 = 30;
/// The broken release loses one order of so many.
pub const LOST_ONE_IN: u64 = 30;
/// The rule that finds [`Summary::missing_shipments`].
pub const MISSING_SHIPMENT_RULE: &str = "paid-order-without-shipment";
/// The rule that finds [`Summary::flash`].
pub const FLASH_RULE: &str = "order-total-mismatch";
/// The rule that finds [`Summary::lost_update`].
pub const LOST_UPDATE_RULE: &str = "stock-overwritten";
/// A warehouse orders more when it can promise fewer pieces than this.
const LOW_STOCK: i64 = 12;

/// What a history is made of. The default is `testdata/shop`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shop {
    /// Different seeds give different histories.
    pub seed: u64,
    /// How long the log runs; at least 7, so that the releases come one after the other.
    pub days: u32,
    /// How many orders a day, about; each makes five transactions or six.
    pub orders_per_day: u32,
    /// How many customers there are when the log begins.
    pub customers: u32,
    /// How many products there are.
    pub products: u32,
    /// How many orders were placed before the log begins; they are in the snapshot.
    pub past_orders: u32,
}

impl Default for Shop {
    fn default() -> Shop {
        Shop {
            seed: 79,
            days: 7,
            orders_per_day: 180,
            customers: 1400,
            products: 240,
            past_orders: 1450,
        }
    }
}

/// An order that was paid and did not reach the warehouse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingShipment {
    /// Its id.
    pub order: i64,
    /// The commit that marked it paid: the bad write.
    pub commit: Commit,
    /// The time of that commit, milliseconds since 1970, UTC.
    pub time_ms: i64,
    /// The commit in which support handed it over by hand.
    pub healed: Option<Commit>,
    /// False where the log ends before its [`GRACE_MINUTES`] do.
    pub overdue: bool,
}

/// Totals that were wrong for a few commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flash {
    /// The commit that spoiled them.
    pub from: Commit,
    /// The commit that put them back.
    pub to: Commit,
    /// Ids of the orders.
    pub orders: Vec<i64>,
}

/// A write that was lost because another one had read before it and wrote after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostUpdate {
    /// The commit that wrote what was no longer true: the bad write.
    pub commit: Commit,
    /// The commit whose write was lost.
    pub overwritten: Commit,
    /// The product.
    pub sku: String,
    /// The warehouse.
    pub warehouse: String,
    /// How many pieces too many are on hand since.
    pub pieces: i64,
}

/// What has been written, and where the faults are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many transactions the log has.
    pub commits: Commit,
    /// How many changes they make.
    pub changes: u64,
    /// How many rows the snapshot has.
    pub snapshot_rows: u64,
    /// The time of the last commit, milliseconds since 1970, UTC.
    pub last_time_ms: i64,
    /// How many orders were paid in the log.
    pub orders_paid: u64,
    /// How many of them through [`BROKEN_VERSION`].
    pub orders_paid_broken: u64,
    /// When [`BROKEN_VERSION`] began to roll out, milliseconds since 1970, UTC.
    pub release_time_ms: i64,
    /// The first order that was paid through it.
    pub release_commit: Commit,
    /// Found by [`MISSING_SHIPMENT_RULE`], in the order of their commits; the overdue ones are violations.
    pub missing_shipments: Vec<MissingShipment>,
    /// Paid orders that may still wait when the log ends.
    pub waiting: u64,
    /// Found by [`FLASH_RULE`].
    pub flash: Option<Flash>,
    /// Found by [`LOST_UPDATE_RULE`].
    pub lost_update: Option<LostUpdate>,
}

impl Shop {
    /// A shop whose log has about `transactions` transactions, with as many customers and products as that takes.
    pub fn of_transactions(transactions: u32) -> Shop {
        let fixture = Shop::default();
        let orders_per_day = (transactions / 37).max(20);
        let scaled = |count: u32| {
            let scaled =
                u64::from(count) * u64::from(orders_per_day) / u64::from(fixture.orders_per_day);
            u32::try_from(scaled).unwrap_or(u32::MAX).max(count)
        };
        Shop {
            orders_per_day,
            customers: scaled(fixture.customers),
            products: scaled(fixture.products).min(5_000),
            past_orders: scaled(fixture.past_orders),
            ..fixture
        }
    }

    /// Writes `schema.sql`, `snapshot/` and `changes/` of a history directory and says what is in it. Other files in
    /// `dir` stay. What was there is replaced when everything new has been written, or not at all.
    pub fn write(&self, dir: &Path) -> io::Result<Summary> {
        if self.days < 7 || self.orders_per_day < 20 || self.customers == 0 || self.products < 20 {
            let message = "a shop needs 7 days, 20 orders a day, a customer and 20 products";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        std::fs::create_dir_all(dir)?;
        let new = dir.join(format!(".new-{}", std::process::id()));
        let written = self.write_new(&new).and_then(|summary| {
            out::put_in_place(&new, dir, &["schema.sql", "snapshot", "changes"])?;
            Ok(summary)
        });
        if written.is_err() {
            // The first error is the one that matters.
            let _ = std::fs::remove_dir_all(&new);
        }
        written
    }

    fn write_new(&self, new: &Path) -> io::Result<Summary> {
        std::fs::create_dir(new)?;
        std::fs::write(new.join("schema.sql"), SCHEMA)?;
        let plan = Plan::of(self);
        let mut rng = Rng::new(self.seed);
        let mut world = past::world(self);
        let snapshot_rows = past::write(self, &plan, &mut world, &mut rng, &new.join("snapshot"))?;
        let log = Log::create(new.join("changes"), plan.start)?;
        let summary = Summary {
            snapshot_rows,
            release_time_ms: plan.release,
            ..Summary::default()
        };
        Life::new(self, &plan, rng, world, log, summary).run()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} transactions with {} changes after {} rows; {} orders paid, {} of them through checkout {BROKEN_VERSION}",
            self.commits,
            self.changes,
            self.snapshot_rows,
            self.orders_paid,
            self.orders_paid_broken
        )?;
        writeln!(
            f,
            "release {} (first order paid: #{})",
            timestamp(self.release_time_ms),
            self.release_commit
        )?;
        writeln!(
            f,
            "{MISSING_SHIPMENT_RULE}: {} lost, {} still in time",
            self.missing_shipments.len(),
            self.waiting
        )?;
        for MissingShipment {
            order,
            commit,
            time_ms,
            healed,
            overdue,
        } in &self.missing_shipments
        {
            write!(f, "  #{commit} {} order {order}", timestamp(*time_ms))?;
            match (healed, overdue) {
                (Some(healed), _) => writeln!(f, ", healed by #{healed}")?,
                (None, true) => writeln!(f)?,
                (None, false) => writeln!(f, ", not yet overdue")?,
            }
        }
        if let Some(Flash { from, to, orders }) = &self.flash {
            writeln!(f, "{FLASH_RULE}: #{from} until #{to}, orders {orders:?}")?;
        }
        if let Some(LostUpdate {
            commit,
            overwritten,
            sku,
            warehouse,
            pieces,
        }) = &self.lost_update
        {
            writeln!(
                f,
                "{LOST_UPDATE_RULE}: #{commit} overwrites #{overwritten}, {sku} in {warehouse}, {pieces} pieces"
            )?;
        }
        Ok(())
    }
}

/// Writes `testdata/shop`, or wherever `dir` is: what `make fixtures` runs.
pub fn main_shop(dir: &Path) -> io::Result<Summary> {
    Shop::default().write(dir)
}

#[cfg(test)]
mod replay;
#[cfg(test)]
mod tests;
