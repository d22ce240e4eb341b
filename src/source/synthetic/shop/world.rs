//! What exists in the shop: its things, the rows they are, and the numbers that are given out.
//!
//! Only what later events need is kept; an order that is over is forgotten, so memory follows the orders under way.

use std::collections::BTreeMap;

use super::names::{COUNTRIES, FAMILY, GIVEN, GOODS, WAREHOUSES};
use super::out::{Change, Image, Val};
use crate::source::synthetic::rng::Rng;

/// Every table with its columns, parents before children.
pub(super) const TABLES: [(&str, &[&str]); 13] = [
    (
        "customers",
        &[
            "id",
            "email",
            "name",
            "country",
            "phone",
            "created_at",
            "updated_at",
        ],
    ),
    ("products", &["sku", "title", "price", "weight_g", "active"]),
    (
        "stock",
        &["sku", "warehouse", "on_hand", "reserved", "version"],
    ),
    ("ledger_accounts", &["code", "name", "kind"]),
    (
        "orders",
        &[
            "id",
            "customer_id",
            "status",
            "total",
            "note",
            "placed_at",
            "updated_at",
        ],
    ),
    (
        "order_lines",
        &[
            "order_id",
            "line_no",
            "sku",
            "quantity",
            "unit_price",
            "amount",
        ],
    ),
    (
        "payments",
        &[
            "id",
            "order_id",
            "method",
            "status",
            "amount",
            "reference",
            "created_at",
        ],
    ),
    (
        "shipments",
        &[
            "id",
            "order_id",
            "warehouse",
            "status",
            "tracking",
            "created_at",
            "shipped_at",
            "delivered_at",
        ],
    ),
    (
        "refunds",
        &["id", "order_id", "amount", "reason", "created_at"],
    ),
    (
        "stock_movements",
        &[
            "id",
            "sku",
            "warehouse",
            "quantity",
            "reason",
            "order_id",
            "booked_at",
        ],
    ),
    (
        "ledger_entries",
        &["id", "booking_id", "account", "amount", "booked_on"],
    ),
    ("carts", &["session", "customer_id", "items", "updated_at"]),
    ("import_buffer", &["line", "sku", "price"]),
];

/// The accounts of the ledger: code, name, kind.
pub(super) const ACCOUNTS: [(&str, &str, &str); 8] = [
    (CLEARING, "Payment provider, clearing", "asset"),
    (INVENTORY, "Inventory", "asset"),
    (PAYABLES, "Payables", "liability"),
    (VAT, "VAT payable", "liability"),
    (EQUITY, "Equity", "equity"),
    (REVENUE, "Revenue", "income"),
    (SUSPENSE, "Suspense (not used)", "expense"),
    (GOODS_SOLD, "Cost of goods sold", "expense"),
];
pub(super) const CLEARING: &str = "1200";
pub(super) const INVENTORY: &str = "1400";
pub(super) const PAYABLES: &str = "2000";
pub(super) const VAT: &str = "2100";
pub(super) const EQUITY: &str = "3000";
pub(super) const REVENUE: &str = "4000";
pub(super) const SUSPENSE: &str = "4999";
pub(super) const GOODS_SOLD: &str = "5000";

/// Somebody who orders; the id is the place in [`World::customers`] plus one.
pub(super) struct Customer {
    pub(super) email: String,
    pub(super) name: String,
    pub(super) country: &'static str,
    pub(super) phone: Option<String>,
    pub(super) created_at: i64,
    pub(super) updated_at: i64,
}

/// Something to order. What it costs the shop never changes, its price does.
pub(super) struct Product {
    pub(super) sku: String,
    pub(super) title: String,
    pub(super) price: i64,
    pub(super) cost: i64,
    pub(super) weight_g: Option<i64>,
    pub(super) active: bool,
}

/// What lies in one warehouse of one product.
#[derive(Clone, Default)]
pub(super) struct Stock {
    pub(super) on_hand: i64,
    pub(super) reserved: i64,
    pub(super) version: i64,
    pub(super) receipt_expected: bool,
}

/// So many of a product at a price.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) product: usize,
    pub(super) quantity: i64,
    pub(super) price: i64,
}

/// A parcel.
#[derive(Clone)]
pub(super) struct Shipment {
    pub(super) id: i64,
    pub(super) status: &'static str,
    pub(super) created_at: i64,
    pub(super) tracking: Option<String>,
    pub(super) shipped_at: Option<i64>,
    pub(super) delivered_at: Option<i64>,
}

/// An order under way.
#[derive(Clone)]
pub(super) struct Order {
    pub(super) id: i64,
    pub(super) customer: usize,
    pub(super) warehouse: usize,
    pub(super) status: &'static str,
    pub(super) total: i64,
    pub(super) note: Option<&'static str>,
    pub(super) placed_at: i64,
    pub(super) updated_at: i64,
    pub(super) lines: Vec<Line>,
    pub(super) shipment: Option<Shipment>,
}

/// A basket that may become an order.
pub(super) struct Cart {
    pub(super) session: String,
    pub(super) customer: Option<usize>,
    pub(super) items: i64,
    pub(super) updated_at: i64,
}

/// The last number given out by each sequence.
#[derive(Default)]
pub(super) struct Ids {
    pub(super) order: i64,
    pub(super) payment: i64,
    pub(super) shipment: i64,
    pub(super) refund: i64,
    pub(super) movement: i64,
    pub(super) booking: i64,
    pub(super) entry: i64,
    pub(super) cart: i64,
}

/// The state of the shop.
#[derive(Default)]
pub(super) struct World {
    pub(super) customers: Vec<Customer>,
    pub(super) products: Vec<Product>,
    /// By product and warehouse: `product * WAREHOUSES.len() + warehouse`.
    pub(super) stock: Vec<Stock>,
    pub(super) orders: BTreeMap<i64, Order>,
    pub(super) carts: BTreeMap<i64, Cart>,
    pub(super) ids: Ids,
    /// How many pieces a receipt of goods brings.
    pub(super) receipt_quantity: i64,
}

/// The next number of a sequence.
pub(super) fn next(last: &mut i64) -> i64 {
    *last += 1;
    *last
}

/// The place of a product's stock in a warehouse.
pub(super) fn stock_at(product: usize, warehouse: usize) -> usize {
    product * WAREHOUSES.len() + warehouse
}

impl Customer {
    pub(super) fn draw(rng: &mut Rng, id: usize, at: i64) -> Customer {
        let (given, local) = rng.pick(&GIVEN);
        let (country, dial) = rng.pick(&COUNTRIES);
        let phone = rng
            .chance(600)
            .then(|| format!("{dial}{}", rng.between(100_000_000, 999_999_999)));
        let domain = rng.pick(&["example.com", "example.org", "example.net"]);
        Customer {
            email: format!("{local}.{id}@{domain}"),
            name: format!("{given} {}", rng.pick(&FAMILY)),
            country,
            phone,
            created_at: at,
            updated_at: at,
        }
    }

    pub(super) fn row(&self, index: usize) -> Image {
        vec![
            ("id", id_of(index)),
            ("email", self.email.as_str().into()),
            ("name", self.name.as_str().into()),
            ("country", self.country.into()),
            ("phone", self.phone.as_deref().into()),
            ("created_at", Val::Time(self.created_at)),
            ("updated_at", Val::Time(self.updated_at)),
        ]
    }
}

/// The id of the customer at an index.
pub(super) fn id_of(index: usize) -> Val {
    Val::Int(index as i64 + 1)
}

impl Product {
    pub(super) fn draw(rng: &mut Rng, number: usize) -> Product {
        let (prefix, title) = GOODS[number % GOODS.len()];
        let price = rng.between(3, 60) * 100 + *rng.pick(&[0, 49, 90, 95, 99]);
        Product {
            sku: format!("{prefix}-{:04}", number + 1),
            title: format!("{title} No. {}", number / GOODS.len() + 1),
            price,
            cost: price * 55 / 100,
            weight_g: rng.chance(900).then(|| rng.between(2, 150) * 10),
            active: rng.chance(970),
        }
    }

    pub(super) fn row(&self) -> Image {
        vec![
            ("sku", self.sku.as_str().into()),
            ("title", self.title.as_str().into()),
            ("price", Val::Cents(self.price)),
            ("weight_g", self.weight_g.map_or(Val::Null, Val::Int)),
            ("active", Val::Bool(self.active)),
        ]
    }
}

impl Shipment {
    pub(super) fn row(&self, order: &Order) -> Image {
        let time = |at: Option<i64>| at.map_or(Val::Null, Val::Time);
        vec![
            ("id", self.id.into()),
            ("order_id", order.id.into()),
            ("warehouse", WAREHOUSES[order.warehouse].into()),
            ("status", self.status.into()),
            ("tracking", self.tracking.as_deref().into()),
            ("created_at", Val::Time(self.created_at)),
            ("shipped_at", time(self.shipped_at)),
            ("delivered_at", time(self.delivered_at)),
        ]
    }
}

impl Order {
    pub(super) fn row(&self) -> Image {
        vec![
            ("id", self.id.into()),
            ("customer_id", id_of(self.customer)),
            ("status", self.status.into()),
            ("total", Val::Cents(self.total)),
            ("note", self.note.into()),
            ("placed_at", Val::Time(self.placed_at)),
            ("updated_at", Val::Time(self.updated_at)),
        ]
    }

    /// Changes columns of the row; `updated_at` is among them always.
    pub(super) fn update(&mut self, at: i64, mut columns: Vec<(&'static str, Val, Val)>) -> Change {
        columns.push(("updated_at", Val::Time(self.updated_at), Val::Time(at)));
        self.updated_at = at;
        Change::update("orders", vec![("id", self.id.into())], columns)
    }

    pub(super) fn set_status(&mut self, at: i64, status: &'static str) -> Change {
        let old = std::mem::replace(&mut self.status, status);
        self.update(at, vec![("status", old.into(), status.into())])
    }

    /// The tax in the sum of the lines, 19 percent.
    pub(super) fn vat(&self) -> i64 {
        self.sum() - self.sum() * 100 / 119
    }

    /// What the lines add up to; the total, unless somebody got it wrong.
    pub(super) fn sum(&self) -> i64 {
        self.lines
            .iter()
            .map(|line| line.quantity * line.price)
            .sum()
    }
}

impl World {
    pub(super) fn product(&self, stock: usize) -> &Product {
        &self.products[stock / WAREHOUSES.len()]
    }

    pub(super) fn line_rows(&self, order: &Order) -> Vec<Image> {
        let row = |(at, line): (usize, &Line)| {
            vec![
                ("order_id", order.id.into()),
                ("line_no", id_of(at)),
                ("sku", self.products[line.product].sku.as_str().into()),
                ("quantity", line.quantity.into()),
                ("unit_price", Val::Cents(line.price)),
                ("amount", Val::Cents(line.quantity * line.price)),
            ]
        };
        order.lines.iter().enumerate().map(row).collect()
    }

    /// What the shop paid for the goods of an order.
    pub(super) fn cost(&self, order: &Order) -> i64 {
        order
            .lines
            .iter()
            .map(|line| line.quantity * self.products[line.product].cost)
            .sum()
    }

    pub(super) fn stock_row(&self, at: usize) -> Image {
        let stock = &self.stock[at];
        let mut row = self.stock_key(at);
        row.extend([
            ("on_hand", Val::Int(stock.on_hand)),
            ("reserved", Val::Int(stock.reserved)),
            ("version", Val::Int(stock.version)),
        ]);
        row
    }

    fn stock_key(&self, at: usize) -> Image {
        vec![
            ("sku", self.product(at).sku.as_str().into()),
            ("warehouse", WAREHOUSES[at % WAREHOUSES.len()].into()),
        ]
    }

    /// Writes a stock row as everybody should: what was read, plus the difference, and the version plus one.
    pub(super) fn move_stock(&mut self, at: usize, on_hand: i64, reserved: i64) -> Change {
        let old = self.stock[at].clone();
        let new = Stock {
            on_hand: old.on_hand + on_hand,
            reserved: old.reserved + reserved,
            version: old.version + 1,
            receipt_expected: old.receipt_expected,
        };
        self.write_stock(at, new)
    }

    /// Writes a stock row whatever stands there.
    pub(super) fn write_stock(&mut self, at: usize, new: Stock) -> Change {
        let old = std::mem::replace(&mut self.stock[at], new);
        let new = &self.stock[at];
        assert!(
            0 <= new.reserved && new.reserved <= new.on_hand,
            "only what lies there is promised"
        );
        let mut columns = Vec::new();
        if old.on_hand != new.on_hand {
            columns.push(("on_hand", Val::Int(old.on_hand), Val::Int(new.on_hand)));
        }
        if old.reserved != new.reserved {
            columns.push(("reserved", Val::Int(old.reserved), Val::Int(new.reserved)));
        }
        columns.push(("version", Val::Int(old.version), Val::Int(new.version)));
        Change::update("stock", self.stock_key(at), columns)
    }

    pub(super) fn movement_row(
        &mut self,
        at: usize,
        quantity: i64,
        reason: &'static str,
        order: Option<i64>,
        time: i64,
    ) -> Image {
        let mut row = vec![("id", Val::Int(next(&mut self.ids.movement)))];
        row.extend(self.stock_key(at));
        row.extend([
            ("quantity", Val::Int(quantity)),
            ("reason", reason.into()),
            ("order_id", order.map_or(Val::Null, Val::Int)),
            ("booked_at", Val::Time(time)),
        ]);
        row
    }

    /// The entries of one business event; debit is positive, and all of them add up to zero.
    pub(super) fn booking(&mut self, at: i64, entries: &[(&'static str, i64)]) -> Vec<Image> {
        assert_eq!(
            entries.iter().map(|(_, amount)| amount).sum::<i64>(),
            0,
            "a booking is balanced"
        );
        let booking = next(&mut self.ids.booking);
        let row = |(account, amount): &(&'static str, i64)| {
            vec![
                ("id", Val::Int(next(&mut self.ids.entry))),
                ("booking_id", Val::Int(booking)),
                ("account", (*account).into()),
                ("amount", Val::Cents(*amount)),
                ("booked_on", Val::Date(at)),
            ]
        };
        entries
            .iter()
            .filter(|(_, amount)| *amount != 0)
            .map(row)
            .collect()
    }

    /// Draws a new order from what one warehouse can deliver; None where it has nothing of what was wanted.
    pub(super) fn draw_order(&mut self, rng: &mut Rng, customer: usize, at: i64) -> Option<Order> {
        let warehouse = rng.index(WAREHOUSES.len());
        let wanted = *rng.pick(&[1, 1, 1, 2, 2, 2, 3, 3, 4]);
        let mut lines: Vec<Line> = Vec::new();
        for _ in 0..wanted * 2 {
            // The smaller of two draws: some things sell better than others.
            let product = rng
                .index(self.products.len())
                .min(rng.index(self.products.len()));
            let quantity = *rng.pick(&[1, 1, 1, 1, 2, 2, 3, 4]);
            let stock = &self.stock[stock_at(product, warehouse)];
            let available =
                self.products[product].active && stock.on_hand - stock.reserved >= quantity;
            if available && lines.len() < wanted && lines.iter().all(|line| line.product != product)
            {
                lines.push(Line {
                    product,
                    quantity,
                    price: self.products[product].price,
                });
            }
        }
        if lines.is_empty() {
            return None;
        }
        // A sequence is not gapless: now and then somebody rolls back.
        self.ids.order += if rng.chance(15) { 2 } else { 1 };
        let note = rng.chance(120).then(|| *rng.pick(&super::names::WISHES));
        let mut order = Order {
            id: self.ids.order,
            customer,
            warehouse,
            status: "placed",
            total: 0,
            note,
            placed_at: at,
            updated_at: at,
            lines,
            shipment: None,
        };
        order.total = order.sum();
        Some(order)
    }

    pub(super) fn payment_row(
        &mut self,
        rng: &mut Rng,
        order: &Order,
        captured: bool,
        at: i64,
    ) -> Image {
        let reference = format!("PSP-{:08X}", rng.below(1 << 32));
        vec![
            ("id", Val::Int(next(&mut self.ids.payment))),
            ("order_id", order.id.into()),
            (
                "method",
                (*rng.pick(&[
                    "card", "card", "card", "paypal", "paypal", "sepa", "invoice",
                ]))
                .into(),
            ),
            (
                "status",
                if captured { "captured" } else { "failed" }.into(),
            ),
            ("amount", Val::Cents(order.sum())),
            (
                "reference",
                if captured {
                    Val::Text(reference)
                } else {
                    Val::Null
                },
            ),
            ("created_at", Val::Time(at)),
        ]
    }

    pub(super) fn refund_row(&mut self, rng: &mut Rng, order: &Order, at: i64) -> Image {
        vec![
            ("id", Val::Int(next(&mut self.ids.refund))),
            ("order_id", order.id.into()),
            ("amount", Val::Cents(order.sum())),
            (
                "reason",
                rng.pick(&[
                    Some("changed mind"),
                    Some("arrived broken"),
                    Some("cassé"),
                    None,
                ])
                .as_deref()
                .into(),
            ),
            ("created_at", Val::Time(at)),
        ]
    }
}
