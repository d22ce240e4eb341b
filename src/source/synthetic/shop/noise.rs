//! The log, continued: visitors, customers, prices, accounts. All of it is in order.

use std::io;

use super::life::{Event, Life};
use super::out::{Change, Image, Val};
use super::plan::Service;
use super::world::{Cart, Customer, SUSPENSE, id_of, next};

/// The new number of the account that nobody used.
const RENUMBERED: &str = "9990";

impl Cart {
    pub(super) fn row(&self) -> Image {
        vec![
            ("session", self.session.as_str().into()),
            ("customer_id", self.customer.map_or(Val::Null, id_of)),
            ("items", self.items.into()),
            ("updated_at", Val::Time(self.updated_at)),
        ]
    }
}

impl Life<'_> {
    /// Most visitors order something; some fill a cart first, and some leave it behind.
    pub(super) fn visit(&mut self, at: i64) -> io::Result<()> {
        let customer = self.rng.index(self.world.customers.len());
        let orders = self.rng.chance(857);
        if orders && self.rng.chance(700) {
            return self.place(at, customer, None);
        }
        let begin = self.begin(at);
        let id = next(&mut self.world.ids.cart);
        let session = self.session(id);
        let cart = Cart {
            session,
            customer: None,
            items: self.rng.between(1, 4),
            updated_at: begin,
        };
        self.commit(
            Service::Storefront,
            begin,
            &[Change::insert("carts", cart.row())],
        )?;
        self.world.carts.insert(id, cart);
        if self.rng.chance(500) {
            self.later(at, 1, 2, Event::Login(id));
        }
        match orders {
            true => self.later(
                at,
                3,
                9,
                Event::Place {
                    customer,
                    cart: Some(id),
                },
            ),
            false => self.later(at, 120, 180, Event::Abandon(id)),
        }
        Ok(())
    }

    fn session(&mut self, id: i64) -> String {
        format!("{:06x}{id:06x}", self.rng.below(1 << 24))
    }

    /// Who logs in gets a new session: the cart's primary key changes.
    pub(super) fn login(&mut self, at: i64, id: i64) -> io::Result<()> {
        let begin = self.begin(at);
        let session = self.session(id);
        let customer = self.rng.index(self.world.customers.len());
        let Some(cart) = self.world.carts.get_mut(&id) else {
            return Ok(());
        };
        let change = Change::update(
            "carts",
            vec![("session", cart.session.as_str().into())],
            vec![
                (
                    "session",
                    cart.session.as_str().into(),
                    session.as_str().into(),
                ),
                ("customer_id", Val::Null, id_of(customer)),
                ("updated_at", Val::Time(cart.updated_at), Val::Time(begin)),
            ],
        );
        (cart.session, cart.customer, cart.updated_at) = (session, Some(customer), begin);
        self.commit(Service::Storefront, begin, &[change]).map(drop)
    }

    pub(super) fn abandon(&mut self, at: i64, id: i64) -> io::Result<()> {
        let Some(cart) = self.world.carts.remove(&id) else {
            return Ok(());
        };
        self.commit(
            Service::Storefront,
            self.begin(at),
            &[Change::delete("carts", cart.row())],
        )
        .map(drop)
    }

    pub(super) fn register(&mut self, at: i64) -> io::Result<()> {
        let begin = self.begin(at);
        let index = self.world.customers.len();
        let customer = Customer::draw(&mut self.rng, index + 1, begin);
        let change = Change::insert("customers", customer.row(index));
        self.world.customers.push(customer);
        self.commit(Service::Storefront, begin, &[change]).map(drop)
    }

    /// A new telephone number, or none any more.
    pub(super) fn edit(&mut self, at: i64, index: usize) -> io::Result<()> {
        let begin = self.begin(at);
        let phone = self
            .rng
            .chance(800)
            .then(|| format!("+49{}", self.rng.between(100_000_000, 999_999_999)));
        let customer = &mut self.world.customers[index];
        let old = std::mem::replace(&mut customer.phone, phone);
        let updated_at = std::mem::replace(&mut customer.updated_at, begin);
        let change = Change::update(
            "customers",
            vec![("id", id_of(index))],
            vec![
                (
                    "phone",
                    old.as_deref().into(),
                    customer.phone.as_deref().into(),
                ),
                ("updated_at", Val::Time(updated_at), Val::Time(begin)),
            ],
        );
        self.commit(Service::Storefront, begin, &[change]).map(drop)
    }

    /// The nightly price feed: read into a scratch table, applied, and the scratch table emptied.
    pub(super) fn feed(&mut self, at: i64) -> io::Result<()> {
        let count = self
            .rng
            .between(12, 30)
            .min(self.world.products.len() as i64);
        let first = self.rng.index(self.world.products.len());
        let (mut read, mut applied) = (Vec::new(), Vec::new());
        for line in 0..count {
            let at = (first + line as usize * 7) % self.world.products.len();
            let product = &mut self.world.products[at];
            let old = product.price;
            let price = (old + old * self.rng.between(-8, 9) / 100).max(product.cost + 1);
            product.price = price;
            let sku = || Val::from(product.sku.as_str());
            read.push(Change::insert(
                "import_buffer",
                vec![
                    ("line", id_of(line as usize)),
                    ("sku", sku()),
                    ("price", Val::Cents(price)),
                ],
            ));
            if price != old {
                let columns = vec![("price", Val::Cents(old), Val::Cents(price))];
                applied.push(Change::update("products", vec![("sku", sku())], columns));
            }
        }
        self.commit(Service::Catalog, self.begin(at), &read)?;
        if !applied.is_empty() {
            self.commit(Service::Catalog, self.begin(at + 1_500), &applied)?;
        }
        self.commit(
            Service::Catalog,
            self.begin(at + 1_900),
            &[Change::truncate("import_buffer")],
        )
        .map(drop)
    }

    /// Somebody gives an unused account another number, by hand: a transaction without context.
    pub(super) fn renumber(&mut self, at: i64) -> io::Result<()> {
        let change = Change::update(
            "ledger_accounts",
            vec![("code", SUSPENSE.into())],
            vec![("code", SUSPENSE.into(), RENUMBERED.into())],
        );
        self.log
            .commit(self.begin(at) + 2, None, &[change])
            .map(drop)
    }
}
