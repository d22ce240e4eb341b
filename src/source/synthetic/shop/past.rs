//! The snapshot: ten days of trade that are over when the log begins.

use std::io;
use std::path::Path;

use super::names::WAREHOUSES;
use super::out::{Csv, DAY, HOUR, Image, MINUTE};
use super::world::{
    ACCOUNTS, CLEARING, Customer, EQUITY, GOODS_SOLD, INVENTORY, Order, PAYABLES, Product, REVENUE,
    Shipment, Stock, TABLES, VAT, World, next, stock_at,
};
use super::{Plan, Shop};
use crate::source::synthetic::rng::Rng;

/// How long before the log the oldest order was placed.
const PAST_DAYS: i64 = 10;

/// The files of the snapshot, in the order of [`TABLES`].
struct Files(Vec<Csv>);

impl Files {
    fn row(&mut self, table: &str, image: &Image) -> io::Result<()> {
        let at = TABLES
            .iter()
            .position(|(name, _)| *name == table)
            .expect("only tables of the shop are written");
        self.0[at].row(image)
    }

    fn rows(&mut self, table: &str, images: &[Image]) -> io::Result<()> {
        images.iter().try_for_each(|image| self.row(table, image))
    }
}

/// Writes `snapshot/` and says how many rows it has. Orders that are still under way stay in `world`.
pub(super) fn write(
    shop: &Shop,
    plan: &Plan,
    world: &mut World,
    rng: &mut Rng,
    dir: &Path,
) -> io::Result<u64> {
    std::fs::create_dir_all(dir)?;
    let create =
        |(table, columns): &(&str, &'static [&'static str])| Csv::create(dir, table, columns);
    let mut files = Files(TABLES.iter().map(create).collect::<io::Result<_>>()?);
    let opening = plan.start - PAST_DAYS * DAY;
    open(shop, world, rng, opening, &mut files)?;
    let step = PAST_DAYS * DAY / i64::from(shop.past_orders.max(1));
    for number in 0..i64::from(shop.past_orders) {
        let at = opening + number * step + rng.between(0, step - 1);
        let customer = rng.index(world.customers.len());
        let Some(order) = world.draw_order(rng, customer, at) else {
            continue;
        };
        past_order(plan, world, rng, order, &mut files)?;
    }
    for at in 0..world.stock.len() {
        files.row("stock", &world.stock_row(at))?;
    }
    for (index, customer) in world.customers.iter().enumerate() {
        files.row("customers", &customer.row(index))?;
    }
    files.0.into_iter().map(Csv::finish).sum()
}

/// The day the shop opened: accounts, customers, products, and what lay in the warehouses.
fn open(
    shop: &Shop,
    world: &mut World,
    rng: &mut Rng,
    opening: i64,
    files: &mut Files,
) -> io::Result<()> {
    for (code, name, kind) in ACCOUNTS {
        files.row(
            "ledger_accounts",
            &vec![
                ("code", code.into()),
                ("name", name.into()),
                ("kind", kind.into()),
            ],
        )?;
    }
    for id in 0..shop.customers as usize {
        let created_at = opening - rng.between(0, 300 * DAY);
        world
            .customers
            .push(Customer::draw(rng, id + 1, created_at));
    }
    let mut worth = 0;
    for number in 0..shop.products as usize {
        let product = Product::draw(rng, number);
        files.row("products", &product.row())?;
        let cost = product.cost;
        world.products.push(product);
        for warehouse in 0..WAREHOUSES.len() {
            let on_hand = world.receipt_quantity + rng.between(10, 60);
            world.stock.push(Stock {
                on_hand,
                reserved: 0,
                version: 1,
                receipt_expected: false,
            });
            worth += on_hand * cost;
            let row = world.movement_row(
                stock_at(number, warehouse),
                on_hand,
                "opening",
                None,
                opening,
            );
            files.row("stock_movements", &row)?;
        }
    }
    files.rows(
        "ledger_entries",
        &world.booking(opening, &[(INVENTORY, worth), (EQUITY, -worth)]),
    )
}

/// The whole life of one order before the log begins, as far as it got.
fn past_order(
    plan: &Plan,
    world: &mut World,
    rng: &mut Rng,
    mut order: Order,
    files: &mut Files,
) -> io::Result<()> {
    let lines = world.line_rows(&order);
    let paid_at = order.placed_at + rng.between(20_000, 8 * MINUTE);
    let created_at = paid_at + rng.between(2 * MINUTE, 24 * MINUTE);
    if rng.chance(50) || created_at >= plan.start {
        order.status = "cancelled";
        order.updated_at = (order.placed_at + 40 * MINUTE).min(plan.start - 1);
        files.row("orders", &order.row())?;
        return files.rows("order_lines", &lines);
    }
    let shipped_at = created_at + rng.between(HOUR, 16 * HOUR);
    let delivered_at = shipped_at + rng.between(20 * HOUR, 60 * HOUR);
    let shipped = shipped_at < plan.start;
    let delivered = delivered_at < plan.start;
    files.row("payments", &world.payment_row(rng, &order, true, paid_at))?;
    pay(world, &order, paid_at, files)?;
    for line in order.lines.clone() {
        let at = stock_at(line.product, order.warehouse);
        world.move_stock(at, 0, line.quantity);
        if shipped {
            world.move_stock(at, -line.quantity, -line.quantity);
            let row = world.movement_row(at, -line.quantity, "sale", Some(order.id), shipped_at);
            files.row("stock_movements", &row)?;
        }
        receive(world, at, paid_at, files)?;
    }
    if shipped {
        let cost = world.cost(&order);
        files.rows(
            "ledger_entries",
            &world.booking(shipped_at, &[(GOODS_SOLD, cost), (INVENTORY, -cost)]),
        )?;
    }
    order.status = if shipped { "shipped" } else { "paid" };
    order.updated_at = if shipped { shipped_at } else { paid_at };
    let shipment = Shipment {
        id: next(&mut world.ids.shipment),
        status: if delivered {
            "delivered"
        } else if shipped {
            "dispatched"
        } else {
            "pending"
        },
        created_at,
        tracking: shipped.then(|| format!("1Z{:010}", rng.below(10_000_000_000))),
        shipped_at: shipped.then_some(shipped_at),
        delivered_at: delivered.then_some(delivered_at),
    };
    files.row("shipments", &shipment.row(&order))?;
    order.shipment = Some(shipment);
    if delivered && rng.chance(20) {
        give_back(
            world,
            rng,
            &mut order,
            (delivered_at + 5 * HOUR).min(plan.start - 1),
            files,
        )?;
    }
    files.row("orders", &order.row())?;
    files.rows("order_lines", &lines)?;
    if !delivered {
        world.orders.insert(order.id, order);
    }
    Ok(())
}

fn pay(world: &mut World, order: &Order, at: i64, files: &mut Files) -> io::Result<()> {
    let (sum, vat) = (order.sum(), order.vat());
    files.rows(
        "ledger_entries",
        &world.booking(at, &[(CLEARING, sum), (REVENUE, vat - sum), (VAT, -vat)]),
    )
}

/// Money back; the goods are not worth putting back on the shelf.
fn give_back(
    world: &mut World,
    rng: &mut Rng,
    order: &mut Order,
    at: i64,
    files: &mut Files,
) -> io::Result<()> {
    order.status = "refunded";
    order.updated_at = at;
    files.row("refunds", &world.refund_row(rng, order, at))?;
    let (sum, vat) = (order.sum(), order.vat());
    files.rows(
        "ledger_entries",
        &world.booking(at, &[(CLEARING, -sum), (REVENUE, sum - vat), (VAT, vat)]),
    )
}

/// Fills up what runs low.
fn receive(world: &mut World, at: usize, time: i64, files: &mut Files) -> io::Result<()> {
    let stock = &world.stock[at];
    if stock.on_hand - stock.reserved >= super::LOW_STOCK {
        return Ok(());
    }
    let quantity = world.receipt_quantity;
    world.move_stock(at, quantity, 0);
    let row = world.movement_row(at, quantity, "receipt", None, time);
    files.row("stock_movements", &row)?;
    let worth = quantity * world.product(at).cost;
    files.rows(
        "ledger_entries",
        &world.booking(time, &[(INVENTORY, worth), (PAYABLES, -worth)]),
    )
}

/// A time at which something of an order is due that was under way when the log began.
pub(super) fn due(order: &Order, plan: &Plan, rng: &mut Rng) -> i64 {
    let longest = if order.status == "paid" {
        16 * HOUR
    } else {
        48 * HOUR
    };
    plan.start + rng.between(MINUTE, longest)
}

/// The empty state of a shop of this size.
pub(super) fn world(shop: &Shop) -> World {
    let pieces_a_day = i64::from(shop.orders_per_day) * 7 / 2;
    let shelves = i64::from(shop.products) * WAREHOUSES.len() as i64;
    World {
        receipt_quantity: 40 + 4 * pieces_a_day / shelves.max(1),
        ..World::default()
    }
}
