//! The log: events in the order of their time, each of which writes transactions and makes later events due.

use std::collections::BTreeMap;
use std::io;

use super::out::{Change, Context, DAY, HOUR, Image, Log, MINUTE, Stamp, Val};
use super::plan::{Plan, Service};
use super::world::{
    CLEARING, GOODS_SOLD, INVENTORY, Order, PAYABLES, REVENUE, VAT, World, stock_at,
};
use super::{Shop, Summary};
use crate::source::synthetic::rng::Rng;

/// Something that is due. Numbers are ids of orders and carts, indexes of customers and of stock.
#[derive(Clone, Copy)]
pub(super) enum Event {
    Day(u32),
    Visit,
    Login(i64),
    Abandon(i64),
    Place { customer: usize, cart: Option<i64> },
    Fail(i64),
    Pay(i64),
    Cancel(i64),
    Handover(i64),
    Rescue(i64),
    Withdraw(i64),
    Dispatch(i64),
    Deliver(i64),
    Echo(i64),
    Return(i64),
    Note(i64),
    Restock(usize),
    Register,
    Edit(usize),
    Feed,
    Renumber,
    Flash,
}

/// A shop at work.
pub(super) struct Life<'a> {
    pub(super) shop: &'a Shop,
    pub(super) plan: &'a Plan,
    pub(super) rng: Rng,
    pub(super) world: World,
    pub(super) log: Log,
    pub(super) summary: Summary,
    pub(super) faults: super::faults::Faults,
    queue: BTreeMap<(i64, u64), Event>,
    queued: u64,
}

impl<'a> Life<'a> {
    pub(super) fn new(
        shop: &'a Shop,
        plan: &'a Plan,
        mut rng: Rng,
        world: World,
        log: Log,
        summary: Summary,
    ) -> Self {
        let under_way: Vec<(i64, Event)> = world
            .orders
            .values()
            .map(|order| {
                let at = super::past::due(order, plan, &mut rng);
                (
                    at,
                    if order.status == "paid" {
                        Event::Dispatch(order.id)
                    } else {
                        Event::Deliver(order.id)
                    },
                )
            })
            .collect();
        let faults = super::faults::Faults::default();
        let queue = BTreeMap::new();
        let mut life = Life {
            shop,
            plan,
            rng,
            world,
            log,
            summary,
            faults,
            queue,
            queued: 0,
        };
        under_way
            .into_iter()
            .for_each(|(at, event)| life.due(at, event));
        (0..shop.days).for_each(|day| life.due(plan.start + i64::from(day) * DAY, Event::Day(day)));
        life.due(plan.renumber, Event::Renumber);
        life.due(plan.flash, Event::Flash);
        life
    }

    /// Writes the whole log.
    pub(super) fn run(mut self) -> io::Result<Summary> {
        while let Some(((at, _), event)) = self.queue.pop_first() {
            if at >= self.plan.end {
                break;
            }
            self.put_totals_back()?;
            self.happen(at, event)?;
        }
        self.log.finish()?;
        Ok(self.sum_up())
    }

    pub(super) fn due(&mut self, at: i64, event: Event) {
        self.queued += 1;
        self.queue.insert((at, self.queued), event);
    }

    /// Something happens `low..=high` minutes from `at`.
    pub(super) fn later(&mut self, at: i64, low: i64, high: i64, event: Event) {
        let at = at + self.rng.between(low * MINUTE, high * MINUTE);
        self.due(at, event);
    }

    /// When a transaction that is wanted at `at` begins: later than everything that has been written.
    pub(super) fn begin(&self, at: i64) -> i64 {
        at.max(self.log.last().time + 1)
    }

    /// Commits what began at `begin`, a few milliseconds later.
    pub(super) fn commit(
        &mut self,
        service: Service,
        begin: i64,
        changes: &[Change],
    ) -> io::Result<Stamp> {
        let time = begin + self.rng.between(1, 14);
        let version = self.plan.version(service, begin, &mut self.rng);
        self.commit_as(service, version, time, changes)
    }

    pub(super) fn commit_as(
        &mut self,
        service: Service,
        version: &'static str,
        time: i64,
        changes: &[Change],
    ) -> io::Result<Stamp> {
        let trace_id = u32::try_from(self.rng.below(1 << 32)).expect("drawn below 2^32");
        if self.rng.chance(20) {
            self.log.skip_xids(1);
        }
        self.log.commit(
            time,
            Some(&Context {
                service: service.name(),
                version,
                trace_id,
            }),
            changes,
        )
    }

    fn happen(&mut self, at: i64, event: Event) -> io::Result<()> {
        match event {
            Event::Day(day) => self.day(at, day),
            Event::Visit => self.visit(at),
            Event::Login(cart) => self.login(at, cart),
            Event::Abandon(cart) => self.abandon(at, cart),
            Event::Place { customer, cart } => self.place(at, customer, cart),
            Event::Restock(stock) => self.restock(at, stock),
            Event::Register => self.register(at),
            Event::Edit(customer) => self.edit(at, customer),
            Event::Feed => self.feed(at),
            Event::Renumber => self.renumber(at),
            Event::Flash => self.spoil_totals(at),
            Event::Fail(id)
            | Event::Pay(id)
            | Event::Cancel(id)
            | Event::Handover(id)
            | Event::Rescue(id)
            | Event::Withdraw(id)
            | Event::Dispatch(id)
            | Event::Deliver(id)
            | Event::Echo(id)
            | Event::Return(id)
            | Event::Note(id) => self.order_event(at, event, id),
        }
    }

    /// An order is taken out of the state, changed, and put back unless it is over.
    fn order_event(&mut self, at: i64, event: Event, id: i64) -> io::Result<()> {
        let Some(mut order) = self.world.orders.remove(&id) else {
            return Ok(());
        };
        let begin = self.begin(at);
        let over = match event {
            Event::Fail(_) => self.fail(begin, &mut order)?,
            Event::Pay(_) => self.pay(begin, &mut order)?,
            Event::Cancel(_) => self.cancel(begin, &mut order)?,
            Event::Handover(_) => self.hand_over(begin, &mut order, Service::Warehouse)?,
            Event::Rescue(_) => self.hand_over(begin, &mut order, Service::Support)?,
            Event::Withdraw(_) => self.withdraw(begin, &mut order)?,
            Event::Dispatch(_) => self.dispatch(begin, &mut order)?,
            Event::Deliver(_) => self.deliver(begin, &mut order)?,
            Event::Echo(_) => self.echo(begin, &mut order)?,
            Event::Return(_) => self.give_back(begin, &mut order)?,
            _ => self.note(begin, &mut order)?,
        };
        if !over {
            self.world.orders.insert(id, order);
        }
        Ok(())
    }

    fn day(&mut self, midnight: i64, day: u32) -> io::Result<()> {
        // One visitor in seven leaves without an order.
        let count = self.shop.orders_per_day + self.shop.orders_per_day / 6;
        for at in self.plan.visits(day, count, &mut self.rng) {
            self.due(at, Event::Visit);
        }
        for _ in 0..self.shop.orders_per_day / 16 + 1 {
            let at = midnight + self.rng.between(6 * HOUR, 22 * HOUR);
            let event = match self.rng.below(5) {
                0 => Event::Register,
                _ => Event::Edit(self.rng.index(self.world.customers.len())),
            };
            self.due(at, event);
        }
        self.due(midnight + 2 * HOUR + 30 * MINUTE, Event::Feed);
        Ok(())
    }

    pub(super) fn place(&mut self, at: i64, customer: usize, cart: Option<i64>) -> io::Result<()> {
        let begin = self.begin(at);
        let mut changes = Vec::new();
        if let Some(cart) = cart.and_then(|id| self.world.carts.remove(&id)) {
            changes.push(Change::delete("carts", cart.row()));
        }
        if let Some(order) = self.world.draw_order(&mut self.rng, customer, begin) {
            changes.push(Change::insert("orders", order.row()));
            changes.extend(inserts("order_lines", self.world.line_rows(&order)));
            for line in &order.lines {
                changes.push(self.world.move_stock(
                    stock_at(line.product, order.warehouse),
                    0,
                    line.quantity,
                ));
            }
            self.after_placing(begin, &order);
            self.world.orders.insert(order.id, order);
        }
        if changes.is_empty() {
            return Ok(());
        }
        self.commit(Service::Checkout, begin, &changes).map(drop)
    }

    /// What the customer does next, and what the warehouse has to fetch.
    fn after_placing(&mut self, at: i64, order: &Order) {
        let id = order.id;
        match self.rng.below(100) {
            0..85 => self.later(at, 1, 8, Event::Pay(id)),
            85..93 => self.later(at, 1, 3, Event::Fail(id)),
            93..97 => self.later(at, 10, 60, Event::Cancel(id)),
            _ => self.later(at, 24 * 60, 24 * 60 + 20, Event::Cancel(id)),
        }
        if self.rng.chance(25) {
            self.later(at, 60, 600, Event::Note(id));
        }
        for line in &order.lines {
            let at_stock = stock_at(line.product, order.warehouse);
            let stock = &mut self.world.stock[at_stock];
            if stock.on_hand - stock.reserved < super::LOW_STOCK && !stock.receipt_expected {
                stock.receipt_expected = true;
                self.later(at, 60, 300, Event::Restock(at_stock));
            }
        }
    }

    fn fail(&mut self, at: i64, order: &mut Order) -> io::Result<bool> {
        let row = self.world.payment_row(&mut self.rng, order, false, at);
        self.commit(Service::Checkout, at, &[Change::insert("payments", row)])?;
        let again = if self.rng.chance(800) {
            Event::Pay(order.id)
        } else {
            Event::Cancel(order.id)
        };
        self.later(at, 1, 15, again);
        Ok(false)
    }

    fn pay(&mut self, at: i64, order: &mut Order) -> io::Result<bool> {
        let mut changes = vec![order.set_status(at, "paid")];
        changes.push(Change::insert(
            "payments",
            self.world.payment_row(&mut self.rng, order, true, at),
        ));
        let (sum, vat) = (order.sum(), order.vat());
        let booking = self
            .world
            .booking(at, &[(CLEARING, sum), (REVENUE, vat - sum), (VAT, -vat)]);
        changes.extend(inserts("ledger_entries", booking));
        let version = self.plan.version(Service::Checkout, at, &mut self.rng);
        let time = at + self.rng.between(1, 14);
        let stamp = self.commit_as(Service::Checkout, version, time, &changes)?;
        self.summary.orders_paid += 1;
        if self.loses_hand_over(version, order.id, stamp) {
            return Ok(false);
        }
        self.later(at, 2, 24, Event::Handover(order.id));
        if self.rng.chance(20) {
            self.later(at, 35, 60, Event::Withdraw(order.id));
        }
        Ok(false)
    }

    fn cancel(&mut self, at: i64, order: &mut Order) -> io::Result<bool> {
        if order.status != "placed" {
            return Ok(false);
        }
        let mut changes = vec![order.set_status(at, "cancelled")];
        for line in &order.lines {
            changes.push(self.world.move_stock(
                stock_at(line.product, order.warehouse),
                0,
                -line.quantity,
            ));
        }
        self.commit(Service::Checkout, at, &changes)?;
        Ok(true)
    }

    /// Money back before the parcel has left.
    fn withdraw(&mut self, at: i64, order: &mut Order) -> io::Result<bool> {
        let Some(mut shipment) = order
            .shipment
            .take()
            .filter(|shipment| shipment.status == "pending")
        else {
            return Ok(false);
        };
        let mut changes = vec![order.set_status(at, "refunded")];
        changes.push(shipment.update(vec![("status", "pending".into(), "cancelled".into())]));
        shipment.status = "cancelled";
        order.shipment = Some(shipment);
        changes.push(Change::insert(
            "refunds",
            self.world.refund_row(&mut self.rng, order, at),
        ));
        for line in &order.lines {
            changes.push(self.world.move_stock(
                stock_at(line.product, order.warehouse),
                0,
                -line.quantity,
            ));
        }
        changes.extend(self.money_back(at, order, &[]));
        self.commit(Service::Support, at, &changes)?;
        Ok(true)
    }

    /// Money and goods back.
    fn give_back(&mut self, at: i64, order: &mut Order) -> io::Result<bool> {
        let mut changes = vec![order.set_status(at, "refunded")];
        changes.push(Change::insert(
            "refunds",
            self.world.refund_row(&mut self.rng, order, at),
        ));
        for line in &order.lines {
            let stock = stock_at(line.product, order.warehouse);
            changes.push(self.world.move_stock(stock, line.quantity, 0));
            let row = self
                .world
                .movement_row(stock, line.quantity, "return", Some(order.id), at);
            changes.push(Change::insert("stock_movements", row));
        }
        let cost = self.world.cost(order);
        changes.extend(self.money_back(at, order, &[(INVENTORY, cost), (GOODS_SOLD, -cost)]));
        self.commit(Service::Billing, at, &changes)?;
        Ok(true)
    }

    fn money_back(&mut self, at: i64, order: &Order, more: &[(&'static str, i64)]) -> Vec<Change> {
        let (sum, vat) = (order.sum(), order.vat());
        let mut entries = vec![(CLEARING, -sum), (REVENUE, sum - vat), (VAT, vat)];
        entries.extend(more);
        inserts("ledger_entries", self.world.booking(at, &entries)).collect()
    }

    fn note(&mut self, at: i64, order: &mut Order) -> io::Result<bool> {
        let text = *self.rng.pick(&[
            "Kunde hat angerufen",
            "asked: \"où est mon colis ?\"",
            "address confirmed",
        ]);
        let change = order.update(at, vec![("note", order.note.into(), text.into())]);
        order.note = Some(text);
        self.commit(Service::Support, at, &[change])?;
        Ok(false)
    }

    fn restock(&mut self, at: i64, stock: usize) -> io::Result<()> {
        let begin = self.begin(at);
        let quantity = self.world.receipt_quantity + self.rng.between(0, 12);
        let change = self.world.move_stock(stock, quantity, 0);
        self.world.stock[stock].receipt_expected = false;
        let changes = self.receipt(begin, stock, quantity, change);
        self.commit(Service::Warehouse, begin, &changes).map(drop)
    }

    /// Goods come in: the stock row's change, the movement, and what is owed for it.
    pub(super) fn receipt(
        &mut self,
        at: i64,
        stock: usize,
        quantity: i64,
        change: Change,
    ) -> Vec<Change> {
        let row = self
            .world
            .movement_row(stock, quantity, "receipt", None, at);
        let worth = quantity * self.world.product(stock).cost;
        let mut changes = vec![change, Change::insert("stock_movements", row)];
        let booking = self
            .world
            .booking(at, &[(INVENTORY, worth), (PAYABLES, -worth)]);
        changes.extend(inserts("ledger_entries", booking));
        changes
    }

    pub(super) fn sold(&mut self, at: i64, order: &Order) -> Vec<Change> {
        let cost = self.world.cost(order);
        inserts(
            "ledger_entries",
            self.world
                .booking(at, &[(GOODS_SOLD, cost), (INVENTORY, -cost)]),
        )
        .collect()
    }
}

/// One insert a row.
pub(super) fn inserts(table: &'static str, rows: Vec<Image>) -> impl Iterator<Item = Change> {
    rows.into_iter().map(move |row| Change::insert(table, row))
}

/// A column that gets a time for the first time.
pub(super) fn stamped(column: &'static str, at: i64) -> (&'static str, Val, Val) {
    (column, Val::Null, Val::Time(at))
}
