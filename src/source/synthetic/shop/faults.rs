//! What goes wrong, and the record of it.

use std::io;

use super::life::{Event, Life};
use super::out::{Change, HOUR, MINUTE, Stamp, Val};
use super::plan::Service;
use super::world::{Order, Stock};
use super::{
    BROKEN_VERSION, Flash, GRACE_MINUTES, LOST_ONE_IN, LostUpdate, MissingShipment, Summary,
};

/// How many totals the flash spoils.
const FLASH_ORDERS: usize = 23;
/// After how many commits they are right again.
const FLASH_COMMITS: u32 = 4;
/// Of so many lost orders, support finds one.
const FOUND_ONE_IN: usize = 6;

/// What the faults remember between events.
#[derive(Default)]
pub(super) struct Faults {
    /// How many orders the broken release has been paid, and which of the current batch it loses.
    paid: u64,
    loses: u64,
    /// Orders with a wrong total, and the commit that puts them right.
    spoiled: Option<(u32, Vec<(i64, i64)>)>,
}

impl Life<'_> {
    /// The broken release sends the hand-over to the warehouse after the commit, and not always: of every thirty
    /// orders that are paid through it, one is lost.
    pub(super) fn loses_hand_over(&mut self, version: &str, order: i64, paid: Stamp) -> bool {
        if version != BROKEN_VERSION {
            return false;
        }
        if self.summary.orders_paid_broken == 0 {
            self.summary.release_commit = paid.commit;
        }
        self.summary.orders_paid_broken += 1;
        if self.faults.paid.is_multiple_of(LOST_ONE_IN) {
            self.faults.loses = self.faults.paid + self.rng.below(LOST_ONE_IN);
        }
        let lost = self.faults.paid == self.faults.loses;
        self.faults.paid += 1;
        if lost {
            if self.summary.missing_shipments.len() % FOUND_ONE_IN == FOUND_ONE_IN / 2 {
                self.later(paid.time, 20 * 60, 30 * 60, Event::Rescue(order));
            } else if self.rng.chance(500) {
                self.later(paid.time, 30 * 60, 60 * 60, Event::Note(order));
            }
            let (commit, time_ms) = (paid.commit, paid.time);
            let missing = MissingShipment {
                order,
                commit,
                time_ms,
                healed: None,
                overdue: true,
            };
            self.summary.missing_shipments.push(missing);
        }
        lost
    }

    /// Support has found a lost order and handed it over.
    pub(super) fn found_again(&mut self, order: i64, stamp: Stamp) {
        let missing = self
            .summary
            .missing_shipments
            .iter_mut()
            .find(|missing| missing.order == order);
        missing.expect("support only finds what was lost").healed = Some(stamp.commit);
    }

    /// A job writes the net sum into the totals of orders that are on their way.
    pub(super) fn spoil_totals(&mut self, at: i64) -> io::Result<()> {
        let begin = self.begin(at);
        // Parcels travel for twenty hours at least: what left after `recent` cannot be over in a few commits.
        let recent = Some(begin - 19 * HOUR);
        let left = |order: &Order| {
            order
                .shipment
                .as_ref()
                .and_then(|shipment| shipment.shipped_at)
        };
        let on_their_way = self
            .world
            .orders
            .values_mut()
            .filter(|order| left(order) > recent);
        let (mut changes, mut spoiled) = (Vec::new(), Vec::new());
        for order in on_their_way.take(FLASH_ORDERS) {
            let (right, wrong) = (order.total, order.total * 100 / 119);
            order.total = wrong;
            changes
                .push(order.update(begin, vec![("total", Val::Cents(right), Val::Cents(wrong))]));
            spoiled.push((order.id, right));
        }
        assert!(!changes.is_empty(), "some orders are always on their way");
        let stamp = self.commit(Service::Backoffice, begin, &changes)?;
        let orders = spoiled.iter().map(|(id, _)| *id).collect();
        self.summary.flash = Some(Flash {
            from: stamp.commit,
            to: stamp.commit + FLASH_COMMITS,
            orders,
        });
        self.faults.spoiled = Some((stamp.commit + FLASH_COMMITS, spoiled));
        Ok(())
    }

    /// The job's author notices, and runs it the other way round.
    pub(super) fn put_totals_back(&mut self) -> io::Result<()> {
        let next = self.log.last().commit + 1;
        let Some((_, spoiled)) = self.faults.spoiled.take_if(|(at, _)| *at <= next) else {
            return Ok(());
        };
        let begin = self.begin(self.log.last().time + 700);
        let mut changes: Vec<Change> = Vec::new();
        for (id, right) in spoiled {
            let order = self
                .world
                .orders
                .get_mut(&id)
                .expect("orders on their way take longer than a few commits");
            let wrong = std::mem::replace(&mut order.total, right);
            changes
                .push(order.update(begin, vec![("total", Val::Cents(wrong), Val::Cents(right))]));
        }
        let stamp = self.commit(Service::Backoffice, begin, &changes)?;
        let flash = self
            .summary
            .flash
            .as_mut()
            .expect("spoiled before it is put right");
        assert_eq!(
            flash.to, stamp.commit,
            "between the two, every event is one commit"
        );
        Ok(())
    }

    /// A receipt of goods was entered from what had been read before the parcel left (`read`): it writes the number
    /// of pieces without the parcel's, and the version that the parcel has already taken.
    pub(super) fn overwrite_stock(
        &mut self,
        parcel: Stamp,
        shelf: usize,
        read: Stock,
    ) -> io::Result<()> {
        if parcel.time < self.plan.lost_update || self.summary.lost_update.is_some() {
            return Ok(());
        }
        let begin = self.begin(parcel.time + 35);
        let quantity = self.world.receipt_quantity;
        let current = self.world.stock[shelf].clone();
        let missing = read.on_hand - current.on_hand;
        let stale = Stock {
            on_hand: read.on_hand + quantity,
            version: read.version + 1,
            ..current
        };
        let change = self.world.write_stock(shelf, stale);
        let changes = self.receipt(begin, shelf, quantity, change);
        let stamp = self.commit(Service::Warehouse, begin, &changes)?;
        let key = self.world.stock_row(shelf);
        let text = |at: usize| match &key[at].1 {
            Val::Text(text) => text.clone(),
            _ => unreachable!("the key of stock is two texts"),
        };
        self.summary.lost_update = Some(LostUpdate {
            commit: stamp.commit,
            overwritten: parcel.commit,
            sku: text(0),
            warehouse: text(1),
            pieces: missing,
        });
        Ok(())
    }

    /// The facts about the whole history.
    pub(super) fn sum_up(mut self) -> Summary {
        let last = self.log.last();
        let grace = GRACE_MINUTES * MINUTE;
        for missing in &mut self.summary.missing_shipments {
            missing.overdue = missing.time_ms + grace < last.time;
        }
        let waiting = |order: &&Order| order.status == "paid" && order.shipment.is_none();
        let overdue = |missing: &&MissingShipment| missing.overdue && missing.healed.is_none();
        let waiting = self.world.orders.values().filter(waiting).count();
        let overdue = self
            .summary
            .missing_shipments
            .iter()
            .filter(overdue)
            .count();
        self.summary.waiting = u64::try_from(waiting - overdue).expect("a count fits 64 bits");
        self.summary.commits = last.commit;
        self.summary.changes = self.log.changes();
        self.summary.last_time_ms = last.time;
        self.summary
    }
}
